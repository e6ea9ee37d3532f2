"""Measures the bridge: tests/bench/run --help."""
# ruff: noqa: T201 - a command line prints

import argparse
import sys

from tests.bench import idle, latency, report
from tests.bench.drain import Drain, Incomplete, drain
from tests.bench.peers import ALL, Peer
from tests.bench.rig import rig
from tests.harness.conditions import NotInTime
from tests.harness.host import PortInUse
from tests.harness.kit import KitError

_VERSIONS = {"3.1.1": False, "5": True}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="tests/bench/run",
        description="Measures the bridge on real parts; prints Markdown. Only ratios within one run count.",
    )
    parser.add_argument("--nodes", type=int, choices=(1, 3), help="Kafka brokers (default: 1; latency: 3)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("drain", help="the CPU a message costs, beside other bridges")
    command.add_argument("--messages", type=int, default=300_000, help="each backlog (default: 300000)")
    command.add_argument("--rounds", type=int, default=5, help="turns of all peers (default: 5)")
    command.add_argument(
        "--mqtt", choices=_VERSIONS, nargs="+", default=list(_VERSIONS), help="versions (default: both)"
    )
    command.add_argument(
        "--peers",
        choices=[peer.slug for peer in ALL],
        nargs="+",
        help="which of them (default: all that can be had here)",
    )
    command.set_defaults(measure=_drain)

    command = commands.add_parser("idle", help="the CPU and memory of a session in which nothing happens")
    command.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    command.set_defaults(measure=_idle)

    command = commands.add_parser("latency", help="from publisher to consumer, by linger.ms")
    command.add_argument("--messages", type=int, default=2_000, help="at each setting (default: 2000)")
    command.add_argument("--backlog", type=int, default=20_000, help="at a window of 32 (default: 20000)")
    command.add_argument("--rate", type=int, default=200, help="messages/s (default: 200)")
    command.add_argument("--rounds", type=int, default=3, help="turns of all settings (default: 3)")
    command.add_argument("--linger", type=int, nargs="+", default=[0, 1, 5], metavar="MS")
    command.set_defaults(measure=_latency)

    arguments = parser.parse_args()
    try:
        arguments.measure(arguments)
    except (Incomplete, KitError, NotInTime, PortInUse, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _drain(arguments: argparse.Namespace) -> None:
    chosen = _at_hand(arguments.peers)
    nodes = arguments.nodes or 1
    versions = [each for each in arguments.mqtt if any(peer.speaks(_VERSIONS[each]) for peer in chosen)]
    if not versions:
        raise RuntimeError(f"none of these peers speaks MQTT {' or '.join(arguments.mqtt)}")
    rounds: dict[str, list[list[Drain]]] = {version: [] for version in versions}
    with rig(nodes) as here:
        for number in range(arguments.rounds):
            for version in versions:
                peers = [peer for peer in chosen if peer.speaks(_VERSIONS[version])]
                turn = [
                    _told(drain(here, peer, arguments.messages, _VERSIONS[version]), number + 1, version)
                    for peer in _rotated(peers, number)
                ]
                rounds[version].append(sorted(turn, key=lambda one: peers.index(one.peer)))
    for version, done in rounds.items():
        text = f"MQTT {version}, QoS 1, {arguments.messages:,} messages of 100 bytes, {nodes} Kafka broker(s)"
        print(f"\n{report.heading(f'{text}, {len(done)} rounds')}\n\n{report.drains(done)}")


def _at_hand(slugs: list[str] | None) -> list[Peer]:
    """The peers of these names, or all that can be had. Raises KitError for one that was named and cannot."""
    found = []
    for peer in ALL:
        if slugs is None or peer.slug in slugs:
            try:
                peer.prepare()
            except KitError as error:
                if slugs is not None:
                    raise
                print(f"bench: without {peer.name}: {error}", file=sys.stderr)
                continue
            found.append(peer)
    return found


def _told(done: Drain, turn: int, version: str) -> Drain:
    print(
        f"round {turn}, MQTT {version}: {done.peer.name}: {done.cpu_us:.2f} µs, {done.rate:,.0f}/s,"
        f" {done.peak_mb:.0f} MB, start {done.start_cpu:.2f} s, {done.copies} copies",
        file=sys.stderr,
        flush=True,
    )
    return done


def _rotated(peers: list[Peer], by: int) -> list[Peer]:
    """Each round begins with another one, so that no place in the order is one peer's alone."""
    by %= len(peers)
    return peers[by:] + peers[:by]


def _idle(arguments: argparse.Namespace) -> None:
    nodes = arguments.nodes or 1
    with rig(nodes) as here:
        print(report.heading(f"{arguments.seconds:g} s, {nodes} Kafka broker(s)"), end="\n\n")
        print(idle.measure(here, arguments.seconds))


def _latency(arguments: argparse.Namespace) -> None:
    nodes = arguments.nodes or 3
    print(
        report.heading(f"MQTT 5, QoS 1, 100 bytes, Receive Maximum 100, {nodes} Kafka broker(s)"), end="\n\n"
    )
    print(latency.measure(nodes, arguments.linger, arguments.rounds, arguments.rate, arguments.messages))
    print()
    print(latency.measure_window(nodes, arguments.linger, arguments.rounds, arguments.backlog))


if __name__ == "__main__":
    sys.exit(main())
