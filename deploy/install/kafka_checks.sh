# shellcheck shell=bash
# What can be wrong with a node of Kafka: found out before install.sh changes anything. Part of install.sh.

KAFKA_PORTS=(9092 9093) # and 9094 with TLS: choose_security

check_nodes() {
    local host twice
    ((${#NODES[@]})) || misuse "kafka: which nodes? --nodes ADDRESS,ADDRESS,ADDRESS, or one address"
    for host in "${NODES[@]}"; do
        [[ $host =~ ^[A-Za-z0-9._:-]+$ && ! $host =~ ^[^:]*:[^:]*$ ]] ||
            misuse "--nodes $host: must be an address or a name, without a port"
    done
    twice=$(printf '%s\n' "${NODES[@]}" | sort | uniq -d | head -n 1)
    [[ -z $twice ]] ||
        misuse "--nodes names $twice twice: two nodes would have its address"
    ((${#NODES[@]} % 2)) ||
        misuse "--nodes: ${#NODES[@]} nodes endure no more failures than $((${#NODES[@]} - 1)): give 1, 3 or 5"
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

# Set HEAP to the given number of MB, or the one in force, or one that suits the machine's memory.
choose_heap() { # [MB]
    local memory
    memory=$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo)
    HEAP=${1:-$(sed -n 's/^KAFKA_HEAP=.*-Xmx\([0-9]*\)m.*/\1/p' "$KAFKA_DEFAULTS" 2>/dev/null || true)}
    if [[ -n $HEAP ]]; then
        [[ $HEAP =~ ^[0-9]+$ && $HEAP -ge 128 && $HEAP -le $((memory * 3 / 4)) ]] ||
            fail "--heap $HEAP: must be a number of MB from 128 to $((memory * 3 / 4)), as the machine has $memory"
    elif ((memory < 1500)); then
        fail "Kafka needs a machine with 2 GB of memory, this one has $memory MB: take a larger one, or \
--heap 256 for a try"
    elif ((memory < 3000)); then
        HEAP=512
    elif ((memory < 6000)); then
        HEAP=1024
    else
        HEAP=2048 # the rest is for the system's cache of files, which Kafka uses more
    fi
}

# Set CLUSTER_ID to the given one, or make one from the nodes, so that each node makes the same.
choose_cluster_id() { # [ID]
    local there number
    CLUSTER_ID=${1:-$(cluster_id)}
    [[ $CLUSTER_ID =~ ^[A-Za-z0-9_-]{22}$ ]] || misuse "--cluster-id $1: must have 22 letters, digits, - or _"
    [[ -e $KAFKA_DATA/meta.properties ]] || return 0
    there=$(sed -n 's/^cluster\.id=//p' "$KAFKA_DATA/meta.properties")
    number=$(sed -n 's/^node\.id=//p' "$KAFKA_DATA/meta.properties")
    [[ $there == "$CLUSTER_ID" ]] ||
        fail "$KAFKA_DATA is of the cluster $there, and this would be $CLUSTER_ID: to keep the data \
--cluster-id $there, to delete them first deploy/install.sh kafka uninstall --purge"
    [[ $number == "$NODE" ]] ||
        fail "$KAFKA_DATA is of node $number, and this would be node $NODE: give --nodes in the order of the first time"
}

# Print a UUID in Kafka's form, made from the nodes in any order.
cluster_id() {
    python3 - "${NODES[@]}" <<'PYTHON'
import base64, hashlib, sys

text = ",".join(sorted(sys.argv[1:]))
while True:
    text = hashlib.sha256(text.encode()).hexdigest()
    identifier = base64.urlsafe_b64encode(bytes.fromhex(text)[:16]).decode().rstrip("=")
    if not identifier.startswith("-"):  # Kafka's commands would take it for an option
        print(identifier)
        break
PYTHON
}

# Refuse to overwrite a Kafka that somebody else has installed.
require_no_other_kafka() {
    if [[ -e $KAFKA_UNIT_FILE ]] && ! head -n 1 "$KAFKA_UNIT_FILE" | grep -q 'install\.sh kafka'; then
        fail "$KAFKA_UNIT_FILE is not from install.sh: this machine has another Kafka, remove that first"
    fi
    if [[ -e $KAFKA/libs || -L $KAFKA ]]; then
        fail "$KAFKA is not from install.sh: this machine has another Kafka, move that away first"
    fi
}

require_kafka_ports() {
    systemctl is-active --quiet "$KAFKA_UNIT" || require_ports Kafka '' "${KAFKA_PORTS[@]}"
}

# While no other node answers nobody can tell the time; then only warn.
require_clock() {
    [[ $(timedatectl show -P NTPSynchronized 2>/dev/null) != no ]] ||
        warn "no time server sets this machine's clock (timedatectl): Kafka deletes messages by their time"
}
