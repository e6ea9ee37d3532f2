# shellcheck shell=bash
# The service: its user, its files in the system, whether it is live. Part of install.sh and of the Debian
# package. PREFIX is where its files go: /usr/local for the administrator, /usr for the package.

NAME='mqtt-kafka-bridge'
CONFIGURATION=/etc/$NAME
STATE=/var/lib/$NAME
UNITS=$PREFIX/lib/systemd/system

# Files of the version in force that belong elsewhere: source below its directory, target.
files() {
    echo "deploy/systemd/$NAME.service $UNITS/$NAME.service"
    echo "deploy/systemd/$NAME@.service $UNITS/$NAME@.service"
    echo "deploy/systemd/sysusers.conf $PREFIX/lib/sysusers.d/$NAME.conf"
    echo "deploy/systemd/tmpfiles.conf $PREFIX/lib/tmpfiles.d/$NAME.conf"
    echo "deploy/profile.sh /etc/profile.d/$NAME.sh"
    if (($(systemd_version) >= 254)); then
        echo "deploy/systemd/backoff.conf $UNITS/$NAME.service.d/backoff.conf"
        echo "deploy/systemd/backoff.conf $UNITS/$NAME@.service.d/backoff.conf"
    fi
}

systemd_version() {
    systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p'
}

install_files() {
    local from to
    while read -r from to; do
        cmp -s "$VERSIONS/current/$from" "$to" || install -D -m 0644 "$VERSIONS/current/$from" "$to"
    done < <(files)
    ln -sfT "$VERSIONS/current/bin/$NAME" "$PREFIX/bin/$NAME"
    take_up_files
}

# Create the user, directories and units that the files describe.
take_up_files() {
    systemd-sysusers "$NAME.conf"
    systemd-tmpfiles --create "$NAME.conf"
    [[ ! -d /run/systemd/system ]] || systemctl daemon-reload
}

files_are_in_place() {
    local from to
    [[ $(readlink "$PREFIX/bin/$NAME") == "$VERSIONS/current/bin/$NAME" && -d $CONFIGURATION ]] || return 1
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
    rm -f "$PREFIX/bin/$NAME"
    for to in "$UNITS"/*.d "$UNITS" "${UNITS%/*}" "$PREFIX"/lib/{sysusers,tmpfiles}.d; do
        [[ ! -d $to ]] || rmdir --ignore-fail-on-non-empty "$to"
    done
    systemctl daemon-reload
}

remove_user() {
    ! id "$NAME" >/dev/null 2>&1 || userdel "$NAME"
}

# Print the units of bridges that run, start or have failed.
units_in_use() {
    systemctl list-units --all --plain --no-legend "$NAME.service" "$NAME@*.service" \
        --state=active,activating,reloading,failed | awk '{ print $1 }'
}

# Print the units that start at each boot. systemctl list-unit-files would omit instances of the template.
units_enabled() {
    find /etc/systemd/system -path '*.wants/*' -name "$NAME*.service" -printf '%f\n' | sort -u
}

# Print the units that have files on disk, with or without settings.
units_on_disk() {
    local directory
    find "$STATE" -maxdepth 2 -type f -printf '%h\n' 2>/dev/null | sort -u | while read -r directory; do
        if [[ $directory == "$STATE" ]]; then echo "$NAME"; else echo "$NAME@${directory##*/}"; fi
    done
}

# Print the configuration file that a unit reads.
configuration_of() { # UNIT
    local name=${1%.service}
    case $name in
    *@*) echo "$CONFIGURATION/${name#*@}.toml" ;;
    *) echo "$CONFIGURATION/bridge.toml" ;;
    esac
}

# Print the directory in which a bridge keeps its data, unless spool.directory names another.
state_of() { # UNIT
    local name=${1%.service}
    case $name in
    *@*) echo "$STATE/${name#*@}" ;;
    *) echo "$STATE" ;;
    esac
}

# Run a command of a version like its service: with the same user, passwords and state directory.
as_service() { # VERSION UNIT ARGUMENT...
    local version=$1 unit=${2%.service}
    shift 2
    systemd-run --quiet --pipe --wait --collect --service-type=exec -p "User=$NAME" -p "Group=$NAME" \
        -p "LoadCredential=mqtt-password:$unit.mqtt-password" \
        -p "LoadCredential=kafka-password:$unit.kafka-password" \
        -p "LoadCredential=emqx-key:$unit.emqx-key" --setenv="STATE_DIRECTORY=$(state_of "$unit")" \
        "$VERSIONS/$version/bin/$NAME" "$@" --config "$(configuration_of "$unit")"
}

is_live() { # UNIT
    [[ $(systemctl show -P ActiveState "$1") == active && $(systemctl show -P StatusText "$1") == live* ]]
}

# Whether its process has ended since the last start, with or without an error.
ended() { # UNIT
    [[ $(systemctl show -P ActiveState "$1") == failed || $(systemctl show -P NRestarts "$1") != 0 ]]
}

# Restart a unit and wait. Returns 0 once it is live (with "up": once it runs), 1 after SECONDS or if it ended.
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

# Print the service's last lines of the journal, which tell why it is not live.
last_words() { # UNIT
    journalctl "_SYSTEMD_UNIT=$1" --lines 5 --output cat --no-pager 2>/dev/null | sed 's/^/      /'
}

# Print the first unit with messages that only this machine has, and a remedy; nothing if there is none.
undelivered() {
    local unit counts waiting letters
    local -a units
    mapfile -t units < <(units_on_disk)
    for unit in "${units[@]}"; do
        if ! counts=$(as_service current "$unit" spool status --json </dev/null |
            python3 -c 'import json, sys; it = json.load(sys.stdin); print(it["rows"], it["dead_letters"])'); then
            echo "cannot tell whether $STATE holds undelivered messages of $unit"
            return
        fi
        read -r waiting letters <<<"$counts"
        if ((waiting)); then
            echo "$waiting undelivered messages of $unit are in $STATE: let Kafka take them"
            return
        elif ((letters)); then
            echo "$letters dead letters of $unit are in $STATE: $NAME dead-letters replays, exports or purges them"
            return
        fi
    done
}
