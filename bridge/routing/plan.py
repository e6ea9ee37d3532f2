"""What happens to the messages of one MQTT topic: a `Plan`, which a `Rule` makes.

Pure. A Rule is what all messages of one route have in common. The pipeline keeps the plans, and a bridge with
many MQTT topics makes plans again all the time. So a rule computes all that does not depend on the topic
once, and a plan takes the topic's own bytes as key and header where the route asks for the whole topic.
"""

from collections.abc import Iterable
from typing import Any, Literal

from bridge.errors import Unroutable
from bridge.message import DUP, RETAIN, Message, Properties
from bridge.routing.envelope import envelope
from bridge.routing.routes import WHOLE_TOPIC, Route, Source, Template
from bridge.routing.topics import kafka_legal, why_bad_kafka_topic

Headers = list[tuple[str, bytes]]

_FLAG_HEADER = {
    "mqtt.qos": [("mqtt.qos", b"%d" % (flags >> 1 & 3)) for flags in range(16)],
    "mqtt.retained": [("mqtt.retained", b"true" if flags & RETAIN else b"false") for flags in range(16)],
    "mqtt.duplicate": [("mqtt.duplicate", b"true" if flags & DUP else b"false") for flags in range(16)],
}
_NO_IDENTIFIERS: frozenset[int] = frozenset()
_ONE_BYTE = 64  # bytes; the length of a shorter text takes one byte in a record
_PLAN_SIZE = 600  # bytes of a plan without its texts, with the headers of two combinations of flags
_KAFKA_TOPICS = 4096  # remembered names: about 1 MB, and 7 MB at most, because Kafka limits their length
_KEPT = 4  # combinations of flags whose headers a plan keeps: a publisher may send all twelve


KafkaTopics = dict[tuple[str, ...], str]
"""Kafka topics that were made and are legal, by the route and the values that each was made of."""


