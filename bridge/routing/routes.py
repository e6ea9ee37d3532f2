"""Checks one [[routes]] entry, and parses its filter with named levels and its templates.

    filter = "sensors/{site}/{rest#}"   subscribes sensors/+/#, matches sensors/kitchen/a/b
    topic  = "iot.{site}"               becomes iot.kitchen
    key    = "{rest}"                   becomes a/b

`{name}` in a filter means `+`, and `{name#}` at its end means `#`. `{topic}` is always the whole MQTT topic.
A name may take a part of a level, as in `v3/{app}@{tenant}/up`. MQTT has no such filter, so the bridge
subscribes `v3/+/up`, and a topic without the `@` in that level goes to the next route.
A template is text with names in braces. To write a brace itself, write it twice, as in Python.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from string import Formatter
from typing import Literal, Protocol

from bridge.errors import WrongRoutes
from bridge.routing.filter_tree import Level
from bridge.routing.topics import (
    is_utf8,
    levels_of,
    parts_of,
    split_share,
    why_bad_filter,
    why_bad_kafka_topic,
)

# Standard headers by the source of their values. The value of "mqtt.topic" is made from the topic, like that
# of a header with a template.
FLAG_HEADERS = ("mqtt.qos", "mqtt.retained", "mqtt.duplicate")
PROPERTY_HEADERS = ("content-type", "response-topic", "correlation-data", "user-properties")

_NAMED_LEVEL = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(#?)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IN_BRACES = re.compile(r"\{([^{}]*)\}")
# How other programs mark a name: ${topic} (shells, Telegraf), %{topic} (Logstash), #{topic} (Ruby).
_MARKED_NAME = re.compile(r"[$%#](?=\{)")
_NAME_IN_TWO_BRACES = re.compile(r"\{\{\s*[.$]?([A-Za-z_]\w*)\s*\}\}")  # Jinja, Go and Mustache


class RouteEntry(Protocol):
    """The part of settings.RouteSettings that routing reads. Each single value has been checked there."""

    @property
    def name(self) -> str: ...
    @property
    def filter(self) -> str: ...
    @property
    def qos(self) -> int: ...
    @property
    def topic(self) -> str | None: ...
    @property
    def key(self) -> str | None: ...
    @property
    def retained(self) -> Literal["keep", "skip"]: ...
    @property
    def empty(self) -> Literal["keep", "tombstone", "skip"]: ...
    @property
    def action(self) -> Literal["produce", "drop"]: ...
    @property
    def envelope(self) -> Literal["none", "json"]: ...
    @property
    def headers(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Template:
    """Text with names in it. `parts`: pairs of a literal text, and the name that follows it or None."""

    parts: tuple[tuple[str, str | None], ...]

    def render(self, values: Mapping[str, str]) -> str:
        return "".join([literal + (values[name] if name else "") for literal, name in self.parts])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple([name for _, name in self.parts if name])

    @property
    def literals(self) -> str:
        """The text around the names."""
        return "".join([literal for literal, _ in self.parts])


@dataclass(frozen=True, slots=True)
class SplitLevel:
    """A level with names in parts of it: `{app}@{tenant}` is ("", "@", "") and ("app", "tenant")."""

    depth: int  # the level's number in the topic, from 0
    literals: tuple[str, ...]  # before, between and behind the names; those between are not empty
    names: tuple[str, ...]

    def values(self, level: str) -> list[str] | None:
        """The value of each name, or None if the level does not have this form."""
        return parts_of(level, self.literals)


@dataclass(frozen=True, slots=True)
class Source:
    """A route's filter. Topics are matched with `pattern`; the bridge subscribes `subscription`."""

    subscription: str
    group: str | None  # of $share/<group>/
    pattern: str  # `+` for each level in `split`
    captures: tuple[tuple[str, slice], ...]  # a name, and which levels of the topic are its value
    split: tuple[SplitLevel, ...] = ()

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.captures] + [name for level in self.split for name in level.names]

    @property
    def levels(self) -> list[Level]:
        """The levels as a FilterTree has them, with the literals of each level in `split`."""
        levels: list[Level] = [*levels_of(self.pattern)]
        for part in self.split:
            levels[part.depth] = part.literals
        return levels

    def unshared(self) -> "Source":
        return replace(self, subscription=self.pattern, group=None)

    def only(self, names: Collection[str]) -> "Source":
        """The same source, without captures that none of these names needs."""
        return replace(
            self,
            captures=tuple([capture for capture in self.captures if capture[0] in names]),
            split=tuple([level for level in self.split if not set(names).isdisjoint(level.names)]),
        )

    def values(self, topic: str) -> dict[str, str]:
        """The value of each name, in a topic that this source takes."""
        levels = topic.split("/")
        values = {name: "/".join(levels[where]) for name, where in self.captures}
        for level in self.split:
            values.update(zip(level.names, level.values(levels[level.depth]) or (), strict=True))
        values["topic"] = topic
        return values


