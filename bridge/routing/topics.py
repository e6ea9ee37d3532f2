"""Compares MQTT topic filters, and checks the names of Kafka topics.

Pure functions on strings. A filter in this file has only `+` and `#`; routes.py translates named levels. A
filter is a set of topics, so two filters can be compared without any message:

    matches(filter, topic)   the topic is in the filter's set
    covers(a, b)             filter a matches every topic that filter b matches
    overlaps(a, b)           there is a topic that both filters match

These compare two filters. filter_tree.py finds the same among many filters.

Source of the rules: MQTT 5, 4.7 and 4.8.2 (3.1.1 has the same without shared subscriptions).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_UTF8 = 65_535  # bytes of a topic or a filter: MQTT encodes its length in two bytes (MQTT 5, 1.5.4)

_KAFKA_ILLEGAL = re.compile(r"[^a-zA-Z0-9._-]")
KAFKA_NAME_LENGTH = 249  # a broker keeps each partition in a directory `<name>-<partition>`
_KAFKA_INTERNAL = frozenset(
    {"__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"}
)

# Prefixes that a broker removes before it matches: the topics of arriving messages don't have them.
_FOREIGN_PREFIXES = ("$queue/", "$exclusive/")


@dataclass(frozen=True, slots=True)
class Subscription:
    """One entry of SUBSCRIBE. `identifier` is None if no other subscription overlaps."""

    filter: str
    qos: int
    identifier: int | None


def why_bad_filter(pattern: str) -> str | None:
    """Why MQTT forbids this filter, in words; None if it is allowed.

    >>> why_bad_filter("a/#/b")
    "'#' is allowed only at the end"
    """
    if not pattern:
        return "it is empty"
    if "\0" in pattern:
        return "it contains a null character"
    if not is_utf8(pattern):
        return "it is not valid UTF-8"
    if len(pattern.encode()) > MAX_UTF8:
        return f"it is longer than {MAX_UTF8} bytes"
    if pattern.startswith(_FOREIGN_PREFIXES):
        return f"{pattern.split('/')[0]}/ is not standard MQTT; use $share/<group>/<filter>"
    levels = pattern.split("/")
    if "#" in levels[:-1]:
        return "'#' is allowed only at the end"
    for level in levels:
        if len(level) > 1 and ("+" in level or "#" in level):
            return f"'+' and '#' take a whole level, not a part of one as in {level!r}"
    return None


def why_bad_topic(topic: str) -> str | None:
    """Why MQTT forbids this topic of a message, in words; None if it is allowed.

    >>> why_bad_topic("a/+")
    "it contains '+', which is allowed only in filters"
    """
    if "\0" in topic:
        return "it contains a null character"
    for character in "+#":
        if character in topic:
            return f"it contains {character!r}, which is allowed only in filters"
    return None


def is_utf8(text: str) -> bool:
    """False for text with half a surrogate pair, which JSON and the environment can contain."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def split_share(subscription: str) -> tuple[str | None, str]:
    """`$share/<group>/<filter>` as (group, filter); a plain filter as (None, filter).

    Raises ValueError with the reason if the group or the filter is missing or not allowed.
    """
    if subscription != "$share" and not subscription.startswith("$share/"):
        return None, subscription
    _, _, rest = subscription.partition("/")
    group, slash, pattern = rest.partition("/")
    if not group or not slash or not pattern:
        raise ValueError("a shared subscription is written $share/<group>/<filter>")
    if any(character in group for character in "+#{}\0"):
        raise ValueError(f"the group {group!r} of a shared subscription can't contain '+', '#', '{{' or '}}'")
    return group, pattern


def levels_of(pattern: str) -> list[str]:
    """The levels of a filter, in the one form in which filters compare.

    `a/#` matches `a` too. But `#` and `/#` have no such shorter topic, because no topic is empty. So each
    of them matches the same set with one more level `+`, and in that form compares like all other filters.
    """
    if pattern in ("#", "/#"):
        pattern = pattern.replace("#", "+/#")
    return pattern.split("/")


def _is_reserved(levels: list[str]) -> bool:
    return levels[0].startswith("$")  # such as $SYS: no wildcard at the front matches it


def covers(a: str, b: str) -> bool:
    """Whether a matches all that filter (or topic) b matches: `a/#` covers `a`, `a/+` and `a/b/#`."""
    wide, narrow = levels_of(a), levels_of(b)
    if _is_reserved(narrow) and not _is_reserved(wide):
        return False
    for depth, level in enumerate(wide):
        if level == "#":
            return True  # narrow has all levels before it, and `a/#` matches `a` itself
        if depth == len(narrow) or narrow[depth] == "#":
            return False
        if level not in ("+", narrow[depth]):
            return False
    return len(wide) == len(narrow)


def matches(pattern: str, topic: str) -> bool:
    """Whether a broker sends messages of this topic to a client that subscribes this filter."""
    return covers(pattern, topic)  # a topic is a filter that matches only itself


def overlaps(a: str, b: str) -> bool:
    """Whether there is a topic that both filters match."""
    left, right = levels_of(a), levels_of(b)
    if _is_reserved(left) != _is_reserved(right):
        return False
    for x, y in zip(left, right, strict=False):
        if "#" in (x, y):
            return True
        if x != y and "+" not in (x, y):
            return False
    longer = max(left, right, key=len)
    return longer[min(len(left), len(right)) :] in ([], ["#"])


def parts_of(level: str, literals: Sequence[str]) -> list[str] | None:
    """What stands between the literals in one level of a topic; None if the level does not have this form.

    `literals` stand before, between and behind the parts. Each part has at least one character, and all but
    the last are as short as possible. This is one pass over the level: a regular expression could take
    quadratic time for a hostile topic.

    >>> parts_of("d1@home", ("", "@", ""))
    ['d1', 'home']
    """
    first, *between, last = literals
    start = len(first)
    if not level.startswith(first):
        return None
    found = []
    for literal in between:
        end = level.find(literal, start + 1)
        if end < 0:
            return None
        found.append(level[start:end])
        start = end + len(literal)
    end = len(level) - len(last)
    if end <= start or not level.endswith(last):
        return None
    return [*found, level[start:end]]


def why_bad_kafka_topic(name: str) -> str | None:
    """Why Kafka does not let a client use this topic, in words; None if Kafka does."""
    if not name:
        return "it is empty"
    if name in (".", ".."):
        return f"Kafka does not allow {name!r} as a name"
    if illegal := _KAFKA_ILLEGAL.search(name):
        return f"Kafka does not allow {illegal.group()!r}, only letters a-z and A-Z, digits, '.', '_' and '-'"
    if len(name) > KAFKA_NAME_LENGTH:
        return f"it has {len(name)} characters, Kafka allows {KAFKA_NAME_LENGTH}"
    if name in _KAFKA_INTERNAL:
        return "Kafka uses this name itself"
    return None


def kafka_legal(text: str) -> str:
    """Text from MQTT as a part of a Kafka topic name: `/` becomes `.`, and other illegal characters `-`.

    They do not become `_`, because Kafka's metrics do not distinguish `_` and `.` in names: if `home.room`
    exists, Kafka refuses to create `home_room`.

    >>> kafka_legal("zigbee2mqtt/Living room")
    'zigbee2mqtt.Living-room'
    """
    return _KAFKA_ILLEGAL.sub("-", text.replace("/", "."))
