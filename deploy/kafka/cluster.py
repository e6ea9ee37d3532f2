"""Asks the brokers of a Kafka cluster how it is, for install.sh kafka.

It needs no Java: each of Kafka's own commands takes some seconds and 100 MB, which a small Pi lacks.

    cluster.py [--tls DIRECTORY] COMMAND NODES NODE [...]

DIRECTORY has this node's certificate, NODES are 1@172.30.1.31,2@172.30.1.32,3@172.30.1.33, NODE is this one.

    before ID kept|new|lost [force]     may this node be started in the cluster with this id? It has its data,
                had none yet, or has lost them with its disk
    join ID     the same as `joined`; where the quorum knows another directory of this node than ID, which was
                lost, it first takes ID in its place
    joined      is this node a member, and in sync?
    reach       which of the others do not answer, and what to look at?
    whole       is each replica of each partition in sync, so that a node may restart?
    last        does this node have a replica of some partition that no other node has in sync?
    status      what a person wants to know

It writes one sentence for each fact. Exit status: 0 yes (`last`: no), 1 no, 4 this node waits for the others.
"""

import base64
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import protocol
from protocol import CLIENTS, CONTROLLERS, Certificate, Cluster, Partition, Quorum, Unreachable

YES, NO, WAITS = 0, 1, 4

CLOCKS = 60.0  # seconds by which clocks may differ; Kafka refuses records that are an hour ahead
LAG = 10.0  # seconds since a controller last had the whole log of the cluster's metadata


@dataclass(frozen=True)
class Nodes:
    hosts: dict[int, str]
    own: int
    certificate: Certificate = None

    @property
    def others(self) -> dict[int, str]:
        return {number: host for number, host in self.hosts.items() if number != self.own}

    @property
    def majority(self) -> int:
        return len(self.hosts) // 2 + 1

    def unreachable(self, ports: Sequence[int]) -> dict[int, str]:
        """The other nodes that do not listen, and what to look at."""
        found = {}
        for number, host in self.others.items():
            for port in ports:
                try:
                    protocol.connected(host, port).close()
                except Unreachable as error:
                    found[number] = str(error)
                    break
        return found

    def asked(self, hosts: Sequence[str]) -> tuple[Cluster, Quorum] | None:
        """What the first of these hosts that answers tells."""
        for host in hosts:
            try:
                return protocol.cluster(host, self.certificate), protocol.quorum(host, self.certificate)
            except (Unreachable, struct.error):  # what listens there may be no Kafka
                continue
        return None


def before(nodes: Nodes, identifier: str, disk: str, force: str = "") -> int:
    asked = nodes.asked(list(nodes.others.values()))
    if asked is None:
        differ = (protocol.differs(host, nodes.certificate) for host in nodes.others.values())
        wrong = next(filter(None, differ), "")
        if not wrong and disk == "lost":
            wrong = f"no other node answers: --replace needs {nodes.majority} that run, so start them first"
        _say_if(wrong)
        return NO if wrong else YES  # nobody knows anything yet
    found, controllers = asked
    wrong = _unlike(nodes, found, controllers, identifier)
    if not wrong and disk != "kept" and nodes.own in found.brokers:
        wrong = (
            f"node {nodes.own} runs already, at {found.brokers[nodes.own]}, and this machine has none of its"
            " data: two nodes cannot have one id. Say with --node which one this is, or stop the other and"
            " wait 10 s"
        )
    if not wrong and disk == "new" and nodes.own in found.away:
        wrong = (
            f"node {nodes.own} is a member of the cluster, and this machine has none of its data:"
            " if its disk is lost, add --replace"
        )
    if not wrong and disk == "lost":
        wrong = _irreplaceable(nodes, found, controllers, bool(force))
    _say_if(wrong)
    return NO if wrong else YES


def _unlike(nodes: Nodes, found: Cluster, controllers: Quorum, identifier: str) -> str:
    """What differs between this node and the others."""
    own = nodes.hosts[nodes.own]
    if found.identifier != identifier:
        return (
            f"the other nodes are the cluster {found.identifier}, this one would be {identifier}:"
            f" give the same --nodes on each, or --cluster-id {found.identifier}"
        )
    if (there := found.brokers.get(nodes.own, own)) != own:
        return (
            f"node {nodes.own} runs already, at {there}; this one would be {own}:"
            " give the same --nodes, in the same order, on each"
        )
    for number, there in found.brokers.items():
        if number not in nodes.hosts:
            return f"the cluster has a node {number}, at {there}, which is not in --nodes"
        if there != nodes.hosts[number]:
            return (
                f"node {number} runs at {there}, and --nodes has {nodes.hosts[number]} in its place:"
                " give the same --nodes, in the same order, on each"
            )
    ahead = time.time() - controllers.now
    if abs(ahead) > CLOCKS:
        how = f"{_duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'}"
        return f"this clock is {how} that of node {controllers.leader}: timedatectl shows why"
    return ""


def _irreplaceable(nodes: Nodes, found: Cluster, controllers: Quorum, force: bool) -> str:
    """Why this node must not start with an empty disk: docs/decisions/0031-a-lost-disk-of-kafka.md."""
    lacking = [
        number
        for number in nodes.others
        if controllers.now - controllers.caught_up.get(number, 0.0) > LAG
        or not controllers.ends[number] >= controllers.committed >= 0
    ]
    if len(nodes.others) - len(lacking) < nodes.majority:
        return (
            f"--replace needs {nodes.majority} other nodes whose controllers have caught up, and"
            f" {_named(nodes, lacking)} has not: start it, or wait until it has"
        )
    if (alone := _here_alone(nodes, found)) and not force:
        return (
            f"{_counted(alone)} in sync on no other node: with an empty disk their messages are lost. Put the"
            " old disk back, or add --force"
        )
    return ""