@dataclass(frozen=True, slots=True)
class Route:
    """A [[routes]] entry that was checked. `topic` is None if the action is "drop"."""

    name: str
    source: Source
    qos: int
    topic: Template | None
    key: Template
    headers: tuple[tuple[str, Template | None], ...]  # None: one of FLAG_HEADERS
    properties: frozenset[str]  # which of PROPERTY_HEADERS the Kafka record gets
    skip_retained: bool
    envelope: bool
    empty: Literal["keep", "tombstone", "skip"] = "keep"  # what becomes of an empty payload


WHOLE_TOPIC = Template((("", "topic"),))


def check(entry: RouteEntry) -> Route:
    """The route of this entry. Raises WrongRoutes with one line for each error in the entry."""
    problems: list[tuple[str, str, str]] = []
    drop = entry.action == "drop"

    @contextmanager
    def reading(key: str, value: str) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            written = json.dumps(value, ensure_ascii=not value.isprintable())
            problems.append((entry.name, key, f'route "{entry.name}": {key} = {written}: {error}'))

    source: Source | None = None
    with reading("filter", entry.filter):
        source = _parse_filter(entry.filter)
        if drop and source.group is not None:
            raise ValueError(f'action = "drop" subscribes nothing; write "{split_share(entry.filter)[1]}"')
    # If the filter can't be parsed, its names are not known, so no name is reported as unknown.
    names = None if source is None else [*source.names, "topic"]

    topic: Template | None = None
    if not drop:
        with reading("topic", entry.topic or ""):
            topic = _kafka_topic(entry.topic or "", names)
    key = WHOLE_TOPIC
    if entry.key is not None:
        with reading("key", entry.key):
            key = _key(entry.key, names)
    headers: list[tuple[str, Template | None]] = []
    listed: set[str] = set()
    for header in entry.headers:
        with reading("headers", header):
            name, value = _header(header, names)
            if name in listed:
                raise ValueError(f"{name} is listed twice")
            listed.add(name)
            if value is not None or name in FLAG_HEADERS:
                headers.append((name, value))

    if problems or source is None:
        raise WrongRoutes(problems)
    return Route(
        name=entry.name,
        source=source,
        qos=entry.qos,
        topic=topic,
        key=key,
        headers=tuple(headers),
        properties=frozenset(PROPERTY_HEADERS).intersection(entry.headers),
        skip_retained=entry.retained == "skip",
        envelope=entry.envelope == "json",
        empty=entry.empty,
    )


def _parse_filter(text: str) -> Source:
    group, named = split_share(text)
    levels = named.split("/")
    captures: list[tuple[str, slice]] = []
    split: list[SplitLevel] = []
    for depth, level in enumerate(levels):
        if "{" not in level and "}" not in level:
            continue
        if match := _NAMED_LEVEL.fullmatch(level):
            name, rest = match.groups()
            captures.append((name, slice(depth, None if rest else depth + 1)))
            levels[depth] = "#" if rest else "+"
        else:
            split.append(_split_level(level, depth))
            levels[depth] = "+"
    pattern = "/".join(levels)
    if why := why_bad_filter(pattern):
        raise ValueError(why)
    subscription = pattern if group is None else f"$share/{group}/{pattern}"
    source = Source(subscription, group, pattern, tuple(captures), tuple(split))
    for name in source.names:
        if name == "topic":
            raise ValueError("{topic} is the whole MQTT topic already; use another name")
        if source.names.count(name) > 1:
            raise ValueError(f"{{{name}}} occurs twice")
    return source


