# shellcheck shell=bash
# What can be wrong with a node of Kafka: found out before install.sh changes anything. Part of install.sh.

KAFKA_PORTS=(9092 9093) # and 9094 with TLS: choose_security

check_nodes() {
    ((${#NODES[@]})) || misuse "kafka: which nodes? --nodes ADDRESS,ADDRESS,ADDRESS, or one address"
    check_node_names
    ((${#NODES[@]} % 2)) ||
        misuse "--nodes: ${#NODES[@]} nodes endure no more failures than $((${#NODES[@]} - 1)): give 1, 3 or 5"
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
    require_same_size
    there=$(sed -n 's/^cluster\.id=//p' "$KAFKA_DATA/meta.properties")
    number=$(sed -n 's/^node\.id=//p' "$KAFKA_DATA/meta.properties")
    [[ $there == "$CLUSTER_ID" ]] ||
        fail "$KAFKA_DATA is of the cluster $there, and this would be $CLUSTER_ID: to keep the data \
--cluster-id $there, to delete them first deploy/install.sh kafka uninstall --purge"
    [[ $number == "$NODE" ]] ||
        fail "$KAFKA_DATA is of node $number, and this would be node $NODE: give --nodes in the order of the first time"
}

# More or fewer controllers than those that have the cluster's log could elect one that has none of it.
require_same_size() {
    local -a voters
    IFS=, read -ra voters < <(sed -n 's/^controller\.quorum\.voters=//p' "$KAFKA_PROPERTIES" 2>/dev/null) || return 0
    ((${#voters[@]} == ${#NODES[@]})) ||
        fail "$KAFKA_DATA is of a cluster of ${#voters[@]}, and --nodes names ${#NODES[@]}: the number of nodes cannot \
change. To begin anew, which deletes all messages: deploy/install.sh kafka uninstall --purge"
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

# Refuse to overwrite a Kafka that somebody else has installed. An empty file is what a power cut may leave of ours.
require_no_other_kafka() {
    if [[ -s $KAFKA_UNIT_FILE ]] && ! head -n 1 "$KAFKA_UNIT_FILE" | grep -q 'install\.sh kafka'; then
        fail "$KAFKA_UNIT_FILE is not from install.sh: this machine has another Kafka, remove that first"
    fi
    if [[ -e $KAFKA/libs || -L $KAFKA ]]; then
        fail "$KAFKA is not from install.sh: this machine has another Kafka, move that away first"
    fi
    if [[ -s $KAFKA_PROPERTIES ]] && ! head -n 1 "$KAFKA_PROPERTIES" | grep -q 'install\.sh kafka'; then
        fail "$KAFKA_PROPERTIES is not from install.sh: this machine has another Kafka, move that away first"
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
