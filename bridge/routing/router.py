"""Decides a message's Kafka topic, key, headers and value, and which subscriptions the routes need.

Pure. The first route whose filter matches takes a message. A `Router` decides for MQTT topics. A `Plan` is
the decision for all messages of one MQTT topic: the pipeline keeps the plan, so only `headers` and `value`
run for each message.

If filters overlap, a broker may send one copy of a message for each subscription (MQTT 5, 3.3.4). If the
bridge produced all copies, the message would be duplicated. So:

* If another filter of the same $share group covers a filter, the bridge does not subscribe the narrower one.
  The wider filter brings its messages, with the highest QoS of all filters that the wider one covers.
* Filters that overlap without one covering the other, or that are in different groups, get Subscription
  Identifiers. Of the copies, the bridge takes only the copy of the first matching route. MQTT 3.1.1 has no
  identifiers: see `Router.needs_mqtt5`.
* A route with action "drop" subscribes nothing.

All routes together decide which copy is taken, so each identifier is computed from all routes. Copies that
the broker queued in the session under other routes carry identifiers that are now unknown, and the bridge
takes copies with unknown identifiers. So a change of routes may duplicate queued messages, but loses none.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, Literal
from zlib import crc32

from bridge.errors import ConfigurationError, NoRoute, Unroutable, WrongRoutes
from bridge.message import DUP, RETAIN, Message, Properties
from bridge.routing.envelope import envelope
from bridge.routing.routes import WHOLE_TOPIC, Route, RouteEntry, Source, Template, check
from bridge.routing.topics import (
    Subscription,
    kafka_legal,
    matches,
    overlaps,
    why_bad_kafka_topic,
    why_bad_topic,
)

Headers = list[tuple[str, bytes]]

# The version of what routes mean. Increase it in a release in which the same routes lead a message to another
# Kafka topic: the next start then moves the messages on disk, which may take long.
MEANING = 2  # 2: no placeholder makes a topic that begins with __

MAX_IDENTIFIER = 268_435_455  # MQTT 5, 3.8.2.1.2

_FLAG_HEADER = {
    "mqtt.qos": [("mqtt.qos", b"%d" % (flags >> 1 & 3)) for flags in range(16)],
    "mqtt.retained": [("mqtt.retained", b"true" if flags & RETAIN else b"false") for flags in range(16)],
    "mqtt.duplicate": [("mqtt.duplicate", b"true" if flags & DUP else b"false") for flags in range(16)],
}


class Plan:
    """What happens to the messages of one MQTT topic.

    The producer reads `by_flags` and `raw` for each message, to save calls of `headers` and `value`:
    `by_flags[message.flags]` is the finished list of headers for a message without MQTT 5 properties, or None
    if it has not been needed yet. If `raw` is true, the value is the payload. If `empty` is "skip", the
    pipeline checks the payload of each message of this topic.
    """

    __slots__ = (
        "_carried",
        "_envelope",
        "_fixed",
        "action",
        "by_flags",
        "empty",
        "kafka_topic",
        "key",
        "lane",
        "others",
        "overhead",
        "raw",
        "route",
        "skip_retained",
        "subscription",
    )

    route: str
    action: Literal["produce", "drop"]
    skip_retained: bool
    empty: Literal["keep", "tombstone", "skip"]  # what the route does with an empty payload
    subscription: str  # the filter whose copy is taken; empty: no subscription brings this topic
    others: frozenset[int]  # identifiers of the subscriptions whose copies are skipped
    kafka_topic: str
    key: bytes
    raw: bool
    by_flags: list[Headers | None]
    overhead: int  # most bytes of key and headers in a Kafka record, without MQTT 5 properties
    lane: Any  # set by the pipeline: its lane for this Kafka topic
    _envelope: bool
    _fixed: tuple[tuple[str, bytes | None], ...]  # headers; None: the value depends on the flags
    _carried: frozenset[str]  # those of routes.PROPERTY_HEADERS that the route lists

    def __init__(self, route: Route, topic: str, subscription: str, others: frozenset[int]) -> None:
        """Raises Unroutable if the route makes no legal Kafka topic from this MQTT topic."""
        self.route = route.name
        self.skip_retained = route.skip_retained
        self.subscription = subscription
        self.others = others
        self.empty = route.empty
        self.raw = not route.envelope and route.empty != "tombstone"
        self._envelope = route.envelope
        self.by_flags = [None] * 16
        self.lane = None
        self._carried = route.properties
        if route.topic is None:
            self.action = "drop"
            self.kafka_topic, self.key, self._fixed, self.overhead = "", b"", (), 0
            return
        self.action = "produce"
        values = route.source.values(topic)
        self.kafka_topic = route.topic.render({name: kafka_legal(value) for name, value in values.items()})
        if why := why_bad_kafka_topic(self.kafka_topic):
            raise Unroutable(f'route "{route.name}" makes no legal Kafka topic from this MQTT topic: {why}')
        if self.kafka_topic.startswith("__") and not route.topic.parts[0][0].startswith("__"):
            raise Unroutable(
                f'route "{route.name}" makes {self.kafka_topic} of it: a name that begins with __ is Kafka\'s'
                " own, and no device may choose one; write text before the placeholder"
            )
        self.key = route.key.render(values).encode()
        self._fixed = tuple(
            (name, None if template is None else template.render(values).encode())
            for name, template in route.headers
        )
        self.overhead = len(self.key) + encoded_size(self._of_flags(0))  # "false" is longer than "true"

    def headers(self, message: Message) -> Headers:
        """The Kafka headers. Many messages may share the list, so the caller must not change it."""
        flags = message.flags
        headers = self.by_flags[flags]
        if headers is None:
            headers = self.by_flags[flags] = self._of_flags(flags)
        properties = message.properties
        return headers if properties is None else self._with_properties(headers, properties)

    def value(self, message: Message) -> bytes | None:
        """The Kafka value: the payload's bytes, unchanged, unless the route asks for an envelope.

        None is Kafka's null value, a tombstone.
        """
        if not message.payload and self.empty == "tombstone":
            return None
        return envelope(message) if self._envelope else message.payload

    def skips(self, message: Message) -> bool:
        """Whether the route has this message acknowledged and not produced."""
        return (self.skip_retained and message.retain) or (self.empty == "skip" and not message.payload)

    def takes(self, message: Message) -> bool:
        """Whether to take this copy. False: it belongs to another subscription, and the right copy comes too.

        In doubt the copy is taken: if it has no identifier, or the identifier of an unknown subscription.
        """
        properties = message.properties
        if properties is None or not properties.subscription_ids:
            return True
        return not self.others.issuperset(properties.subscription_ids)

    def _of_flags(self, flags: int) -> Headers:
        return [_FLAG_HEADER[name][flags] if value is None else (name, value) for name, value in self._fixed]

    def _with_properties(self, headers: Headers, properties: Properties) -> Headers:
        # The publisher's own headers come first: readers that take the last one of a name get the bridge's.
        carried = self._carried
        found: Headers = []
        if properties.user and "user-properties" in carried:
            found = [(_without_nul(name), value.encode()) for name, value in properties.user]
        found += headers
        if properties.content_type is not None and "content-type" in carried:
            found.append(("content-type", properties.content_type.encode()))
        if properties.response_topic is not None and "response-topic" in carried:
            found.append(("response-topic", properties.response_topic.encode()))
        if properties.correlation_data is not None and "correlation-data" in carried:
            found.append(("correlation-data", properties.correlation_data))
        return found


def _drop() -> Plan:
    source = Source("", None, "#", ())
    return Plan(Route("", source, 0, None, WHOLE_TOPIC, (), frozenset(), False, False), "", "", frozenset())


DROP = _drop()  # of one message, where its topic's plan leaves out what is empty


class Router:
    """All routes, and the subscriptions they need. A Router never changes.

    `refused`: filters of an earlier Router's subscriptions that the broker did not grant (SUBACK 0x80 and
    above). The filters that a refused one covered are then subscribed themselves, and the refused one is
    expected to bring no copies. `shared`: False for a caller that must not take messages away from the
    members of a $share group.
    """

    subscriptions: tuple[Subscription, ...]
    needs_mqtt5: tuple[str, str] | None  # two routes whose overlapping filters need identifiers

    def __init__(
        self, routes: Sequence[RouteEntry], *, refused: Collection[str] = (), shared: bool = True
    ) -> None:
        """Raises ConfigurationError with one line for each error."""
        self._routes = _check_all(routes)
        if not shared:
            self._routes = tuple(replace(route, source=route.source.unshared()) for route in self._routes)
        subscribing = [
            route
            for route in self._routes
            if route.topic is not None and route.source.subscription not in refused
        ]
        widest = _widest(subscribing)
        clashes = [(a, b) for a, b in combinations(widest, 2) if overlaps(a.source.pattern, b.source.pattern)]
        self.needs_mqtt5 = (clashes[0][0].name, clashes[0][1].name) if clashes else None
        routing = [(route.source.subscription, route.topic is None) for route in self._routes]
        identifiers = _identifiers(
            dict.fromkeys(route.source.subscription for pair in clashes for route in pair),
            made_of=repr((routing, sorted(refused))),
        )
        self._arrivals = [
            (
                route.source,
                Subscription(
                    filter=route.source.subscription,
                    qos=max(other.qos for other in subscribing if route.source.brings(other.source)),
                    identifier=identifiers.get(route.source.subscription),
                ),
            )
            for route in widest
        ]
        self.subscriptions = tuple(subscription for _, subscription in self._arrivals)

    @property
    def names(self) -> tuple[str, ...]:
        """The routes' names, in their order."""
        return tuple(route.name for route in self._routes)

    @property
    def routes(self) -> tuple[Route, ...]:
        return self._routes

    def why_restart(self, before: "Router") -> str:
        """Why a connection with `before`'s subscriptions can't get these without a restart; empty: it can.

        Until the broker has unsubscribed the old filters, it has old and new ones. If two of them overlap, it
        may send a message once for each. Nothing tells those copies apart: a copy that was queued under
        `before` has an identifier that was made of the routes of `before`.
        """
        if self.subscriptions == before.subscriptions:
            return ""
        for router in (before, self):
            if router.needs_mqtt5:
                first, second = router.needs_mqtt5
                return (
                    f'routes "{first}" and "{second}" overlap, so identifiers made of all routes tell'
                    " copies apart"
                )
        old = {one.filter: source.pattern for source, one in before._arrivals}
        new = {one.filter: source.pattern for source, one in self._arrivals}
        for added in new.keys() - old.keys():
            for removed in old.keys() - new.keys():
                if overlaps(new[added], old[removed]):
                    return (
                        f"the new filter {added} overlaps {removed}, which is removed: while the broker has"
                        " both, it may send a message once for each"
                    )
        return ""

    def require_protocol(self, protocol: str) -> None:
        """Raises ConfigurationError if `mqtt.protocol` allows an MQTT that can't serve these routes."""
        if self.needs_mqtt5 and protocol != "5":
            raise ConfigurationError(
                'routes "{}" and "{}": their filters overlap and neither covers the other, so a broker of'
                " MQTT 3.1.1 may send a message once for each of them; change a filter, or set"
                ' mqtt.protocol = "5", which can tell the copies apart'.format(*self.needs_mqtt5)
            )

    def plan(self, topic: bytes) -> Plan:
        """The plan for messages of this MQTT topic. Raises Unroutable if no route can take them."""
        try:
            text = topic.decode()
        except UnicodeDecodeError:
            raise Unroutable("the MQTT topic is not valid UTF-8") from None
        if why := why_bad_topic(text):
            raise Unroutable(f"MQTT does not allow this topic: {why}")
        for route in self._routes:
            if route.source.takes(text):
                return Plan(route, text, *self._copy_for(route.source, text))
        raise NoRoute("no route has a filter that matches")

    def destination(self, topic: bytes) -> tuple[str, str]:
        """The Kafka topic for messages of this MQTT topic; or an empty one, and why there is none."""
        try:
            plan = self.plan(topic)
        except Unroutable as error:
            return "", error.reason
        return plan.kafka_topic, "" if plan.kafka_topic else f'route "{plan.route}" now drops this topic'

    def _copy_for(self, wanted: Source, topic: str) -> tuple[str, frozenset[int]]:
        """The filter of the subscription whose copy is taken, and the identifiers of all others."""
        arriving = [(source, one) for source, one in self._arrivals if matches(source.pattern, topic)]
        if not arriving:
            return "", frozenset()
        taken = next((one for source, one in arriving if source.brings(wanted)), arriving[0][1])
        others = [one.identifier for one in self.subscriptions if one is not taken and one.identifier]
        return taken.filter, frozenset(others)


