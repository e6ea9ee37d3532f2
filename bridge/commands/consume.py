"""`bridge consume`: the records of a Kafka topic, or of all topics of the routes, as Kafka has them.

    mqtt/0@7 | sensors/kitchen/temp | mqtt.topic=sensors/kitchen/temp mqtt.qos=1 | 21.5

A line has the topic, the partition and the offset; then the key, the headers and the value. What would break
a line or move the cursor is escaped. Of bytes that are not text it has the first ones as hexadecimal digits;
--json has all bytes. The command joins no consumer group, so it takes no record away from other consumers.
"""

import contextlib
import json
import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from bridge import program
from bridge.commands.terminal import console, preview
from bridge.commands.topics import wanted
from bridge.errors import BridgeError
from bridge.kafka.topic_admin import TopicAdmin
from bridge.kafka.topic_reader import Record, TopicReader
from bridge.observe.printable import printable
from bridge.routing.envelope import text_or_base64
from bridge.settings import Settings
from bridge.settings.section import nearest
from bridge.status.spoken import listed

_WAIT = 0.5  # seconds between two looks whether Kafka still answers
_NAMES_SHOWN = 8
_INTERNAL = "__"  # begins the names of Kafka's own topics, and of some providers'
_CREATE = "sudo mqtt-kafka-bridge topics --create"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for. `topic` None: the topics of the routes."""

    topic: str | None = None
    from_beginning: bool = False
    count: int | None = None
    as_json: bool = False


class Reader(Protocol):
    """The part of kafka.topic_reader.TopicReader that `show` uses; see the descriptions there."""

    def next(self, seconds: float) -> Record | None: ...
    def trouble(self) -> str: ...


def consume(settings: Settings, wish: Wish) -> int:
    """Print records until `count` of them, Ctrl-C, or the reader of the output has closed it. Returns 0."""
    # Ctrl-C is how a person ends this command, so it is no failure.
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(TopicReader(settings.kafka)) as reader:
        known = reader.topics()
        if wish.topic is None:
            topics = of_the_routes(settings, known)
        elif wish.topic in known:
            topics = [wish.topic]
        else:
            # This raises BridgeError where Kafka does not let the bridge's user see the topic.
            TopicAdmin(settings.kafka).describe(wish.topic)
            raise BridgeError(why_missing(settings, known, wish.topic))
        waiting = reader.begin(topics, from_beginning=wish.from_beginning)
        if waiting:
            _say(f"bridge: warning: {_names(waiting)}: not read yet, because no broker leads the partition")
        if sys.stderr.isatty():
            since = "from the beginning" if wish.from_beginning else "from now on (--from-beginning: all)"
            _say(f"reading {_names(topics)} {since}; Ctrl-C ends")
        show(reader, wish, sys.stdout)
    return 0


def of_the_routes(settings: Settings, known: Collection[str]) -> list[str]:
    """The topics that the settings name, or may make from MQTT topics, as far as Kafka has them. Pure.

    Raises BridgeError if Kafka has none of them.
    """
    own = {name: 0 for name in known if not name.startswith(_INTERNAL)}
    found = [each.topic for each in wanted(settings, own)[0] if each.topic in known]
    if not found:
        raise BridgeError(
            f"Kafka has none of the topics that the settings name; create them: {program.typed(_CREATE)}"
        )
    return found


def why_missing(settings: Settings, known: Collection[str], topic: str) -> str:
    """A sentence with the way out. Pure."""
    if topic in {each.topic for each in wanted(settings, {topic: 0})[0]}:
        return f"Kafka has no topic {topic} yet; create it: {program.typed(_CREATE)}"
    there = sorted(name for name in known if not name.startswith(_INTERNAL))
    if near := nearest(topic, there):
        return f"Kafka has no topic {topic}; did you mean {near}?"
    return f"Kafka has no topic {topic}; it has {_names(there) if there else 'none at all'}"


def show(reader: Reader, wish: Wish, stream: TextIO) -> None:
    """Print the records. Raises BridgeError where none can come, OSError where `stream` is closed."""
    console(stream)  # so that a terminal without UTF-8 gets escapes
    left, is_silent = wish.count, False
    while left is None or left > 0:
        record = reader.next(_WAIT)
        if record is None:
            # Once for each outage: librdkafka reports it again with each attempt that fails.
            if (why := reader.trouble()) and not is_silent:
                _say(f"bridge: Kafka does not answer now: {why}; the records come once it does")
                is_silent = True
            continue
        is_silent = False
        stream.write((json.dumps(_as_json(record)) if wish.as_json else line(record)) + "\n")
        stream.flush()
        if left is not None:
            left -= 1


def line(record: Record) -> str:
    """The record on one line, for people. Pure."""
    headers = " ".join(f"{printable(name)}={_shown(value)}" for name, value in record.headers)
    value = "(null, a tombstone)" if record.value is None else _shown(record.value)
    return f"{record.topic}/{record.partition}@{record.offset} | {_shown(record.key)} | {headers} | {value}"


def _shown(data: bytes | None) -> str:
    return "(null)" if data is None else preview(data, whole=True)


def _as_json(record: Record) -> dict[str, Any]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        **_text("key", record.key),
        "headers": [{"name": name, **_text("value", value)} for name, value in record.headers],
        **_text("value", record.value),
    }


def _text(name: str, data: bytes | None) -> dict[str, Any]:
    return {name: None} if data is None else dict(text_or_base64(name, data))


def _names(names: Collection[str]) -> str:
    return listed([printable(name) for name in names], _NAMES_SHOWN)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