class Rule:
    """One route, with the subscription that brings its messages. It makes the plans of the route's topics."""

    __slots__ = (
        "_constant_size",
        "_finished",
        "_identifier",
        "_identifiers",
        "_kafka_topics",
        "_key",
        "_own_topics",
        "_places",
        "_source",
        "_templates",
        "_topic_names",
        "action",
        "carried",
        "empty",
        "envelope",
        "kafka_topic",
        "name",
        "raw",
        "route",
        "skip_retained",
        "subscription",
    )

    def __init__(
        self,
        route: Route,
        subscription: str,
        identifier: int | None = None,
        identifiers: frozenset[int] = _NO_IDENTIFIERS,
        kafka_topics: KafkaTopics | None = None,
    ) -> None:
        """`subscription` brings the route's messages and has `identifier`, one of all `identifiers`.

        `kafka_topics` is where rules remember together what they have made lately.

        Raises Unroutable if the Kafka topic is the same for all messages and is not legal.
        """
        self.route = route
        self.name = route.name
        self.action: Literal["produce", "drop"] = "drop" if route.topic is None else "produce"
        self.skip_retained = route.skip_retained
        self.empty = route.empty
        self.envelope = route.envelope
        self.raw = not route.envelope and route.empty != "tombstone"
        self.carried = route.properties
        self.subscription = subscription
        self._identifier = identifier
        self._identifiers = identifiers
        self.kafka_topic = ""  # if it is the same for all messages
        self._own_topics = False  # the route's text alone makes a name of Kafka's own
        if route.topic is not None:
            self._own_topics = route.topic.parts[0][0].startswith("__")
            if not route.topic.names:
                self.kafka_topic = self._legal(route.topic.literals)
        self._topic_names = () if route.topic is None else route.topic.names
        self._key = None if route.key == WHOLE_TOPIC else route.key
        # The headers that depend on the topic: their places in the list, and their templates; None: the value
        # is the topic.
        own = [
            (place, name, None if template == WHOLE_TOPIC else template)
            for place, (name, template) in enumerate(route.headers)
            if template is not None and template.names
        ]
        self._places = tuple([place for place, _, _ in own])
        self._templates = tuple([(name, template) for _, name, template in own])
        wanted = set(self._topic_names)
        for template in (self._key, *(template for _, template in self._templates)):
            wanted.update(template.names if template else ())
        self._source = route.source.only(wanted)
        self._kafka_topics = {} if kafka_topics is None else kafka_topics
        self._finished: list[Headers | None] = [None] * 16  # by flags, with each of those values empty
        # Without the values that are empty, and their lengths. "false" is longer than "true".
        self._constant_size = encoded_size(self._finish(0)) - len(own)

    def plan(self, topic: bytes, text: str) -> "Plan":
        """The plan for an MQTT topic that the route takes; `text` is the topic as text.

        Raises Unroutable if the route makes no legal Kafka topic from this MQTT topic.
        """
        plan = Plan()
        plan.rule = self
        plan.route = self.name
        plan.skip_retained = self.skip_retained
        plan.raw = self.raw
        plan.by_flags = [None] * 16
        plan.lane = None
        plan.kafka_topic = self.kafka_topic
        plan.own = ()
        route = self.route
        if route.topic is None:
            plan.key, plan.overhead, plan.size = b"", 0, _PLAN_SIZE
            return plan
        values: dict[str, str] | None = None
        if not plan.kafka_topic:
            values = self._source.values(text)
            made_of = (self.name, *[values[name] for name in self._topic_names])
            plan.kafka_topic = self._kafka_topics.get(made_of) or self._make(route.topic, made_of)
        if self._key is None:
            plan.key = topic
        else:
            if values is None:
                values = self._source.values(text)
            plan.key = self._key.render(values).encode()
        size = len(plan.key) + self._constant_size
        for name, template in self._templates:
            if template is None:
                value = topic
            else:
                if values is None:
                    values = self._source.values(text)
                value = template.render(values).encode()
            plan.own += ((name, value),)
            length = len(value)
            size += length + (1 if length < _ONE_BYTE else _varint(length))
        plan.overhead = size
        plan.size = _PLAN_SIZE + size + len(plan.kafka_topic)
        return plan

    def headers(self, flags: int, own: Iterable[tuple[str, bytes]]) -> Headers:
        """All headers of a message with these flags. `own`: those that depend on the topic, in order."""
        headers = (self._finished[flags] or self._finish(flags)).copy()
        for place, header in zip(self._places, own, strict=True):
            headers[place] = header
        return headers

    def _finish(self, flags: int) -> Headers:
        headers = self._finished[flags] = [
            _FLAG_HEADER[name][flags]
            if template is None
            else (name, b"" if template.names else template.render({}).encode())
            for name, template in self.route.headers
        ]
        return headers

    def takes(self, identifiers: tuple[int, ...]) -> bool:
        """Whether to take a copy with these Subscription Identifiers."""
        return self._identifier in identifiers or not self._identifiers.issuperset(identifiers)

    def _make(self, template: Template, made_of: tuple[str, ...]) -> str:
        """The Kafka topic of these values, behind the route's name. Raises Unroutable."""
        legal = dict(zip(self._topic_names, map(kafka_legal, made_of[1:]), strict=True))
        kafka_topic = self._legal(template.render(legal))
        if len(self._kafka_topics) >= _KAFKA_TOPICS:
            self._kafka_topics.clear()
        self._kafka_topics[made_of] = kafka_topic
        return kafka_topic

    def _legal(self, kafka_topic: str) -> str:
        if why := why_bad_kafka_topic(kafka_topic):
            raise Unroutable(f'route "{self.name}" makes no legal Kafka topic from this MQTT topic: {why}')
        if kafka_topic.startswith("__") and not self._own_topics:
            raise Unroutable(
                f'route "{self.name}" makes {kafka_topic} of it: a name that begins with __ is Kafka\'s'
                " own, and no device may choose one; write text before the placeholder"
            )
        return kafka_topic


