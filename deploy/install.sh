#!/bin/bash
# Installs, upgrades and removes the bridge; installs HAProxy with its configuration. See --help.
set -euo pipefail
umask 022
export LC_ALL=C

SOURCE=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
COMMAND=
PATIENCE=60
PREFIX=/usr/local
FROM_WHEELS=()

# shellcheck source=deploy/install/say.sh
. "$SOURCE/deploy/install/say.sh"
# shellcheck source=deploy/install/machine.sh
. "$SOURCE/deploy/install/machine.sh"
# shellcheck source=deploy/install/versions.sh
. "$SOURCE/deploy/install/versions.sh"
# shellcheck source=deploy/install/service.sh
. "$SOURCE/deploy/install/service.sh"
# shellcheck source=deploy/install/bridge.sh
. "$SOURCE/deploy/install/bridge.sh"
# shellcheck source=deploy/install/haproxy.sh
. "$SOURCE/deploy/install/haproxy.sh"

usage() {
    cat <<'END'
usage: sudo deploy/install.sh bridge --mqtt HOST:PORT --kafka HOST:PORT,...
       sudo deploy/install.sh haproxy --emq HOST[:PORT] --emq HOST[:PORT]
       sudo deploy/install.sh upgrade              to the version this file belongs to
       sudo deploy/install.sh rollback             to the version before
       sudo deploy/install.sh status
       sudo deploy/install.sh uninstall [--purge [--force]]

For Debian 12 and 13 and Raspberry Pi OS, 64 bit. Each command can run again and skips steps that are done.
At the first error it prints a remedy, undoes its steps (except packages of apt), and ends.

bridge      installs a Python environment in /opt/mqtt-kafka-bridge, the user, service and settings
            (/etc/mqtt-kafka-bridge/bridge.toml); starts the bridge and waits until it is live
  --mqtt    HAProxy, and its port for the bridge (default 1884)
  --kafka   some of Kafka's brokers
  --no-start  only install, as on a machine to which you will move a bridge
haproxy     installs the distribution's package with our haproxy.cfg, and keeps a copy of the old file. For a
            new haproxy.cfg it reloads HAProxy, which ends no connection; for other nodes it restarts HAProxy
  --emq     one node of EMQ, given twice (default port 1883)
upgrade     upgrades all bridges of this machine; if one is not live again in time, restores the old version
uninstall   keeps settings and undelivered messages, unless --purge; --purge refuses to delete undelivered
            messages, unless --force

for all:
  --dry-run             print each step and change nothing
  --wheels DIRECTORY    take Python packages from DIRECTORY, not from the network
  --wait SECONDS        how long to wait until a bridge is live (60)
  --help

exit status: 0 done, 1 failed and undone, 2 wrong command line, 3 installed but not live
END
}

misuse() { # TEXT
    fail "$1 (see --help)" 2
}

# Print the value of an option.
argument() { # OPTION [WORD]...
    [[ $# -gt 1 && -n $2 ]] || misuse "$1: needs a value"
    printf '%s' "$2"
}

common_option() { # OPTION WORD
    case $1 in
    --wheels) FROM_WHEELS=(--no-index --find-links "$(argument "$@")") ;;
    --wait)
        PATIENCE=$(argument "$@")
        [[ $PATIENCE =~ ^[0-9]+$ ]] || misuse "--wait $PATIENCE: must be a number of seconds"
        ;;
    *) misuse "$COMMAND: $1: no such option" ;;
    esac
}

main() {
    local -a words=()
    local word
    for word; do
        case $word in
        --help | -h) usage && exit ;;
        --dry-run) DRY_RUN=yes ;;
        *) words+=("$word") ;;
        esac
    done
    set -- "${words[@]}"
    (($#)) || { usage >&2 && exit 2; }
    COMMAND=$1
    shift
    SCRATCH=$(mktemp -d)
    trap finish EXIT
    trap 'exit 130' INT TERM
    case $COMMAND in
    bridge) install_bridge "$@" ;;
    haproxy) install_haproxy "$@" ;;
    upgrade) upgrade_bridge "$@" ;;
    rollback) roll_back "$@" ;;
    status) show_status "$@" ;;
    uninstall) uninstall_bridge "$@" ;;
    *) misuse "$COMMAND: no such command" ;;
    esac
    [[ -z $CHANGED || -n $DRY_RUN ]] || log "done"
}

main "$@"
