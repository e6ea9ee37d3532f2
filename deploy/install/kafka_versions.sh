# shellcheck shell=bash
# Kafka's versions: where one comes from, whether it is genuine, and which is in force. Part of install.sh.
#
#   /opt/kafka/4.4.0/libs      the jars
#                   /bin       Kafka's commands
#                   /complete  missing if the installation did not finish
#   /opt/kafka/current -> 4.4.0

KAFKA=/opt/kafka
KAFKA_POM=$SOURCE/deploy/kafka/pom.xml
KAFKA_LOCK=$SOURCE/deploy/kafka.lock
KAFKA_OLDEST=4.3.0
JAVA=/usr/bin/java # of Debian's packages; the unit names it too
OLDEST_JAVA=17

# Kafka's commands, and the class that each starts. Official archives have their own.
kafka_commands() {
    cat <<'LIST'
acls org.apache.kafka.tools.AclCommand
configs org.apache.kafka.tools.ConfigCommand
console-consumer org.apache.kafka.tools.consumer.ConsoleConsumer
console-producer org.apache.kafka.tools.ConsoleProducer
consumer-groups org.apache.kafka.tools.consumer.group.ConsumerGroupCommand
features org.apache.kafka.tools.FeatureCommand
leader-election org.apache.kafka.tools.LeaderElectionCommand
log-dirs org.apache.kafka.tools.LogDirsCommand
metadata-quorum org.apache.kafka.tools.MetadataQuorumCommand
reassign-partitions org.apache.kafka.tools.reassign.ReassignPartitionsCommand
storage kafka.tools.StorageTool
topics org.apache.kafka.tools.TopicCommand
LIST
}

# Set KAFKA_NEW to the version to install: that of the archive, else the one in force, else the pom's.
find_kafka() { # [ARCHIVE [SHA512]]
    KAFKA_NEW=$(kafka_in_force)
    if [[ -n $1 ]]; then
        check_archive "$@"
    elif [[ -z $KAFKA_NEW ]]; then
        KAFKA_NEW=$(sed -n '/<artifactId>kafka_2.13</{n;s/.*<version>\(.*\)<.*/\1/p}' "$KAFKA_POM")
    fi
}

kafka_in_force() {
    [[ ! -L $KAFKA/current ]] || readlink "$KAFKA/current"
}

