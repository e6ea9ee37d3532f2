"""The algebra of MQTT topic filters, and what Kafka calls a legal topic name.

Pure functions on strings. A filter here has `+` and `#` only; named levels are routing's. A filter
stands for a set of topics, so two of them can be compared without any message:

    matches(filter, topic)   the topic is in the set
    covers(a, b)             whatever b matches, a matches
    overlaps(a, b)           there is a topic that both match

Source of the rules: MQTT 5, 4.7 and 4.8.2 (3.1.1 has the same without shared subscriptions).
"""

import re
from dataclasses import dataclass

MAX_UTF8 = 65_535  # bytes of a topic or a filter: its length goes in two bytes (MQTT 5, 1.5.4)

_KAFKA_ILLEGAL = re.compile(r"[^a-zA-Z0-9._-]")
KAFKA_NAME_LENGTH = 249  # a broker keeps each partition in a directory `<name>-<partition>`
_KAFKA_INTERNAL = frozenset(
    {"__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"}
)

# Prefixes that a broker takes off before it matches: the topics of what arrives don't have them.
_FOREIGN_PREFIXES = ("$queue/", "$exclusive/")


@dataclass(frozen=True, slots=True)
class Subscription:
    """One entry of SUBSCRIBE. `identifier` is None where no other subscription overlaps."""

    filter: str
    qos: int
    identifier: int | None


def why_bad_filter(pattern: str) -> str | None:
    """What MQTT forbids in this filter, in words, or None when nothing is wrong.

    >>> why_bad_filter("a/#/b")
    "'#' stands only at the end"
    """
    if not pattern:
        return "it is empty"
    if "\0" in pattern:
        return "it holds a null character"
    if not is_utf8(pattern):
        return "it is not valid UTF-8"
    if len(pattern.encode()) > MAX_UTF8:
        return f"it is longer than {MAX_UTF8} bytes"
    if pattern.startswith(_FOREIGN_PREFIXES):
        return f"{pattern.split('/')[0]}/ is one broker's own; use $share/<group>/<filter>"
    levels = pattern.split("/")
    if "#" in levels[:-1]:
        return "'#' stands only at the end"
    for level in levels:
        if len(level) > 1 and ("+" in level or "#" in level):
            return f"'+' and '#' take a whole level, not a part of one as in {level!r}"
    return None


def why_bad_topic(topic: str) -> str | None:
    """What MQTT forbids in the topic of a message, in words, or None when nothing is wrong.

    >>> why_bad_topic("a/+")
    "it holds '+', which only filters may"
    """
    if "\0" in topic:
        return "it holds a null character"
    for character in "+#":
        if character in topic:
            return f"it holds {character!r}, which only filters may"
    return None


def is_utf8(text: str) -> bool:
    """False for text with half a surrogate pair, which JSON and the environment can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def split_share(subscription: str) -> tuple[str | None, str]:
    """`$share/<group>/<filter>` as (group, filter); a plain filter as (None, filter).

    Raises ValueError with the reason when the group or the filter is missing or not allowed.
    """
    if subscription != "$share" and not subscription.startswith("$share/"):
        return None, subscription
    _, _, rest = subscription.partition("/")
    group, slash, pattern = rest.partition("/")
    if not group or not slash or not pattern:
        raise ValueError("a shared subscription is written $share/<group>/<filter>")
    if any(character in group for character in "+#{}\0"):
        raise ValueError(f"the group {group!r} of a shared subscription can't hold '+', '#', '{{' or '}}'")
    return group, pattern


def _levels(pattern: str) -> list[str]:
    # `a/#` matches `a` too, but before these there is no topic to match, since none is empty. So each is
    # the same set as with one level more, and written like that it compares like all others.
    if pattern in ("#", "/#"):
        pattern = pattern.replace("#", "+/#")
    return pattern.split("/")


def _is_reserved(levels: list[str]) -> bool:
    return levels[0].startswith("$")  # $SYS and its like: no wildcard at the front matches them


def covers(a: str, b: str) -> bool:
    """Whatever filter (or topic) b matches, a matches: `a/#` covers `a`, `a/+` and `a/b/#`."""
    wide, narrow = _levels(a), _levels(b)
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
    """A message with this topic is sent to who subscribes this filter."""
    return covers(pattern, topic)  # a topic is the filter that matches itself only


def overlaps(a: str, b: str) -> bool:
    """There is a topic that both filters match."""
    left, right = _levels(a), _levels(b)
    if _is_reserved(left) != _is_reserved(right):
        return False
    for x, y in zip(left, right, strict=False):
        if "#" in (x, y):
            return True
        if x != y and "+" not in (x, y):
            return False
    longer = max(left, right, key=len)
    return longer[min(len(left), len(right)) :] in ([], ["#"])


def why_bad_kafka_topic(name: str) -> str | None:
    """Why Kafka takes no such topic from a client, in words, or None when it does."""
    if not name:
        return "it is empty"
    if name in (".", ".."):
        return f"Kafka does not allow {name!r} as a name"
    if illegal := _KAFKA_ILLEGAL.search(name):
        return f"Kafka does not allow {illegal.group()!r}, only letters a-z and A-Z, digits, '.', '_' and '-'"
    if len(name) > KAFKA_NAME_LENGTH:
        return f"it has {len(name)} characters, Kafka allows {KAFKA_NAME_LENGTH}"
    if name in _KAFKA_INTERNAL:
        return "it is Kafka's own"
    return None


def kafka_legal(text: str) -> str:
    """Text from MQTT as a part of a Kafka topic name: `/` becomes `.`, what Kafka does not allow `-`.

    Not `_`, which Kafka takes for `.` in the names of metrics: where `home.room` exists it refuses to
    create `home_room`.

    >>> kafka_legal("zigbee2mqtt/Living room")
    'zigbee2mqtt.Living-room'
    """
    return _KAFKA_ILLEGAL.sub("-", text.replace("/", "."))
