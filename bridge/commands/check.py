"""`bridge check`: checks the chain to Kafka, one line for each link, with the remedy for a broken link.

    good    name          172.30.1.10 is 172.30.1.10
    good    HAProxy       172.30.1.10:1884 accepts connections
    good    EMQ           CONNACK, MQTT 5
    good    subscription  +/# at QoS 1
    good    Kafka         3 brokers: 172.30.1.31:9092, 172.30.1.32:9092, 172.30.1.33:9092
    FAILED  topic         mqtt does not exist (kafka-topics.sh ... --create --topic mqtt ...)
    note    topic         iot.{site}: not checked, ...

The check of a side ends at its first broken link. Kafka's side is checked even if EMQ's side is broken.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

from bridge.delivery.results import NoTopicAnswer
from bridge.errors import BridgeError
from bridge.kafka.cluster_check import ClusterCheck
from bridge.mqtt.broker_check import BrokerCheck, reach, resolve
from bridge.observe.printable import printable
from bridge.routing.router import Router
from bridge.settings import Settings


class Link(NamedTuple):
    """A link of the chain. Empty `found`: its check begins now; a BridgeError that follows belongs to it."""

    name: str
    found: str = ""
    good: bool | None = True  # None: it can't be checked


_WORDS = {True: "good", False: "FAILED", None: "note"}


def check(settings: Settings, client_id: str, say: Callable[[str], object]) -> bool:
    """Print one line for each link. Returns whether all links work."""
    router = Router(settings.routes, shared=False)
    router.require_protocol(settings.mqtt.protocol)
    whole = True
    for side in (_mqtt_side(settings, router, client_id), _kafka_side(settings)):
        link = Link("")
        try:
            for link in side:
                if link.found:
                    say(f"{_WORDS[link.good]:<6}  {link.name:<12}  {printable(link.found)}")
                    whole = whole and link.good is not False
        except BridgeError as broken:
            say(f"FAILED  {link.name:<12}  {printable(str(broken))}")
            whole = False
    return whole


def _mqtt_side(settings: Settings, router: Router, client_id: str) -> Iterator[Link]:
    yield Link("name")
    yield Link("name", f"{settings.mqtt.host} is {', '.join(resolve(settings.mqtt))}")
    yield Link("HAProxy")
    reach(settings.mqtt).close()
    yield Link("HAProxy", f"{settings.mqtt.host}:{settings.mqtt.port} accepts connections")
    yield Link("EMQ")
    broker = BrokerCheck(settings.mqtt, client_id)
    try:
        yield Link("EMQ", f"CONNACK, MQTT {broker.version}")
        yield Link("subscription")
        for subscription in router.subscriptions:
            granted = broker.subscribe(subscription)
            lower = "" if granted == subscription.qos else f" (its route asks for {subscription.qos})"
            yield Link("subscription", f"{subscription.filter} at QoS {granted}{lower}")
    finally:
        broker.close()


def _kafka_side(settings: Settings) -> Iterator[Link]:
    yield Link("Kafka")
    with closing(ClusterCheck(settings.kafka)) as cluster:
        brokers = cluster.brokers()
        reached = [broker.address for broker in brokers if not broker.why_not]
        if reached:
            yield Link("Kafka", f"{len(reached)} broker{'s' * (len(reached) != 1)}: {', '.join(reached)}")
        for broker in brokers:
            if broker.why_not:
                yield Link("Kafka", f"{broker.address}: {broker.why_not}", good=False)
        yield from _topics(settings, cluster)


def _topics(settings: Settings, cluster: ClusterCheck) -> Iterator[Link]:
    yield Link("topic")
    for topic in dict.fromkeys(route.topic for route in settings.routes if route.topic):
        if "{" in topic:
            yield Link(
                "topic",
                f"{topic}: not checked, because each message's MQTT topic makes the name; the log names each"
                " one that is missing (kafka.topic_missing)",
                good=None,
            )
            continue
        answer = cluster.topic(topic)
        if isinstance(answer, NoTopicAnswer):
            raise BridgeError(f"{topic}: {answer.reason}")
        if not answer.exists:
            yield Link("topic", f"{topic} does not exist ({answer.way_out})", good=False)
            continue
        refuses = f"; it {answer.timestamps}: the bridge leaves those out" if answer.timestamps else ""
        yield Link("topic", topic + refuses)
