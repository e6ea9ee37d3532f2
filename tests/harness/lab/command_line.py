"""The command line of deploy/lab. Exit code 0: done, and nothing lost or duplicated; 1: not; 2: usage."""

# ruff: noqa: T201 - a command line prints

import argparse
import itertools
import os
import sys

from tests.harness.conditions import NotInTime
from tests.harness.host import PortInUse
from tests.harness.kit import KitError
from tests.harness.lab import door
from tests.harness.lab.arguments import parser
from tests.harness.lab.chain import Plan
from tests.harness.lab.picture import picture
from tests.harness.lab.rounds import rounds
from tests.harness.lab.run import up
from tests.harness.lab.verbs import LabError
from tests.harness.lab.visitor import consume
from tests.harness.lab.words import TOPICS


def main() -> int:
    arguments = parser().parse_args()
    try:
        return _do(arguments)
    except (LabError, KitError, PortInUse, NotInTime, RuntimeError) as error:
        print(f"lab: {error}", file=sys.stderr)
    except BrokenPipeError:  # as in `deploy/lab consume | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0 if arguments.command == "consume" else 1
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
            print(door.ask(["publish", arguments.topic, arguments.text], _tell))
        case "consume":
            for line in itertools.islice(
                consume(arguments.topics or TOPICS, from_beginning=arguments.from_beginning), arguments.count
            ):
                print(line, flush=True)
        case "status":
            print(door.ask(["status"]))
        case "down":
            try:
                print(door.ask(["down"]))
            except door.NoLab:
                print("no lab is up")
        case verb:
            print(door.ask([verb, arguments.host], _tell))
    return 0


def _tell(text: str) -> None:
    """Show that a request still goes on. Standard output has its answer alone."""
    print(text, file=sys.stderr, flush=True)


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
