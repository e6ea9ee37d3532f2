"""What is wrong with Kafka and its topics. Pure."""

from collections.abc import Iterator, Sequence

from bridge.delivery.results import Hold
from bridge.status.finding import Finding, broken, warning
from bridge.status.snapshot import HeldTopic, KafkaBroker, Snapshot, StoppedTopic
from bridge.status.spoken import count, duration, listed, rate, sentence
from bridge.status.whereabouts import behind_kafka, kafka_is_live, quoted

_KAFKA = "sudo systemctl restart kafka"
_CONNECTING_TOO_LONG = 10.0  # seconds
_LATE = 30.0  # seconds that a message may wait while everything works


def cluster(s: Snapshot) -> Iterator[Finding]:
    """Why the cluster, or a part of it, takes no messages."""
    explain = {
        "kafka.authentication_failed": _refused,
        "kafka.wrong_listener": _wrong_listener,
        "kafka.tls_failed": _tls_failed,
        "kafka.files_unusable": _files_unusable,
        "service.no_thread": _no_thread,
    }.get(s.kafka.trouble)
    if explain:
        yield explain(s)
    elif not kafka_is_live(s) and not (s.state == "starting" and not s.kafka.trouble):
        yield _gone(s)


def fenced(s: Snapshot) -> Iterator[Finding]:
    """With delivery exactly-once: another bridge has the transactional id."""
    if s.kafka.transactions and s.kafka.transactions.is_fenced:
        yield broken(
            "kafka-fenced",
            _servers(s),
            "Another bridge uses this one's transactional id. So this one delivers nothing, and waits before"
            f" it takes the id back. {behind_kafka(s)}",
            "Stop the other bridge, or give it its own mqtt.client_id and kafka.transactional_id.",
        )


def no_leader(s: Snapshot) -> Iterator[Finding]:
    """Topics that Kafka can't write until brokers are back, while other brokers are up."""
    stopped = stopped_topics(s)
    if not stopped:
        return
    without_leader = not stopped[0].has_leader
    parts, of = sum(each.partitions for each in stopped), sum(each.of for each in stopped)
    lacks = "no leader" if without_leader else "no second in-sync replica"
    known = {broker.number: broker for broker in s.kafka.brokers}
    awaited = [
        known.get(number, KafkaBroker(number, "", is_up=False, state_age=0.0))
        for number in sorted({number for each in stopped for number in each.awaits})
    ]
    names = listed([_broker(broker) for broker in awaited])
    addresses = listed([broker.address or f"Kafka broker {broker.number}" for broker in awaited])
    if all(broker.is_up for broker in awaited):
        remedy = f"These brokers run, so read their logs: Kafka has elected no leader. Look at {addresses}."
    else:
        hosts = listed([_host(broker.address) or f"broker {broker.number}" for broker in awaited])
        remedy = f"Start Kafka on {hosts}: {_KAFKA}. The bridge then delivers by itself."
    yield broken(
        "kafka-no-leader",
        addresses,
        f"Kafka can't write to {listed([each.topic for each in stopped])}: {parts} of"
        f" {count(of, 'partition')} {'has' if parts == 1 else 'have'} {lacks} and"
        f" {'waits' if parts == 1 else 'wait'} for {names}. {behind_kafka(s)}",
        remedy,
    )


def stopped_topics(s: Snapshot) -> list[StoppedTopic]:
    """The topics that wait for brokers: those without a leader if there are any."""
    if not kafka_is_live(s):
        return []
    without_leader = [each for each in s.kafka.stopped if not each.has_leader]
    # With min.insync.replicas = 1 a leader writes alone. Messages that wait show that this one does not.
    late = {held.topic for held in s.held}
    return without_leader or [each for each in s.kafka.stopped if each.topic in late]


def brokers(s: Snapshot) -> Iterator[Finding]:
    """Brokers that are down while others work."""
    known = s.kafka.brokers
    up = [broker for broker in known if broker.is_up]
    if not known or not kafka_is_live(s):
        return
    if not up:
        yield _unreachable(s)
        return
    make = broken if len(up) * 2 <= len(known) else warning
    for broker in known:
        if broker.is_up:
            continue
        waiting = behind_kafka(s) if s.flow.spooled or s.waiting_total else ""
        flow = waiting or "Messages flow through the others."
        if make is broken:
            flow = f"With so few brokers Kafka may take no messages for many partitions. {waiting or flow}"
        does = "hangs: it accepts connections and does not answer," if broker.hangs else "is down"
        on = f"On the host {_host(broker.address)}" if broker.address else "On that broker's host"
        act = f"restart Kafka: {_KAFKA}" if broker.hangs else f"start Kafka: {_KAFKA}"
        yield make(
            "kafka-broker-down",
            broker.address or f"Kafka broker {broker.number}",
            f"{_broker(broker)} {does} for {duration(broker.state_age)};"
            f" {len(up)} of {len(known)} brokers are up. {flow}",
            f"{on} look with `systemctl status kafka`, then {act}. If the broker was removed from the"
            " cluster, remove it from kafka.bootstrap_servers too.",
        )