class Plan:
    """What happens to the messages of one MQTT topic.

    The producer reads `by_flags` and `raw` for each message, to save calls of `headers` and `value`:
    `by_flags[message.flags]` is the finished list of headers for a message without MQTT 5 properties, or None
    if it is not kept, or has not been needed yet. If `raw` is true, the value is the payload.
    """

    # No __init__, because the call would be a tenth of what a plan costs. Rule.plan sets all attributes.
    __slots__ = (
        "by_flags",
        "kafka_topic",
        "key",
        "lane",
        "overhead",
        "own",
        "raw",
        "route",
        "rule",
        "size",
        "skip_retained",
    )

    rule: Rule
    route: str
    skip_retained: bool
    kafka_topic: str
    key: bytes
    raw: bool
    by_flags: list[Headers | None]
    overhead: int  # most bytes of key and headers in a Kafka record, without MQTT 5 properties
    lane: Any  # set by the pipeline: its lane for this Kafka topic
    size: int  # about how many bytes of memory the plan takes, with texts that it shares
    own: tuple[tuple[str, bytes], ...]  # the headers that depend on the MQTT topic

    @property
    def action(self) -> Literal["produce", "drop"]:
        return self.rule.action

    @property
    def empty(self) -> Literal["keep", "tombstone", "skip"]:
        """What the route does with an empty payload. The pipeline checks each payload where it is "skip"."""
        return self.rule.empty

    @property
    def subscription(self) -> str:
        """The filter whose copy is taken; empty: no subscription brings this topic."""
        return self.rule.subscription

    def headers(self, message: Message) -> Headers:
        """The Kafka headers. Many messages may share the list, so the caller must not change it."""
        flags = message.flags
        headers = self.by_flags[flags]
        if headers is None:
            headers = self.rule.headers(flags, self.own)
            if len(self.by_flags) - self.by_flags.count(None) < _KEPT:
                self.by_flags[flags] = headers
        properties = message.properties
        return headers if properties is None else self._with_properties(headers, properties)

    def value(self, message: Message) -> bytes | None:
        """The Kafka value: the payload's bytes, unchanged, unless the route asks for an envelope.

        None is Kafka's null value, a tombstone.
        """
        if not message.payload and self.rule.empty == "tombstone":
            return None
        return envelope(message) if self.rule.envelope else message.payload

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
        return self.rule.takes(properties.subscription_ids)

    def _with_properties(self, headers: Headers, properties: Properties) -> Headers:
        # The publisher's own headers come first: readers that take the last one of a name get the bridge's.
        carried = self.rule.carried
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


def _without_nul(name: str) -> str:
    """librdkafka cuts a header's name at a NUL, which MQTT forbids and some brokers pass (MQTT 5, 1.5.4)."""
    return name.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in name else name


def plain_plan(topic: bytes, kafka_topic: str) -> Plan:
    """A plan for messages that no route takes: the MQTT topic is the key, the payload the value."""
    text = topic.decode("utf-8", "backslashreplace")
    return Rule(_all(Template(((kafka_topic, None),))), "").plan(text.encode(), text)


def encoded_size(headers: Iterable[tuple[str, bytes]]) -> int:
    """Bytes of these headers in a Kafka record, without their number (Kafka's record format v2)."""
    size = 0
    for name, value in headers:
        encoded = len(name) if name.isascii() else len(name.encode())
        size += _varint(encoded) + encoded + _varint(len(value)) + len(value)
    return size


def _varint(length: int) -> int:
    return max(1, -(-(2 * length).bit_length() // 7))  # zigzag, seven bits a byte


def _all(topic: Template | None) -> Route:
    return Route(
        name="",
        source=Source("", None, "#", ()),
        qos=0,
        topic=topic,
        key=WHOLE_TOPIC,
        headers=(),
        properties=frozenset(),
        skip_retained=False,
        envelope=False,
    )


DROP = Rule(_all(None), "").plan(b"", "")  # of one message, where its topic's plan leaves out what is empty
