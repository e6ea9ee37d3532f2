"""Reads the command line: which commands exist, and which flags each of them takes."""

import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.delivery.dead_letter import Selection
from bridge.errors import ConfigurationError
from bridge.routing.topics import why_bad_filter, why_bad_kafka_topic, why_bad_topic
from bridge.settings.section import nearest
from bridge.units import DURATION

SERVICE, DRY_RUN, CONFIG, CHECK, SPOOL_STATUS = "", "--dry-run", "config", "check", "spool status"
TOP, TOPICS, CONSUME, INIT = "top", "topics", "consume", "init"
LIST, SHOW, EXPORT, REPLAY, PURGE = (
    f"dead-letters {verb}" for verb in ("list", "show", "export", "replay", "purge")
)

_OF_CREATE = ("--partitions", "--replicas", "--min-insync", "--yes")
_CHOOSING = ("--route", "--reason", "--topic", "--older-than", "--newer-than")

# The flags of each command, without those of the settings.
_FLAGS: dict[str, tuple[str, ...]] = {
    SERVICE: (),
    DRY_RUN: ("--count", "--json", "--client-id"),
    CONFIG: (),
    INIT: (),
    CHECK: ("--client-id", "--json", "--offline", "--strict", "--haproxy-cfg", "--send"),
    SPOOL_STATUS: ("--json", "--watch"),
    TOP: ("--json", "--once", "--url"),
    TOPICS: ("--json", "--create", "--partitions", "--replicas", "--min-insync", "--yes"),
    CONSUME: ("--json", "--from-beginning", "--count"),
    LIST: ("--json", *_CHOOSING),
    SHOW: ("--json",),
    EXPORT: _CHOOSING,
    REPLAY: ("--json", "--to", *_CHOOSING),
    PURGE: ("--json", "--yes", *_CHOOSING),
}


@dataclass(frozen=True, slots=True)
class Command:
    """The requested command: a key of the table above, the selected dead letters, the Kafka topic to read."""

    name: str
    selection: Selection
    kafka_topic: str | None = None


def flags_of(word: str) -> tuple[str, ...]:
    """The flags of the commands that begin with this word, without those of the settings."""
    found = (flag for name, flags in _FLAGS.items() if name.split()[:1] == [word] for flag in flags)
    return tuple(dict.fromkeys(found))


def is_command(word: str) -> bool:
    """Whether a command begins so."""
    return any(name.split()[:1] == [word] for name in _FLAGS if not name.startswith("-"))


def add_flags(parser: ArgumentParser) -> None:
    """Add all flags that are not settings."""
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, for jq")
    dry_run = parser.add_argument_group(
        "--dry-run", "Can run beside the service, and takes no messages away from it."
    )
    dry_run.add_argument(
        "--dry-run", action="store_true", help="show, live, what would be produced; produce nothing"
    )
    dry_run.add_argument("--count", metavar="N", type=int, help="end after N messages (consume: records)")
    dry_run.add_argument(
        "--client-id", metavar="ID", help="MQTT client id (default: mqtt.client_id-dry-run, or -check)"
    )
    parser.add_argument_group(
        "init",
        "Writes a starter file: bridge.toml, or the one of --config. Overwrites none.\n"
        "Asks for the MQTT broker and for Kafka's servers, unless the flags --mqtt.host\n"
        "(host or host:port) and --kafka.bootstrap_servers tell them.",
    )
    doctor = parser.add_argument_group(
        "check", "Changes nothing, and does not touch the session of the running service."
    )
    doctor.add_argument("--offline", action="store_true", help="ask no other machine")
    doctor.add_argument("--strict", action="store_true", help="exit status 1 for warnings too")
    doctor.add_argument(
        "--haproxy-cfg",
        metavar="FILE",
        type=Path,
        help="check this file's timeouts (default: /etc/haproxy/haproxy.cfg if it can be read)",
    )
    doctor.add_argument(
        "--send",
        metavar="TOPIC",
        nargs="?",
        const="mqtt-kafka-bridge/check",
        help="publish one marked message to this MQTT topic (default mqtt-kafka-bridge/check), and wait until"
        " it is in Kafka, where it stays",
    )
    status = parser.add_argument_group("spool status", "Can run beside the service, and changes nothing.")
    status.add_argument("--watch", action="store_true", help="show this every second until no message waits")
    state = parser.add_argument_group("top", "Shows the state of the running service, again each second.")
    state.add_argument("--once", action="store_true", help="show the state once; exit 1 if it is broken")
    state.add_argument(
        "--url",
        metavar="URL",
        help="address of another bridge's page, such as http://192.168.1.7:9464 (default: http.listen)",
    )
    topics = parser.add_argument_group(
        "topics", "Shows the Kafka topics of the routes and of dead_letters.topic."
    )
    topics.add_argument("--create", action="store_true", help="create the missing ones; ask before that")
    topics.add_argument("--partitions", metavar="N", type=int, help="of each new topic (default 3)")
    topics.add_argument(
        "--replicas", metavar="N", type=int, help="of each new topic (default 3, or the number of brokers)"
    )
    topics.add_argument(
        "--min-insync", metavar="N", type=int, help="min.insync.replicas (default --replicas less 1)"
    )
    consume = parser.add_argument_group(
        "consume",
        "Prints the records of a Kafka topic, or of all topics of the routes, until\n"
        "Ctrl-C. It takes none away from other consumers.",
    )
    consume.add_argument(
        "--from-beginning", action="store_true", help="also the records that Kafka has already"
    )
    letters = parser.add_argument_group(
        "dead-letters",
        "Undeliverable messages. Without IDs and flags a command selects all of them.",
    )
    letters.add_argument("--route", metavar="NAME", help='of this route; "" selects those without a route')
    letters.add_argument("--reason", metavar="TEXT", help="whose reason contains this text")
    letters.add_argument("--topic", metavar="FILTER", help="whose MQTT topic this filter matches")
    letters.add_argument(
        "--older-than",
        metavar="DURATION",
        type=_duration,
        help="that became dead letters longer ago, as in 7d",
    )
    letters.add_argument(
        "--newer-than", metavar="DURATION", type=_duration, help="that became dead letters more recently"
    )
    letters.add_argument(
        "--to", metavar="TOPIC", help="replay: to this Kafka topic instead of the routes' topics"
    )
    letters.add_argument(
        "--yes", action="store_true", help="purge and topics --create: do not ask for confirmation"
    )


