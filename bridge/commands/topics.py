"""`bridge topics`: the Kafka topics that the settings name, what Kafka tells of each, and what is missing.

    exists    mqtt        3 partitions, 3 replicas, min.insync.replicas 2, max.message.bytes 1048588, ...
    missing   garden      route "garden"
    missing   iot.attic   route "sites"; 12 messages wait on disk
    template  iot.{site}  route "sites" makes its topics from MQTT topics: 1 of them has messages that wait

With --create it creates the missing topics, after it has said which ones and how they will be.
"""

import json
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TextIO

from bridge import program
from bridge.commands.running import NoAnswer, read, running
from bridge.commands.terminal import console
from bridge.errors import BridgeError, ConfigurationError, SpoolUnusable
from bridge.kafka.topic_admin import Cluster, Shape, TopicAdmin
from bridge.kafka.topic_description import Description
from bridge.kafka.topic_lookup import why_refused
from bridge.observe.printable import printable
from bridge.routing import routes
from bridge.routing.routes import Template
from bridge.settings import Settings
from bridge.spool.read_only import on_disk
from bridge.units import DURATION, SIZE

_KNOWN_WITHIN, _LOOK_EVERY = 10.0, 0.2  # seconds, until all brokers know of a new topic
_COMMAND = "sudo mqtt-kafka-bridge topics --create"
_PARTITIONS, _MOST_REPLICAS = 3, 3  # of a new topic
_STYLES = {"exists": "", "created": "green", "missing": "red", "unknown": "yellow"}


class Admin(Protocol):
    """The part of kafka.topic_admin.TopicAdmin that this command uses; see the descriptions there."""

    def cluster(self) -> Cluster: ...
    def describe(self, name: str) -> Description | None: ...
    def create(self, name: str, shape: Shape) -> bool: ...


@dataclass(frozen=True, slots=True)
class Creation:
    """What --create asks for. None: the default, which depends on the cluster."""

    partitions: int | None = None
    replicas: int | None = None
    min_insync: int | None = None
    sure: bool = False  # do not ask a person


