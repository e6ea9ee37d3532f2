# shellcheck shell=bash
# EMQX: a node of a pair, from its makers' Debian package, with the settings that the chain needs. Part of install.sh,
# with emqx_checks.sh and emqx_files.sh.

EMQX_UNIT=emqx.service
EMQX_PATIENCE=120 # seconds: a small Pi needs one minute to start EMQX

manage_emqx() { # [status|uninstall] the options of `emqx`
    case ${1-} in
    status) emqx_status "${@:2}" ;;
    uninstall) uninstall_emqx "${@:2}" ;;
    *) install_emqx "$@" ;;
    esac
}

install_emqx() { # the options of `emqx`
    local listed='' node='' cookie='' restart='' from
    EMQX_PACKAGE='' PATIENCE=$EMQX_PATIENCE
    while (($#)); do
        case $1 in
        --restart)
            restart=yes
            shift
            continue
            ;;
        --nodes) listed=$(argument "$@") ;;
        --node) node=$(argument "$@") ;;
        --package) EMQX_PACKAGE=$(argument "$@") ;;
        --cookie-file) cookie=$(argument "$@") ;;
        --wheels) misuse "emqx: $1: no such option" ;;
        *) common_option "$@" ;;
        esac
        shift 2
    done
    IFS=, read -ra NODES <<<"$listed"
    check_emqx_nodes
    require_root
    require_debian
    require_64_bit "EMQX has"
    find_node "$node"
    find_emqx
    from=$(emqx_in_force)
    require_no_other_emqx
    require_emqx_upgrade "$from"
    require_whole_parts
    [[ -n $from ]] || EMQX_PORTS+=("${EMQX_OTHER_PORTS[@]}")
    systemctl is-active --quiet "$EMQX_UNIT" || require_ports EMQX '' "${EMQX_PORTS[@]}"
    choose_cookie "$cookie"
    if [[ $from != "$EMQX_NEW" ]]; then
        require_space /usr 300
        require_dependencies
    fi
    [[ -z $from ]] || write_emqx_files
    [[ -n $restart ]] || require_no_restart "$from"

    say "emqx: version $EMQX_NEW, node $NODE of ${#NODES[@]}: ${NODES[NODE - 1]}"
    [[ $from == "$EMQX_NEW" ]] || step "apt-get install ${EMQX_PACKAGE##*/}" install_emqx_package
    [[ -n $from ]] || write_emqx_files # the package has brought the files to which ours are added
    put_emqx_in_place "$from"
    start_emqx
}

# -- start and wait ------------------------------------------------------------------------------------

start_emqx() {
    local status=0 began=$SECONDS
    if [[ -n $DRY_RUN ]]; then
        printf '  would: start it at each boot and now, and wait until the nodes see each other\n'
        return
    fi
    systemctl is-enabled --quiet "$EMQX_UNIT" || step "start it at each boot" systemctl enable "$EMQX_UNIT"
    if [[ -z ${EMQX_RESTARTS-} ]] && emqx_is_up && [[ -z $(missing_nodes) ]]; then
        say "  it runs, and sees all nodes"
        return
    fi
    printf '  start it, and wait until the nodes see each other ...'
    # shellcheck disable=SC2034 # put_emqx_files_back reads it
    EMQX_STARTED=yes
    keep_in_any_case "installed and started; deploy/install.sh emqx status tells whether the nodes see each other"
    await_emqx "$([[ -n ${EMQX_RESTARTS-} ]] && echo restart || echo start)" || status=$?
    finish_in_any_case
    case $status in
    0)
        printf ' %d s\n' $((SECONDS - began))
        say_what_follows_emqx
        warn_of_password
        ;;
    2)
        printf ' it does not stay up\n'
        journalctl "_SYSTEMD_UNIT=$EMQX_UNIT" --lines 8 --output cat --no-pager 2>/dev/null | sed 's/^/      /' >&2
        fail "EMQX does not run; the lines above say why (journalctl -u emqx, /var/log/emqx)"
        ;;
    "$WAITS_FOR_OTHERS")
        printf ' it runs\n'
        sed 's/^/      /' "$SCRATCH/waits"
        warn "installed; the other node is not there yet. On it: $(command_for_the_other)"
        warn_of_password
        ;;
    *)
        printf ' not within %d s\n' "$PATIENCE"
        keep
        missing_nodes >"$SCRATCH/missing"
        if grep -qxF "${NODES[NODE - 1]}" "$SCRATCH/missing"; then
            warn "installed and started, but EMQX does not answer yet; check again with: deploy/install.sh emqx status"
            exit "$NOT_LIVE"
        fi
        warn "installed and started, but $(paste -sd ' ' "$SCRATCH/missing") is not in the cluster: does it have the same \
cookie ($EMQX_COOKIE_FILE), the same --nodes and the same line of EMQX? Check again with: deploy/install.sh emqx status"
        exit "$NOT_LIVE"
        ;;
    esac
    keep
}

