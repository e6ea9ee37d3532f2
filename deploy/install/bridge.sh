# shellcheck shell=bash
# The bridge: install it, replace it by another version, show it, remove it. Part of install.sh.

MAIN=$NAME.service
MISUSE=2 NOT_LIVE=3
NEW_SETTINGS= # set once this run has written the settings

install_bridge() { # the options of `bridge`
    local mqtt='' kafka='' rests='' from word
    local -a brokers
    while (($#)); do
        case $1 in
        --no-start) rests=yes && shift && continue ;;
        --mqtt) mqtt=$(argument "$@") ;;
        --kafka) kafka=$(argument "$@") ;;
        *) common_option "$@" ;;
        esac
        shift 2
    done
    IFS=, read -ra brokers <<<"$kafka"
    for word in "${brokers[@]}"; do split_place --kafka "$word" 9092; done
    [[ -z $mqtt ]] || split_place --mqtt "$mqtt" 1884
    require_root
    require_debian
    require_no_package
    require_python
    find_new
    if [[ ! -e $CONFIGURATION/bridge.toml ]] && [[ -z $mqtt || -z $kafka ]]; then
        fail "where are HAProxy and Kafka? --mqtt HOST:PORT --kafka HOST:PORT,HOST:PORT,HOST:PORT" $MISUSE
    fi
    from=$(version_at current)
    say "bridge: version $NEW${from:+, in force is $from}"
    place_new
    if [[ -n $from && $from != "$NEW" ]]; then
        replace "$from" "$NEW"
        return
    fi
    if [[ -z $from ]]; then
        [[ -d /etc/credstore ]] || undo rmdir /etc/credstore
        undo forget_bridge "$(id "$NAME" >/dev/null 2>&1 || echo made)"
        step "user, directories, unit, commands" switch_to "$NEW"
    elif ! files_are_in_place; then
        step "unit and commands, repaired" switch_to "$NEW"
    fi
    write_settings "$mqtt" "$kafka"
    if [[ -z $rests ]]; then
        start_bridge
    elif [[ -z $(units_in_use) ]]; then
        say "  not started: sudo systemctl enable --now $NAME"
    fi
}

# Undo a first installation that failed.
forget_bridge() { # USER-WAS-MADE
    systemctl disable --now "$MAIN"
    remove_files
    rm -f "$VERSIONS/current" "$VERSIONS/current.new"
    rmdir "$CONFIGURATION" "$STATE"
    [[ -z $1 ]] || remove_user
}

write_settings() { # MQTT KAFKA, empty where not given
    local file=$CONFIGURATION/bridge.toml wrong=''
    [[ -z $1 ]] || split_place --mqtt "$1" 1884
    if [[ -e $file ]]; then
        [[ -z $1 ]] || { grep -qxF "host = \"$HOST\"" "$file" && grep -qxF "port = $PORT" "$file"; } ||
            wrong="--mqtt $1"
        [[ -z $2 ]] || grep -qxF "bootstrap_servers = \"$2\"" "$file" || wrong="$wrong --kafka $2"
        [[ -z $wrong ]] || warn "$file exists and stays unchanged; it differs from ${wrong# }"
        return
    fi
    undo rm -f "$file"
    step "$file" fill_in "$HOST" "$PORT" "$2"
    step "its settings, read by the bridge" as_service "$NEW" "$MAIN" config
    NEW_SETTINGS=yes
}

fill_in() { # HOST PORT KAFKA
    local filled=$SCRATCH/bridge.toml
    sed -e "s/^host = .*/host = \"$1\"/" -e "s/^port = .*/port = $2/" \
        -e "s/^bootstrap_servers = .*/bootstrap_servers = \"$3\"/" \
        "$VERSIONS/current/deploy/bridge.toml" >"$filled"
    install -m 0640 -o root -g "$NAME" "$filled" "$CONFIGURATION/bridge.toml"
}

start_bridge() {
    if [[ -n $DRY_RUN ]]; then
        printf '  would: start it at each boot and now, and wait until it is live\n'
        return
    fi
    systemctl is-enabled --quiet "$MAIN" || step "start it at each boot" systemctl enable "$MAIN"
    if is_live "$MAIN"; then
        say "  it is live"
        return
    fi
    printf '  start it, and wait until it is live ...'
    local began=$SECONDS
    if restart_until live "$MAIN" "$PATIENCE"; then
        printf ' %d s\n' $((SECONDS - began))
        check_chain "$MAIN" && return
        if [[ -n $NEW_SETTINGS ]] && only_topics_are_missing; then
            say "  next: sudo $NAME topics --create"
            return
        fi
    elif ended "$MAIN"; then
        printf ' it does not stay up\n'
        last_words "$MAIN" >&2
        fail "the bridge does not run; its last log lines are above"
    else
        printf ' not within %d s\n' "$PATIENCE"
        check_chain "$MAIN" || true
    fi
    keep
    warn "installed and started, but the chain is broken: the line above says where. The bridge
      keeps trying; check again with: deploy/install.sh status"
    exit $NOT_LIVE
}

# Check the chain to Kafka; one line for each link.
check_chain() { # UNIT
    as_service current "$1" check | tee "$SCRATCH/check" | sed 's/^/      /'
}

# Whether one command cures all faults that the last check found. A new cluster has no topics yet.
only_topics_are_missing() {
    awk '/^  FAILED / { found = 1; getline; if (!/-> .* topics --create/) other = 1 }
        END { exit !found || other }' "$SCRATCH/check"
}

# -- another version ----------------------------------------------------------------------------------

