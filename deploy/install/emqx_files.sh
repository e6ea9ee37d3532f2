# shellcheck shell=bash
# The files that install.sh puts beside those of EMQX's package, or adds to them. Part of install.sh.

EMQX_ETC=/etc/emqx
EMQX_DATA=/var/lib/emqx
# systemd reads it as root. In /etc/emqx the package would make it readable for everybody.
EMQX_COOKIE_FILE=/etc/default/emqx-cookie
EMQX_DROPIN=/etc/systemd/system/$EMQX_UNIT.d/mqtt-kafka-bridge.conf
EMQX_BEGIN='-- from install.sh emqx' # the lines around what is ours in EMQX's own files
EMQX_END='-- end of install.sh emqx'

# Write the files into the scratch directory: ours, and EMQX's with our part.
write_emqx_files() {
    local to=$SCRATCH/emqx from=$SOURCE/deploy/emqx/$EMQX_LINE host seeds='' variable=EMQX_NODE__COOKIE
    mkdir -p "$to"
    for host in "${NODES[@]}"; do
        if [[ $EMQX_LINE == 4.4 ]]; then
            seeds+=${seeds:+,}emqx@$host
        else
            seeds+="${seeds:+, }\"emqx@$host\""
        fi
    done
    sed -e "s|@HOST@|${NODES[NODE - 1]}|" -e "s|@SEEDS@|$seeds|" "$from/mqtt-kafka-bridge.conf" >"$to/settings"
    # 4.4 has no include: its emqx.conf gets all of them.
    if [[ $EMQX_LINE == 4.4 ]]; then
        variable=EMQX_NODE_COOKIE
        cp "$to/settings" "$to/part"
    else
        echo 'include "mqtt-kafka-bridge.conf"' >"$to/part"
    fi
    { without_our_part "$EMQX_ETC/emqx.conf" && our_part '#' "$to/part"; } >"$to/emqx.conf"
    our_rules >"$to/rules"
    { our_part '%%' "$to/rules" && without_our_part "$EMQX_ETC/acl.conf"; } >"$to/acl.conf"
    printf '# From install.sh emqx. Both nodes have the same.\n%s=%s\n' "$variable" "$COOKIE" >"$to/cookie"
}

# Print our access rules. A person removes those by client id once clients have users: then they do not come back.
our_rules() {
    local rules=$SOURCE/deploy/emqx/$EMQX_LINE/acl.conf there=''
    [[ ! -e $EMQX_ETC/acl.conf ]] || there=$(sed -n "/^%* $EMQX_BEGIN/,/^%* $EMQX_END/p" "$EMQX_ETC/acl.conf")
    if [[ -z $there || $there == *"{allow, {client"* ]]; then
        cat "$rules"
    else
        sed '/^%% Any client can choose/,$d' "$rules"
    fi
}

our_part() { # COMMENT FILE
    echo "$1 $EMQX_BEGIN: the next installation writes it anew"
    cat "$2"
    echo "$1 $EMQX_END"
}

without_our_part() { # FILE
    [[ ! -e $1 ]] || sed -e "/^[#%]* $EMQX_BEGIN/,/^[#%]* $EMQX_END/d" -e '$a\' "$1"
}

# Without the line at its end our part would reach to the end of the file, and all rules below it would go with it.
require_whole_parts() {
    local file
    for file in "$EMQX_ETC/emqx.conf" "$EMQX_ETC/acl.conf"; do
        [[ -e $file ]] || continue
        awk -v begins="^[#%]* $EMQX_BEGIN" -v ends="^[#%]* $EMQX_END" '
            $0 ~ begins { wrong = wrong || inside; inside = 1 }
            $0 ~ ends { wrong = wrong || !inside; inside = 0 }
            END { exit wrong || inside }' "$file" ||
            fail "$file: install.sh's part has lost its first or last line ($EMQX_BEGIN ..., $EMQX_END): put that line \
back, or delete the part"
    done
}