# Start EMQX and wait. Returns 0 once the nodes see each other, 1 after PATIENCE, 2 if it ended, 4 if it runs and
# another node cannot be reached. What is missing is in $SCRATCH/waits.
await_emqx() { # start|restart
    local by=$((SECONDS + PATIENCE)) host missing
    : >"$SCRATCH/waits"
    systemctl reset-failed "$EMQX_UNIT" 2>/dev/null || true
    systemctl "$1" "$EMQX_UNIT" || return 2
    while :; do
        ! emqx_ended || return 2
        if emqx_is_up; then
            missing=$(missing_nodes)
            [[ -n $missing ]] || return 0
            for host in $missing; do unreachable "$host"; done >"$SCRATCH/waits"
            [[ ! -s $SCRATCH/waits ]] || return "$WAITS_FOR_OTHERS"
        fi
        ((SECONDS < by)) || return 1
        sleep 1 # each command of EMQX's is a login of the user emqx, and takes a second of a Pi
    done
}

emqx_ended() {
    ended "$EMQX_UNIT" || [[ $(systemctl show -P SubState "$EMQX_UNIT") == auto-restart ]]
}

# Whether this node serves devices and answers its own commands.
emqx_is_up() {
    local running
    systemctl is-active --quiet "$EMQX_UNIT" && [[ -n $(ss -Hltn "sport = :1883") ]] || return 1
    running=$(running_nodes)
    grep -qxF "emqx@${NODES[NODE - 1]}" <<<"$running"
}

# Print the names of the cluster's nodes that run, as this node sees them; nothing if it does not answer.
running_nodes() {
    { timeout 30 emqx ctl cluster status 2>/dev/null </dev/null || true; } | tr -d " \n'" |
        sed -n 's/.*running_nodes=>\[\([^]]*\)\].*/\1\n/p' | tr ',' '\n'
}

# Print the hosts that are not in the cluster, as this node sees it.
missing_nodes() {
    local host running
    running=$(running_nodes)
    for host in "${NODES[@]}"; do
        grep -qxF "emqx@$host" <<<"$running" || echo "$host"
    done
}

# Print what is wrong with the ports at which the nodes of a cluster talk to each other; nothing if they answer.
unreachable() { # HOST
    local port status said
    for port in "${EMQX_CLUSTER_PORTS[@]}"; do
        status=0
        # shellcheck disable=SC2016 # the inner shell's
        said=$(timeout 3 bash -c 'exec 3<>"/dev/tcp/$1/$2"' bash "$1" "$port" 2>&1) || status=$?
        ((status)) || continue
        case $status:$said in
        124:*) echo "$1:$port: no answer. Is the node on, and no firewall in the way?" ;;
        *refused*) echo "$1:$port: nothing listens there. Does EMQX run on that node?" ;;
        *) echo "$1:$port: not in the network. Is the node on, and the address right?" ;;
        esac
        return
    done
}

# Print the hosts of the other nodes.
other_nodes() {
    local number
    for number in "${!NODES[@]}"; do
        ((number + 1 == NODE)) || echo "${NODES[number]}"
    done
}

