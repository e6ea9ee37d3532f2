"""Measures the bridge: tests/bench/run --help."""
# ruff: noqa: T201 - a command line prints

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench import exactly_once, here, hostile, idle, latency, report, spool, window
from tests.bench.drain import Drain, Incomplete, drain
from tests.bench.growth import figures, page
from tests.bench.growth import run as growth
from tests.bench.growth.curves import CURVES
from tests.bench.peers import FOR_BACKLOGS, FOR_USE, Peer
from tests.bench.rig import rig
from tests.harness.conditions import NotInTime
from tests.harness.host import PortInUse
from tests.harness.kit import KitError

_HERE_RATES = (20, 200)  # messages/s
_VERSIONS = {"3.1.1": False, "5": True}


def main() -> int:
    arguments = _parser().parse_args()
    try:
        arguments.measure(arguments)
    except (Incomplete, KitError, NotInTime, OSError, PortInUse, RuntimeError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tests/bench/run",
        description="Measures the bridge on real parts; prints Markdown. Only ratios within one run count.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, measure: Callable[[argparse.Namespace], None], nodes: int, text: str) -> None:
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "--nodes", type=int, choices=(1, 3), default=nodes, help=f"Kafka brokers (default: {nodes})"
        )
        if name not in ("spool", "hostile", "growth", "here", "exactly-once"):
            command.add_argument(
                "--peers",
                choices=[peer.slug for peer in (FOR_BACKLOGS if name == "drain" else FOR_USE)],
                nargs="+",
                help="which of them (default: all that can be had here)",
            )
        command.set_defaults(measure=measure)
        match name:
            case "drain":
                command.add_argument("--messages", type=int, default=300_000, help="each backlog (300000)")
                command.add_argument("--rounds", type=int, default=5, help="turns of all peers (5)")
                command.add_argument(
                    "--mqtt", choices=_VERSIONS, nargs="+", default=list(_VERSIONS), help="versions (both)"
                )
                command.add_argument("--svg", type=Path, metavar="FILE", help="draw it too")
            case "latency":
                command.add_argument("--messages", type=int, default=2_000, help="for each peer (2000)")
                command.add_argument("--rounds", type=int, default=3, help="turns of all peers (3)")
                command.add_argument("--rate", type=int, default=200, help="messages/s (200)")
            case "hostile":
                command.add_argument("--messages", type=int, default=4_000, help="for each state (4000)")
                command.add_argument("--rounds", type=int, default=5, help="of the three states (5)")
                command.add_argument("--rate", type=int, default=200, help="messages/s (200)")
            case "window":
                command.add_argument("--messages", type=int, default=50_000, help="each backlog (50000)")
                command.add_argument("--rounds", type=int, default=3, help="turns of all peers (3)")
            case "exactly-once":
                command.add_argument("--messages", type=int, default=50_000, help="each backlog (50000)")
                command.add_argument("--rounds", type=int, default=3, help="turns of both modes (3)")
            case "spool":
                command.add_argument("--messages", type=int, default=200_000, help="the backlog (200000)")
                command.add_argument("--rounds", type=int, default=3, help="there and back (3)")
            case "growth":
                command.add_argument(
                    "--only",
                    choices=[curve.name for curve in CURVES],
                    nargs="+",
                    default=[curve.name for curve in CURVES],
                    help="which curves (default: all)",
                )
                command.add_argument("--points", type=int, nargs="+", help="instead of the curve's own")
                command.add_argument("--messages", type=int, help="at each point (the curve's own)")
                command.add_argument("--rounds", type=int, default=5, help="turns of all points (5)")
                command.add_argument(
                    "--insert",
                    type=Path,
                    metavar="FILE",
                    help="measure nothing, put this JSON file's tables and pictures into docs/explanation",
                )
                command.add_argument(
                    "--json", type=Path, metavar="FILE", help="put the figures into it, beside other curves'"
                )
            case "here":
                command.add_argument(
                    "--disk", type=Path, default=Path.cwd(), help="a directory on the spool's disk (this one)"
                )
            case "idle":
                command.add_argument("--seconds", type=float, default=60.0, help="how long (60)")

    add("drain", _drain, 1, "the CPU a message costs, beside other bridges")
    add("latency", _latency, 3, "from publisher to consumer, when messages come one by one")
    add("window", _window, 3, f"messages/s through a broker with a window of {window.WINDOW}")
    add("exactly-once", _exactly_once, 3, "what delivery exactly-once costs, beside the default mode")
    add("spool", _spool, 1, "what the disk costs while Kafka is away, and when it is back")
    add("hostile", _hostile, 1, "what an attack on the page costs the messages")
    add("idle", _idle, 1, "the CPU and memory of a session in which nothing happens")
    add("growth", _growth, 1, "what a message costs with many routes, topics, bytes ...")
    add("here", _here, 1, "what this machine can do, in two minutes")
    return parser


