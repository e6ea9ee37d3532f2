# shellcheck shell=bash
# The address that two HAProxy machines share, by keepalived. Part of install.sh. ../keepalived/address.py asks the
# network who has the address.

KEEPALIVED_ETC=/etc/keepalived
KEEPALIVED_CONF=$KEEPALIVED_ETC/keepalived.conf
KEEPALIVED_UNIT_FILE=/etc/systemd/system/keepalived.service.d/mqtt-kafka-bridge.conf
VIP='' OWN='' OTHER='' INTERFACE='' # of the machines that share, if they do

address() { # COMMAND WORD...
    python3 -B "$SOURCE/deploy/keepalived/address.py" "$@"
}

# Set VIP, OWN, OTHER and INTERFACE, unless the two machines cannot share this address.
check_vip() { # VIP NODES
    local found status=0 listen there kept=''
    command -v python3 >/dev/null || fail "there is no python3: sudo apt-get install python3"
    require_no_other_keepalived
    if shares_address; then
        read_vip
        [[ $VIP != "$1" ]] || kept=kept
    fi
    listen=$(sed -n "s/^LISTEN=['\"]\{0,1\}\([^'\"]*\).*/\1/p" "$HAPROXY_DEFAULTS" 2>/dev/null || true)
    case $listen in
    '' | '*' | '::') ;;
    *) fail "LISTEN=$listen in $HAPROXY_DEFAULTS: HAProxy must listen on all addresses, as $1 comes and goes: \
remove that line" ;;
    esac
    found=$(address find "$1" "$2" ${kept:+"$kept"}) || status=$?
    case $status in
    0) ;;
    "$MISUSE") misuse "$found" ;;
    *) fail "$found" ;;
    esac
    VIP=$1
    read -r INTERFACE OWN OTHER there <<<"$found"
    [[ $there == there ]] || warn "$OTHER does not answer: run this command on that machine too"
}

# Refuse to overwrite settings of keepalived that somebody else has written.
require_no_other_keepalived() {
    [[ ! -s $KEEPALIVED_CONF ]] || shares_address ||
        fail "$KEEPALIVED_CONF is not from install.sh: this machine has another keepalived, move that file away first"
}

shares_address() {
    head -n 1 "$KEEPALIVED_CONF" 2>/dev/null | grep -q 'install\.sh haproxy'
}

# Set VIP, OWN, OTHER and INTERFACE from the settings in force.
read_vip() {
    INTERFACE=$(sed -n 's/^ *interface \(.*\)/\1/p' "$KEEPALIVED_CONF")
    OWN=$(sed -n 's/^ *unicast_src_ip \(.*\)/\1/p' "$KEEPALIVED_CONF")
    OTHER=$(sed -n 's/^ *\([0-9.]*\) min_ttl.*/\1/p' "$KEEPALIVED_CONF")
    VIP=$(sed -n 's|^ *\([0-9.]*\)/32 dev .*|\1|p' "$KEEPALIVED_CONF")
}

share_address() {
    say "vip: $VIP, shared by $OWN, this machine, and $OTHER"
    if ! is_installed keepalived || ! command -v socat >/dev/null; then
        step "apt-get install keepalived socat" apt_install keepalived socat
    fi
    write_keepalived_files
    if are_in_place keepalived_files && systemctl is-active --quiet keepalived; then
        say "  keepalived runs"
    else
        put_keepalived_in_place
    fi
    [[ -n $DRY_RUN ]] || await_address
}

# Write the settings into the scratch directory.
write_keepalived_files() {
    local priority=100
    # Of two machines that both have the address the one with the higher priority keeps it.
    [[ $(printf '%s\n' "$OWN" "$OTHER" | sort | head -n 1) != "$OWN" ]] || priority=200
    sed -e "s|@VIP@|$VIP|" -e "s|@OWN@|$OWN|" -e "s|@OTHER@|$OTHER|" -e "s|@INTERFACE@|$INTERFACE|" \
        -e "s|@PRIORITY@|$priority|" -e "s|@PORTS@|${HAPROXY_PORTS[*]}|" \
        "$SOURCE/deploy/keepalived/keepalived.conf" >"$SCRATCH/keepalived.conf"
}