def _duration(text: str) -> float:
    try:
        return float(DURATION.parse(text))
    except ValueError as error:
        raise ArgumentTypeError(f"{text}: {error}") from None


def command(options: Namespace, words: Sequence[str]) -> Command:
    """The requested command. Raises ConfigurationError for an unknown command or another command's flag."""
    name, numbers = _name(options, words)
    for flag in _own_flags():
        if _given(options, flag) and flag not in _FLAGS[name]:
            its = [other for other, flags in _FLAGS.items() if flag in flags]
            raise ConfigurationError(f"{flag}: only with {' and '.join(its)}")
    if options.count is not None and options.count < 1:
        raise ConfigurationError(f"--count {options.count}: must be 1 or more")
    for flag in _OF_CREATE:
        number = getattr(options, flag[2:].replace("-", "_"))
        if _given(options, flag) and name == TOPICS and not options.create:
            raise ConfigurationError(f"{flag}: only with topics --create")
        if flag != "--yes" and number is not None and number < 1:
            raise ConfigurationError(f"{flag} {number}: must be 1 or more")
    if options.topic is not None and (why := why_bad_filter(options.topic)):
        raise ConfigurationError(f'--topic "{options.topic}": {why}')
    if options.send is not None and (why := why_bad_topic(options.send)):
        raise ConfigurationError(f'--send "{options.send}": {why}')
    if options.send is not None and options.offline:
        raise ConfigurationError("--send: not with --offline")
    if options.to is not None and (why := why_bad_kafka_topic(options.to)):
        raise ConfigurationError(f'--to "{options.to}": {why}')
    topic = words[1] if name == CONSUME and len(words) > 1 else None
    if topic is not None and (why := why_bad_kafka_topic(topic)):
        raise ConfigurationError(f'consume "{topic}": {why}')
    return Command(name, _selection(options, numbers), topic)


def _name(options: Namespace, words: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    """The command (a key of the table above) and the IDs that follow it."""
    if options.dry_run:
        if words:
            raise ConfigurationError(f"{words[0]}: not with --dry-run")
        return DRY_RUN, ()
    if words[:1] == [CONSUME]:
        if len(words) > 2:
            raise ConfigurationError(f"{CONSUME}: wants one Kafka topic, or none for those of the routes")
        return CONSUME, ()
    about_letters = words[:1] == ["dead-letters"]
    given = " ".join(words[:2] if about_letters else words)
    if given not in _FLAGS:
        raise ConfigurationError(f'"{given}": no such command; {_meant(given)} (see bridge --help)')
    numbers = words[2:] if about_letters else []
    for number in numbers:
        if not (number.isascii() and number.isdigit()):
            raise ConfigurationError(f'"{number}": no ID; bridge dead-letters list shows them')
    if given == SHOW and len(numbers) != 1:
        raise ConfigurationError(f"{SHOW}: wants one ID; bridge dead-letters list shows them")
    return given, tuple(map(int, numbers))


def _meant(given: str) -> str:
    known = [name for name in _FLAGS if name and name != DRY_RUN]
    if begun := [name.removeprefix(f"{given} ") for name in known if name.startswith(f"{given} ")]:
        return f"it goes on with {' or '.join(begun)}"
    near = nearest(given, known)
    return (
        f"did you mean {near}?"
        if near
        else "there are init, config, check, top, topics, consume, spool and dead-letters"
    )


def _selection(options: Namespace, numbers: tuple[int, ...]) -> Selection:
    now = time.time_ns() // 1_000_000
    return Selection(
        numbers=numbers,
        route=options.route,
        reason=options.reason,
        topic=options.topic,
        before=None if options.older_than is None else now - round(options.older_than * 1000),
        after=None if options.newer_than is None else now - round(options.newer_than * 1000),
    )


def _given(options: Namespace, flag: str) -> bool:
    return getattr(options, flag[2:].replace("-", "_")) not in (None, False)


def _own_flags() -> list[str]:
    return list(dict.fromkeys(flag for flags in _FLAGS.values() for flag in flags))
