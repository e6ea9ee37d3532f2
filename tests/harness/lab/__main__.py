"""The command line of deploy/lab. Exit code 0: done, and nothing lost or duplicated; 1: not; 2: usage."""

# ruff: noqa: T201 - a command line prints

import argparse
import contextlib
import itertools
import re
import sys
from pathlib import Path

from bridge.units import DURATION
from tests.harness.conditions import NotInTime
from tests.harness.host import PortInUse
from tests.harness.kit import KitError
from tests.harness.lab import door
from tests.harness.lab.chain import Plan
from tests.harness.lab.picture import picture
from tests.harness.lab.rounds import rounds
from tests.harness.lab.run import up
from tests.harness.lab.verbs import LabError
from tests.harness.lab.visitor import consume
from tests.harness.lab.words import HOSTS, KINDS, TOPICS, VERBS

_HOSTS = (*HOSTS, *KINDS)
_HOSTS_HELP = f"{', '.join(HOSTS)}; or all of a kind: {', '.join(KINDS)}"


def main() -> int:
    arguments = _parser().parse_args()
    try:
        return _do(arguments)
    except (LabError, KitError, PortInUse, NotInTime, RuntimeError) as error:
        print(f"lab: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        pass  # Ctrl-C while the lab started: all that was started has ended
    return 1


def _do(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "up":
            return up(_plan(arguments), arguments.duration)
        case "rounds":
            return rounds(_plan(arguments), arguments.count)
        case "picture":
            return picture(arguments.file)
        case "publish":
            print(door.ask(["publish", arguments.topic, arguments.text]))
        case "consume":
            for line in itertools.islice(
                consume(arguments.topics or TOPICS, from_beginning=arguments.from_beginning), arguments.count
            ):
                print(line, flush=True)
        case "status" | "down":
            print(door.ask([arguments.command]))
        case verb:
            print(door.ask([verb, arguments.host]))
    return 0


def _plan(arguments: argparse.Namespace) -> Plan:
    return Plan(
        rate=arguments.rate,
        qos=arguments.qos,
        devices=arguments.devices,
        brokers=arguments.brokers,
        emq=arguments.emq,
        emq_ctl=arguments.emq_ctl,
        observe=getattr(arguments, "observe", False),  # of `up` alone
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deploy/lab",
        description="The six hosts of the founding document on this machine: devices -> HAProxy -> EMQ x2 -> "
        "HAProxy -> bridge -> Kafka x3.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")

    running = commands.add_parser(
        "up", help="bring all up and let messages flow, until Ctrl-C; a live view on a terminal"
    )
    running.add_argument("--for", dest="duration", type=_duration, metavar="60s", help="end by itself")
    running.add_argument(
        "--observe",
        action="store_true",
        help="with Prometheus and its alerts; with Grafana too, if grafana-server is installed",
    )
    _add_plan(running)
    repeated = commands.add_parser("rounds", help="kill and hang every host in turn, and end by itself")
    repeated.add_argument("--count", type=_count, default=10, metavar="N", help="rounds (10)")
    _add_plan(repeated)

    drawn = commands.add_parser("picture", help="bring all up, kill emq1, and write the view as an SVG")
    drawn.add_argument("file", type=Path, metavar="FILE.svg")

    for verb, does in zip(
        VERBS, ("it dies at once", "bring it back", "it stops answering", "it goes on"), strict=True
    ):
        command = commands.add_parser(verb, help=f"a host: {does}")
        command.add_argument("host", metavar="HOST", choices=_HOSTS, help=_HOSTS_HELP)
    sent = commands.add_parser(
        "publish", help="send a message as a device would, and show it come out of Kafka"
    )
    sent.add_argument("topic", nargs="?", default="sensors/house/visitor/temp", metavar="TOPIC")
    sent.add_argument("text", nargs="?", default="21.5", metavar="TEXT")
    read = commands.add_parser("consume", help="show what comes out of Kafka, until Ctrl-C")
    read.add_argument(
        "topics", nargs="*", metavar="TOPIC", help=f"of Kafka; without one: {', '.join(TOPICS)}"
    )
    read.add_argument("--from-beginning", action="store_true", help="also what Kafka has already")
    read.add_argument("--count", type=_count, metavar="N", help="only so many records")
    commands.add_parser("status", help="which host is up, down or hung, and the score")
    commands.add_parser("down", help="end what `up` started, as its Ctrl-C does")
    return parser


def _add_plan(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rate", type=_positive, default=50.0, metavar="N", help="messages a second (50)")
    command.add_argument("--qos", type=int, choices=(0, 1, 2), default=1, help="of the devices (1)")
    command.add_argument("--devices", type=_count, default=20, metavar="N", help="how many (20)")
    command.add_argument(
        "--brokers",
        choices=("doors", "rabbitmq"),
        default="doors",
        help="what plays EMQ: one mosquitto behind two doors (the default), or a RabbitMQ pair",
    )
    command.add_argument(
        "--emq", type=_pair, default=(), metavar="HOST:PORT,HOST:PORT", help="two brokers of yours instead"
    )
    command.add_argument(
        "--emq-ctl", metavar="CMD", help="how to fail them: CMD kill9|start|sigstop|sigcont 1|2"
    )


def _duration(text: str) -> float:
    try:
        return float(DURATION.parse(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        if (number := float(text)) > 0:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _pair(text: str) -> tuple[str, ...]:
    pair = tuple(text.split(","))
    if len(pair) != 2 or not all(re.fullmatch(r".+:\d+", address) for address in pair):
        raise argparse.ArgumentTypeError("two brokers are needed, as HOST:PORT,HOST:PORT")
    return pair


if __name__ == "__main__":
    sys.exit(main())