def _split_level(level: str, depth: int) -> SplitLevel:
    """Raises ValueError where it is no text with names in it."""
    if in_two := _NAME_IN_TWO_BRACES.search(level):
        raise ValueError(f"{level!r}: write {{{in_two[1]}}}, with one brace on each side")
    parts = _IN_BRACES.split(level)  # a literal, a name, a literal ...
    literals, names = tuple(parts[::2]), tuple(parts[1::2])
    if any("{" in literal or "}" in literal for literal in literals):
        raise ValueError(f"{level!r}: a brace has no partner")
    for name in names:
        if name.endswith("#") and _NAME.fullmatch(name[:-1]):
            raise ValueError(f"{level!r}: {{{name}}} stands for '#', which takes whole levels")
        if not _NAME.fullmatch(name):
            raise ValueError(_why_no_name(name))
    if marked := _MARKED_NAME.search(level):
        raise ValueError(f"{level!r}: write {{{names[0]}}}, without the {marked[0]!r} before it")
    if any("+" in literal or "#" in literal for literal in literals):
        raise ValueError(f"{level!r}: '+' and '#' take a whole level, and so they can't stand beside a name")
    if "" in literals[1:-1]:
        raise ValueError(
            f"{level!r}: two names need text between them, so that the bridge knows where the first one ends"
        )
    if depth == 0 and literals[0].startswith("$"):
        raise ValueError(
            f"{level!r}: '+' is subscribed for it, which matches no topic that begins with '$'; write the"
            " first level without a name"
        )
    return SplitLevel(depth, literals, names)


def _why_no_name(name: str, known: Collection[str] | None = None) -> str:
    """What is wrong with `{name}`, and what to write instead: one of the names `known`, or any other name."""
    if not name:
        return "only a {name} is allowed in braces; to write a brace itself, write it twice"
    if re.fullmatch(r"\w*\[-?\d+\]|\d+", name):  # {topic[1]}, {1}
        return (
            f"{{{name}}}: no name takes a level by its number; name the level in the filter, as in"
            " sensors/{site}/temp, and write {site}"
        )
    better = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")
    better = f"_{better}" if better[:1].isdigit() else better
    if known and better not in known:  # {mqtt.topic} means {topic}
        better = next((part for part in reversed(re.split(r"[^A-Za-z0-9_]+", name)) if part in known), "")
        way_out = f"; write {{{better}}}" if better else f"; known: {_in_braces(known)}"
    else:
        way_out = f"; write {{{better}}}" if better else ""
    return f"{{{name}}}: a name is made of letters a-z, digits and _, and begins with no digit{way_out}"


def _in_braces(names: Collection[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


def _parse_template(text: str, names: Collection[str] | None) -> Template:
    if not is_utf8(text):
        raise ValueError("it is not valid UTF-8")
    parts: list[tuple[str, str | None]] = []
    try:
        parsed = list(Formatter().parse(text))
    except ValueError:
        raise ValueError("a brace has no partner; to write a brace itself, write it twice") from None
    for literal, name, spec, conversion in parsed:
        if name is not None and (spec or conversion):
            raise ValueError("only a {name} is allowed in braces; to write a brace itself, write it twice")
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError(_why_no_name(name, names))
        if name is not None and names is not None and name not in names:
            raise ValueError(f"unknown {{{name}}}; known: {_in_braces(names)}")
        parts.append((literal, name))
    return Template(tuple(parts))


def habit_in(text: str) -> str | None:
    """Where a template marks a name as another program does: what to write, in words.

    >>> habit_in("iot.${site}")
    "write {site}, without the '$' before it"
    """
    if "{" not in text:
        return None
    if in_two := _NAME_IN_TWO_BRACES.search(text):
        return f"write {{{in_two[1]}}}, with one brace on each side"
    if (marked := _MARKED_NAME.search(text)) and (name := _IN_BRACES.match(text, marked.end())):
        return f"write {name[0]}, without the {marked[0]!r} before it"
    return None


def _kafka_topic(text: str, names: Collection[str] | None) -> Template:
    template = _parse_template(text, names)
    # The values from MQTT are not known yet. The text around them must be legal with an "x" for each value.
    sample = template.render(dict.fromkeys((name for _, name in template.parts if name), "x"))
    if why := why_bad_kafka_topic(sample):
        meant = habit_in(text)
        raise ValueError(f"{why}; {meant}" if meant else why)
    return template


def _key(text: str, names: Collection[str] | None) -> Template:
    if not text:
        raise ValueError("empty; leave it out to get the MQTT topic as the key")
    return _parse_template(text, names)


def _header(text: str, names: Collection[str] | None) -> tuple[str, Template | None]:
    if not is_utf8(text):
        raise ValueError("it is not valid UTF-8")
    name, equals, value = text.partition("=")
    if "\0" in name:
        raise ValueError("a NUL would cut its name short")
    if equals:
        return name, _parse_template(value, names)
    return name, WHOLE_TOPIC if name == "mqtt.topic" else None
