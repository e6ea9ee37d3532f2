"""Checks of the Kafka side: brokers, topics, rights, the difference of the clocks."""

import socket
from collections.abc import Iterator

from bridge.commands.check.outcome import Outcome, Site, failed, good, skipped, warning
from bridge.delivery.results import NoTopicAnswer
from bridge.errors import BridgeError
from bridge.kafka import quorum_clock, transaction_check
from bridge.kafka.cluster_check import ClusterCheck
from bridge.kafka.listeners import host_and_port
from bridge.kafka.topic_description import Description
from bridge.settings import Settings
from bridge.status.spoken import count, listed
from bridge.units import DURATION, SIZE

_CLOSE_ENOUGH = 5.0  # seconds between two clocks
_HOUR = 3600.0  # Kafka refuses records that are further ahead (message.timestamp.after.max.ms)
_SHORT_RETENTION = 86400.0  # seconds
_KAFKA_S_OWN = "transaction.state.log.min.isr"  # a setting of each Apache Kafka that has transactions
_VERIFIES = "transaction.partition.verification.enable"  # a setting since Kafka 3.6, where it is true
_SINCE_3_7 = "telemetry.max.bytes"  # a setting that has come with Kafka 3.7
_NEARLY = 0.95  # EMQX's default limit is 116 bytes more than what fits into Kafka's default


def bootstrap(site: Site) -> Iterator[Outcome]:
    refusing, servers = [], site.settings.kafka.bootstrap_servers.split(",")
    for server in servers:
        try:
            socket.create_connection(host_and_port(server), timeout=3.0).close()
        except OSError as error:
            refusing.append(f"{server}: {error.strerror or error}")
    if len(refusing) == len(servers):
        yield failed(f"no broker can be reached: {'; '.join(refusing)}")
        return
    for text in refusing:
        yield warning(text, "start this broker, or take it out of kafka.bootstrap_servers")
    yield good(f"{len(servers) - len(refusing)} of {len(servers)} bootstrap servers accept connections")


def brokers(site: Site) -> Iterator[Outcome]:
    site.cluster = ClusterCheck(site.settings.kafka)
    found = site.cluster.brokers()
    reached = [broker.address for broker in found if not broker.why_not]
    site.brokers_up = len(reached)
    if reached:
        yield good(f"{len(reached)} broker{'s' * (len(reached) != 1)}: {', '.join(reached)}")
    for broker in found:
        if broker.why_not:
            yield failed(f"{broker.address}: {broker.why_not}")
    if reached and (why := site.cluster.why_no_producer_id()):
        raise BridgeError(why)


def fixed_topics(settings: Settings) -> list[str]:
    """The Kafka topics that the settings name without placeholders."""
    named = [route.topic for route in settings.routes if route.topic and "{" not in route.topic]
    return list(dict.fromkeys([*named, *filter(None, [settings.dead_letters.topic])]))


def topic(site: Site) -> Iterator[Outcome]:
    names = fixed_topics(site.settings)
    for each in names:
        answer = site.opened_cluster.topic(each)
        if isinstance(answer, NoTopicAnswer):
            raise BridgeError(f"{each}: {answer.reason}")
        if not answer.exists:
            yield failed(f"{each} does not exist", answer.way_out)
            continue
        described = site.opened_cluster.describe(each)
        if described:
            site.topics.append(described)
        partitions = f", {count(described.partitions, 'partition')}" if described else ""
        if answer.timestamps:
            yield warning(
                f"{each}{partitions}; it {answer.timestamps}: the bridge leaves those out",
                "keep this machine's clock right, or widen the topic's limit",
            )
        else:
            yield good(f"{each} exists{partitions}")
    for made in dict.fromkeys(
        route.topic for route in site.settings.routes if route.topic and "{" in route.topic
    ):
        yield skipped(
            f"{made}: each message's MQTT topic makes the name; `sudo mqtt-kafka-bridge topics` lists"
            " those with messages on disk"
        )


