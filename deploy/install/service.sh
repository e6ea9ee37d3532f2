# shellcheck shell=bash
# The service: its user, its files in the system, whether it is live. Part of install.sh.

NAME='mqtt-kafka-bridge'
CONFIGURATION=/etc/$NAME
STATE=/var/lib/$NAME
UNITS=/usr/local/lib/systemd/system

# Files of the version in force that must stand elsewhere: source below its directory, place.
files() {
    echo "deploy/systemd/$NAME.service $UNITS/$NAME.service"
    echo "deploy/systemd/$NAME@.service $UNITS/$NAME@.service"
    echo "deploy/systemd/sysusers.conf /usr/local/lib/sysusers.d/$NAME.conf"
    echo "deploy/systemd/tmpfiles.conf /usr/local/lib/tmpfiles.d/$NAME.conf"
    echo "deploy/profile.sh /etc/profile.d/$NAME.sh"
    if (($(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p') >= 254)); then
        echo "deploy/systemd/backoff.conf $UNITS/$NAME.service.d/backoff.conf"
        echo "deploy/systemd/backoff.conf $UNITS/$NAME@.service.d/backoff.conf"
    fi
}

install_files() {
    local from to
    while read -r from to; do
        cmp -s "$VERSIONS/current/$from" "$to" || install -D -m 0644 "$VERSIONS/current/$from" "$to"
    done < <(files)
    ln -sfT "$VERSIONS/current/bin/$NAME" "/usr/local/bin/$NAME"
    systemd-sysusers "$NAME.conf"
    systemd-tmpfiles --create "$NAME.conf"
    systemctl daemon-reload
}

files_are_in_place() {
    local from to
    [[ $(readlink "/usr/local/bin/$NAME") == "$VERSIONS/current/bin/$NAME" && -d $CONFIGURATION ]] || return 1
    while read -r from to; do
        cmp -s "$VERSIONS/current/$from" "$to" || return 1
    done < <(files)
    id "$NAME" >/dev/null 2>&1
}

remove_files() {
    local _ to
    while read -r _ to; do
        rm -f "$to"
    done < <(files)
    rm -f "/usr/local/bin/$NAME"
    for to in "$UNITS"/*.d "$UNITS" "${UNITS%/*}" /usr/local/lib/sysusers.d /usr/local/lib/tmpfiles.d; do
        [[ ! -d $to ]] || rmdir --ignore-fail-on-non-empty "$to"
    done
    systemctl daemon-reload
}

remove_user() {
    ! id "$NAME" >/dev/null 2>&1 || userdel "$NAME"
}

# The units of bridges that run, or should.
units_in_use() {
    systemctl list-units --all --plain --no-legend "$NAME.service" "$NAME@*.service" \
        --state=active,activating,reloading,failed | awk '{ print $1 }'
}

# The configuration file that a unit reads.
configuration_of() { # UNIT
    local name=${1%.service}
    case $name in
    *@*) echo "$CONFIGURATION/${name#*@}.toml" ;;
    *) echo "$CONFIGURATION/bridge.toml" ;;
    esac
}

# Run a command of a version just as its service is run: the same user, the same passwords.
as_service() { # VERSION UNIT ARGUMENT...
    local version=$1 unit=${2%.service}
    shift 2
    systemd-run --quiet --pipe --wait --collect --service-type=exec -p "User=$NAME" -p "Group=$NAME" \
        -p "LoadCredential=mqtt-password:$unit.mqtt-password" \
        -p "LoadCredential=kafka-password:$unit.kafka-password" \
        "$VERSIONS/$version/bin/$NAME" "$@" --config "$(configuration_of "$unit")"
}

is_live() { # UNIT
    [[ $(systemctl show -P ActiveState "$1") == active && $(systemctl show -P StatusText "$1") == live* ]]
}

# Whether its process has ended since the last start, of itself or by an error.
ended() { # UNIT
    [[ $(systemctl show -P ActiveState "$1") == failed || $(systemctl show -P NRestarts "$1") != 0 ]]
}

# Start it anew and wait. 0: live. 1: not in SECONDS, or it ended. With "up" it is enough that it runs.
restart_until() { # live|up UNIT SECONDS
    local before by=$((SECONDS + $3))
    before=$(systemctl show -P InvocationID "$2")
    systemctl reset-failed "$2" 2>/dev/null || true
    systemctl restart --no-block "$2"
    while ((SECONDS < by)); do
        sleep 0.2
        [[ $(systemctl show -P InvocationID "$2") != "$before" ]] || continue
        case $(systemctl show -P ActiveState "$2") in
        active) if [[ $1 == up ]] || is_live "$2"; then return 0; fi ;;
        failed) return 1 ;;
        esac
        (($(systemctl show -P NRestarts "$2") < 2)) || return 1
    done
    return 1
}

# Why a service is not live: its last lines of the journal.
last_words() { # UNIT
    journalctl "_SYSTEMD_UNIT=$1" --lines 5 --output cat --no-pager 2>/dev/null | sed 's/^/      /'
}
