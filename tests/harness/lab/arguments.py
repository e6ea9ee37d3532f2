"""The arguments of deploy/lab.

    python3 -m tests.harness.lab.arguments ARGUMENT...      checks them, or prints their --help

Standard library only, and for older Pythons too, because deploy/lab runs this before anything is installed.
"""

import argparse
import contextlib
import re
from pathlib import Path

from tests.harness.lab.words import HOSTS, KINDS, TOPICS, VERBS

_DOES = {
    "kill": "it dies at once",
    "start": "bring it back",
    "hang": "it stops answering",
    "resume": "it goes on",
}
_HOSTS = (*HOSTS, *KINDS)
_HOSTS_HELP = f"{', '.join(HOSTS)}; or all of a kind: {', '.join(KINDS)}"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deploy/lab",
        description="A whole chain on this machine's loopback addresses: devices -> HAProxy -> EMQ x2 -> "
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

    for verb in VERBS:
        command = commands.add_parser(verb, help=f"a host: {_DOES[verb]}")
        command.add_argument("host", metavar="HOST", choices=_HOSTS, help=_HOSTS_HELP)
    sent = commands.add_parser(
        "publish", help="send a message as a device would, and show it come out of Kafka"
    )
    sent.add_argument("topic", nargs="?", type=_topic, default="sensors/house/visitor/temp", metavar="TOPIC")
    sent.add_argument("text", nargs="?", type=_text, default="21.5", metavar="TEXT")
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
        "--emq",
        type=_pair,
        default=(),
        metavar="HOST:PORT,HOST:PORT",
        help='two brokers of yours instead; there the lab\'s bridge has the client id "lab"',
    )
    command.add_argument(
        "--emq-ctl", metavar="CMD", help="how to fail them: CMD kill9|start|sigstop|sigcont 1|2"
    )


def _duration(text: str) -> float:
    try:
        from bridge.units import DURATION
    except ImportError:  # nothing is installed yet: this text is parsed again later
        return 0.0
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


def _topic(text: str) -> str:
    """An MQTT topic to publish to (MQTT 5, 4.7)."""
    _text(text)
    if found := [character for character in "+#" if character in text]:
        raise argparse.ArgumentTypeError(
            f"{text!r} is a filter: a topic to publish to has no {' and no '.join(found)}"
        )
    if not text or len(text.encode()) > 65_535:
        raise argparse.ArgumentTypeError("a topic has 1 to 65535 bytes")
    if text.startswith("$"):
        raise argparse.ArgumentTypeError(
            f"{text!r} begins with $: such topics are the broker's own, and the lab's bridge takes none"
        )
    return text


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is no UTF-8") from None
    return text


def _pair(text: str) -> tuple[str, ...]:
    pair = tuple(text.split(","))
    if len(pair) != 2 or not all(re.fullmatch(r".+:\d+", address) for address in pair):
        raise argparse.ArgumentTypeError("two brokers are needed, as HOST:PORT,HOST:PORT")
    return pair


if __name__ == "__main__":
    parser().parse_args()
