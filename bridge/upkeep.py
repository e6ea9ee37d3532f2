"""What works on the spool's file beside the service: the composition root of these commands.

It is none of app.py, so that a look at the disk does not wait for paho and librdkafka. Each command returns
the exit status.
"""

import logging
import sys
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial

from bridge import letters as printed
from bridge import status
from bridge.deadletter import Selection
from bridge.errors import BridgeError, ConfigurationError
from bridge.replay import Replay
from bridge.routing import Router
from bridge.settings import Settings
from bridge.spool.letters import Letters
from bridge.spool.look import on_disk


def spool_status(settings: Settings, as_json: bool, watch: bool) -> int:
    """Print what is on disk."""
    look = partial(on_disk, settings.spool_directory, settings.spool)
    if not watch:
        status.show(look(), as_json, sys.stdout)
        return 0
    with suppress(KeyboardInterrupt):
        status.watch(look, as_json, sys.stdout)
    return 0


def list_letters(settings: Settings, selection: Selection, as_json: bool) -> int:
    """Print a line for each."""
    printed.show_all(Letters(settings.spool_directory).pages(selection), as_json, sys.stdout)
    return 0


def show_letter(settings: Settings, selection: Selection, as_json: bool) -> int:
    """Print all about the one that is chosen."""
    for page in Letters(settings.spool_directory).pages(selection, payloads=True):
        printed.show_one(page[0], as_json, sys.stdout)
        return 0
    raise BridgeError(f"there is no dead letter {selection.numbers[0]}; bridge dead-letters list shows them")


def export_letters(settings: Settings, selection: Selection) -> int:
    """Print each with its payload."""
    printed.export(Letters(settings.spool_directory).pages(selection, payloads=True), sys.stdout)
    return 0


def replay(settings: Settings, selection: Selection, to: str | None, as_json: bool) -> int:
    """Produce them, and remove those that Kafka holds. What is buried meanwhile stays."""
    from bridge.kafka.courier import Courier  # librdkafka is none of the other commands' business

    logging.getLogger("librdkafka").addHandler(logging.NullHandler())  # what matters is in the reasons
    letters = Letters(settings.spool_directory)
    selection = replace(selection, up_to=letters.last())
    with letters.alone(), closing(Courier(settings.kafka)) as courier:
        run = Replay(Router(settings.routes), courier, letters.delete, to)
        stay = printed.show_fates(run.run(letters.pages(selection, payloads=True)), as_json, sys.stdout)
    return 1 if stay else 0


def purge(settings: Settings, selection: Selection, sure: bool, as_json: bool) -> int:
    """Remove them for good, but not what is buried meanwhile. Without `sure` a person is asked."""
    letters = Letters(settings.spool_directory)
    selection = replace(selection, up_to=letters.last())
    sizes = [each.payload_size for page in letters.pages(selection) for each in page]
    if sizes and not sure and not _agreed(printed.said(len(sizes), sum(sizes))):
        return 0
    removed = sum(letters.delete(page) for page in letters.pages(selection))
    if as_json:
        printed.write_json({"removed": removed}, sys.stdout)
    else:
        sys.stdout.write(f"{removed} removed\n")
    return 0


def _agreed(what: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigurationError(f"dead-letters purge: {what}: nobody is there to be asked; add --yes")
    sys.stderr.write(f"Remove {what}, for good? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
