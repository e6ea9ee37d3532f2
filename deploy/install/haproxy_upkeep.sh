# shellcheck shell=bash
# HAProxy that is installed: its state, its removal. Part of install.sh.

haproxy_status() {
    local good=yes number state
    (($# == 0)) || misuse "haproxy status takes no options"
    ((EUID == 0)) || fail "must be run as root: sudo deploy/install.sh haproxy status"
    if ! is_installed haproxy || ! grep -q '^EMQ1=' "$HAPROXY_DEFAULTS" 2>/dev/null; then
        echo "HAProxy is not installed by install.sh"
        exit "$NOT_LIVE"
    fi
    echo "version    $(dpkg-query -W -f '${Version}' haproxy)"
    echo "service    $(described haproxy)"
    haproxy_serves || good=
    for number in 1 2; do
        state=$(node_state $number)
        [[ $state == L7OK ]] || good=
        [[ $state != L7OK ]] || state="answers as a broker"
        echo "EMQ$number       $(sed -n "s/^EMQ$number=//p" "$HAPROXY_DEFAULTS"): ${state:-not checked}"
    done
    if shares_address; then
        read_vip
        vip_status || good=
    fi
    [[ -n $good ]] || exit "$NOT_LIVE"
}

vip_status() {
    local who state good=yes
    state=$(keepalived_state)
    case $state in
    MASTER | BACKUP | '') ;; # empty if the journal does not reach back so far
    *) good= ;;
    esac
    systemctl is-active --quiet keepalived || good=
    echo "keepalived $(described keepalived)${state:+; $state}"
    who=$(address holder "$VIP" "$INTERFACE" "$OTHER")
    [[ $who == here || $who == other ]] || good=
    echo "address    $VIP: $(who_has_it "$who")"
    if address serves "$OTHER"; then
        echo "other      $OTHER: HAProxy answers there"
    else
        echo "other      $OTHER: no HAProxy answers there, so nobody takes the place of this machine"
        good=
    fi
    [[ -n $good ]]
}

uninstall_haproxy() {
    (($# == 0)) || misuse "haproxy uninstall takes no options"
    require_root
    if ! shares_address && ! grep -q '^EMQ1=' "$HAPROXY_DEFAULTS" 2>/dev/null; then
        say "  nothing of install.sh haproxy is here"
        return
    fi
    ! shares_address || step "stop keepalived, remove its settings" remove_keepalived
    step "stop HAProxy" stop_for_good haproxy
    step "$HAPROXY_CFG as it was, nodes and password out of $HAPROXY_DEFAULTS" forget_haproxy
    say "  kept: the packages haproxy, keepalived, socat and openssl (apt-get remove). sudo systemctl enable --now haproxy \
starts HAProxy with the $HAPROXY_CFG that is there now"
}

forget_haproxy() {
    [[ ! -e $HAPROXY_BEFORE ]] || mv "$HAPROXY_BEFORE" "$HAPROXY_CFG"
    [[ -e $HAPROXY_DEFAULTS ]] || return 0
    sed -i -E '/^(EMQ[12](_PORT)?|STATS_PASSWORD_HASH)=/d' "$HAPROXY_DEFAULTS"
    chmod 0644 "$HAPROXY_DEFAULTS"
}
