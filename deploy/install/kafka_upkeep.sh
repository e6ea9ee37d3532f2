# shellcheck shell=bash
# A node of Kafka that is installed: its state, another version, its removal. Part of install.sh.

# Set NODES, NODE and KAFKA_TLS from the settings in force.
read_kafka_nodes() {
    [[ -e $KAFKA_PROPERTIES ]] || return 1
    KAFKA_TLS=$(tls_in_force)
    NODE=$(sed -n 's/^node\.id=//p' "$KAFKA_PROPERTIES")
    mapfile -t NODES < <(sed -n 's/^controller\.quorum\.voters=//p' "$KAFKA_PROPERTIES" | tr ',' '\n' |
        sed 's/^[0-9]*@//; s/:9093$//; s/^\[\(.*\)\]$/\1/')
}

kafka_status() {
    local good=yes
    (($# == 0)) || misuse "kafka status takes no options"
    ((EUID == 0)) || fail "must be run as root: sudo deploy/install.sh kafka status"
    if [[ -z $(kafka_in_force) ]] || ! read_kafka_nodes; then
        echo "Kafka is not installed"
        exit "$NOT_LIVE"
    fi
    echo "version    $(kafka_in_force)"
    echo "service    $(described "$KAFKA_UNIT")"
    describe_security
    cluster status || good=
    describe_disk || good=
    [[ -n $good ]] || exit "$NOT_LIVE"
}

# Print what `status` says of the disk.
describe_disk() {
    local partitions most size
    if [[ ! -e $KAFKA_DATA/meta.properties ]]; then
        echo "disk       $KAFKA_DATA has no data of Kafka. Is its disk mounted?"
        return 1
    fi
    partitions=$(find "$KAFKA_DATA" -maxdepth 1 -type d -name '*-[0-9]*' ! -name '__cluster_metadata-0' | wc -l)
    most=$((partitions * ($(kafka_setting log.retention.bytes) + $(kafka_setting log.segment.bytes)) / 1048576))
    size=$(df --output=size -m "$KAFKA_STATE" | tail -n 1)
    echo "disk       $(du -sh "$KAFKA_STATE" | cut -f 1) in $KAFKA_STATE; at most $most of ${size// /} MB"
    ((most <= size * 9 / 10)) || warn "so many partitions can fill the disk: write a smaller \
log.retention.bytes at the end of $KAFKA_PROPERTIES"
}

# Print the value of a setting in force; the last one counts.
kafka_setting() { # NAME
    sed -n "s/^${1//./\\.}=//p" "$KAFKA_PROPERTIES" | tail -n 1
}

upgrade_kafka() {
    local archive='' sha512='' from access=9092
    while (($#)); do
        case $1 in
        --archive) archive=$(argument "$@") ;;
        --sha512) sha512=$(argument "$@") ;;
        --wheels) misuse "kafka upgrade: $1: no such option" ;;
        *) common_option "$@" ;;
        esac
        shift 2
    done
    [[ -n $archive ]] || misuse "kafka upgrade: to which version? --archive kafka_2.13-VERSION.tgz"
    require_root
    require_debian
    from=$(kafka_in_force)
    if [[ -z $from ]] || ! read_kafka_nodes; then
        fail "there is nothing to upgrade: deploy/install.sh kafka --nodes ..." "$MISUSE"
    fi
    require_java
    find_kafka "$archive" "$sha512"
    ! is_older "$KAFKA_NEW" "$from" || fail "Kafka $from is in force, and $KAFKA_NEW may not read its data"
    say "kafka upgrade: from $from to $KAFKA_NEW"
    if [[ $from == "$KAFKA_NEW" ]]; then
        say "  $KAFKA_NEW is in force already"
        return
    fi
    require_space /opt "$KAFKA_SPACE"
    require_whole
    place_kafka "$archive"
    [[ -n $DRY_RUN ]] || require_whole # it may have changed meanwhile
    undo switch_kafka "$from"
    step "restart Kafka with $KAFKA_NEW, until it is in sync" switch_kafka "$KAFKA_NEW"
    keep
    step "versions before $from, removed" remove_kafka_versions "$from $KAFKA_NEW"
    [[ -z $KAFKA_TLS ]] || access="9094 --command-config $KAFKA_ETC/client.properties"
    say "  when each node runs $KAFKA_NEW, and you will not go back: $KAFKA/current/bin/kafka-features.sh \
--bootstrap-server $(bracketed "${NODES[NODE - 1]}"):$access upgrade --release-version ${KAFKA_NEW%.*}"
}

# The running version must end before the link moves: it still loads classes while it stops.
switch_kafka() { # VERSION
    systemctl stop "$KAFKA_UNIT"
    point_kafka "$1"
    await_kafka start || {
        kafka_last_words
        cat "$SCRATCH/joined"
        return 1
    }
}

# Remove our versions but those to keep. A person may have something else in /opt/kafka.
remove_kafka_versions() { # VERSIONS-TO-KEEP
    local directory name
    for directory in "$KAFKA"/*/; do
        name=$(basename "$directory")
        [[ $name =~ ^[0-9]+(\.[0-9]+)+$ && " $1 " != *" $name "* ]] || continue
        rm -rf "${KAFKA:?}/$name"
    done
}

uninstall_kafka() {
    removal_options "kafka uninstall" "$@"
    require_root
    require_no_other_kafka
    [[ -z $PURGE || -n $FORCE ]] || refuse_last_replica
    step "stop Kafka" stop_kafka
    if [[ -n $PURGE && -z $FORCE && -e $KAFKA_UNIT_FILE && -z $DRY_RUN ]]; then # another node may have died meanwhile
        undo systemctl enable --now "$KAFKA_UNIT"
        refuse_last_replica
        keep
    fi
    step "unit, $KAFKA" remove_kafka
    if [[ -n $PURGE ]]; then
        step "settings, messages, user" purge_kafka
    else
        say "  kept: $KAFKA_ETC, $KAFKA_STATE and the user kafka (--purge removes them)"
    fi
}

stop_kafka() {
    [[ ! -e $KAFKA_UNIT_FILE ]] || systemctl disable --now "$KAFKA_UNIT"
}

remove_kafka() {
    remove_kafka_files
    remove_kafka_versions ''
    rm -f "$KAFKA/current" "$KAFKA/current.new"
    [[ ! -d $KAFKA ]] || rmdir --ignore-fail-on-non-empty "$KAFKA"
}

# A disk that is mounted at KAFKA_STATE may have other things than Kafka's.
purge_kafka() {
    rm -rf "$KAFKA_ETC"
    empty_and_remove "$KAFKA_DATA"
    rm -f "$KAFKA_STATE/java-error.log"
    [[ ! -d $KAFKA_STATE ]] || rmdir "$KAFKA_STATE" 2>/dev/null || true
    ! id kafka >/dev/null 2>&1 || userdel kafka
}

# Do not delete messages that no other node has.
refuse_last_replica() {
    local found
    [[ -n $(find "$KAFKA_DATA" -maxdepth 1 -type d -name '*-[0-9]*' ! -name '__cluster_metadata-0' 2>/dev/null) ]] ||
        return 0
    read_kafka_nodes || fail "$KAFKA_DATA has messages, and no settings tell of other nodes that have them; \
--force purges them all the same"
    found=$(cluster last) || fail "$found; --force purges them all the same"
}