# Print the command that installs the other node with this node's cookie, which then is in no file in between.
command_for_the_other() {
    echo "ssh ${NODES[NODE - 1]} sudo cat $EMQX_COOKIE_FILE | sudo deploy/install.sh emqx --nodes $(commas "${NODES[@]}") \
--package ${EMQX_PACKAGE:-FILE.deb} --cookie-file -"
}

say_what_follows_emqx() {
    local host listed=''
    for host in "${NODES[@]}"; do listed+=" --emq $host"; done
    say "  next: deploy/install.sh haproxy$listed"
}

warn_of_password() {
    [[ -z ${EMQX_IS_NEW-} ]] || warn "EMQX's dashboard, http://${NODES[NODE - 1]}:18083, has the user admin with the \
password public: change it there, once for both nodes"
}

# -- afterwards ----------------------------------------------------------------------------------------

emqx_status() {
    local good=yes number host running why
    (($# == 0)) || misuse "emqx status takes no options"
    ((EUID == 0)) || fail "must be run as root: sudo deploy/install.sh emqx status"
    if [[ -z $(emqx_in_force) ]] || ! read_emqx_nodes; then
        echo "EMQX is not installed, or not by install.sh"
        exit "$NOT_LIVE"
    fi
    echo "version    $(emqx_in_force)"
    echo "service    $(described "$EMQX_UNIT")"
    running=$(running_nodes)
    for number in "${!NODES[@]}"; do
        host=${NODES[number]}
        if grep -qxF "emqx@$host" <<<"$running"; then
            printf 'node %d     %s: up%s\n' $((number + 1)) "$host" "$( ((number + 1 != NODE)) || echo ', this machine')"
        else
            good=
            why=$(unreachable "$host")
            printf 'node %d     %s: away. %s\n' $((number + 1)) "$host" \
                "${why:-It runs, but is not in the cluster: has it the same cookie?}"
        fi
    done
    echo "settings   $(emqx_settings_file)"
    [[ -n $good ]] || exit "$NOT_LIVE"
}

uninstall_emqx() {
    removal_options "emqx uninstall" "$@"
    require_root
    [[ -e $EMQX_DROPIN || -z $(emqx_in_force) ]] || fail "EMQX is not from install.sh: sudo apt-get remove emqx"
    [[ -z $PURGE || -n $FORCE ]] || refuse_last_node
    if [[ -n $(emqx_in_force) ]]; then
        step "stop EMQX" systemctl disable --now "$EMQX_UNIT"
        [[ -n $PURGE ]] || step "apt-get remove emqx" apt_remove remove
    fi
    if [[ -n $PURGE ]]; then
        step "package, settings, retained messages, sessions, cookie" purge_emqx
    else
        say "  kept: $EMQX_ETC, $EMQX_DATA and $EMQX_COOKIE_FILE (--purge removes them)"
    fi
}

purge_emqx() {
    ! dpkg-query -W emqx >/dev/null 2>&1 || apt_remove purge # configuration may be left after an earlier `remove`
    rm -rf "$EMQX_ETC" "$EMQX_COOKIE_FILE" "$EMQX_DROPIN"
    empty_and_remove "$EMQX_DATA"
    [[ ! -d ${EMQX_DROPIN%/*} ]] || rmdir --ignore-fail-on-non-empty "${EMQX_DROPIN%/*}"
    systemctl daemon-reload
}

apt_remove() { # remove|purge
    env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$1" emqx
}

# Do not delete retained messages, users and keys that no other node has.
refuse_last_node() {
    local host running
    [[ -n $(find "$EMQX_DATA" -mindepth 1 -print -quit 2>/dev/null) ]] || return 0
    read_emqx_nodes || fail "$EMQX_DATA has retained messages and users, and no settings tell of another node that has \
them; --force purges them all the same"
    running=$(running_nodes)
    for host in $(other_nodes); do
        # A node that is stopped can't tell what it sees.
        if grep -qxF "emqx@$host" <<<"$running" || [[ -z $running && -z $(unreachable "$host") ]]; then return; fi
    done
    fail "no other node has the retained messages and the users of this one; --force purges them all the same"
}