is_older() { # VERSION VERSION
    [[ $1 != "$2" && $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]
}

# Refuse an archive that is damaged, of another version, or not the one that Kafka's makers published.
check_archive() { # FILE [SHA512]
    local archive=$1 wanted=${2,,} name=${1##*/} is
    [[ -f $archive ]] || fail "--archive $archive: no such file"
    tar -tzf "$archive" >"$SCRATCH/listing" 2>/dev/null ||
        fail "--archive $archive: damaged, or no .tgz: download it again"
    KAFKA_NEW=$(sed -n 's|^.*libs/kafka_2\.13-\([0-9][0-9.]*\)\.jar$|\1|p' "$SCRATCH/listing" | head -n 1)
    [[ -n $KAFKA_NEW ]] ||
        fail "--archive $archive: has no libs/kafka_2.13-VERSION.jar: take kafka_2.13-VERSION.tgz, not the sources"
    ! is_older "$KAFKA_NEW" "$KAFKA_OLDEST" ||
        fail "--archive $archive: Kafka $KAFKA_NEW, and these settings are for $KAFKA_OLDEST and newer"
    [[ ! -f $KAFKA/$KAFKA_NEW/complete ]] || return 0 # nothing is taken from it
    wanted=${wanted:-$(known_sha512 "$archive")}
    if [[ -z $wanted ]]; then
        has_locked_jars "$archive" || fail "no SHA-512 is known for $name: --sha512 HASH, from \
https://downloads.apache.org/kafka/$KAFKA_NEW/$name.sha512, or put that file beside it"
        return
    fi
    is=$(sha512sum "$archive")
    [[ ${is%% *} == "$wanted" ]] ||
        fail "--archive $archive: its SHA-512 is ${is:0:16}..., not ${wanted:0:16}...: do not install it, download \
it again"
}

# Print the SHA-512 that kafka.lock has for an archive, or that Apache's file beside the archive names.
known_sha512() { # ARCHIVE
    local name=${1##*/} known
    known=$(awk -v name="$name" 'length($1) == 128 && $2 == name { print $1 }' "$KAFKA_LOCK")
    if [[ -z $known && -f $1.sha512 ]]; then
        # Either "HASH  NAME", or "NAME: HASH" in groups and on several lines.
        known=$(sed 's/^.*: *//; s/ *[^ ]*\.tgz$//' "$1.sha512" | tr -d ' \n' | tr 'A-F' 'a-f')
    fi
    printf '%s' "$known"
}

# Whether an archive consists of exactly the jars of kafka.lock, as `tar -czf jars.tgz libs` makes one.
has_locked_jars() { # ARCHIVE
    ! grep -qv '^libs/' "$SCRATCH/listing" || return 1
    mkdir -p "$SCRATCH/jars"
    tar -xzf "$1" -C "$SCRATCH/jars" --no-same-owner && are_locked "$SCRATCH/jars/libs" >/dev/null 2>&1
}

# Whether a directory has exactly the jars of kafka.lock.
are_locked() { # DIRECTORY
    local sums=$SCRATCH/sums
    awk 'length($1) == 64' "$KAFKA_LOCK" >"$sums"
    [[ $(cd "$1" && printf '%s\n' *) == "$(awk '{ print $2 }' "$sums")" ]] ||
        { echo "Error: these are not the jars of $KAFKA_LOCK" && return 1; }
    (cd "$1" && sha256sum --quiet --strict --check "$sums")
}

# Install Java, and KAFKA_NEW beside the other versions. It is not in force yet.
place_kafka() { # [ARCHIVE]
    local target=$KAFKA/$KAFKA_NEW
    local -a packages=()
    has_java || packages+=(default-jre-headless)
    if [[ ! -f $target/complete && -z $1 ]] && ! command -v mvn >/dev/null; then packages+=(maven); fi
    ((${#packages[@]} == 0)) || step "apt-get install ${packages[*]}" apt_install "${packages[@]}"
    if [[ -f $target/complete ]]; then
        say "  $target is there already"
        return
    fi
    [[ -d $KAFKA ]] || undo rmdir "$KAFKA"
    undo rm -rf "$target"
    if [[ -n $1 ]]; then
        step "$target, from ${1##*/}" unpack_kafka "$1" "$target"
    else
        step "$target, its jars from Maven Central" assemble_kafka "$target"
    fi
}

unpack_kafka() { # ARCHIVE DIRECTORY
    rm -rf "$2"
    mkdir -p "$2"
    if [[ -d $SCRATCH/jars/libs ]]; then # unpacked already, to compare the jars
        mv "$SCRATCH/jars/libs" "$2/"
    else
        tar -xzf "$1" -C "$2" --strip-components=1 --no-same-owner --no-same-permissions
    fi
    complete_kafka "$2"
}

assemble_kafka() { # DIRECTORY
    local mvn=(mvn -q -B --strict-checksums -Dmaven.repo.local="$SCRATCH/maven" -f "$KAFKA_POM")
    rm -rf "$1"
    mkdir -p "$1"
    "${mvn[@]}" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$1/libs"
    are_locked "$1/libs" || { echo "THE JARS DO NOT MATCH THE HASHES of $KAFKA_LOCK" && return 1; }
    complete_kafka "$1"
}

complete_kafka() { # DIRECTORY
    local name class
    if [[ -d $1/bin ]]; then
        mkdir -p "$1/logs" # which the archive's commands want
    else
        mkdir "$1/bin"
        while read -r name class; do
            printf '#!/bin/sh\nexec '"$JAVA"' -Xmx256m -XX:TieredStopAtLevel=1 -cp "%s/libs/*" %s "$@"\n' \
                "$KAFKA/current" "$class" >"$1/bin/kafka-$name.sh"
            chmod 0755 "$1/bin/kafka-$name.sh"
        done < <(kafka_commands)
    fi
    chmod -R u=rwX,go=rX "$1"
    sync -f "$1" # before the mark, or a power cut could leave a marked version with empty jars
    touch "$1/complete"
}

point_kafka() { # VERSION
    replace_link "$KAFKA/current" "$1"
}

has_java() {
    [[ -x $JAVA ]]
}

require_java() {
    local version
    has_java || return 0 # apt will bring one
    version=$("$JAVA" -version 2>&1 | sed -n 's/^[^"]*version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p')
    ((${version:-0} >= OLDEST_JAVA)) ||
        fail "$JAVA is version ${version:-unknown}, Kafka needs $OLDEST_JAVA: sudo apt-get install \
default-jre-headless, then sudo update-alternatives --config java"
}