def _unreachable(s: Snapshot) -> Finding:
    return broken(
        "kafka-advertised",
        _servers(s),
        f"Kafka answers at {s.kafka.bootstrap_servers}, but this machine reaches no broker at the address"
        f" that Kafka tells for it: {_servers(s)}. {behind_kafka(s)}",
        "Correct advertised.listeners in each broker's server.properties to an address that this machine"
        " reaches, or open the way to these addresses; `sudo mqtt-kafka-bridge check` tries each.",
    )


def _broker(broker: KafkaBroker) -> str:
    number = f" {broker.number}" if broker.number >= 0 else ""
    return f"Kafka broker{number} at {broker.address}" if broker.address else f"Kafka broker{number}"


def _make(s: Snapshot, name: str, what: str, remedy: str) -> Finding:
    """A fault of the login: broken, or a warning where the producer still works."""
    if kafka_is_live(s):
        return warning(name, _servers(s), f"{what} Messages still flow.", remedy)
    return broken(name, _servers(s), f"{what} {behind_kafka(s)}", remedy)


def _refused(s: Snapshot) -> Finding:
    return _make(
        s,
        "kafka-refused",
        f"Kafka at {_servers(s)} refuses the bridge's user name or password{quoted(s.kafka.reason)}.",
        f"{sentence(s.kafka.way_out)} Correct the password in the file of kafka.password_file; the bridge"
        " notices that without a restart. A change of [kafka.options] needs a restart.".strip(),
    )


def _wrong_listener(s: Snapshot) -> Finding:
    return _make(
        s,
        "kafka-listener",
        f"What answers at {_servers(s)} is not the Kafka listener that the settings expect"
        f"{quoted(s.kafka.reason)}.",
        f"{sentence(s.kafka.way_out)} Correct the port in kafka.bootstrap_servers, or security.protocol in"
        " [kafka.options]; then restart the bridge.",
    )


def _tls_failed(s: Snapshot) -> Finding:
    return _make(
        s,
        "kafka-tls",
        f"The bridge gets no TLS connection to Kafka at {_servers(s)}{quoted(s.kafka.reason)}.",
        sentence(s.kafka.way_out)
        or "Check the certificates: `sudo mqtt-kafka-bridge check` names the wrong one.",
    )


def _files_unusable(s: Snapshot) -> Finding:
    return _make(
        s,
        "kafka-files",
        f"The bridge can't use a certificate, key or password file for Kafka{quoted(s.kafka.reason)}.",
        "Correct the file on the bridge's machine; the bridge notices that within seconds, without a"
        " restart.",
    )


def _no_thread(s: Snapshot) -> Finding:
    return broken(
        "kafka-no-thread",
        "this machine",
        f"This machine allows the bridge no further thread{quoted(s.kafka.reason)}, so the bridge has no"
        f" client for Kafka. {behind_kafka(s)}",
        "Raise TasksMax= of the unit, pids.max of the container, or `ulimit -u`. The bridge tries again by"
        " itself.",
    )


def _gone(s: Snapshot) -> Finding:
    servers = _servers(s)
    if s.kafka.state == "connecting" and not s.kafka.trouble and s.kafka.state_age < _CONNECTING_TOO_LONG:
        return warning(
            "kafka-connecting",
            servers,
            f"The bridge has been connecting to Kafka at {servers} for {duration(s.kafka.state_age)}.",
            "Wait some seconds. If this lasts, run `sudo mqtt-kafka-bridge check`.",
        )
    which = "No Kafka broker answers, of" if len(s.kafka.brokers) > 1 else "Kafka does not answer at"
    return broken(
        "kafka-gone",
        servers,
        f"{which} {servers}, for {duration(s.kafka.state_age)}{quoted(s.kafka.reason)}. {behind_kafka(s)}",
        f"Start Kafka on these hosts: {_KAFKA}. If Kafka runs there, check kafka.bootstrap_servers and the"
        " brokers' advertised.listeners with `sudo mqtt-kafka-bridge check`.",
    )


def missing_topics(s: Snapshot) -> Iterator[Finding]:
    missing = [held for held in s.held if _is_held(held) and _is_missing(held)]
    if not missing:
        return
    names = listed([f'"{held.topic}"' for held in missing])
    is_one = len(missing) == 1
    # Where a topic a_b exists, Kafka refuses to create a.b; the way out then says so.
    other = next((held.way_out for held in missing if held.way_out and "--create" not in held.way_out), "")
    yield broken(
        "topic-missing",
        names,
        f"The Kafka topic{'' if is_one else 's'} {names} {'does' if is_one else 'do'} not exist."
        f" {_waiting(s, missing)} Messages for other topics flow.",
        f"{sentence(other)} On the bridge's machine `sudo mqtt-kafka-bridge topics --create`"
        " creates what is missing. If nobody wants the topic, correct the route that names it.".strip(),
    )


