# shellcheck shell=bash
# Kafka: a node of a cluster, broker and controller in one. Part of install.sh, with kafka_checks.sh, kafka_versions.sh,
# kafka_files.sh, kafka_tls.sh and kafka_upkeep.sh. ../kafka/cluster.py asks the cluster.

KAFKA_SPACE=300    # MB in /opt: a version (43 MB with the jars alone, 130 MB from an archive), and room for its files
WAITS_FOR_OTHERS=4 # cluster.py

kafka() { # [status|upgrade|uninstall] the options of `kafka`
    case ${1-} in
    status) kafka_status "${@:2}" ;;
    upgrade) upgrade_kafka "${@:2}" ;;
    uninstall) uninstall_kafka "${@:2}" ;;
    *) install_kafka "$@" ;;
    esac
}

install_kafka() { # the options of `kafka`
    local listed='' node='' archive='' sha512='' identifier='' heap='' tls='' replace='' force='' disk=new from
    while (($#)); do
        case $1 in
        --nodes) listed=$(argument "$@") ;;
        --node) node=$(argument "$@") ;;
        --archive) archive=$(argument "$@") ;;
        --sha512) sha512=$(argument "$@") ;;
        --cluster-id) identifier=$(argument "$@") ;;
        --heap) heap=$(argument "$@") ;;
        --tls) tls=$(argument "$@") ;;
        --user) KAFKA_USER=$(argument "$@") ;;
        --replace | --force)
            if [[ $1 == --force ]]; then force=force; else replace=yes; fi
            shift
            continue
            ;;
        --wheels) misuse "kafka: $1: no such option" ;;
        *) common_option "$@" ;;
        esac
        shift 2
    done
    IFS=, read -ra NODES <<<"$listed"
    check_nodes
    check_user
    [[ -z $force || -n $replace ]] || misuse "kafka: --force: only with --replace"
    [[ -z $replace ]] || ((${#NODES[@]} > 1)) ||
        misuse "--replace: one node has no others that keep its messages: leave --replace out, to begin anew"
    require_root
    require_debian
    require_64_bit "Kafka's compression libraries have"
    command -v python3 >/dev/null || fail "there is no python3: sudo apt-get install python3"
    require_no_other_kafka
    find_node "$node"
    choose_heap "$heap"
    choose_cluster_id "$identifier"
    choose_security "$tls"
    require_kafka_ports
    require_java
    find_kafka "$archive" "$sha512"
    from=$(kafka_in_force)
    [[ -z $from || $from == "$KAFKA_NEW" ]] ||
        fail "Kafka $from is in force: deploy/install.sh kafka upgrade --archive $archive"
    [[ -f $KAFKA/$KAFKA_NEW/complete ]] || require_space /opt "$KAFKA_SPACE"
    has_java || require_space /usr 300
    [[ -n $from ]] || require_space "$KAFKA_STATE" 1000
    require_clock
    [[ -z $replace ]] || disk=lost
    [[ ! -e $KAFKA_DATA/meta.properties ]] || disk=kept
    cluster before "$CLUSTER_ID" "$disk" $force >"$SCRATCH/before" || fail "$(<"$SCRATCH/before")"

    say "kafka: version $KAFKA_NEW with a heap of $HEAP MB, node $NODE of ${#NODES[@]}: ${NODES[NODE - 1]}"
    write_kafka_files
    [[ -z $from ]] || require_restart_may_be
    place_kafka "$archive"
    put_kafka_in_place "$from"
    start_kafka
}

# Ask the cluster, as NODES describe it.
cluster() { # COMMAND [WORD]
    local number listed=''
    for number in "${!NODES[@]}"; do
        listed+=${listed:+,}$((number + 1))@${NODES[number]}
    done
    python3 -B "$SOURCE/deploy/kafka/cluster.py" ${KAFKA_TLS:+--tls "$KAFKA_TLS"} "$1" "$listed" "$NODE" "${@:2}"
}

# -- start and wait ------------------------------------------------------------------------------------

# A change of settings restarts Kafka. Refuse while that would leave a partition without its replicas.
require_restart_may_be() {
    if are_in_place kafka_files || ! systemctl is-active --quiet "$KAFKA_UNIT"; then return; fi
    ! cluster joined >/dev/null || require_whole
}

require_whole() {
    local found
    found=$(cluster whole) || fail "$found: Kafka is not restarted while that is so, try again when it is over"
}

start_kafka() {
    local status=0 found began=$SECONDS
    if [[ -n $DRY_RUN ]]; then
        printf '  would: start it at each boot and now, and wait until it is in sync\n'
        [[ -z $KAFKA_USER ]] || printf '  would: create the user %s, unless there is one\n' "$KAFKA_USER"
        return
    fi
    systemctl is-enabled --quiet "$KAFKA_UNIT" || step "start it at each boot" systemctl enable "$KAFKA_UNIT"
    if [[ -z ${KAFKA_RESTARTS-} ]] && systemctl is-active --quiet "$KAFKA_UNIT" && cluster joined >/dev/null; then
        say "  it runs, and is in sync"
        create_user
        return
    fi
    printf '  start it, and wait until it is in sync ...'
    keep_in_any_case "installed and started; deploy/install.sh kafka status tells whether it is in sync"
    await_kafka "$([[ -n ${KAFKA_RESTARTS-} ]] && echo restart || echo start)" || status=$?
    finish_in_any_case
    found=$(<"$SCRATCH/joined")
    case $status in
    0)
        printf ' %d s\n' $((SECONDS - began))
        keep
        create_user
        say_what_is_next
        ;;
    2)
        printf ' it does not stay up\n'
        kafka_last_words >&2
        fail "Kafka does not run; the lines above say why (journalctl -u kafka)"
        ;;
    "$WAITS_FOR_OTHERS")
        printf ' it waits for the others\n'
        sed 's/^/      /' "$SCRATCH/joined"
        warn "installed; Kafka takes messages once $((${#NODES[@]} / 2 + 1)) of ${#NODES[@]} nodes run: run this \
command on the others${KAFKA_USER:+; the user $KAFKA_USER is created then}"
        ;;
    *)
        printf ' not within %d s\n' "$PATIENCE"
        # Others may have begun meanwhile, and can tell that this node has the id of another one.
        { echo "$found"; cluster reach || true; cluster before "$CLUSTER_ID" kept || true; } | sed '/^$/d; s/^/      /'
        keep
        warn "installed and started, but not in sync yet; check again with: deploy/install.sh kafka status"
        exit "$NOT_LIVE"
        ;;
    esac
    keep
}