keepalived_files() {
    echo "$KEEPALIVED_CONF 0644 $SCRATCH/keepalived.conf"
    echo "$KEEPALIVED_ETC/check-haproxy 0755 $SOURCE/deploy/keepalived/check-haproxy"
    echo "$KEEPALIVED_UNIT_FILE 0644 $SOURCE/deploy/systemd/keepalived.conf"
}

put_keepalived_in_place() {
    local how=restart
    if ! shares_address; then
        undo remove_keepalived
    elif [[ -z $DRY_RUN ]]; then
        save_keepalived
        undo put_keepalived_back
        # A reload does not move the address, but does not read the unit either.
        ! cmp -s "$SOURCE/deploy/systemd/keepalived.conf" "$KEEPALIVED_UNIT_FILE" || how=reload-or-restart
    fi
    step "$KEEPALIVED_CONF, check-haproxy, unit" copy_files keepalived_files
    step "keepalived --config-test" keepalived --config-test --use-file "$KEEPALIVED_CONF"
    systemctl is-enabled --quiet keepalived 2>/dev/null ||
        step "start keepalived at each boot" systemctl enable keepalived
    step "$how keepalived" systemctl "$how" keepalived
    keep
}

# A file may be missing: then this run is there to put it back.
save_keepalived() {
    local to _
    mkdir "$SCRATCH/keepalived"
    while read -r to _; do
        [[ ! -e $to ]] || cp -p "$to" "$SCRATCH/keepalived/"
    done < <(keepalived_files)
}

put_keepalived_back() {
    local to _
    while read -r to _; do
        [[ ! -e $SCRATCH/keepalived/${to##*/} ]] || cp -p "$SCRATCH/keepalived/${to##*/}" "$to"
    done < <(keepalived_files)
    systemctl daemon-reload
    systemctl restart keepalived
}

# At its end keepalived tells the other machine, which takes the address over at once.
remove_keepalived() {
    stop_for_good keepalived
    rm -f "$KEEPALIVED_CONF" "$KEEPALIVED_ETC/check-haproxy" "$KEEPALIVED_UNIT_FILE"
    [[ ! -d ${KEEPALIVED_UNIT_FILE%/*} ]] || rmdir --ignore-fail-on-non-empty "${KEEPALIVED_UNIT_FILE%/*}"
    systemctl daemon-reload
}

# Wait until one of the two machines has the address.
await_address() {
    local who by=$((SECONDS + 20))
    until who=$(address holder "$VIP" "$INTERFACE" "$OTHER") && [[ $who != nobody ]]; do
        ((SECONDS < by)) || break
    done
    say "      $VIP: $(who_has_it "$who")"
    if [[ $who != here && $who != other ]]; then
        warn "installed, but $VIP: $(who_has_it "$who"); journalctl -u keepalived tells more"
        exit "$NOT_LIVE"
    fi
}

who_has_it() { # ANSWER-OF-HOLDER
    case $1 in
    here) echo "this machine has it" ;;
    other) echo "$OTHER has it" ;;
    both) echo "both machines have it, as they do not hear each other: let VRRP (IP protocol 112) through \
the firewalls of both" ;;
    nobody) echo "no machine has it" ;;
    *) echo "a third machine has it, with the MAC address $1: give that one another address" ;;
    esac
}

# Print keepalived's state: MASTER, BACKUP, or FAULT while HAProxy does not serve here.
keepalived_state() {
    journalctl -u keepalived --boot --output cat --no-pager 2>/dev/null |
        sed -n 's/.*(haproxy) Entering \([A-Z]*\) STATE.*/\1/p' | tail -n 1
}