def topic_copies(site: Site) -> Iterator[Outcome]:
    for described in site.topics:
        yield copies_verdict(described, site.brokers_up)
    if not site.topics:
        yield skipped("no topic could be described")


def copies_verdict(topic: Description, brokers_up: int) -> Outcome:
    """Judge replicas, in-sync replicas and min.insync.replicas of a topic."""
    wanted = topic.number("min.insync.replicas") or 1
    text = f"{topic.name}: {count(topic.replicas, 'replica')}, min.insync.replicas {wanted}"
    if topic.leaderless:
        awaited = f"broker {listed([str(number) for number in topic.awaits])}" if topic.awaits else ""
        return failed(
            f"{topic.name}: {topic.leaderless} of {count(topic.partitions, 'partition')} without a leader"
            f"{f', which wait for {awaited}' if awaited else ''}: Kafka can't write to them",
            f"start {awaited or 'the brokers that are down'}",
        )
    if topic.in_sync < wanted:
        return failed(
            f"{text}, but only {topic.in_sync} in sync: Kafka refuses records",
            f"start broker {', '.join(map(str, topic.behind))}",
        )
    if topic.behind:
        return warning(
            f"{text}; broker {', '.join(map(str, topic.behind))} is not in sync",
            "start this broker; it catches up by itself",
        )
    if topic.replicas == 1:
        if brokers_up <= 1:
            return good(f"{text}: one broker has the only copy")
        return warning(f"{text}: one broker has the only copy", "give the topic 3 replicas")
    if wanted == 1:
        return warning(
            f"{text}: Kafka confirms a record that one broker alone has", "set min.insync.replicas to 2"
        )
    if wanted == topic.replicas:
        return warning(
            f"{text}: Kafka refuses records as soon as one broker is down",
            f"set min.insync.replicas to {wanted - 1}, or add a replica",
        )
    return good(text)


def topic_size(site: Site) -> Iterator[Outcome]:
    largest = site.broker.limits.maximum_packet_size if site.broker else None
    if largest is None:
        yield skipped("the broker does not tell its Maximum Packet Size")
        return
    for described in site.topics:
        yield size_verdict(described, largest)


def size_verdict(topic: Description, largest: int) -> Outcome:
    """Judge max.message.bytes. `largest`: bytes of the largest packet that the broker takes from a device."""
    limit = topic.number("max.message.bytes")
    if limit is None:
        return skipped(f"{topic.name}: Kafka does not tell max.message.bytes")
    if limit < _NEARLY * largest:
        return warning(
            f"{topic.name} takes records of {SIZE.format(limit)}, but the broker takes packets of"
            f" {SIZE.format(largest)} from devices: larger messages become dead letters",
            f"set the topic's max.message.bytes to {largest + 1000}, or lower the broker's limit",
        )
    return good(f"{topic.name} takes records of {SIZE.format(limit)}")


def topic_retention(site: Site) -> Iterator[Outcome]:
    for described in site.topics:
        yield retention_verdict(described)


def retention_verdict(topic: Description) -> Outcome:
    """Judge retention.ms and retention.bytes against a consumer that is away for a day."""
    if "delete" not in topic.config.get("cleanup.policy", "delete"):
        return good(f"{topic.name} keeps the last record of each key")
    size, milliseconds = topic.number("retention.bytes"), topic.number("retention.ms")
    if milliseconds is None:
        return skipped(f"{topic.name}: Kafka does not tell retention.ms")
    by_size = f", and at most {SIZE.format(size)} of each partition" if size is not None and size >= 0 else ""
    if milliseconds < 0:
        return good(f"{topic.name} keeps records for ever{by_size}")
    text = f"{topic.name} keeps records for {DURATION.format(milliseconds / 1000)}{by_size}"
    if milliseconds / 1000 < _SHORT_RETENTION:
        return warning(f"{text}: a consumer that is away for longer loses records", "raise retention.ms")
    return good(text)