def _here_alone(nodes: Nodes, found: Cluster) -> list[Partition]:
    """The partitions of this node that no other node has in sync.

    Once this node has stopped, Kafka counts none as in sync (KIP-966), though this node has the messages.
    """
    own = nodes.own
    return [each for each in found.partitions if own in each.replicas and not set(each.in_sync) - {own}]


def join(nodes: Nodes, directory: str) -> int:
    asked = nodes.asked([nodes.hosts[nodes.own]])
    if directory and asked is not None and nodes.own in asked[0].brokers:
        own = base64.urlsafe_b64decode(f"{directory}==")
        known = asked[1].directories.get(nodes.own, b"")
        if any(map(any, asked[1].directories.values())) and known != own:
            _say_if(_take_the_place(nodes, known, own))
            return NO
    return joined(nodes)


def _take_the_place(nodes: Nodes, lost: bytes, own: bytes) -> str:
    """Make this node's directory a voter instead of the lost one. Says why that did not work yet."""
    host = nodes.hosts[nodes.own]
    try:
        refused = protocol.remove_voter(host, nodes.certificate, nodes.own, lost) if lost else ""
        return refused or protocol.add_voter(host, nodes.certificate, nodes.own, own, host)
    except (Unreachable, struct.error) as error:
        return str(error)


def joined(nodes: Nodes) -> int:
    own = nodes.hosts[nodes.own]
    if (asked := nodes.asked([own])) is None:
        missing = nodes.unreachable([CONTROLLERS])
        try:
            protocol.connected(own, CONTROLLERS).close()
        except Unreachable as error:
            _say(error)
            return NO
        _say(
            "\n".join(missing.values())
            or f"{protocol.place(own, CLIENTS)}: Kafka starts, or the controllers elect"
        )
        return WAITS if len(nodes.hosts) - len(missing) < nodes.majority else NO
    found, controllers = asked
    if nodes.own not in found.brokers:
        _say(f"node {nodes.own} is not registered yet")
        return NO
    if controllers.now - controllers.caught_up.get(nodes.own, 0.0) > LAG:
        _say(f"the controller of node {nodes.own} has not caught up yet")
        return NO
    behind = [
        each for each in found.partitions if nodes.own in each.replicas and nodes.own not in each.in_sync
    ]
    if behind:
        here = sum(nodes.own in each.replicas for each in found.partitions)
        _say(f"{_counted(behind)} not in sync yet on node {nodes.own}, of {here} there")
        return NO
    return YES


def reach(nodes: Nodes) -> int:
    missing = nodes.unreachable([CONTROLLERS, CLIENTS])
    _say("\n".join(missing.values()))
    return NO if missing else YES


def whole(nodes: Nodes) -> int:
    if (asked := nodes.asked([nodes.hosts[nodes.own], *nodes.others.values()])) is None:
        _say("no broker answers")
        return NO
    found, _ = asked
    for number in nodes.others.keys() - found.brokers.keys():
        _say(f"node {number}, {nodes.hosts[number]}, is away")
        return NO
    if behind := [each for each in found.partitions if set(each.in_sync) != set(each.replicas)]:
        _say(f"{_counted(behind)} under-replicated")
        return NO
    return YES


def last(nodes: Nodes) -> int:
    if (asked := nodes.asked([nodes.hosts[nodes.own], *nodes.others.values()])) is None:
        _say("no broker answers, so nobody knows whether other nodes have this data")
        return NO
    if alone := _here_alone(nodes, asked[0]):
        _say(f"{_counted(alone)} in sync on no other node")
        return NO
    return YES


def status(nodes: Nodes) -> int:
    if (asked := nodes.asked([nodes.hosts[nodes.own]])) is None:
        answer = joined(nodes)
        return NO if answer == YES else answer
    found, controllers = asked
    good = True
    for number, host in nodes.hosts.items():
        lag = controllers.now - controllers.caught_up.get(number, 0.0)
        good = good and number in found.brokers and lag <= LAG
        what = "up" if number in found.brokers else "away"
        what += ", leads the controllers" if number == controllers.leader else ""
        what += ", its controller is behind" if number in found.brokers and lag > LAG else ""
        what += ", this machine" if number == nodes.own else ""
        _say(f"node {number}     {host}: {what}")
    behind = [each for each in found.partitions if set(each.in_sync) != set(each.replicas)]
    here = sum(nodes.own in each.replicas for each in found.partitions)
    state = f"{_counted(behind)} under-replicated" if behind else "all replicas in sync"
    _say(f"partitions {len(found.partitions)}, of which {here} here; {state}")
    return YES if good and not behind else NO


def _counted(partitions: Sequence[Partition]) -> str:
    named = ", ".join(map(str, partitions[:3])) + (" ..." if len(partitions) > 3 else "")
    return f"{len(partitions)} partition{'s are' if len(partitions) > 1 else ' is'} ({named})"


def _named(nodes: Nodes, numbers: Sequence[int]) -> str:
    return " and ".join(f"node {number}, {nodes.hosts[number]}," for number in numbers)


def _say_if(what: str) -> None:
    if what:
        _say(what)


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def main(*words: str) -> int:
    certificate = None
    if words[0] == "--tls":
        certificate, words = protocol.certificate(words[1]), words[2:]
    command, listed, own, *more = words
    hosts = {int(number): host for number, _, host in (each.partition("@") for each in listed.split(","))}
    nodes = Nodes(hosts, int(own), certificate)
    answers: dict[str, Callable[..., int]] = {
        "before": before,
        "join": join,
        "joined": joined,
        "reach": reach,
        "whole": whole,
        "last": last,
        "status": status,
    }
    return answers[command](nodes, *more)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