def _without_nul(name: str) -> str:
    """librdkafka cuts a header's name at a NUL, which MQTT forbids and some brokers pass (MQTT 5, 1.5.4)."""
    return name.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in name else name


def plain_plan(topic: bytes, kafka_topic: str) -> Plan:
    """A plan for messages that no route takes: the MQTT topic is the key, the payload the value."""
    route = Route(
        name="",
        source=Source("", None, "#", ()),
        qos=0,
        topic=Template(((kafka_topic, None),)),
        key=WHOLE_TOPIC,
        headers=(),
        properties=frozenset(),
        skip_retained=False,
        envelope=False,
    )
    return Plan(route, topic.decode("utf-8", "backslashreplace"), "", frozenset())


def encoded_size(headers: Iterable[tuple[str, bytes]]) -> int:
    """Bytes of these headers in a Kafka record, without their number (Kafka's record format v2)."""
    size = 0
    for name, value in headers:
        encoded = len(name) if name.isascii() else len(name.encode())
        size += _varint(encoded) + encoded + _varint(len(value)) + len(value)
    return size


def _varint(length: int) -> int:
    return max(1, -(-(2 * length).bit_length() // 7))  # zigzag, seven bits a byte


def _check_all(entries: Sequence[RouteEntry]) -> tuple[Route, ...]:
    problems: list[tuple[str, str, str]] = []
    routes: list[Route] = []
    for entry in entries:
        try:
            route = check(entry)
        except WrongRoutes as error:
            problems += error.wrong
            continue
        for earlier in routes:
            if earlier.source.takes_all_of(route.source):
                line = (
                    f'route "{route.name}": filter = "{entry.filter}": gets nothing, because route '
                    f'"{earlier.name}" before it takes all its messages; move this route up or remove it'
                )
                problems.append((route.name, "filter", line))
                break
        routes.append(route)
    if not problems and all(route.topic is None for route in routes):
        problems.append(("", "", "routes: none of them produces; add a route with a filter and a topic"))
    if problems:
        raise WrongRoutes(problems)
    return tuple(routes)


def _widest(routes: Iterable[Route]) -> list[Route]:
    """The fewest routes whose filters together bring the messages of all routes."""
    kept: list[Route] = []
    for new in routes:
        if not any(old.source.brings(new.source) for old in kept):
            kept = [old for old in kept if not new.source.brings(old.source)] + [new]
    return kept


def _identifiers(subscriptions: Iterable[str], made_of: str) -> dict[str, int]:
    """A Subscription Identifier for each subscription, the same at every start with the same routes."""
    found: dict[str, int] = {}
    for subscription in subscriptions:
        identifier = crc32(f"{subscription}\n{made_of}".encode()) % MAX_IDENTIFIER + 1
        while identifier in found.values():
            identifier = identifier % MAX_IDENTIFIER + 1
        found[subscription] = identifier
    return found
