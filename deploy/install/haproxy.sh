# shellcheck shell=bash
# The balancer: HAProxy of the distribution with the project's haproxy.cfg. Part of install.sh, with vip.sh for an address
# that two of them share, and haproxy_upkeep.sh.

HAPROXY_CFG=/etc/haproxy/haproxy.cfg
HAPROXY_BEFORE=$HAPROXY_CFG.before-mqtt-kafka-bridge # the distribution's file, or the site's own
HAPROXY_DEFAULTS=/etc/default/haproxy
HAPROXY_PORTS=(1883 1884 8080 8081)
HAPROXY_ANSWERS=3 # seconds, within which it must

balancer() { # [status|uninstall] the options of `haproxy`
    case ${1-} in
    status) haproxy_status "${@:2}" ;;
    uninstall) uninstall_haproxy "${@:2}" ;;
    *) install_haproxy "$@" ;;
    esac
}

install_haproxy() { # the options of `haproxy`
    local -a nodes=()
    local password='' before_restart='' vip='' machines='' node other=''
    while (($#)); do
        case $1 in
        --emq) nodes+=("$(argument "$@")") ;;
        --vip) vip=$(argument "$@") ;;
        --nodes) machines=$(argument "$@") ;;
        --wheels) misuse "haproxy: $1: no such option" ;;
        *) common_option "$@" ;;
        esac
        shift 2
    done
    ((${#nodes[@]} == 2)) || misuse "haproxy: which two EMQ nodes? --emq HOST[:PORT] --emq HOST[:PORT]"
    if [[ -n $vip || -n $machines ]]; then
        [[ -n $vip && -n $machines ]] || misuse "haproxy: --vip and --nodes belong together: the address that two \
HAProxy machines share, and the own addresses of both"
    fi
    for node in "${nodes[@]}"; do
        split_place --emq "$node" 1883
        [[ $HOST != "$vip" ]] || misuse "--vip $vip is a node of EMQ, by --emq: HAProxy needs an address \
that no other machine has"
        [[ $HOST:$PORT != "$other" ]] || misuse "--emq names $node twice: HAProxy needs two nodes"
        other=$HOST:$PORT
    done
    require_root
    require_debian
    require_ports HAProxy haproxy "${HAPROXY_PORTS[@]}"
    [[ -z $vip ]] || check_vip "$vip" "$machines"
    say "haproxy: in front of ${nodes[*]}"
    if ! is_installed haproxy || ! command -v openssl >/dev/null; then
        require_space /usr 50
        step "apt-get install haproxy openssl" apt_install haproxy openssl
    fi

    local defaults=$SCRATCH/defaults
    touch "$defaults"
    [[ ! -e $HAPROXY_DEFAULTS ]] || sed -e '$a\' "$HAPROXY_DEFAULTS" >"$defaults" # with a newline at its end
    set_default "$defaults" 1 "${nodes[0]}"
    set_default "$defaults" 2 "${nodes[1]}"
    if [[ -z $DRY_RUN ]] && ! grep -q '^STATS_PASSWORD_HASH=' "$defaults"; then
        password=$(head -c 15 /dev/urandom | base64 | tr '+/' 'xy')
        echo "STATS_PASSWORD_HASH='$(openssl passwd -6 -stdin <<<"$password")'" >>"$defaults"
    fi
    cmp -s "$defaults" "$HAPROXY_DEFAULTS" || before_restart=yes
    if [[ -z $before_restart ]] && cmp -s "$SOURCE/haproxy/haproxy.cfg" "$HAPROXY_CFG" && haproxy_serves; then
        say "  it is in place, and serves"
    else
        step "haproxy -c, with our file and these nodes" check_haproxy "$SOURCE/haproxy/haproxy.cfg" "$defaults"
        put_haproxy_in_place "$defaults" "$before_restart"
        keep
        [[ -z $password ]] || say_password "$password"
    fi
    if [[ -n $vip ]]; then
        share_address
    elif shares_address; then
        read_vip
        say "  it still shares $VIP with $OTHER"
    fi
    [[ -n $DRY_RUN ]] || await_nodes
}

put_haproxy_in_place() { # DEFAULTS BEFORE-RESTART
    keep_old_haproxy
    if [[ -z $DRY_RUN ]]; then
        mkdir "$SCRATCH/old"
        [[ ! -e $HAPROXY_CFG ]] || cp -p "$HAPROXY_CFG" "$SCRATCH/old/haproxy.cfg"
        cp -p "$HAPROXY_DEFAULTS" "$SCRATCH/old/haproxy" 2>/dev/null || touch "$SCRATCH/old/haproxy"
    fi
    undo put_haproxy_back "$2"
    # 0640: the file contains the hash of a password.
    step "$HAPROXY_DEFAULTS, the nodes" install -m 0640 "$1" "$HAPROXY_DEFAULTS"
    step "$HAPROXY_CFG" install -m 0644 "$SOURCE/haproxy/haproxy.cfg" "$HAPROXY_CFG"
    if [[ -n $2 ]] || ! systemctl is-active --quiet haproxy; then
        # A reload would not read the nodes.
        step "restart HAProxy" serve_with restart
    else
        step "reload HAProxy, which cuts nobody" serve_with reload
    fi
    systemctl is-enabled --quiet haproxy || step "start it at each boot" systemctl enable haproxy
}

# The first copy is what `uninstall` restores. A person may have changed our file since, so later ones are kept too.
keep_old_haproxy() {
    local copy=$HAPROXY_BEFORE
    if [[ ! -e $HAPROXY_CFG ]] || cmp -s "$SOURCE/haproxy/haproxy.cfg" "$HAPROXY_CFG"; then return; fi
    if [[ -e $copy ]]; then
        copy=$HAPROXY_CFG.replaced
        if cmp -s "$HAPROXY_CFG" "$HAPROXY_BEFORE" || cmp -s "$HAPROXY_CFG" "$copy"; then return; fi
    fi
    step "what was there, to $copy" cp -p --backup=numbered "$HAPROXY_CFG" "$copy"
}

put_haproxy_back() { # RESTART
    if [[ -e $SCRATCH/old/haproxy.cfg ]]; then cp -p "$SCRATCH/old/haproxy.cfg" "$HAPROXY_CFG"; else rm -f "$HAPROXY_CFG"; fi
    cp -p "$SCRATCH/old/haproxy" "$HAPROXY_DEFAULTS"
    if [[ -n $1 ]]; then systemctl restart haproxy; else systemctl reload-or-restart haproxy; fi
}

# Write a node into the file; replace an older one.
set_default() { # FILE NUMBER HOST[:PORT]
    split_place --emq "$3" 1883
    set_line "$1" "EMQ$2" "$HOST"
    set_line "$1" "EMQ$2_PORT" "$PORT"
}

set_line() { # FILE NAME VALUE
    if grep -q "^$2=" "$1"; then sed -i "s/^$2=.*/$2=$3/" "$1"; else echo "$2=$3" >>"$1"; fi
}

# Check the file as systemd will run it: systemd itself reads the environment file.
check_haproxy() { # CFG DEFAULTS
    systemd-run --quiet --pipe --wait --collect -p "EnvironmentFile=$2" haproxy -c -f "$1"
}

serve_with() { # restart|reload
    systemctl "$1" haproxy
    local by=$((SECONDS + 10))
    until haproxy_serves; do
        ((SECONDS < by)) || { echo "Error: it does not listen on ${HAPROXY_PORTS[*]}" && return 1; }
        sleep 0.2
    done
}

haproxy_serves() {
    local port
    systemctl is-active --quiet haproxy || return 1
    for port in "${HAPROXY_PORTS[@]}"; do
        [[ -n $(ss -Hltn "sport = :$port") ]] || return 1
    done
}

say_password() { # PASSWORD
    # Not with `say`, which would write the password to the log.
    [[ -n $DRY_RUN ]] || printf '  console: http://%s:8081/haproxy?stats, user admin, password %s (shown only now)\n' \
        "$(hostname -I 2>/dev/null | awk '{ print $1 }')" "$1"
}

# Wait until HAProxy's own checks find that both nodes answer.
await_nodes() {
    local by=$((SECONDS + (PATIENCE < 15 ? PATIENCE : 15))) number state all
    while :; do
        all=yes
        for number in 1 2; do
            state=$(node_state $number)
            [[ $state == L7OK ]] || all=
        done
        if [[ -n $all ]] || ((SECONDS >= by)); then break; fi
        sleep 0.5
    done
    for number in 1 2; do
        state=$(node_state $number)
        [[ $state != L7OK ]] || state="answers as a broker"
        say "      EMQ$number $(sed -n "s/^EMQ$number=//p" "$HAPROXY_DEFAULTS"): ${state:-not checked}"
    done
    if [[ -z $all ]]; then
        warn "installed, but HAProxy does not reach both nodes: is EMQ up there, and the address right?"
        exit "$NOT_LIVE"
    fi
}

# Print the result of the last check (L7OK, L4CON ...) from the Prometheus endpoint; empty if there was none.
# The node's state would not do: HAProxy takes a node for UP until three checks have failed.
node_state() { # NUMBER
    local address
    address=$(sed -n 's/^LISTEN=//p' "$HAPROXY_DEFAULTS" 2>/dev/null)
    [[ -n $address && $address != '*' && $address != '::' ]] || address=127.0.0.1
    # The kernel accepts connections for a HAProxy that hangs.
    # shellcheck disable=SC2016 # the inner shell's
    { timeout "$HAPROXY_ANSWERS" bash -c 'exec 3<>"/dev/tcp/$1/8081" && printf "GET /metrics HTTP/1.0\r\n\r\n" >&3 &&
        cat <&3' bash "$address" 2>/dev/null || true; } |
        sed -n "s/^haproxy_server_check_status{proxy=\"mqtt-kafka\",server=\"server$1\",state=\"\([A-Z0-9]*\)\"} 1.*/\1/p"
}
