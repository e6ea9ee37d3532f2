"""`bridge spool status`: reads the spool's database beside the service and prints its contents."""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TextIO

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bridge.commands.terminal import console, size
from bridge.observe.printable import printable
from bridge.settings import Settings
from bridge.spool.contents import OnDisk, Waiting
from bridge.spool.read_only import on_disk
from bridge.status.spoken import count

_EVERY = 1.0  # seconds between two reads


def spool_status(settings: Settings, as_json: bool, repeat: bool) -> int:
    """Print what is on disk; with `repeat` every second until no message waits. Returns the exit status."""
    read = partial(on_disk, settings.spool_directory, settings.spool)
    if not repeat:
        show(read(), as_json, sys.stdout)
        return 0
    with suppress(KeyboardInterrupt):
        watch(read, as_json, sys.stdout)
    return 0


def show(state: OnDisk, as_json: bool, stream: TextIO) -> None:
    """Print the state of the spool."""
    if as_json:
        stream.write(json.dumps(_as_json(state)) + "\n")
        stream.flush()
        return
    out = console(stream)
    if not state.exists:
        out.print(f"{printable(state.path)}: nothing is on disk, the spool has not been made yet")
        return
    if state.topics:
        out.print(_table(state.topics))
    waiting = (
        f"{count(state.messages, 'message')} wait{'s' * (state.messages == 1)} for Kafka"
        if state.messages
        else "nothing waits for Kafka"
    )
    letters = f"{count(state.dead_letters, 'dead letter')} ({size(state.dead_letters_size)})"
    out.print(f"{waiting}; {letters if state.dead_letters else 'no dead letters'}")
    out.print(
        f"{printable(state.path)}: {size(state.file_size)}, {size(state.used)} of them in use, of"
        f" {size(state.max_bytes)} (spool.max_bytes)",
        soft_wrap=True,
    )
    out.print(
        f"free disk: {size(state.free)}, of which {size(state.keep_free)} stay free (spool.keep_free)",
        soft_wrap=True,
    )
    if state.why_full:
        out.print(f"FULL: {printable(state.why_full)}", style="red", soft_wrap=True)
    for path in state.set_aside:
        out.print(f"a damaged database was kept: {printable(path)}", style="yellow", soft_wrap=True)


def watch(read: Callable[[], OnDisk], as_json: bool, stream: TextIO) -> None:
    """Print the state every second, on a terminal as a bar, until no message waits."""
    state = read()
    show(state, as_json, stream)
    if as_json or not stream.isatty():
        while state.messages:
            time.sleep(_EVERY)
            state = read()
            show(state, as_json, stream)
        return
    bar = Progress(
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} delivered"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(compact=True),
        console=console(stream),
    )
    most = state.messages
    with bar:
        task = bar.add_task("", total=most)
        while state.messages:
            time.sleep(_EVERY)
            state = read()
            most = max(most, state.messages)  # messages may come faster than Kafka takes them
            bar.update(task, total=most, completed=most - state.messages)


def _table(topics: tuple[Waiting, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("Kafka topic", overflow="fold")
    for column in ("messages", "size", "oldest"):
        table.add_column(column, justify="right")
    for topic in topics:
        age = _age(topic.oldest)
        oldest = "?" if age is None else f"{timedelta(seconds=round(age))}"
        table.add_row(printable(topic.topic), f"{topic.messages:,}", size(topic.size), oldest)
    return table


def _age(received: int) -> float | None:
    """Seconds since receipt; None if the clock was wrong at that time."""
    return None if received < 0 else max(0.0, time.time() - received / 1000)


def _as_json(state: OnDisk) -> dict[str, Any]:
    return {
        "path": state.path,
        "exists": state.exists,
        "rows": state.messages,
        "topics": [
            {
                "topic": topic.topic,
                "rows": topic.messages,
                "bytes": topic.size,
                "oldest": None if topic.oldest < 0 else _iso(topic.oldest),
                "oldest_age_seconds": _age(topic.oldest),
            }
            for topic in state.topics
        ],
        "dead_letters": state.dead_letters,
        "dead_letters_bytes": state.dead_letters_size,
        "used_bytes": state.used,
        "file_bytes": state.file_size,
        "max_bytes": state.max_bytes,
        "free_bytes": state.free,
        "keep_free": state.keep_free,
        "full": state.why_full or None,
        "set_aside": list(state.set_aside),
    }


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