@dataclass(frozen=True, slots=True)
class Named:
    """A Kafka topic that the settings name, or that a route made of an MQTT topic.

    `by`: the settings that name it. `waiting`: how many messages wait for it on disk.
    """

    topic: str
    by: tuple[str, ...]
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Made:
    """A route's topic with names in braces. `seen`: those of its topics for which messages wait."""

    template: str
    by: tuple[str, ...]
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A topic and what Kafka tells of it. `problem`: why Kafka does not tell, or does not create it."""

    named: Named
    found: Description | None = None
    problem: str = ""
    denied: bool = False  # Kafka does not tell whether the topic exists
    created: bool = False

    @property
    def state(self) -> str:
        if self.found:
            return "created" if self.created else "exists"
        return "unknown" if self.denied else "missing"


def topics(settings: Settings, creation: Creation | None, as_json: bool) -> int:
    """Print each topic; with `creation` create the missing ones. Returns 0 if now all exist, otherwise 1."""
    return run(settings, TopicAdmin(settings.kafka), creation, as_json, sys.stdout, _held(settings))


def _held(settings: Settings) -> tuple[str, ...]:
    """Topics whose messages wait in the running service; empty where it does not answer."""
    try:
        where = running(settings)
        held = read(where.ask(), where).snapshot.held
    except NoAnswer:
        return ()
    return tuple(each.topic for each in held)


def run(
    settings: Settings,
    admin: Admin,
    creation: Creation | None,
    as_json: bool,
    stream: TextIO,
    held: Sequence[str] = (),
) -> int:
    """The same with this `admin`. `held`: topics whose messages wait in the running service."""
    try:
        state = on_disk(settings.spool_directory, settings.spool)
        waiting, unread = {each.topic: each.messages for each in state.topics}, ""
    except SpoolUnusable as error:
        waiting, unread = {}, str(error)
    named, made = wanted(settings, dict.fromkeys(held, 0) | waiting)
    cluster = admin.cluster()
    rows = [_look(admin, each) for each in named]
    rows = _with_clashes(rows, cluster.topics)
    if not as_json:
        _show(rows, made, unread, stream)
    todo = [row for row in rows if row.state == "missing" and not row.problem]
    if creation and todo:
        shape = shape_of(creation, cluster.brokers, len(settings.kafka.bootstrap_servers.split(",")))
        if _is_wanted(creation, shape, [row.named.topic for row in todo]):
            done = {row.named.topic: _create(admin, row, shape) for row in todo}
            rows = [done.get(row.named.topic, row) for row in rows]
            if not as_json:
                _show([*done.values()], (), "", stream)
    elif not as_json:
        _advise(rows, made, creation is not None, stream)
    if as_json:
        _write_json(rows, made, unread, stream)
    return 0 if all(row.found for row in rows) else 1


# -- what the settings name ------------------------------------------------------------------------------


def wanted(settings: Settings, waiting: Mapping[str, int]) -> tuple[list[Named], list[Made]]:
    """The topics that the settings name, and the topics with names in braces. Pure.

    `waiting`: how many messages wait on disk, by Kafka topic; 0: they wait in memory. If a route could have
    made one of these topics, that topic is among the first ones.
    """
    fixed: dict[str, list[str]] = {}
    templates: dict[str, tuple[Template, list[str]]] = {}
    for entry in settings.routes:
        template, by = routes.check(entry).topic, f'route "{entry.name}"'
        if template is None:
            continue
        if any(name for _, name in template.parts):
            templates.setdefault(entry.topic or "", (template, []))[1].append(by)
        else:
            fixed.setdefault(template.literals, []).append(by)
    if settings.dead_letters.topic:
        fixed.setdefault(settings.dead_letters.topic, []).append("dead_letters.topic")
    made = []
    for text, (template, by_routes) in templates.items():
        pattern = _pattern(template)
        seen = tuple(topic for topic in waiting if topic not in fixed and pattern.fullmatch(topic))
        made.append(Made(text, tuple(by_routes), seen))
    found = {topic: tuple(by) for topic, by in fixed.items()}
    for each in made:
        for topic in each.seen:
            found[topic] = (*found.get(topic, ()), *each.by)
    return [Named(topic, by, waiting.get(topic, 0)) for topic, by in found.items()], made


def _pattern(template: Template) -> re.Pattern[str]:
    return re.compile("".join(re.escape(text) + (".*" if name else "") for text, name in template.parts))


# -- what Kafka tells ------------------------------------------------------------------------------------


def _look(admin: Admin, named: Named) -> Row:
    try:
        return Row(named, admin.describe(named.topic))
    except BridgeError as error:
        return Row(named, problem=str(error), denied=True)


def _with_clashes(rows: Sequence[Row], existing: Iterable[str]) -> list[Row]:
    """Note with each missing topic why Kafka would refuse to create it, also beside one created before it."""
    others = [*existing]
    result = []
    for row in rows:
        if row.state == "missing":
            if clash := why_refused(row.named.topic, others):
                row = replace(row, problem=clash)
            else:
                others.append(row.named.topic)
        result.append(row)
    return result


# -- creation --------------------------------------------------------------------------------------------


def shape_of(creation: Creation, brokers: int, servers: int) -> Shape:
    """What each new topic gets in a cluster of so many known brokers. Pure.

    `servers`: how many kafka.bootstrap_servers names. Raises BridgeError if brokers are absent, because the
    topics would get too few replicas for ever; ConfigurationError if the flags contradict each other.
    """
    replicas = creation.replicas
    if replicas is None:
        replicas = min(_MOST_REPLICAS, brokers)
        if replicas < min(_MOST_REPLICAS, servers):
            raise BridgeError(
                f"kafka.bootstrap_servers names {servers} brokers, but Kafka knows only {brokers}: start the"
                f" others first, or accept fewer copies with --replicas {replicas}"
            )
    min_insync = creation.min_insync
    if min_insync is None:
        min_insync = max(1, replicas - 1)
    if min_insync > replicas:
        raise ConfigurationError(
            f"--min-insync {min_insync}: must be at most the number of replicas, which is {replicas}"
        )
    return Shape(creation.partitions or _PARTITIONS, replicas, min_insync)


def cost_of(shape: Shape) -> str:
    """What a person should know about this shape; empty: nothing. Pure."""
    if shape.min_insync == 1:
        return "Kafka will confirm a record that one broker alone has."
    if shape.min_insync == shape.replicas:
        return "Kafka will refuse records as soon as one of the brokers with a replica is down."
    return ""


def _is_wanted(creation: Creation, shape: Shape, names: Sequence[str]) -> bool:
    """Say what will be created, and ask. Raises ConfigurationError if nobody is there to be asked."""
    count = f"{len(names)} topic{'s' * (len(names) != 1)}"
    lines = [
        f"bridge topics creates {count} with {_count(shape.partitions, 'partition')},"
        f" {_count(shape.replicas, 'replica')} and min.insync.replicas {shape.min_insync}:",
        *(f"    {printable(name)}" for name in names),
    ]
    if cost := cost_of(shape):
        lines.append(cost)
    sys.stderr.write("\n".join(lines) + "\n")
    if creation.sure:
        return True
    if not sys.stdin.isatty():
        raise ConfigurationError(f"topics --create: {count}: nobody is there to be asked; add --yes")
    sys.stderr.write(f"Create {count}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _create(admin: Admin, row: Row, shape: Shape) -> Row:
    try:
        created = admin.create(row.named.topic, shape)
    except BridgeError as error:
        return replace(row, problem=str(error))
    # The broker that is asked next may not have heard of the new topic yet.
    until = time.monotonic() + _KNOWN_WITHIN
    while not (seen := _look(admin, row.named)).found and time.monotonic() < until:
        time.sleep(_LOOK_EVERY)
    return replace(seen, created=created)


# -- what is printed -------------------------------------------------------------------------------------


def _show(rows: Sequence[Row], made: Sequence[Made], unread: str, stream: TextIO) -> None:
    out = console(stream)
    names = [row.named.topic for row in rows] + [each.template for each in made]
    width = min(max(map(len, names), default=0), 40)
    for row in rows:
        line = f"{row.state:<8}  {printable(row.named.topic):<{width}}  {printable(_told(row))}"
        out.print(line, style=_STYLES[row.state], soft_wrap=True)
    for each in made:
        told = f"{_sentence(each.by)} makes its topics from MQTT topics: {_seen(each, unread)}"
        out.print(f"{'template':<8}  {printable(each.template):<{width}}  {printable(told)}", soft_wrap=True)
    stream.flush()  # before a question on standard error


def _told(row: Row) -> str:
    if row.found is None:
        number = row.named.waiting
        waiting = f"; {_count(number, 'message')} wait{'s' * (number == 1)} on disk" if number else ""
        why = f": {row.problem}" if row.problem else ""
        return f"{_sentence(row.named.by)}{waiting}{why}"
    found = row.found
    parts = [_count(found.partitions, "partition"), _count(found.replicas, "replica")]
    if found.leaderless:
        parts.append(f"{_count(found.leaderless, 'partition')} without a leader")
    if found.behind:
        parts.append(f"not in sync: broker {', '.join(map(str, found.behind))}")
    if not found.config:
        why = f" ({found.no_config})" if found.no_config else ""
        return ", ".join([*parts, f"its settings are not shown{why}"])
    parts += [
        f"{name} {found.config.get(name, '?')}" for name in ("min.insync.replicas", "max.message.bytes")
    ]
    return ", ".join([*parts, *_retention(found)])


def _retention(found: Description) -> list[str]:
    if "delete" not in found.config.get("cleanup.policy", "delete"):
        return ["keeps the last record of each key"]
    milliseconds, size = found.number("retention.ms"), found.number("retention.bytes")
    kept = []
    if milliseconds is not None:
        kept.append(
            "kept for ever" if milliseconds < 0 else f"kept for {DURATION.format(milliseconds / 1000)}"
        )
    if size is not None and size >= 0:
        kept.append(f"at most {SIZE.format(size)} of each partition")
    return kept


def _seen(made: Made, unread: str) -> str:
    known = f"{len(made.seen)} of them {'has' if len(made.seen) == 1 else 'have'} messages that wait"
    unknown = f"which ones have messages on disk is unknown ({unread})"
    parts = [known] if made.seen or not unread else []
    return "; ".join([*parts, unknown] if unread else parts)


def _sentence(by: Sequence[str]) -> str:
    return " and ".join(by)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _advise(rows: Sequence[Row], made: Sequence[Made], is_asked: bool, stream: TextIO) -> None:
    """What to do now. `is_asked`: with --create, which found nothing that it can create."""
    missing = [row for row in rows if row.state == "missing" and not row.problem]
    if missing:
        what = f"{_count(len(missing), 'topic')} {'is' if len(missing) == 1 else 'are'} missing"
        them = "it" if len(missing) == 1 else "them"
        text = f"{what}; this creates {them}: {program.typed(_COMMAND)}"
        console(stream).print(text, soft_wrap=True)  # a command that is broken in two can't be copied
    elif is_asked:
        later = "; a template's topic is known once a message waits for it" if made else ""
        why = "no topic is missing" if all(row.found for row in rows) else "the lines above say why"
        text = f"nothing was created: {why}{later}"
        console(stream).print(text, soft_wrap=True)


def _write_json(rows: Sequence[Row], made: Sequence[Made], unread: str, stream: TextIO) -> None:
    for row in rows:
        stream.write(json.dumps(_as_json(row, unread)) + "\n")
    for each in made:
        line = {
            "topic": each.template,
            "state": "template",
            "named_by": list(each.by),
            "seen": None if unread and not each.seen else list(each.seen),
            "reason": unread or None,
        }
        stream.write(json.dumps(line) + "\n")
    stream.flush()


def _as_json(row: Row, unread: str) -> dict[str, Any]:
    found = row.found
    told: dict[str, Any] = {
        "topic": row.named.topic,
        "state": row.state,
        "named_by": list(row.named.by),
        "waiting": None if unread else row.named.waiting,
        "reason": row.problem or None,
    }
    if found:
        told |= {
            "partitions": found.partitions,
            "replicas": found.replicas,
            "in_sync": found.in_sync,
            "min_insync_replicas": found.number("min.insync.replicas"),
            "max_message_bytes": found.number("max.message.bytes"),
            "retention_ms": found.number("retention.ms"),
            "retention_bytes": found.number("retention.bytes"),
            "cleanup_policy": found.config.get("cleanup.policy"),
        }
    return told