emqx_files() {
    [[ $EMQX_LINE == 4.4 ]] || echo "$EMQX_ETC/mqtt-kafka-bridge.conf 0644 $SCRATCH/emqx/settings"
    echo "$EMQX_ETC/emqx.conf 0644 $SCRATCH/emqx/emqx.conf"
    echo "$EMQX_ETC/acl.conf 0644 $SCRATCH/emqx/acl.conf"
    echo "$EMQX_COOKIE_FILE 0600 $SCRATCH/emqx/cookie"
    echo "$EMQX_DROPIN 0644 $SOURCE/deploy/emqx/service.conf"
}

emqx_settings_file() {
    if [[ -e $EMQX_ETC/mqtt-kafka-bridge.conf ]]; then
        echo "$EMQX_ETC/mqtt-kafka-bridge.conf"
    else
        echo "$EMQX_ETC/emqx.conf"
    fi
}

install_emqx_package() {
    apt_install "$(readlink -f "$EMQX_PACKAGE")"
}

put_emqx_in_place() { # VERSION-IN-FORCE
    local file
    EMQX_IS_NEW=$([[ -n $1 ]] || echo yes)
    [[ $1 == "$EMQX_NEW" ]] || EMQX_RESTARTS=yes
    ! are_in_place emqx_files || return 0
    [[ -n $DRY_RUN ]] || save_emqx_files
    undo put_emqx_files_back "$(systemctl is-active --quiet "$EMQX_UNIT" && echo running)"
    for file in "$EMQX_ETC/emqx.conf" "$EMQX_ETC/acl.conf"; do
        if [[ ! -e $file || -e $file.before-mqtt-kafka-bridge ]] || has_our_part "$file"; then continue; fi
        undo rm -f "$file.before-mqtt-kafka-bridge"
        step "what was there, to $file.before-mqtt-kafka-bridge" cp -p "$file" "$file.before-mqtt-kafka-bridge"
    done
    step "settings, access rules, cookie" copy_files emqx_files
    [[ $EMQX_LINE == 4.4 ]] || step "emqx check_config" timeout 120 emqx check_config
    EMQX_RESTARTS=yes
    [[ ! -e $EMQX_DATA/authz/acl.conf ]] || warn "the access rules were changed in the dashboard, so EMQX reads \
$EMQX_DATA/authz/acl.conf and not $EMQX_ETC/acl.conf: add the first rules of the latter there, in the dashboard"
}

has_our_part() { # FILE
    grep -q "^[#%]* $EMQX_BEGIN" "$1"
}

save_emqx_files() {
    local to _
    mkdir -p "$SCRATCH/emqx/before"
    while read -r to _; do
        [[ ! -e $to ]] || cp -p "$to" "$SCRATCH/emqx/before/${to//\//_}"
    done < <(emqx_files)
}

put_emqx_files_back() { # RUNNING
    local to _
    while read -r to _; do
        if [[ -e $SCRATCH/emqx/before/${to//\//_} ]]; then
            cp -p "$SCRATCH/emqx/before/${to//\//_}" "$to"
        else
            rm -f "$to"
        fi
    done < <(emqx_files)
    rmdir "${EMQX_DROPIN%/*}" 2>/dev/null
    systemctl daemon-reload
    if [[ -n $EMQX_IS_NEW ]]; then
        systemctl disable --now "$EMQX_UNIT" # its package has enabled it
    elif [[ -n ${EMQX_STARTED-} ]]; then # otherwise it still runs with the old files, and keeps its sessions
        if [[ -n $1 ]]; then systemctl restart "$EMQX_UNIT"; else systemctl stop "$EMQX_UNIT"; fi
    fi
}

# Set NODES and NODE from the settings in force.
read_emqx_nodes() {
    local number own file
    [[ -e $EMQX_DROPIN ]] || return 1
    file=$(emqx_settings_file)
    own=$(sed -n 's/^node\.name = "\{0,1\}emqx@\([^"]*\)"\{0,1\}$/\1/p' "$file" | tail -n 1)
    mapfile -t NODES < <(sed -n 's/^cluster\.static\.seeds = //p' "$file" | tail -n 1 | tr -d '[]" ' | tr ',' '\n' |
        sed 's/^emqx@//')
    for number in "${!NODES[@]}"; do
        [[ ${NODES[number]} != "$own" ]] || NODE=$((number + 1))
    done
    [[ -n $own && -n ${NODE-} ]]
}
