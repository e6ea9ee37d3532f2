# shellcheck shell=bash
# Machines that the command line names: the nodes of a cluster, and which of them this one is. Part of install.sh.

check_node_names() {
    local host twice
    for host in "${NODES[@]}"; do
        [[ $host =~ ^[A-Za-z0-9._:-]+$ && ! $host =~ ^[^:]*:[^:]*$ ]] ||
            misuse "--nodes $host: must be an address or a name, without a port"
    done
    twice=$(printf '%s\n' "${NODES[@]}" | sort | uniq -d | head -n 1)
    [[ -z $twice ]] ||
        misuse "--nodes names $twice twice: two nodes would have its address"
}

# Set HOST and PORT from HOST, HOST:PORT, [IPV6] or [IPV6]:PORT.
split_place() { # OPTION TEXT DEFAULT-PORT
    HOST=$2 PORT=
    if [[ $2 =~ ^\[([0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?)\](:([0-9]+))?$ ]]; then
        HOST=${BASH_REMATCH[1]} PORT=${BASH_REMATCH[4]}
    elif [[ $2 =~ ^([A-Za-z0-9][A-Za-z0-9._-]*)(:([0-9]+))?$ ]]; then
        HOST=${BASH_REMATCH[1]} PORT=${BASH_REMATCH[3]}
    else
        misuse "$1 $2: must be HOST or HOST:PORT; an IPv6 address needs brackets, as in [fd00::10]:$3"
    fi
    PORT=${PORT:-$3}
    ((${#PORT} <= 5 && 10#$PORT >= 1 && 10#$PORT <= 65535)) || misuse "$1 $2: a port is a number from 1 to 65535"
}

# Set NODE to the place of this machine in NODES, and BIND to the address at which it listens.
find_node() { # [--node]
    local number host own
    local -a found=()
    own=" $(ip -o addr | awk '{ sub("/.*", "", $4); print $4 }' | sort -u | tr '\n' ' ')"
    for number in "${!NODES[@]}"; do
        host=${NODES[number]}
        if [[ -n $1 ]]; then
            [[ $1 != "$host" && $1 != $((number + 1)) ]] || found+=("$((number + 1))")
        elif is_own "$host" "$own"; then
            found+=("$((number + 1))")
        fi
    done
    own=$(tr ' ' '\n' <<<"$own" | sed -E '/^(127\.|::1$|fe80:|$)/d' | paste -sd ' ')
    if ((${#found[@]} == 0)); then
        [[ -z $1 ]] || fail "--node $1 is not in --nodes $(commas "${NODES[@]}")"
        fail "none of --nodes $(commas "${NODES[@]}") is this machine, which has ${own:-no address}: correct them, \
or say which with --node"
    elif ((${#found[@]} > 1)); then
        fail "nodes $(commas "${found[@]}") of --nodes are both this machine: say which with --node"
    fi
    NODE=${found[0]}
    host=${NODES[NODE - 1]}
    BIND=0.0.0.0 # Debian's /etc/hosts has 127.0.1.1 for the machine's own name
    [[ " $own " != *" $host "* && $host != 127.* ]] || BIND=$host
}

is_own() { # HOST OWN-ADDRESSES
    local address
    while read -r address; do
        [[ $address != 127.* && $address != ::1 && $2 != *" $address "* ]] || return 0
    done < <(addresses "$1")
    return 1
}

addresses() { # HOST
    getent ahosts "$1" | awk '{ print $1 }' | sort -u
}

commas() { # WORD...
    local IFS=,
    printf '%s' "$*"
}
