#!/bin/bash
# Installs, upgrades and removes the bridge, Kafka and EMQX; installs HAProxy with its configuration. See --help.
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
# shellcheck source=deploy/install/nodes.sh
. "$SOURCE/deploy/install/nodes.sh"
# shellcheck source=deploy/install/vip.sh
. "$SOURCE/deploy/install/vip.sh"
# shellcheck source=deploy/install/haproxy_upkeep.sh
. "$SOURCE/deploy/install/haproxy_upkeep.sh"
# shellcheck source=deploy/install/kafka_checks.sh
. "$SOURCE/deploy/install/kafka_checks.sh"
# shellcheck source=deploy/install/kafka_versions.sh
. "$SOURCE/deploy/install/kafka_versions.sh"
# shellcheck source=deploy/install/kafka_files.sh
. "$SOURCE/deploy/install/kafka_files.sh"
# shellcheck source=deploy/install/kafka_tls.sh
. "$SOURCE/deploy/install/kafka_tls.sh"
# shellcheck source=deploy/install/kafka_upkeep.sh
. "$SOURCE/deploy/install/kafka_upkeep.sh"
# shellcheck source=deploy/install/kafka.sh
. "$SOURCE/deploy/install/kafka.sh"
# shellcheck source=deploy/install/emqx.sh
. "$SOURCE/deploy/install/emqx.sh"
# shellcheck source=deploy/install/emqx_checks.sh
. "$SOURCE/deploy/install/emqx_checks.sh"
# shellcheck source=deploy/install/emqx_files.sh
. "$SOURCE/deploy/install/emqx_files.sh"

usage() {
    cat <<'END'
usage: sudo deploy/install.sh kafka --nodes HOST,HOST,HOST
       sudo deploy/install.sh emqx --nodes HOST,HOST --package FILE.deb
       sudo deploy/install.sh bridge --mqtt HOST:PORT --kafka HOST:PORT,...
       sudo deploy/install.sh haproxy --emq HOST[:PORT] --emq HOST[:PORT]
       sudo deploy/install.sh upgrade              to the version this file belongs to
       sudo deploy/install.sh rollback             to the version before
       sudo deploy/install.sh status
       sudo deploy/install.sh uninstall [--purge [--force]]
       sudo deploy/install.sh haproxy status
       sudo deploy/install.sh haproxy uninstall
       sudo deploy/install.sh kafka status
       sudo deploy/install.sh kafka upgrade --archive kafka_2.13-VERSION.tgz
       sudo deploy/install.sh kafka uninstall [--purge [--force]]
       sudo deploy/install.sh emqx status
       sudo deploy/install.sh emqx uninstall [--purge [--force]]

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
  --vip     an address that two HAProxy machines share: run the same command on both. Each keeps an address of its
            own; keepalived moves the shared one within 3 s when one of them fails
  --nodes   with --vip: the own addresses of the two machines
emqx        installs one node of a pair of EMQX from its makers' package, with the settings that the bridge needs, and
            keeps copies of the old files. Run it on each node. Waits until the nodes see each other; while the other
            one does not run it says so and ends, with exit status 0
  --nodes   both nodes, or one; IPv4 addresses, or names with a domain
  --node    which of them this machine is, if its addresses do not tell
  --package EMQX's emqx-VERSION-DEBIAN-ARCHITECTURE.deb, 5.8 or 4.4; not needed if EMQX is installed
  --cookie-file  a file with the cookie, or - for the standard input: /etc/default/emqx-cookie of the other node. The
            first node makes one. Who knows the cookie can run programs on both nodes
  --restart allow to restart a running EMQX, which ends its sessions with the messages that wait in them
  uninstall keeps settings and data, unless --purge; --purge refuses on the last node that runs, unless --force
kafka       installs one node of a Kafka cluster, broker and controller; run the same command on each node. Waits
            until the node is in sync; while too few of the others run it says so and ends, with exit status 0
  --nodes   all nodes, on each machine in the same order: 3, or 1, or 5; addresses or names
  --node    which of them this machine is, if its addresses do not tell
  --archive Kafka's kafka_2.13-VERSION.tgz, or a .tgz of another node's libs/. Without --archive Maven takes the
            jars from Maven Central: 43 MB, besides 10 MB for Maven itself, which you may remove afterwards, and
            some minutes. Java takes 215 MB in any case
  --sha512  the archive's SHA-512, if deploy/kafka.lock does not have it and no file ARCHIVE.sha512 is there
  --cluster-id  22 characters, if not the ones that each node makes from --nodes
  --heap    MB of memory for Java; otherwise 512, 1024 or 2048 on a machine with 2, 4 or 8 GB
  --tls     a directory with NAME.key, NAME.crt and ca.crt, as deploy/make-certificates makes one for each node:
            clients, brokers and controllers then connect by TLS alone. Without --tls the present certificate stays
  --user    clients log in; creates a user with the rights that the bridge needs, and prints the password, once
  --replace this node's disk is lost, and the machine starts with an empty one under the same id; refuses while the
            old node runs, or while a majority of the others has not all that was confirmed
  --force   with --replace: also if some partition had its only replica in sync on the lost disk
  upgrade   restarts this node with the archive's version, and refuses while a replica of any partition is not in
            sync; if the node is not in sync again in time, restores the old version. One node after the other
  uninstall keeps settings and messages, unless --purge; --purge refuses to delete the last replica in sync of
            any partition, unless --force
upgrade     upgrades all bridges of this machine; if one is not live again in time, restores the old version
uninstall   keeps settings and undelivered messages, unless --purge; --purge refuses to delete undelivered
            messages, unless --force

for all:
  --dry-run             print each step and change nothing
  --wheels DIRECTORY    take Python packages from DIRECTORY, not from the network
  --wait SECONDS        how long to wait until a bridge is live, or Kafka in sync (60), or EMQX's nodes see
                        each other (120)
  --help

exit status: 0 done, 1 failed and undone, 2 wrong command line, 3 installed but not live (Kafka: not in sync;
EMQX: the nodes do not see each other)
END
}

misuse() { # TEXT
    fail "$1 (see --help)" 2
}

# Print the value of an option.
argument() { # OPTION [WORD]...
    [[ $# -gt 1 && -n $2 && $2 != --* ]] || misuse "$1: needs a value"
    [[ $2 != *[[:cntrl:]]* ]] || misuse "$1: has a line break, a tab or the like in its value"
    printf '%s' "$2"
}

common_option() { # OPTION WORD
    case $1 in
    --wheels) FROM_WHEELS=(--no-index --find-links "$(argument "$@")") ;;
    --wait)
        PATIENCE=$(argument "$@")
        [[ $PATIENCE =~ ^[0-9]{1,6}$ ]] || misuse "--wait $PATIENCE: must be a number of seconds"
        PATIENCE=$((10#$PATIENCE))
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
    finish_in_any_case
    case $COMMAND in
    bridge) install_bridge "$@" ;;
    haproxy) balancer "$@" ;;
    kafka) kafka "$@" ;;
    emqx) manage_emqx "$@" ;;
    upgrade) upgrade_bridge "$@" ;;
    rollback) roll_back "$@" ;;
    status) show_status "$@" ;;
    uninstall) uninstall_bridge "$@" ;;
    *) misuse "$COMMAND: no such command" ;;
    esac
    [[ -z $CHANGED || -n $DRY_RUN ]] || log "done"
}

main "$@"