upgrade_bridge() {
    while (($#)); do
        common_option "$@"
        shift 2
    done
    require_root
    require_debian
    require_no_package
    require_python
    find_new
    local from
    from=$(version_at current)
    [[ -n $from ]] || fail "there is nothing to upgrade: deploy/install.sh bridge --mqtt ... --kafka ..." $MISUSE
    say "upgrade: from $from to $NEW"
    place_new
    if [[ $from == "$NEW" ]]; then
        files_are_in_place || step "unit and commands, repaired" switch_to "$NEW"
        say "  $NEW is in force already"
        return
    fi
    replace "$from" "$NEW"
}

roll_back() {
    while (($#)); do
        common_option "$@"
        shift 2
    done
    require_root
    require_no_package
    local from to
    from=$(version_at current) to=$(version_at previous)
    [[ -n $to && -f $VERSIONS/$to/complete ]] || fail "there is no version to go back to" $MISUSE
    say "rollback: from $from to $to"
    replace "$from" "$to"
}

# Restart all bridges with another version. If a bridge was live and is not live again in time, restore the
# old version. EMQ keeps the session and queues new messages meanwhile.
replace() { # FROM TO
    local unit wanted before
    local -a units live=()
    mapfile -t units < <(units_in_use)
    for unit in "${units[@]}"; do
        ! is_live "$unit" || live+=("$unit")
        step "the settings of $unit, read by $2" as_service "$2" "$unit" config
    done
    before=$(version_at previous)
    undo go_back "$1" "$before" "${live[@]}"
    step "$2 in force" switch_to "$2"
    for unit in "${units[@]}"; do
        wanted=up
        [[ " ${live[*]} " != *" $unit "* ]] || wanted=live
        step "restart $unit, until it is $wanted again" restart_or_say_why $wanted "$unit"
    done
    settings_beside "$1" "$2"
    keep
    [[ -n $DRY_RUN ]] || remove_old_versions
}

restart_or_say_why() { # live|up UNIT
    if ! restart_until "$1" "$2" "$PATIENCE"; then
        last_words "$2"
        return 1
    fi
}

go_back() { # VERSION PREVIOUS UNIT...
    local unit
    point current "$1"
    if [[ -n $2 ]]; then point previous "$2"; else rm -f "$VERSIONS/previous"; fi
    install_files
    shift 2
    for unit; do
        restart_until live "$unit" 60 # even if --wait was shorter
    done
}

# Never change the settings file. If the shipped file has changed, put the new one beside it.
settings_beside() { # FROM TO
    local new=$CONFIGURATION/bridge.toml.new
    cmp -s "$VERSIONS/$1/deploy/bridge.toml" "$VERSIONS/$2/deploy/bridge.toml" && return
    step "$new, with what is new in it" \
        install -m 0640 -o root -g "$NAME" "$VERSIONS/$2/deploy/bridge.toml" "$new"
}

# -- status -------------------------------------------------------------------------------------------

show_status() {
    (($# == 0)) || misuse "status takes no options"
    local version unit all_live=yes previous
    version=$(version_at current)
    if [[ -z $version ]]; then
        echo "the bridge is not installed"
        exit $NOT_LIVE
    fi
    previous=$(version_at previous)
    echo "version    $version${previous:+ (rollback goes to $previous)}"
    for unit in $(units_in_use); do
        echo "service    $unit: $(described "$unit")"
        is_live "$unit" || all_live=
    done
    [[ -n $(units_in_use) ]] || { echo "service    not started: systemctl start $NAME" && all_live=; }
    echo "settings   $(echo "$CONFIGURATION"/*.toml)"
    [[ ! -r $STATE ]] || echo "on disk    $STATE, $(du -sh "$STATE" | cut -f 1)"
    [[ -n $all_live ]] || exit $NOT_LIVE
}

described() { # UNIT
    local state text
    state=$(systemctl show -P ActiveState "$1") text=$(systemctl show -P StatusText "$1")
    if [[ $state == failed && $(systemctl show -P ExecMainStatus "$1") == "$MISUSE" ]]; then
        echo "its settings are wrong, it waits for you: sudo journalctl -u $1 -n 5"
    else
        echo "$state${text:+, $text}, since $(systemctl show -P ActiveEnterTimestamp "$1")"
    fi
}

# -- uninstall ----------------------------------------------------------------------------------------

uninstall_bridge() {
    local unit
    removal_options "uninstall" "$@"
    require_root
    require_no_package
    local -a units
    mapfile -t units < <(units_in_use)
    [[ -z $PURGE || -n $FORCE ]] || refuse_undelivered
    for unit in "${units[@]}"; do
        step "stop $unit" systemctl stop "$unit"
    done
    if [[ -n $PURGE && -z $FORCE ]]; then # more messages may have come until the bridge stopped
        undo systemctl start "${units[@]}"
        refuse_undelivered
        keep
    fi
    step "unit, commands, $VERSIONS" remove_bridge
    if [[ -n $PURGE ]]; then
        step "settings, passwords, state, user" purge_bridge
    else
        say "  kept: $CONFIGURATION, $STATE and the user $NAME (--purge removes them)"
    fi
}

remove_bridge() {
    local unit
    for unit in $(units_enabled); do
        systemctl disable "$unit"
    done
    remove_files
    rm -rf "$VERSIONS"
}

purge_bridge() {
    rm -rf "$CONFIGURATION" /etc/credstore/"$NAME".* /etc/credstore/"$NAME"@*
    empty_and_remove "$STATE"
    remove_user
    rm -f "$LOG"
}

# Do not delete messages that only this machine has.
refuse_undelivered() {
    local found
    found=$(undelivered)
    [[ -z $found ]] || fail "$found; --force purges them all the same"
}
