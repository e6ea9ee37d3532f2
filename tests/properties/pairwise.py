"""What Router decides, computed slowly: each route is compared with each other one, by the definitions.

topics.py defines what two filters are to each other, and its tests check that by lists of topics. The tests
compare these functions with the trees of routing/filter_tree.py.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import combinations
from zlib import crc32

from bridge.routing import router
from bridge.routing.routes import Route, Source
from bridge.routing.topics import Subscription, covers, matches, overlaps


def takes(source: Source, topic: str) -> bool:
    """Whether the topic matches, and each split level has its text."""
    if not matches(source.pattern, topic):
        return False
    levels = topic.split("/")
    return all(part.values(levels[part.depth]) is not None for part in source.split)


def takes_all_of(wide: Source, narrow: Source) -> bool:
    """Whether `wide` takes every topic that `narrow` takes."""
    if not covers(wide.pattern, narrow.pattern):
        return False
    levels = narrow.pattern.split("/")
    shapes = {(part.depth, part.literals) for part in narrow.split}
    return all(
        (part.depth, part.literals) in shapes
        or (levels[part.depth] != "+" and part.values(levels[part.depth]) is not None)
        for part in wide.split
    )


def brings(wide: Source, narrow: Source) -> bool:
    return wide.group == narrow.group and covers(wide.pattern, narrow.pattern)


def first_taking(routes: Iterable[Route], topic: str) -> Route | None:
    return next((route for route in routes if takes(route.source, topic)), None)


class Subscribed:
    """The subscriptions of these routes, and whose copy of a message is taken."""

    def __init__(self, routes: Sequence[Route], refused: Collection[str] = ()) -> None:
        subscribing = [
            route for route in routes if route.topic is not None and route.source.subscription not in refused
        ]
        self.widest: list[Route] = []
        for new in subscribing:
            if not any(brings(old.source, new.source) for old in self.widest):
                self.widest = [old for old in self.widest if not brings(new.source, old.source)] + [new]
        clashes = [
            (a, b) for a, b in combinations(self.widest, 2) if overlaps(a.source.pattern, b.source.pattern)
        ]
        self.needs_mqtt5 = (clashes[0][0].name, clashes[0][1].name) if clashes else None
        routing = [(route.source.subscription, route.topic is None) for route in routes]
        identifiers = identifiers_of(
            dict.fromkeys(route.source.subscription for pair in clashes for route in pair),
            repr((routing, sorted(refused))),
        )
        self.subscriptions = tuple(
            Subscription(
                filter=route.source.subscription,
                qos=max(other.qos for other in subscribing if brings(route.source, other.source)),
                identifier=identifiers.get(route.source.subscription),
            )
            for route in self.widest
        )

    def copy_for(self, wanted: Source, topic: str) -> tuple[str, set[int]]:
        """The filter whose copy is taken, and the identifiers of all others."""
        arriving = [
            (route.source, one)
            for route, one in zip(self.widest, self.subscriptions, strict=True)
            if matches(route.source.pattern, topic)
        ]
        if not arriving:
            return "", set()
        taken = next((one for source, one in arriving if brings(source, wanted)), arriving[0][1])
        return taken.filter, {
            one.identifier for one in self.subscriptions if one is not taken and one.identifier
        }


def identifiers_of(subscriptions: Iterable[str], made_of: str) -> dict[str, int]:
    highest = router.MAX_IDENTIFIER
    found: dict[str, int] = {}
    for subscription in subscriptions:
        identifier = crc32(f"{subscription}\n{made_of}".encode()) % highest + 1
        while identifier in found.values():
            identifier = identifier % highest + 1
        found[subscription] = identifier
    return found
