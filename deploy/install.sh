#!/bin/bash
# Installs, upgrades and removes the bridge, and HAProxy with its configuration. See --help.
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

For Debian 12 and 13 and Raspberry Pi OS, 64 bit. Each can be run again: what is done already is left as it
is. The first error ends it, says what helps, and everything is put back (but packages of apt).

bridge      its own Python environment in /opt/mqtt-kafka-bridge, its user, service and settings
            (/etc/mqtt-kafka-bridge/bridge.toml); starts it and waits until it is live
  --mqtt    HAProxy, and its port for the bridge (1884 where none is given)
  --kafka   some of Kafka's brokers
  --no-start  only install it, as on a machine that a bridge is to be moved to
haproxy     the distribution's package with our haproxy.cfg; what was there is kept beside it. Made anew it
            reloads, which cuts nobody; other nodes take a restart
  --emq     one node of EMQ, given twice; its port is 1883 where none is given
upgrade     all bridges of this machine; one that is not live again in time brings the old version back
uninstall   leaves settings and undelivered messages, unless --purge; which refuses to throw undelivered
            messages away, unless --force

for all:
  --dry-run             print each step and do nothing
  --wheels DIRECTORY    take Python packages from there and not from the network
  --wait SECONDS        how long to wait until a bridge is live (60)
  --help

exit status: 0 done, 1 failed and put back, 2 wrong command line, 3 installed but not live
END
}

misuse() { # TEXT
    fail "$1 (see --help)" 2
}

# The word behind an option.
argument() { # OPTION [WORD]...
    [[ $# -gt 1 && -n $2 ]] || misuse "$1: what?"
    printf '%s' "$2"
}

common_option() { # OPTION WORD
    case $1 in
    --wheels) FROM_WHEELS=(--no-index --find-links "$(argument "$@")") ;;
    --wait)
        PATIENCE=$(argument "$@")
        [[ $PATIENCE =~ ^[0-9]+$ ]] || misuse "--wait $PATIENCE: a number of seconds"
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
