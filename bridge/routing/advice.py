"""What a route may say, but what was probably not meant by it: a sentence for each. Pure.

MQTT allows nearly every text as a topic, so a filter in another program's language is a filter for topics
that nobody publishes: the bridge would be live, and get nothing.
"""

import re
from collections.abc import Iterator, Sequence

from bridge.routing.filter_tree import FilterTree
from bridge.routing.routes import Route, RouteEntry, habit_in
from bridge.routing.topics import levels_of, split_share

_REGEX = re.compile(r"^\^|\.[*+]|\[\^?/?\]|\\")
_REST_OF_REGEX = re.compile(r"(?:\.[*+]|\(\.[*+]\))$")
_LEVEL_OF_REGEX = re.compile(r"\(?(?:\[\^/\]|\.|\\w|\\d)[*+]\)?")


def warnings(entries: Sequence[RouteEntry], routes: Sequence[Route]) -> Iterator[str]:
    """`routes` are made of `entries`, of which a Router could be built."""
    followed = _followed(routes)
    for number, (entry, route) in enumerate(zip(entries, routes, strict=True)):
        for advice in _advice(entry, route, number in followed):
            yield f'route "{entry.name}": {advice}'


def _advice(entry: RouteEntry, route: Route, is_followed: bool) -> Iterator[str]:
    if meant := meant_by(entry.filter):
        yield (
            f'filter = "{entry.filter}" is taken as it stands, and MQTT has no wildcards but + and #; if you'
            f' mean "{meant}", write that'
        )
    if route.topic and not any(map(str.isalnum, route.topic.literals)):
        yield (
            f'topic = "{entry.topic}": whoever publishes chooses the whole name, and so writes into any topic'
            f' that Kafka lets the bridge write to; begin it with text, as in "mqtt.{entry.topic}"'
        )
    # In a topic of Kafka's such text is refused; in keys and headers it may be meant.
    for setting, template in [("key", entry.key or ""), *(("headers", header) for header in entry.headers)]:
        if meant := habit_in(template):
            yield f'{setting}: "{template}" keeps what stands around the name as text; {meant}'
    if route.source.split and not is_followed:
        yield (
            f'"{route.source.subscription}" is subscribed for filter = "{entry.filter}", and what comes by it'
            " and does not fit becomes a dead letter; put a route behind it that takes the rest, or one with"
            f' filter = "{route.source.pattern}" and action = "drop"'
        )


def meant_by(filter_: str) -> str | None:
    """The MQTT filter that was probably meant by one that is not in MQTT's own language; None: it is.

    >>> meant_by("sensors/*/temp")
    'sensors/+/temp'
    """
    group, named = split_share(filter_.strip())
    text = named
    if "/" not in text and re.search(r"\.[*>#](\.|$)|^[*#]\.", text):  # AMQP and NATS part levels by dots
        text = text.replace(".", "/")
    elif _REGEX.search(text):
        text = _REST_OF_REGEX.sub("#", text.removeprefix("^").removesuffix("$"))
        text = _LEVEL_OF_REGEX.sub("+", text.replace("\\/", "/"))
    levels = [level.strip() for level in text.split("/")]
    for depth, level in enumerate(levels):
        if level == "**" or (level == ">" and depth == len(levels) - 1):
            levels[depth] = "#" if depth == len(levels) - 1 else "+"
        elif level == "%" or "*" in level or (len(level) > 1 and level.strip("+") == ""):
            levels[depth] = "+"
        elif len(level) > 1 and level.endswith("#") and "{" not in level:
            levels[depth] = "#"
    meant = "/".join(levels)
    meant = meant if group is None else f"$share/{group}/{meant}"
    return meant if meant != filter_ else None


def _followed(routes: Sequence[Route]) -> set[int]:
    """The routes behind which another one takes what comes by their subscription and does not fit."""
    found: set[int] = set()
    if not any(route.source.split for route in routes):
        return found
    later = FilterTree()
    for number, route in reversed([*enumerate(routes)]):
        levels = levels_of(route.source.pattern)
        if not route.source.split:
            later.add(levels, number)
        elif later.covering(levels):
            found.add(number)
    return found
