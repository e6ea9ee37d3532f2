# shellcheck shell=bash
# Checks the machine before install.sh changes anything. Part of install.sh.

require_root() {
    ((EUID == 0)) || fail "must be run as root: sudo deploy/install.sh $COMMAND ..."
    if [[ -z $DRY_RUN ]]; then
        touch "$LOG" && chmod 0640 "$LOG"
        exec 9>/run/mqtt-kafka-bridge-install.lock
        flock --nonblock 9 || fail "another install.sh is running: wait until it ends"
    fi
}

require_debian() {
    # shellcheck source=/dev/null
    if ! command -v apt-get >/dev/null || ! (. /etc/os-release && [[ " $ID ${ID_LIKE-} " == *" debian "* ]]); then
        fail "made for Debian 12 and 13 and Raspberry Pi OS, this is $(. /etc/os-release && echo "$PRETTY_NAME")"
    fi
    [[ -d /run/systemd/system ]] ||
        fail "systemd does not run here, but the service needs it (docs/how-to/install.md#without-a-service)"
}

# Package and install.sh both own /opt/mqtt-kafka-bridge, and would overwrite each other's files.
require_no_package() {
    [[ ! -e /usr/lib/systemd/system/$NAME.service ]] ||
        fail "the Debian package $NAME is installed: use apt-get to upgrade or remove it"
}

# librdkafka, and the libraries in Kafka's jars, exist for these architectures.
require_64_bit() { # WHAT-HAS
    case $(dpkg --print-architecture) in
    amd64 | arm64) ;;
    armhf | armel | i386)
        fail "a 32-bit system: $1 no packages for it. Write Raspberry Pi OS Lite (64-bit) to the card"
        ;;
    *) fail "no packages for the architecture $(dpkg --print-architecture), only for amd64 and arm64" ;;
    esac
}

# Require a Python and an architecture for which librdkafka has packages.
require_python() {
    local version
    require_64_bit "librdkafka has"
    command -v python3 >/dev/null || fail "there is no python3: sudo apt-get install python3"
    version=$(python_version)
    case $version in
    3.11 | 3.13) ;;
    *) fail "python3 is $version; made for 3.11 and 3.13, those of Debian 12 and 13" ;;
    esac
}

# Print the directory, or the nearest one above it that exists.
existing() { # DIRECTORY
    local directory=$1
    while [[ ! -d $directory ]]; do directory=${directory%/*} directory=${directory:-/}; done
    printf '%s' "$directory"
}

# Refuse ports that another program than OWN-PROGRAM serves.
require_ports() { # FOR-WHOM OWN-PROGRAM PORT...
    local whom=$1 own=$2 port who
    shift 2
    for port; do
        who=$(ss -Hltnp "sport = :$port" | sed -n "/\"$own\"/d; s/.*users:((\(\"[^\"]*\"\).*/\1/p" | sort -u)
        [[ -z $who ]] || fail "port $port is served by $who, and $whom needs it: stop that first"
    done
}

require_space() { # DIRECTORY MB
    local directory free
    directory=$(existing "$1")
    free=$(df --output=avail -m "$directory" | tail -n 1)
    ((free >= $2)) || fail "$2 MB are needed on the disk of $directory, ${free// /} MB are free"
}

# Install packages. Fetch apt's lists only if there are none, or if the first attempt fails. Files of settings that a person
# has written, perhaps before the package came, stay: dpkg would ask, and fail as nobody answers.
apt_install() { # PACKAGE...
    local apt=(env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -y -o DPkg::Lock::Timeout=120
        -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold)
    compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null &&
        "${apt[@]}" install --no-install-recommends "$@" && return
    "${apt[@]}" update
    "${apt[@]}" install --no-install-recommends "$@"
}

# Stop a service, now and at each boot. Its package may have been removed.
stop_for_good() { # UNIT
    [[ $(systemctl show -P LoadState "$1") == not-found ]] || systemctl disable --now "$1"
}

is_installed() { # PACKAGE
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# -- files of settings and units -----------------------------------------------------------------------

# FILES is a function that prints lines of: where a file goes, its mode, where it comes from. The last may have spaces, as a
# person's clone may be anywhere.

are_in_place() { # FILES
    local from to _
    while read -r to _ from; do
        cmp -s "$from" "$to" || return 1
    done < <("$1")
}

copy_files() { # FILES
    local from to mode
    while read -r to mode from; do
        cmp -s "$from" "$to" || install -D -m "$mode" "$from" "$to"
    done < <("$1")
    systemctl daemon-reload
}

# Delete all that is in a directory, and the directory, unless a disk is mounted there.
empty_and_remove() { # DIRECTORY
    [[ -d $1 ]] || return 0
    find "$1/" -mindepth 1 -delete
    mountpoint --quiet "$1" || [[ -L $1 ]] || rmdir "$1"
}

# Set PURGE and FORCE to yes or to nothing, as the options of a removal say.
removal_options() { # COMMAND OPTION...
    local command=$1
    # shellcheck disable=SC2034 # the caller reads them
    PURGE='' FORCE=''
    shift
    while (($#)); do
        case $1 in
        --purge) PURGE=yes ;;
        --force) FORCE=yes ;;
        *) misuse "$command: $1: no such option" ;;
        esac
        shift
    done
}