# Start Kafka and wait. Returns 0 once it is in sync, 1 after PATIENCE, 2 if it ended, 4 if too few of the others
# are there. What is missing is in $SCRATCH/joined.
await_kafka() { # start|restart
    local status directory by=$((SECONDS + PATIENCE))
    directory=$(sed -n 's/^directory\.id=//p' "$KAFKA_DATA/meta.properties" 2>/dev/null || true)
    : >"$SCRATCH/joined"
    systemctl reset-failed "$KAFKA_UNIT" 2>/dev/null || true
    systemctl "$1" "$KAFKA_UNIT" || return 2
    while :; do
        status=0
        cluster join "$directory" >"$SCRATCH/joined" || status=$?
        ! ended "$KAFKA_UNIT" || return 2
        ((status == 1)) || return $status
        ((SECONDS < by)) || return 1
        sleep 0.5
    done
}

# Print the lines of the journal that tell why Kafka ended.
kafka_last_words() {
    journalctl "_SYSTEMD_UNIT=$KAFKA_UNIT" --priority warning --lines 5 --output cat --no-pager 2>/dev/null |
        cut -c -200 | sed 's/^/      /'
}

say_what_is_next() {
    local host listed=''
    [[ -z $(cluster whole) ]] || return 0
    for host in "${NODES[@]}"; do
        listed+=${listed:+,}$(bracketed "$host"):9092
    done
    say "  next: deploy/install.sh bridge --mqtt HOST:PORT --kafka $listed${KAFKA_TLS:+ --no-start, then its settings \
for TLS (docs/how-to/install-kafka.md)}, then mqtt-kafka-bridge topics --create"
}
