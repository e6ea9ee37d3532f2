# shellcheck shell=bash
# What can be wrong with a node of EMQX: found out before install.sh changes anything. Part of install.sh.

EMQX_PORTS=(1883 4370 5370 18083)  # devices, the cluster, its messages, the dashboard
EMQX_OTHER_PORTS=(8083 8084 8883)  # WebSocket and TLS, in the settings that its package brings
EMQX_CLUSTER_PORTS=(4370 5370)     # fixed for nodes whose name is emqx@HOST
EMQX_LINES="5.8 and 4.4"
EMQX_COOKIE='^[A-Za-z][A-Za-z0-9_]{19,199}$' # more characters would need quotes in one of the files that have it

check_emqx_nodes() {
    local host
    ((${#NODES[@]})) || misuse "emqx: which nodes? --nodes ADDRESS,ADDRESS"
    check_node_names
    ((${#NODES[@]} <= 2)) || misuse "--nodes: ${#NODES[@]} nodes, and HAProxy stands in front of two"
    for host in "${NODES[@]}"; do
        [[ $host =~ ^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$ ]] ||
            misuse "--nodes $host: must be an IPv4 address, or a name with a domain: EMQX's nodes find no others"
    done
}

# Set EMQX_NEW to the version to install, that of the package or the one in force, and EMQX_LINE to its line.
find_emqx() {
    EMQX_NEW=$(emqx_in_force)
    if [[ -n $EMQX_PACKAGE ]]; then
        check_emqx_package
    elif [[ -z $EMQX_NEW ]]; then
        misuse "emqx: which package? --package emqx-5.8.9-debian12-$(dpkg --print-architecture).deb, from its makers"
    fi
    case $EMQX_NEW in
    5.8.*) EMQX_LINE=5.8 ;;
    4.4.*) EMQX_LINE=4.4 ;;
    5.9.* | 5.[1-9][0-9].* | [6-9].* | [1-9][0-9].*)
        fail "EMQX $EMQX_NEW: from 5.9 on a cluster needs a licence, and these settings are for $EMQX_LINES: take 5.8"
        ;;
    *) fail "EMQX $EMQX_NEW: these settings are for $EMQX_LINES" ;;
    esac
}

emqx_in_force() {
    ! is_installed emqx || dpkg-query -W -f '${Version}' emqx
}

check_emqx_package() {
    local name version architecture
    [[ -f $EMQX_PACKAGE ]] || fail "--package $EMQX_PACKAGE: no such file"
    # --contents reads all of it, --show only its beginning.
    # shellcheck disable=SC2016 # dpkg-deb's
    if ! dpkg-deb --contents "$EMQX_PACKAGE" >/dev/null 2>&1 ||
        ! read -r name version architecture < <(dpkg-deb --show \
            --showformat='${Package} ${Version} ${Architecture}\n' "$EMQX_PACKAGE"); then
        fail "--package $EMQX_PACKAGE: damaged, or no Debian package: download it again"
    fi
    case $name in
    emqx) ;;
    emqx-e*) fail "--package $EMQX_PACKAGE: is $name, another edition; take the package emqx" ;;
    *) fail "--package $EMQX_PACKAGE: is $name, not emqx" ;;
    esac
    [[ $architecture == "$(dpkg --print-architecture)" ]] ||
        fail "--package $EMQX_PACKAGE: is for $architecture, this machine is $(dpkg --print-architecture)"
    EMQX_NEW=$version
}

require_no_other_emqx() {
    local name
    for name in emqx-enterprise emqx-ee emqx-edge; do
        ! is_installed "$name" || fail "$name is installed, another edition: sudo apt-get purge $name"
    done
}

require_emqx_upgrade() { # VERSION-IN-FORCE
    [[ -n $1 && $1 != "$EMQX_NEW" ]] || return 0
    ! is_older "$EMQX_NEW" "$1" || fail "EMQX $1 is installed, and $EMQX_NEW may not read its data"
    [[ $1 == "$EMQX_LINE".* ]] ||
        fail "EMQX $1 is installed, and $EMQX_NEW does not read its data. To begin without them, \
which deletes retained messages and users: deploy/install.sh emqx uninstall --purge, then this again"
}

# Refuse a package that was built for another Debian. apt's lists may be missing: then apt_install fetches them.
require_dependencies() {
    local wanted
    compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || return 0
    ! LC_ALL=C apt-get -q --simulate install "$(readlink -f "$EMQX_PACKAGE")" >"$SCRATCH/simulated" 2>&1 || return 0
    wanted=$(sed -n 's/.*Depends: \([^ ]*\) .*but it is not .*/\1/p' "$SCRATCH/simulated" | sort -u | paste -sd ' ')
    [[ -z $wanted ]] || fail "--package $EMQX_PACKAGE: needs $wanted, which this system does not have: take the package \
for $(sed -n 's/^\(ID\|VERSION_ID\)=//p' /etc/os-release | tr -d '"' | sort -r | paste -sd ' ')"
    fail "--package $EMQX_PACKAGE: $(grep '^E:' "$SCRATCH/simulated" | tail -n 1)"
}

# Set COOKIE to the one of the file, or the one in force, or a new one. The nodes of a cluster must have the same, and
# whoever knows it can run programs on them: so it is not made from what others know, as Kafka's cluster id is.
choose_cookie() { # [FILE|-]
    local other
    if [[ -n $1 ]]; then
        [[ $1 == - || -f $1 ]] || fail "--cookie-file $1: no such file"
        [[ $1 != - || ! -t 0 ]] || printf 'the cookie, then Enter: ' >&2 # nothing comes from a pipe
        if [[ $1 == - ]]; then COOKIE=$(cookie_in); else COOKIE=$(cookie_in <"$1"); fi
        [[ $COOKIE =~ $EMQX_COOKIE ]] || fail "--cookie-file $1: has no cookie, which is 20 letters or digits or \
more, a letter first: give $EMQX_COOKIE_FILE of the other node"
        return
    fi
    if [[ -e $EMQX_COOKIE_FILE ]]; then
        COOKIE=$(cookie_in <"$EMQX_COOKIE_FILE")
        [[ -z $COOKIE ]] || return 0 # a power cut may have left an empty file
    fi
    for other in $(other_nodes); do
        [[ -n $(unreachable "$other") ]] ||
            fail "$other runs EMQX already, and this node needs its cookie: ssh $other sudo cat $EMQX_COOKIE_FILE | \
sudo deploy/install.sh emqx --nodes $(commas "${NODES[@]}") --package $EMQX_PACKAGE --cookie-file -"
    done
    COOKIE=c$(head -c 48 /dev/urandom | base64 | tr -dc 'A-Za-z0-9' | cut -c -40)
}

# Print the cookie of a file like EMQX_COOKIE_FILE, or of one that has nothing else.
cookie_in() {
    sed -n '/^#/d; s/^EMQX_NODE_\{1,2\}COOKIE=//; s/[[:space:]]//g; /./{p;q}'
}

# A restart ends the sessions of a node, with the messages that wait in them.
require_no_restart() { # VERSION-IN-FORCE
    systemctl is-active --quiet "$EMQX_UNIT" || return 0
    if [[ $1 != "$EMQX_NEW" ]] || ! are_in_place emqx_files; then
        fail "EMQX must restart, which ends this node's sessions with the messages that wait in them: when none wait \
that you need, add --restart"
    fi
}
