"""Asks the brokers of a Kafka cluster how it is, for install.sh kafka.

It needs no Java: each of Kafka's own commands takes some seconds and 100 MB, which a small Pi lacks.

    cluster.py COMMAND NODES NODE [...]     NODES as 1@172.30.1.31,2@172.30.1.32,3@172.30.1.33; NODE: this one

    before ID   may this node be started for the first time, in the cluster with this id?
    joined      is this node a member, and in sync?
    reach       which of the others do not answer, and what to look at?
    whole       is each replica of each partition in sync, so that a node may restart?
    last        does this node have the only replica in sync of some partition?
    status      what a person wants to know

It writes one sentence for each fact. Exit status: 0 yes (`last`: no), 1 no, 4 this node waits for the others.
"""

import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import protocol
from protocol import CLIENTS, CONTROLLERS, Cluster, Partition, Quorum, Unreachable

YES, NO, WAITS = 0, 1, 4

CLOCKS = 60.0  # seconds by which clocks may differ; Kafka refuses records that are an hour ahead
LAG = 10.0  # seconds since a controller last had the whole log of the cluster's metadata


@dataclass(frozen=True)
class Nodes:
    hosts: dict[int, str]
    own: int

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
                return protocol.cluster(host), protocol.quorum(host)
            except (Unreachable, struct.error):  # what listens there may be no Kafka
                continue
        return None


def before(nodes: Nodes, identifier: str) -> int:
    asked = nodes.asked(list(nodes.others.values()))
    if asked is None:
        return YES  # nobody knows anything yet
    found, controllers = asked
    own = nodes.hosts[nodes.own]
    if found.identifier != identifier:
        _say(
            f"the other nodes are the cluster {found.identifier}, this one would be {identifier}:"
            f" give the same --nodes on each, or --cluster-id {found.identifier}"
        )
        return NO
    if (there := found.brokers.get(nodes.own, own)) != own:
        _say(
            f"node {nodes.own} runs already, at {there}; this one would be {own}:"
            " give the same --nodes, in the same order, on each"
        )
        return NO
    ahead = time.time() - controllers.now
    if abs(ahead) > CLOCKS:
        how = f"{_duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'}"
        _say(f"this clock is {how} that of node {controllers.leader}: timedatectl shows why")
        return NO
    return YES


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
        _say(f"{_counted(behind)} not in sync yet on node {nodes.own}")
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
    if alone := [each for each in asked[0].partitions if each.in_sync == (nodes.own,)]:
        _say(f"{_counted(alone)} in sync on this node alone")
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


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def main(command: str, listed: str, own: str, *more: str) -> int:
    hosts = {int(number): host for number, _, host in (each.partition("@") for each in listed.split(","))}
    nodes = Nodes(hosts, int(own))
    answers: dict[str, Callable[..., int]] = {
        "before": before,
        "joined": joined,
        "reach": reach,
        "whole": whole,
        "last": last,
        "status": status,
    }
    return answers[command](nodes, *more)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