def _drain(arguments: argparse.Namespace) -> None:
    chosen = _at_hand(arguments.peers, FOR_BACKLOGS)
    versions = [each for each in arguments.mqtt if any(peer.speaks(_VERSIONS[each]) for peer in chosen)]
    if not versions:
        raise RuntimeError(f"none of these peers speaks MQTT {' or '.join(arguments.mqtt)}")
    rounds: dict[str, list[list[Drain]]] = {version: [] for version in versions}
    with rig(arguments.nodes) as made:
        for number in range(arguments.rounds):
            for version in versions:
                peers = [peer for peer in chosen if peer.speaks(_VERSIONS[version])]
                turn = [
                    _told(drain(made, peer, arguments.messages, _VERSIONS[version]), number + 1, version)
                    for peer in _rotated(peers, number)
                ]
                rounds[version].append(sorted(turn, key=lambda one: peers.index(one.peer)))
    text = report.heading(
        f"QoS 1, {arguments.messages:,} messages of 100 bytes, {arguments.nodes} Kafka broker(s),"
        f" {arguments.rounds} rounds"
    )
    for version, done in rounds.items():
        print(f"\nMQTT {version}, {text}\n\n{report.drains(done)}")
    if arguments.svg:
        from tests.bench import plot  # its package is large, and needed only here

        plot.drains(rounds, text, arguments.svg)


def _latency(arguments: argparse.Namespace) -> None:
    peers = _at_hand(arguments.peers, FOR_USE)
    print(report.heading(f"QoS 1, 100 bytes, {arguments.nodes} Kafka broker(s)"), end="\n\n")
    with rig(arguments.nodes) as made:
        print(latency.measure(made, peers, arguments.rounds, arguments.rate, arguments.messages))


def _window(arguments: argparse.Namespace) -> None:
    peers = _at_hand(arguments.peers, FOR_USE)
    text = f"QoS 1, {arguments.messages:,} messages of 100 bytes, {arguments.nodes} Kafka broker(s)"
    print(report.heading(text), end="\n\n")
    with rig(arguments.nodes, inflight=window.WINDOW) as made:
        print(window.measure(made, peers, arguments.rounds, arguments.messages))


def _exactly_once(arguments: argparse.Namespace) -> None:
    text = (
        f"QoS 1, {arguments.messages:,} messages of 100 bytes, as shipped, {arguments.nodes} Kafka broker(s)"
    )
    print(report.heading(text), end="\n\n")
    with rig(arguments.nodes) as made:
        print(exactly_once.measure(made, arguments.rounds, arguments.messages))


def _spool(arguments: argparse.Namespace) -> None:
    text = f"QoS 1, {arguments.messages:,} messages of 100 bytes, a window of {spool.WINDOW}"
    print(report.heading(text), end="\n\n")
    with rig(arguments.nodes, inflight=spool.WINDOW) as made:
        print(spool.measure(made, arguments.rounds, arguments.messages))


def _hostile(arguments: argparse.Namespace) -> None:
    print(report.heading(f"QoS 1, 100 bytes, {arguments.nodes} Kafka broker(s)"), end="\n\n")
    core = hostile.leave_a_core()  # before anything is started, so that all of it stays there
    with rig(arguments.nodes) as made:
        print(hostile.measure(made, arguments.rounds, arguments.rate, arguments.messages, core))


def _growth(arguments: argparse.Namespace) -> None:
    if arguments.insert:
        print("inserted:", ", ".join(page.insert(arguments.insert)))
        return
    for curve in (curve for curve in CURVES if curve.name in arguments.only):
        # Each curve has a Kafka of its own: the topics of two could be more than its open files may be.
        with rig(arguments.nodes, many_topics=True) as made:
            measured = growth.measure(
                made,
                curve,
                arguments.points or curve.points,
                arguments.rounds,
                arguments.messages or curve.messages,
            )
        print(f"\n{measured.heading}\n\n{figures.table(curve.grows, measured)}", flush=True)
        if arguments.json:
            figures.save(arguments.json, {curve.name: measured})


def _here(arguments: argparse.Namespace) -> None:
    print(report.heading(f"QoS 1, 100 bytes, as shipped, {arguments.nodes} Kafka broker(s)"), end="\n\n")
    with rig(arguments.nodes) as made:
        print(here.measure(made, _HERE_RATES, arguments.disk))


def _idle(arguments: argparse.Namespace) -> None:
    peers = _at_hand(arguments.peers, FOR_USE)
    print(report.heading(f"{arguments.seconds:g} s, {arguments.nodes} Kafka broker(s)"), end="\n\n")
    with rig(arguments.nodes) as made:
        print(idle.measure(made, peers, arguments.seconds))


def _at_hand(slugs: list[str] | None, known: Sequence[Peer]) -> list[Peer]:
    """The peers of these names, or all available ones. Raises KitError if a named one is not available."""
    found = []
    for peer in known:
        if slugs is not None and peer.slug not in slugs:
            continue
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
    """Rotate the peers, so that each round begins with another one."""
    by %= len(peers)
    return peers[by:] + peers[:by]


if __name__ == "__main__":
    sys.exit(main())
