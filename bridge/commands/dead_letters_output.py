"""Prints the output of `bridge dead-letters`."""

import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.text import Text

from bridge.commands.replay import Fate
from bridge.commands.terminal import console, preview, size
from bridge.delivery.dead_letter import StoredLetter
from bridge.observe.printable import printable
from bridge.routing.envelope import present, text_or_base64

_SHOWN = 2000  # characters of a payload at most


def show_all(pages: Iterable[Sequence[StoredLetter]], as_json: bool, stream: TextIO) -> None:
    """Print one line for each letter, then their number and size."""
    out = console(stream)
    count = total = 0
    for page in pages:
        for each in page:
            if as_json:
                write_json(as_object(each), stream)
                continue
            count += 1
            total += each.payload_size
            where = f" -> {each.letter.kafka_topic}" if each.letter.kafka_topic else ""
            line = Text.assemble(
                (f"{each.number:>6}", "bold"),
                f"  {_time(each.at)}  {size(each.payload_size):>7}  ",
                f"{preview(each.letter.message.topic, whole=True)}{where}  ",
                (printable(each.letter.reason), "red"),
            )
            out.print(line, soft_wrap=True)
    if not as_json:
        out.print(said(count, total) if count else "no dead letters")


def show_one(each: StoredLetter, as_json: bool, stream: TextIO) -> None:
    """Print everything about a letter. For people, only the beginning of its payload."""
    if as_json:
        write_json(with_payload(each), stream)
        return
    out = console(stream)
    payload = each.letter.message.payload
    facts = as_object(each)
    for name, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value)
        out.print(f"{name + ':':<12} {printable(text)}", soft_wrap=True)
    out.print(f"{'payload:':<12} {preview(payload, most=_SHOWN)}", soft_wrap=True)


def export(pages: Iterable[Sequence[StoredLetter]], stream: TextIO) -> None:
    for page in pages:
        for each in page:
            write_json(with_payload(each), stream)


def show_fates(fates: Iterable[Fate], as_json: bool, stream: TextIO) -> int:
    """Print a line for each letter that stays (JSON: for every letter), and totals. Returns how many stay."""
    out = console(stream)
    delivered = stay = 0
    for fate in fates:
        delivered += not fate.reason
        stay += bool(fate.reason)
        if as_json:
            facts = {"id": fate.stored.number, "delivered": not fate.reason}
            write_json(
                facts | {"kafka_topic": fate.kafka_topic or None, "reason": fate.reason or None}, stream
            )
        elif fate.reason:
            topic = preview(fate.stored.letter.message.topic, whole=True)
            line = Text(f"{fate.stored.number:>6}  {topic}  stays: {printable(fate.reason)}", "red")
            out.print(line, soft_wrap=True)
    if not as_json:
        out.print(f"{delivered} delivered and removed, {stay} stay")
    return stay


def said(count: int, total: int) -> str:
    return f"{count:,} dead letter{'s' if count != 1 else ''}, {size(total)}"


def as_object(each: StoredLetter) -> dict[str, Any]:
    """A letter without its payload. `time` is when it became a dead letter, `received` when it came."""
    message = each.letter.message
    return {
        "id": each.number,
        "time": _time(each.at),
        "reason": each.letter.reason,
        "route": each.letter.route or None,
        "kafka_topic": each.letter.kafka_topic or None,
        **text_or_base64("topic", message.topic),
        "qos": message.qos,
        "retained": message.retain,
        "duplicate": message.dup,
        "received": None if message.timestamp < 0 else _time(message.timestamp),
        "properties": {} if message.properties is None else present(message.properties),
        "bytes": each.payload_size,
    }


def with_payload(each: StoredLetter) -> dict[str, Any]:
    return as_object(each) | {"payload_base64": b64encode(each.letter.message.payload).decode()}


def write_json(facts: dict[str, Any], stream: TextIO) -> None:
    stream.write(json.dumps(facts) + "\n")
    stream.flush()


def _time(milliseconds: int) -> str:
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError):  # the clock was far off
        return str(milliseconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
