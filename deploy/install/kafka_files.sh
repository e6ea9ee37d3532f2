# shellcheck shell=bash
# The files, the directories and the user of a node of Kafka. Part of install.sh.

KAFKA_UNIT=kafka.service
KAFKA_UNIT_FILE=/etc/systemd/system/$KAFKA_UNIT
KAFKA_ETC=/etc/kafka
KAFKA_PROPERTIES=$KAFKA_ETC/server.properties
KAFKA_DEFAULTS=/etc/default/kafka
KAFKA_STATE=/var/lib/kafka
KAFKA_DATA=$KAFKA_STATE/data
KAFKA_OWN='# -- your own settings' # the line below which a person's own lines are kept
KAFKA_PARTITIONS=12 # for which the settings of the disk are made

# Write the files into the scratch directory.
write_kafka_files() {
    local number replicas=$((${#NODES[@]} < 3 ? ${#NODES[@]} : 3)) quorum='' disk retention segment
    local alone='/^@ALONE@/d' # lines for a cluster of one node
    ((${#NODES[@]} > 1)) || alone='s/^@ALONE@//'
    mkdir "$SCRATCH/kafka"
    for number in "${!NODES[@]}"; do
        quorum+=${quorum:+,}$((number + 1))@$(bracketed "${NODES[number]}"):9093
    done
    disk=$(df --output=size -m "$(existing "$KAFKA_STATE")" | tail -n 1)
    retention=$((disk * 1048576 / 2 / KAFKA_PARTITIONS))
    segment=$((retention / 8 < 268435456 ? retention / 8 : 268435456))
    segment=$((segment > 16777216 ? segment : 16777216))
    security_properties >"$SCRATCH/kafka/security"
    sed -e "/^@SECURITY@/{r $SCRATCH/kafka/security" -e 'd}' "$SOURCE/deploy/kafka/server.properties" |
        sed -e "$alone" -e "s|@NODE@|$NODE|" -e "s|@VOTERS@|$quorum|" \
        -e "s|@HOST@|$(bracketed "${NODES[NODE - 1]}")|g" -e "s|@BIND@|$(bracketed "$BIND")|g" \
        -e "s|@REPLICAS@|$replicas|" \
        -e "s|@IN_SYNC@|$((replicas > 1 ? 2 : 1))|" -e "s|@DISK@|${disk// /}|" \
        -e "s|@RETENTION@|$retention|" -e "s|@SEGMENT@|$segment|" >"$SCRATCH/kafka/server.properties"
    if [[ -e $KAFKA_PROPERTIES ]]; then
        sed "1,/^$KAFKA_OWN/d" "$KAFKA_PROPERTIES" >>"$SCRATCH/kafka/server.properties"
    fi
    echo "KAFKA_HEAP=\"-Xms${HEAP}m -Xmx${HEAP}m\"" >"$SCRATCH/kafka/defaults"
}

bracketed() { # HOST
    if [[ $1 == *:* ]]; then printf '[%s]' "$1"; else printf '%s' "$1"; fi
}

kafka_files() {
    echo "$KAFKA_PROPERTIES 0640 $SCRATCH/kafka/server.properties"
    echo "$KAFKA_DEFAULTS 0644 $SCRATCH/kafka/defaults"
    echo "$KAFKA_ETC/log4j2.xml 0644 $SOURCE/deploy/kafka/log4j2.xml"
    echo "$KAFKA_UNIT_FILE 0644 $SOURCE/deploy/systemd/$KAFKA_UNIT"
    [[ -n $KAFKA_TLS ]] || return 0
    echo "$KAFKA_CERTIFICATES/node.pem 0640 $KAFKA_TLS/node.pem"
    echo "$KAFKA_CERTIFICATES/ca.crt 0640 $KAFKA_TLS/ca.crt"
    echo "$KAFKA_ETC/client.properties 0640 $SOURCE/deploy/kafka/client.properties"
}

put_kafka_in_place() { # VERSION-IN-FORCE
    if [[ -z $1 ]]; then
        undo forget_kafka "$(id kafka >/dev/null 2>&1 || echo made)" "$(existing "$KAFKA_DATA")" \
            "$(existing "$KAFKA_ETC")"
        step "user kafka, $KAFKA_ETC" make_kafka_room
        keep_old_properties
        step "$KAFKA_NEW in force" point_kafka "$KAFKA_NEW"
        step "settings and unit" install_kafka_files
    elif ! are_in_place kafka_files; then
        [[ -n $DRY_RUN ]] || save_kafka_files
        keep_old_properties
        undo put_kafka_files_back "$(systemctl is-active --quiet "$KAFKA_UNIT" && echo running)"
        step "settings and unit, changed" install_kafka_files
        KAFKA_RESTARTS=yes
    fi
    if [[ ! -e $KAFKA_DATA/meta.properties ]]; then
        step "format $KAFKA_DATA, of the cluster $CLUSTER_ID" format_kafka
    fi
}

make_kafka_room() {
    id kafka >/dev/null 2>&1 ||
        useradd --system --no-create-home --home-dir "$KAFKA_STATE" --shell /usr/sbin/nologin kafka
    install -d -m 0755 "$KAFKA_ETC"
}

format_kafka() {
    install -d -m 0750 -o kafka -g kafka "$KAFKA_STATE" "$KAFKA_DATA"
    as_kafka kafka.tools.StorageTool format -t "$CLUSTER_ID" -c "$KAFKA_PROPERTIES"
}

install_kafka_files() {
    local from to mode
    [[ -z $KAFKA_TLS ]] || install -d -m 0750 -g kafka "$KAFKA_CERTIFICATES"
    while read -r to mode from; do # 0640 is for what Kafka alone may read
        cmp -s "$from" "$to" || install -m "$mode" -g "$([[ $mode == 0640 ]] && echo kafka || echo root)" "$from" "$to"
    done < <(kafka_files)
    systemctl daemon-reload
}

save_kafka_files() {
    local to _
    while read -r to _; do
        [[ ! -e $to ]] || cp -p "$to" "$SCRATCH/kafka/${to##*/}.before"
    done < <(kafka_files)
}

keep_old_properties() {
    [[ ! -e $KAFKA_PROPERTIES ]] || cmp -s "$SCRATCH/kafka/server.properties" "$KAFKA_PROPERTIES" ||
        step "what was there, to $KAFKA_PROPERTIES.before" cp -p "$KAFKA_PROPERTIES" "$KAFKA_PROPERTIES.before"
}

put_kafka_files_back() { # RUNNING
    local to _
    while read -r to _; do
        rm -f "$to"
        [[ ! -e $SCRATCH/kafka/${to##*/}.before ]] || cp -p "$SCRATCH/kafka/${to##*/}.before" "$to"
    done < <(kafka_files)
    systemctl daemon-reload
    if [[ -n $1 ]]; then systemctl restart "$KAFKA_UNIT"; else systemctl stop "$KAFKA_UNIT"; fi
}

# Undo a first installation that failed.
forget_kafka() { # USER-WAS-MADE and what there was of DATA and ETC
    systemctl disable --now "$KAFKA_UNIT"
    remove_kafka_files
    rm -f "$KAFKA/current" "$KAFKA/current.new"
    [[ $3 == "$KAFKA_ETC" ]] || rm -rf "$KAFKA_ETC"
    [[ $2 == "$KAFKA_DATA" ]] || rm -rf "$KAFKA_DATA"
    [[ $2 == "$KAFKA_STATE"* ]] || rm -rf "$KAFKA_STATE"
    [[ -z $1 ]] || userdel kafka
}

remove_kafka_files() {
    rm -f "$KAFKA_UNIT_FILE" "$KAFKA_DEFAULTS"
    systemctl daemon-reload
}

# Run a class of Kafka's as the service's user.
as_kafka() { # CLASS ARGUMENT...
    runuser -u kafka -- "$JAVA" -Xmx256m -XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile="$KAFKA_ETC/log4j2.xml" \
        -cp "$KAFKA/current/libs/*" "$@"
}
