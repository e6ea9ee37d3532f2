"""`bridge dead-letters`: list, show, export, replay and purge dead letters, beside the service.

These commands do not import app.py, because importing paho and librdkafka would slow them down. Each function
returns the exit status.
"""

import sys
from contextlib import closing
from dataclasses import replace

from bridge.commands import dead_letters_output as printed
from bridge.commands.replay import Replay
from bridge.delivery.clock import is_synchronised
from bridge.delivery.dead_letter import Selection
from bridge.errors import BridgeError, ConfigurationError
from bridge.routing.router import Router
from bridge.settings import Settings
from bridge.spool.dead_letters import StoredLetters


def list_letters(settings: Settings, selection: Selection, as_json: bool) -> int:
    """Print one line for each selected dead letter."""
    printed.show_all(StoredLetters(settings.spool_directory).pages(selection), as_json, sys.stdout)
    return 0


def show_letter(settings: Settings, selection: Selection, as_json: bool) -> int:
    """Print everything about the selected dead letter."""
    for page in StoredLetters(settings.spool_directory).pages(selection, payloads=True):
        printed.show_one(page[0], as_json, sys.stdout)
        return 0
    raise BridgeError(f"there is no dead letter {selection.numbers[0]}; bridge dead-letters list shows them")


def export_letters(settings: Settings, selection: Selection) -> int:
    """Print each selected dead letter with its payload."""
    printed.export(StoredLetters(settings.spool_directory).pages(selection, payloads=True), sys.stdout)
    return 0


def replay(settings: Settings, selection: Selection, to: str | None, as_json: bool) -> int:
    """Produce dead letters, and remove those that Kafka confirms. Letters that are added meanwhile stay."""
    # The other commands do not need librdkafka.
    from bridge.kafka.blocking_producer import BlockingProducer

    letters = StoredLetters(settings.spool_directory)
    selection = replace(selection, up_to=letters.last())
    with letters.alone(), closing(BlockingProducer(settings.kafka)) as producer:
        run = Replay(Router(settings.routes), producer, letters.delete, to)
        stay = printed.show_fates(run.run(letters.pages(selection, payloads=True)), as_json, sys.stdout)
    return 1 if stay else 0


def purge(settings: Settings, selection: Selection, sure: bool, as_json: bool) -> int:
    """Remove dead letters for good, except those added meanwhile. Without `sure` ask the person first.

    Raises BridgeError where nobody is asked and the letters were chosen by a clock that may be wrong.
    """
    letters = StoredLetters(settings.spool_directory)
    selection = replace(selection, up_to=letters.last())
    sizes = [each.payload_size for page in letters.pages(selection) for each in page]
    what = printed.said(len(sizes), sum(sizes))
    by_age = selection.before is not None or selection.after is not None
    if sizes and by_age and not is_synchronised():
        if sure:
            raise BridgeError(
                f"dead-letters purge: {what}: none is removed by its age, because NTP has not set this"
                " machine's clock (timedatectl set-ntp true; or give the IDs; or leave out --yes and answer"
                " at a terminal)"
            )
        what = f"{what}, chosen by age though NTP has not set this machine's clock"
    if sizes and not sure and not _agreed(what):
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