def topic_rights(site: Site) -> Iterator[Outcome]:
    for described in site.topics:
        if described.may_write is None:
            yield skipped(f"{described.name}: Kafka does not tell the bridge's rights")
        elif described.may_write:
            yield good(f"the bridge may write to {described.name}")
        else:
            user = site.settings.kafka.sasl_username or "ANONYMOUS"
            yield failed(
                f"the bridge may not write to {described.name}",
                f"kafka-acls.sh ... --add --allow-principal User:{user} --operation Write"
                f" --topic {described.name}",
            )


def transactions(site: Site) -> Iterator[Outcome]:
    kafka = site.settings.kafka
    if not kafka.is_exactly_once:
        yield skipped("kafka.delivery is at-least-once: the bridge needs no transactions")
        return
    allow = f"kafka-acls.sh ... --add --allow-principal User:{kafka.sasl_username or 'ANONYMOUS'}"
    group, name = site.settings.transaction_group, site.settings.transactional_id
    if why := transaction_check.why_not_group(kafka, group):
        yield failed(
            f"the bridge can't read its number in the group {group}: {why}",
            f"{allow} --operation Read --group {group}",
        )
    else:
        yield good(f"the bridge may read the group {group}")
    routed = {route.topic for route in site.settings.routes}
    for described in site.topics:
        if described.may_read is False and described.name in routed:
            yield failed(
                f"the bridge may not read {described.name}, and so can't keep its number in an offset of it",
                f"{allow} --operation Read --topic {described.name}",
            )
    tried = f"{name}-check"
    why, is_forbidden = transaction_check.why_no_transaction(kafka, tried)
    if is_forbidden:
        yield skipped(
            f"the check may not use the transactional id {tried}, and does not try {name}, as that would"
            f" fence the running bridge. This allows both: {allow} --operation Write --operation Describe"
            f" --transactional-id {name} --transactional-id {tried}"
        )
    elif why:
        yield failed(f"Kafka opens no transaction: {why}")
    else:
        yield good("Kafka opens transactions")
    yield verification_verdict(transaction_check.settings_of_brokers(kafka))


def verification_verdict(brokers: dict[int, dict[str, str]] | str) -> Outcome:
    """Judge whether the brokers keep what is late out of transactions (KIP-890): records, as Kafka does since
    3.6, and offsets, as it does since 3.7 (KAFKA-15449).

    `brokers`: the settings of each, by its number; or why they are not known.
    """
    if isinstance(brokers, str):
        return skipped(f"whether the brokers are Kafka 3.7 or later: {brokers}")
    if not all(_KAFKA_S_OWN in settings for settings in brokers.values()):
        return skipped("whether the brokers keep what is late out of transactions: they are not Apache Kafka")
    old = [str(number) for number, settings in brokers.items() if _SINCE_3_7 not in settings]
    off = [str(number) for number, settings in brokers.items() if settings.get(_VERIFIES) == "false"]
    hang = "what is late may leave a transaction open, and read_committed readers or the bridge then stop"
    if old:
        return warning(f"Kafka before 3.7 on broker {listed(old)}: {hang}", "upgrade Kafka")
    if off:
        return warning(f"{_VERIFIES}=false on broker {listed(off)}: {hang}", "set it to true, the default")
    return good("the brokers keep what is late out of transactions")


def clock(site: Site) -> Iterator[Outcome]:
    ahead = quorum_clock.seconds_ahead(site.settings.kafka)
    if isinstance(ahead, str):
        yield skipped(ahead)
    else:
        yield clock_verdict(ahead)


def clock_verdict(ahead: float) -> Outcome:
    """`ahead`: seconds by which this machine's clock is ahead of Kafka's; negative: behind."""
    text = f"this machine's clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} Kafka's"
    if ahead > _HOUR:
        return failed(f"{text}: Kafka refuses the bridge's timestamps")
    return good(text) if abs(ahead) <= _CLOSE_ENOUGH else warning(text)
