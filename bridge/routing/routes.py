"""Checks one [[routes]] entry, and parses its filter with named levels and its templates.

    filter = "sensors/{site}/{rest#}"   subscribes sensors/+/#, matches sensors/kitchen/a/b
    topic  = "iot.{site}"               becomes iot.kitchen
    key    = "{rest}"                   becomes a/b

`{name}` in a filter means `+`, and `{name#}` at its end means `#`. `{topic}` is always the whole MQTT topic.
A template is text with names in braces. To write a brace itself, write it twice, as in Python.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from string import Formatter
from typing import Literal, Protocol

from bridge.errors import ConfigurationError
from bridge.routing.topics import covers, is_utf8, split_share, why_bad_filter, why_bad_kafka_topic

# Standard headers by the source of their values. The value of "mqtt.topic" is made from the topic, like that
# of a header with a template.
FLAG_HEADERS = ("mqtt.qos", "mqtt.retained", "mqtt.duplicate")
PROPERTY_HEADERS = ("content-type", "response-topic", "correlation-data", "user-properties")

_NAMED_LEVEL = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(#?)\}")


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


@dataclass(frozen=True, slots=True)
class Source:
    """A route's filter. Topics are matched with `pattern`; the bridge subscribes `subscription`."""

    subscription: str
    group: str | None  # of $share/<group>/
    pattern: str
    captures: tuple[tuple[str, slice], ...]  # a name, and which levels of the topic are its value

    def brings(self, other: "Source") -> bool:
        """Whether a subscription of this filter brings all messages of `other`: same group, and it covers."""
        return self.group == other.group and covers(self.pattern, other.pattern)

    def unshared(self) -> "Source":
        return replace(self, subscription=self.pattern, group=None)

    def values(self, topic: str) -> dict[str, str]:
        """The value of each name, in a topic that the pattern matches."""
        levels = topic.split("/")
        values = {name: "/".join(levels[where]) for name, where in self.captures}
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


WHOLE_TOPIC = Template((("", "topic"),))


def check(entry: RouteEntry) -> Route:
    """The route of this entry. Raises ConfigurationError with one line for each error in the entry."""
    problems: list[str] = []
    drop = entry.action == "drop"

    @contextmanager
    def reading(key: str, value: str) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            written = json.dumps(value, ensure_ascii=not value.isprintable())
            problems.append(f'route "{entry.name}": {key} = {written}: {error}')

    source: Source | None = None
    with reading("filter", entry.filter):
        source = _parse_filter(entry.filter)
        if drop and source.group is not None:
            raise ValueError(f'action = "drop" subscribes nothing; write "{split_share(entry.filter)[1]}"')
    # If the filter can't be parsed, its names are not known, so no name is reported as unknown.
    names = None if source is None else [name for name, _ in source.captures] + ["topic"]

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
        raise ConfigurationError(problems)
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
    )


def _parse_filter(text: str) -> Source:
    group, named = split_share(text)
    levels = named.split("/")
    captures: list[tuple[str, slice]] = []
    for depth, level in enumerate(levels):
        if "{" not in level and "}" not in level:
            continue
        match = _NAMED_LEVEL.fullmatch(level)
        if match is None:
            raise ValueError(f"{level!r}: a name takes a whole level: {{name}} for '+', or {{name#}} for '#'")
        name, rest = match.groups()
        if name == "topic":
            raise ValueError("{topic} is the whole MQTT topic already; use another name")
        if name in [known for known, _ in captures]:
            raise ValueError(f"{{{name}}} occurs twice")
        captures.append((name, slice(depth, None if rest else depth + 1)))
        levels[depth] = "#" if rest else "+"
    pattern = "/".join(levels)
    if why := why_bad_filter(pattern):
        raise ValueError(why)
    subscription = pattern if group is None else f"$share/{group}/{pattern}"
    return Source(subscription, group, pattern, tuple(captures))


def _parse_template(text: str, names: Collection[str] | None) -> Template:
    if not is_utf8(text):
        raise ValueError("it is not valid UTF-8")
    parts: list[tuple[str, str | None]] = []
    try:
        parsed = list(Formatter().parse(text))
    except ValueError:
        raise ValueError("a brace has no partner; to write a brace itself, write it twice") from None
    for literal, name, spec, conversion in parsed:
        if name is not None and (spec or conversion or not name.isidentifier()):
            raise ValueError("only a {name} is allowed in braces; to write a brace itself, write it twice")
        if name is not None and names is not None and name not in names:
            raise ValueError(f"unknown {{{name}}}; known: {', '.join(f'{{{known}}}' for known in names)}")
        parts.append((literal, name))
    return Template(tuple(parts))


def _kafka_topic(text: str, names: Collection[str] | None) -> Template:
    template = _parse_template(text, names)
    # The values from MQTT are not known yet. The text around them must be legal with an "x" for each value.
    sample = template.render(dict.fromkeys((name for _, name in template.parts if name), "x"))
    if why := why_bad_kafka_topic(sample):
        raise ValueError(why)
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