def forbidden_topics(s: Snapshot) -> Iterator[Finding]:
    forbidden = [held for held in s.held if _is_held(held) and _is_forbidden(held)]
    if forbidden:
        yield broken(
            "topic-forbidden",
            listed([held.topic for held in forbidden]),
            f"Kafka does not allow this bridge to write to {_names(forbidden)}"
            f"{quoted(forbidden[0].reason)}. {_waiting(s, forbidden)}",
            f"{sentence(forbidden[0].way_out)} Allow WRITE and DESCRIBE on the topic to the bridge's Kafka"
            " user. The bridge notices that by itself.".strip(),
        )


def held_topics(s: Snapshot) -> Iterator[Finding]:
    """Topics that Kafka can't write for another reason, while the cluster itself can be reached."""
    if not kafka_is_live(s):
        return
    others = [each for each in s.held if _is_held(each) and not _is_missing(each) and not _is_forbidden(each)]
    if others:
        yield broken(
            "topic-held",
            listed([held.topic for held in others]),
            f"Kafka can't write {_names(others)} at the moment{quoted(others[0].reason)}."
            f" {_waiting(s, others)}",
            sentence(others[0].way_out)
            or "See whether a Kafka broker is down. Otherwise look at the topic's leader and in-sync"
            " replicas: `sudo mqtt-kafka-bridge topics`.",
        )


def late(s: Snapshot) -> Iterator[Finding]:
    """Kafka is up, and confirms too slowly."""
    if not kafka_is_live(s) or any(_is_held(held) for held in s.held) or stopped_topics(s):
        return
    spooling = [held for held in s.held if held.state == "spooling"]
    draining = [held for held in s.held if held.state == "draining"]
    age = s.flow.oldest_undelivered_age
    if (done := s.kafka.transactions) and (done.is_fenced or s.spool.state != "usable"):
        return  # that is why
    if spooling and s.kafka.trouble == "kafka.transaction_lost":
        yield warning(
            "kafka-late",
            _servers(s),
            f"Kafka takes no transaction{quoted(s.kafka.reason)}. {behind_kafka(s)}",
            sentence(s.kafka.way_out),
        )
    elif spooling:
        yield warning(
            "kafka-late",
            _servers(s),
            # The bridge asks the brokers every 5 s: a broker that has just died still counts as up.
            f"Kafka does not confirm messages for {_names(spooling)} in time. {behind_kafka(s)}",
            "If Kafka has just stopped, this line will say so in some seconds. Otherwise look at the brokers'"
            " disks and load, and at the topic's in-sync replicas.",
        )
    elif draining:
        number = sum(held.messages for held in draining)
        speed = s.flow.delivered_rate
        lasts = f", in about {duration(number / speed)} at {rate(speed)}" if speed > 0 else ""
        yield warning(
            "catching-up",
            _servers(s),
            f"Kafka is back and takes what waited on the bridge's disk: {count(number, 'message')} left"
            f"{lasts}. Nothing is lost.",
            "No action is needed.",
        )
    elif age > _LATE:
        yield warning(
            "delivery-late",
            _servers(s),
            f"The oldest message has waited {duration(age)} for Kafka at {_servers(s)}, which is up."
            f" {behind_kafka(s)}",
            "Look at the brokers' disks and load. `uptime` shows the load of the bridge's machine.",
        )


def _waiting(s: Snapshot, topics: Sequence[HeldTopic]) -> str:
    number = sum(held.messages for held in topics)
    them = "it" if len(topics) == 1 else "them"
    where = "on the bridge's disk" if s.spool.state == "usable" else "unacknowledged, in EMQ's queue"
    lasts = f", which has room for about {duration(s.spool.full_in)} more" if s.spool.full_in else ""
    return f"{count(number, 'message')} for {them} wait{'s' if number == 1 else ''} {where}{lasts}."


def _is_held(held: HeldTopic) -> bool:
    return held.state == "held"


def _is_missing(held: HeldTopic) -> bool:
    return held.kind == Hold.MISSING


def _is_forbidden(held: HeldTopic) -> bool:
    return held.kind == Hold.FORBIDDEN


def _names(topics: Sequence[HeldTopic]) -> str:
    return f"topic{'s' * (len(topics) != 1)} {listed([held.topic for held in topics])}"


def _servers(s: Snapshot) -> str:
    """The brokers by their addresses; before the first connection, what the settings name."""
    known = [broker.address for broker in s.kafka.brokers if broker.address]
    return ", ".join(known[:5]) or s.kafka.bootstrap_servers


def _host(address: str) -> str:
    return address.rpartition(":")[0] or address
