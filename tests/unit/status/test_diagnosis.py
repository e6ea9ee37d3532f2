"""The diagnosis names host and remedy by its text alone, in each state that a person may meet."""

import re
from dataclasses import fields, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.observe.events import Event
from bridge.status import kafka_faults, machine_faults, mqtt_faults
from bridge.status.diagnosis import Diagnosis, diagnose
from bridge.status.snapshot import (
    BrokerNode,
    Certificate,
    Happened,
    HeldTopic,
    Neighbour,
    SessionQueue,
    Snapshot,
    StoppedTopic,
    Transactions,
)
from tests.artefacts import pages
from tests.harness.kit import ROOT
from tests.harness.snapshots import STATES, healthy

_SOURCE = "\n".join(
    Path(module.__file__).read_text() for module in (kafka_faults, machine_faults, mqtt_faults)
)
RUNBOOK = ROOT / "docs" / "runbook.md"
LOST = "is lost"


def away(trouble: str, reason: str = "", way_out: str = "", **other: Any) -> Snapshot:
    """The session with EMQ is not live, and no neighbour can be asked unless `other` says so."""
    whole = healthy()
    mqtt = replace(
        whole.mqtt, state="backing_off", state_age=0.4, trouble=trouble, reason=reason, way_out=way_out
    )
    return replace(
        whole, **{"mqtt": mqtt, "haproxy": None, "nodes": (), "emqx": None, "queue": None, **other}
    )


def at_port(port: int, snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, mqtt=replace(snapshot.mqtt, port=port))


def kafka(state: str, trouble: str = "", reason: str = "", way_out: str = "", up: int = 0) -> Snapshot:
    whole = healthy()
    brokers = tuple(
        replace(broker, is_up=broker.number > 3 - up, state_age=40.0) for broker in whole.kafka.brokers
    )
    trouble_of = {"trouble": trouble, "reason": reason, "way_out": way_out}
    return replace(
        whole, kafka=replace(whole.kafka, state=state, state_age=40.0, brokers=brokers, **trouble_of)
    )


def nodes(first: str = "UP", second: str = "UP", check: str = "L4CON") -> dict[str, Any]:
    """`check`: HAProxy's last check of a node that is not up."""
    whole = healthy()
    said = zip(whole.nodes, (first, second), strict=True)
    return {
        "haproxy": whole.haproxy,
        "nodes": tuple(
            replace(
                node, is_up=word == "UP", status=word, state_age=12.0, check="" if word == "UP" else check
            )
            for node, word in said
        ),
    }


def spool(state: str, reason: str = "", snapshot: Snapshot | None = None, **other: Any) -> Snapshot:
    whole = snapshot or STATES["kafka_down"]()
    return replace(whole, spool=replace(whole.spool, state=state, reason=reason, **other))


def certificate(days: float) -> Snapshot:
    whole = healthy()
    made = datetime.fromisoformat(whole.made_at).timestamp()
    return replace(whole, certificates=(Certificate("mqtt.tls.cert_file", made + days * 86400),))


def happened(event: str, age: float = 20.0, **other: Any) -> Snapshot:
    return replace(healthy(), lately=(Happened(age, "error", event, "It happened."),), **other)


def rival(age: float) -> Snapshot:
    whole = healthy()
    return replace(whole, mqtt=replace(whole.mqtt, taken_over_age=age))


def flow(**changes: Any) -> Snapshot:
    whole = healthy()
    return replace(whole, flow=replace(whole.flow, **changes))


def held(kind: str, reason: str, way_out: str = "", state: str = "held", messages: int = 7) -> Snapshot:
    topic = HeldTopic("iot.cellar", state, 9.0, messages, reason, way_out, kind)
    return replace(healthy(), held=(topic,), waiting_total=1)


def transacting(trouble: str = "", reason: str = "", *, is_fenced: bool = False) -> Snapshot:
    """With delivery exactly-once, while messages are late."""
    late = held("", "", state="spooling")
    done = Transactions(is_fenced=is_fenced)
    kafka = replace(late.kafka, transactions=done, trouble=trouble, reason=reason, way_out="allow the group")
    return replace(late, kafka=kafka)


def stopped(topic: StoppedTopic, up: int, *, is_late: bool = False) -> Snapshot:
    late = held("", "late", state="spooling") if is_late else healthy()
    seen = kafka("live", up=up).kafka
    return replace(late, kafka=replace(seen, stopped=(topic,)))


def without_neighbours(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, haproxy=None, nodes=(), emqx=None, queue=None)


PAHO_REFUSED = "check mqtt.username and mqtt.password_file against the broker's users"
NO_CONNACK = "closed before CONNACK: the peer closed the connection (FIN), without DISCONNECT"
HUNG_STATS = Neighbour("http://172.30.1.10:8081/metrics", 12.0, "no whole answer within 5 s", hangs=True)
DOWN_STATS = Neighbour("http://172.30.1.10:8081/metrics", 40.0, "connection refused")

# state -> the snapshot, the level, the worst finding, and what the sentence says.
TABLE: dict[str, tuple[Snapshot, str, str, tuple[str, ...]]] = {
    "one EMQ node is dead": (
        replace(healthy(), **nodes("DOWN", "UP")),
        "warning",
        "emq-node-down",
        ("EMQ node emq1 (172.30.1.21:1883) is down", "(DOWN, L4CON)", "flow through emq2", "start EMQ again"),
    ),
    "one EMQ node hangs": (
        replace(healthy(), **nodes("UP", "DOWN", "L7TOUT")),
        "warning",
        "emq-node-down",
        (
            "EMQ node emq2 (172.30.1.22:1883) hangs",
            "HAProxy (DOWN, L7TOUT)",
            "answers nothing",
            "restart EMQ",
        ),
    ),
    "the host of one EMQ node has no power": (
        replace(healthy(), **nodes("UP", "DOWN", "L4TOUT")),
        "warning",
        "emq-node-down",
        ("EMQ node emq2 (172.30.1.22:1883) can't be reached", "HAProxy (DOWN, L4TOUT)", "ping"),
    ),
    "one EMQ node does not answer, and HAProxy does not say how": (
        replace(healthy(), **nodes("UP", "DOWN", "")),
        "warning",
        "emq-node-down",
        ("EMQ node emq2 (172.30.1.22:1883) is down or hangs", "HAProxy (DOWN)"),
    ),
    "one EMQ node hangs, and the bridge waits for the other": (
        away("mqtt.closed", "Connection reset by peer", **nodes("UP", "DOWN", "L7TOUT")),
        "broken",
        "emq-hangs",
        ("emq2 (172.30.1.22:1883) hangs, for 12 s", "after a minute or more", "restart emqx"),
    ),
    "a node was taken out by a person": (
        replace(healthy(), **nodes("UP", "MAINT")),
        "warning",
        "emq-node-out",
        ("emq2 (172.30.1.22:1883)", "by a person (MAINT)", "enable emq2"),
    ),
    "an EMQ node hangs, unseen": (
        away("mqtt.connack_timeout", "no CONNACK within 75 s"),
        "broken",
        "emq-hangs",
        ("172.30.1.10:1884", "an EMQ node hangs", "can't tell which node", "8081", "restart emqx"),
    ),
    "a broker without HAProxy hangs": (
        at_port(1883, away("mqtt.connack_timeout", "no CONNACK within 75 s")),
        "broken",
        "emq-hangs",
        ("The MQTT broker at 172.30.1.10:1883", "it hangs", "restart the broker there"),
    ),
    "a broker without HAProxy closes each connection": (
        at_port(1883, away("mqtt.unavailable", NO_CONNACK)),
        "broken",
        "emq-gone",
        ("The MQTT broker at 172.30.1.10:1883", "closes them before it answers", "the broker's log"),
    ),
    "a broker without HAProxy has no power": (
        at_port(1883, away("mqtt.connect_failed", "timed out")),
        "broken",
        "mqtt-unreachable",
        ("The MQTT broker at 172.30.1.10:1883 can't be reached (timed out)", "ping", "start the broker"),
    ),
    "a broker without HAProxy is being connected to": (
        at_port(1883, away("")),
        "warning",
        "mqtt-connecting",
        ("not connected to the MQTT broker at 172.30.1.10:1883",),
    ),
    "HAProxy hangs": (
        away("mqtt.connack_timeout", "no CONNACK within 75 s", haproxy=HUNG_STATS, nodes=healthy().nodes),
        "broken",
        "haproxy-hangs",
        ("HAProxy at 172.30.1.10:1884 hangs", HUNG_STATS.url, "On the host 172.30.1.10", "restart haproxy"),
    ),
    "HAProxy hangs, and the bridge has just noticed": (
        away("mqtt.keepalive_timeout", haproxy=HUNG_STATS),
        "broken",
        "haproxy-hangs",
        ("restart haproxy",),
    ),
    "HAProxy hangs, and the connection still counts as live": (
        replace(healthy(), haproxy=HUNG_STATS),
        "warning",
        "haproxy-hangs",
        ("no message comes, although", "restart haproxy"),
    ),
    "an EMQ node hangs, and HAProxy's statistics are refused": (
        away("mqtt.connack_timeout", "no CONNACK within 75 s", haproxy=DOWN_STATS),
        "broken",
        "emq-hangs",
        ("an EMQ node hangs",),
    ),
    "both EMQ nodes are gone, HAProxy is asked": (
        away("mqtt.unavailable", NO_CONNACK, **nodes("DOWN", "DOWN")),
        "broken",
        "emq-all-down",
        ("Both EMQ nodes are down, says HAProxy", "172.30.1.21:1883", "172.30.1.22:1883", "restart emqx"),
    ),
    "both EMQ nodes are gone, HAProxy is not asked": (
        away("mqtt.unavailable", NO_CONNACK),
        "broken",
        "emq-gone",
        ("HAProxy at 172.30.1.10:1884", "no EMQ node is up", "both EMQ nodes", "[haproxy] is not set"),
    ),
    "both EMQ nodes are gone, HAProxy has not seen it": (
        away("mqtt.unavailable", NO_CONNACK, **nodes()),
        "broken",
        "emq-no-answer",
        ("calls emq1 (172.30.1.21:1883) and emq2", "Wait a minute", "restart emqx"),
    ),
    "EMQ is busy": (
        away("mqtt.unavailable", "Server busy"),
        "broken",
        "emq-busy",
        ("refuses connections for now (Server busy)", "Wait a minute"),
    ),
    "HAProxy refuses TCP": (
        away("mqtt.connect_failed", "Connection refused"),
        "broken",
        "mqtt-unreachable",
        ("HAProxy at 172.30.1.10:1884 can't be reached (Connection refused)", "restart haproxy"),
    ),
    "a broker without HAProxy refuses TCP": (
        at_port(1883, away("mqtt.connect_failed", "Connection refused")),
        "broken",
        "mqtt-unreachable",
        ("The MQTT broker at 172.30.1.10:1883 can't be reached (Connection refused)", "Start the broker"),
    ),
    "HAProxy's host is gone": (
        away("mqtt.connect_failed", "timed out", haproxy=DOWN_STATS, nodes=nodes()["nodes"]),
        "broken",
        "mqtt-unreachable",
        ("172.30.1.10:1884", "host is off", "do not answer either", "ping 172.30.1.10", "restart haproxy"),
    ),
    "HAProxy's name is unknown": (
        away("mqtt.connect_failed", "Name or service not known"),
        "broken",
        "mqtt-name-unknown",
        ('"172.30.1.10" of mqtt.host', "name server"),
    ),
    "a wrong password at EMQ": (
        away("mqtt.refused", "Bad user name or password", PAHO_REFUSED),
        "broken",
        "mqtt-refused",
        ("EMQ at 172.30.1.10:1884 refuses", "Bad user name or password", "Check mqtt.username and mqtt.pass"),
    ),
    "the MQTT password file is unreadable": (
        away("mqtt.refused", "cannot read /etc/pw: permission denied (run as root)"),
        "broken",
        "mqtt-refused",
        ("Cannot read /etc/pw", "Correct mqtt.password_file on the bridge's machine"),
    ),
    "TLS fails at EMQ": (
        away("mqtt.tls_failed", "certificate expired", "renew the certificate of haproxy"),
        "broken",
        "mqtt-tls",
        ("172.30.1.10:1884 (certificate expired)", "Renew the certificate of haproxy."),
    ),
    "no MQTT at the port": (
        away("mqtt.malformed_packet", "what answers is no MQTT broker"),
        "broken",
        "mqtt-protocol",
        ("172.30.1.10:1884 does not speak MQTT", "1884"),
    ),
    "a connection has just ended": (
        away("mqtt.closed", "Connection reset by peer"),
        "warning",
        "mqtt-connecting",
        ("172.30.1.10:1884", "Connection reset by peer", "Wait"),
    ),
    "a second bridge with the same client id": (
        rival(31.0),
        "broken",
        "client-id-taken",
        (
            'same client id "mqtt-kafka-bridge"',
            "another mqtt.client_id",
            "EMQ's dashboard, port 18083",
            "clean the session",
        ),
    ),
    "a tool had the client id for a moment": (
        rival(1200.0),
        "warning",
        "client-id-taken",
        ("20 min ago", "has not come back"),
    ),
    "subscriptions are refused": (
        replace(healthy(), mqtt=replace(healthy().mqtt, refused=("#", "$SYS/#"))),
        "broken",
        "subscription-refused",
        ('"#" and "$SYS/#"', "access rules"),
    ),
    "the session was lost": (
        happened("mqtt.session_lost", mqtt=replace(healthy().mqtt, sessions_lost=1)),
        "warning",
        "session-lost",
        ("20 s ago", "had queued for the session", LOST, "durable sessions"),
    ),
    "EMQX has dropped messages, and its queue is empty again": (
        replace(healthy(), queue=SessionQueue(0, 1000, 5000, 0, 32, dropped_age=40.0)),
        "warning",
        "emq-dropped",
        ("EMQX has dropped 5,000 messages", LOST.replace("is", "are"), "40 s ago", "max_mqueue_len"),
    ),
    "EMQX's API has been silent for long": (
        replace(healthy(), emqx=Neighbour("http://172.30.1.21:18083", 31.0), queue=None),
        "warning",
        "emqx-not-asked",
        ("http://172.30.1.21:18083 gives no useful answer",),
    ),
    "all EMQ nodes were taken out by a person": (
        away("mqtt.unavailable", NO_CONNACK, **nodes("MAINT", "MAINT")),
        "broken",
        "emq-node-out",
        ("All EMQ nodes were taken out", "emq1 (172.30.1.21:1883) and emq2", "gets no messages", "Enable"),
    ),
    "HAProxy's checks fail while messages flow": (
        replace(healthy(), **nodes("DOWN", "DOWN")),
        "warning",
        "emq-check-fails",
        ("finds no EMQ node up", "session is live", "emq1 (172.30.1.21:1883)", "haproxy.cfg"),
    ),
    "both EMQ nodes hang, and the session has not ended yet": (
        replace(flow(last_received_age=15.0), **nodes("DOWN", "DOWN")),
        "broken",
        "emq-all-down",
        ("Both EMQ nodes are down, says HAProxy",),
    ),
    "another client had the client id, and the bridge has not come back": (
        away("mqtt.taken_over", mqtt=replace(rival(900.0).mqtt, state="connecting", state_age=900.0)),
        "broken",
        "mqtt-connecting",
        ("not connected to EMQ behind 172.30.1.10:1884",),
    ),
    "a subscription was refused before the connection ended": (
        away("mqtt.subscribe_refused", "0x87"),
        "warning",
        "mqtt-connecting",
        ("not connected to EMQ behind 172.30.1.10:1884",),
    ),
    "a reload found what needs a restart": (
        replace(healthy(), restart_wanted=("mqtt.host", "kafka.bootstrap_servers")),
        "warning",
        "restart-wanted",
        ("need a restart: mqtt.host and kafka.bootstrap_servers.", "restart mqtt-kafka-bridge"),
    ),
    "EMQX's queue fills": (
        replace(healthy(), queue=SessionQueue(640, 1000, 0, 32, 32, full_in=240.0)),
        "warning",
        "emq-queue-fills",
        ("EMQX's queue", "640 of 1,000", "full in 4 min", "max_mqueue_len"),
    ),
    "EMQX's queue is nearly full": (
        replace(healthy(), queue=SessionQueue(990, 1000, 12, 32, 32, full_in=3.0)),
        "broken",
        "emq-queue-fills",
        ("990 of 1,000", "dropped 12 messages"),
    ),
    "one Kafka broker is dead": (
        kafka("live", up=2),
        "warning",
        "kafka-broker-down",
        ("Kafka broker 1 at 172.30.1.31:9092 is down", "2 of 3", "On the host 172.30.1.31", "restart kafka"),
    ),
    "all Kafka brokers died, and the one that was in sync last is not back": (
        stopped(StoppedTopic("iot", 2, 3, has_leader=False, awaits=(1,)), up=2),
        "broken",
        "kafka-no-leader",
        (
            "can't write to iot: 2 of 3 partitions have no leader and wait for Kafka broker 1 at 172.30.1.31",
            LOST,
            "Start Kafka on 172.30.1.31: sudo systemctl restart kafka",
        ),
    ),
    "two of three Kafka brokers died, and a topic wants two in sync": (
        stopped(StoppedTopic("iot.cellar", 1, 1, has_leader=True, awaits=(1, 2)), up=1, is_late=True),
        "broken",
        "kafka-no-leader",
        (
            "1 of 1 partition has no second in-sync replica",
            "waits for Kafka broker 1",
            "and Kafka broker 2 at",
        ),
    ),
    "a leader is alone, and Kafka takes its messages all the same": (
        stopped(StoppedTopic("iot.cellar", 1, 1, has_leader=True, awaits=(1,)), up=2),
        "warning",
        "kafka-broker-down",
        ("Messages flow through the others",),
    ),
    "Kafka elects no leader although its brokers run": (
        stopped(StoppedTopic("iot", 1, 3, has_leader=False, awaits=(1, 2)), up=3),
        "broken",
        "kafka-no-leader",
        ("1 of 3 partitions has no leader", "read their logs"),
    ),
    "two Kafka brokers are dead": (
        kafka("live", up=1),
        "broken",
        "kafka-broker-down",
        ("172.30.1.31:9092", "1 of 3", "may take no messages"),
    ),
    "all Kafka is gone": (
        STATES["kafka_down"](),
        "broken",
        "kafka-gone",
        ("172.30.1.31:9092", "172.30.1.33:9092", "disk", "64,290 messages", "22 h 30 min", "restart kafka"),
    ),
    "Kafka was never reached": (
        replace(
            healthy(),
            kafka=replace(healthy().kafka, state="connecting", state_age=30.0, brokers=()),
        ),
        "broken",
        "kafka-gone",
        ("172.30.1.31:9092,172.30.1.32:9092", "sudo mqtt-kafka-bridge check"),
    ),
    "no broker is reached at the address that Kafka tells for it": (
        kafka("live", up=0),
        "broken",
        "kafka-advertised",
        ("answers at 172.30.1.31:9092", "172.30.1.33:9092", "advertised.listeners", "bridge check"),
    ),
    "this machine has no thread for Kafka's client": (
        kafka("resting", "service.no_thread", "no further thread can be started now"),
        "broken",
        "kafka-no-thread",
        ("This machine allows the bridge no further thread", "TasksMax="),
    ),
    "a wrong password at Kafka": (
        kafka("resting", "kafka.authentication_failed", "SASL: authentication failed", "check the user"),
        "broken",
        "kafka-refused",
        (
            "Kafka at 172.30.1.31:9092",
            "user name or password",
            "kafka.password_file",
            "on the bridge's disk",
        ),
    ),
    "a wrong Kafka listener": (
        kafka("resting", "kafka.wrong_listener", "a TLS listener"),
        "broken",
        "kafka-listener",
        ("172.30.1.31:9092", "(a TLS listener)", "security.protocol"),
    ),
    "TLS fails at Kafka": (
        kafka("resting", "kafka.tls_failed", "expired", "renew kafka1's certificate"),
        "broken",
        "kafka-tls",
        ("172.30.1.31:9092", "renew kafka1's certificate".capitalize()),
    ),
    "a file for Kafka is unusable, while the producer works": (
        kafka("live", "kafka.files_unusable", "cannot read /etc/key", up=3),
        "warning",
        "kafka-files",
        ("cannot read /etc/key", "still flow"),
    ),
    "a topic is missing": (
        STATES["topic_missing"](),
        "broken",
        "topic-missing",
        ('topic "lamps" does not exist', "1,204 messages", "sudo mqtt-kafka-bridge topics --create"),
    ),
    "a topic is forbidden": (
        held("forbidden", "no permission to write", "kafka-acls.sh --add"),
        "broken",
        "topic-forbidden",
        ("iot.cellar", "no permission", "Allow WRITE"),
    ),
    "a topic is held": (
        held("refused", "not enough in-sync replicas"),
        "broken",
        "topic-held",
        ("iot.cellar", "not enough in-sync replicas", "7 messages"),
    ),
    "Kafka is late": (
        held("", "", state="spooling"),
        "warning",
        "kafka-late",
        (
            "does not confirm messages for topic iot.cellar in time",
            "No acknowledged message is lost",
            "If Kafka has just stopped",
            "brokers' disks",
        ),
    ),
    "Kafka takes no transaction": (
        transacting("kafka.transaction_lost", "no right to the group"),
        "warning",
        "kafka-late",
        ("takes no transaction", "no right to the group", "Allow the group"),
    ),
    "another bridge has the transactional id": (
        transacting(is_fenced=True),
        "broken",
        "kafka-fenced",
        ("Another bridge", "No acknowledged message is lost", "kafka.transactional_id"),
    ),
    "what waited goes to Kafka": (
        held("", "", state="draining", messages=2141),
        "warning",
        "catching-up",
        ("2,141 messages left, in about 10 s", "No action is needed"),
    ),
    "a message waits although all is up": (
        flow(oldest_undelivered_age=95.0),
        "warning",
        "delivery-late",
        ("waited 95 s", "172.30.1.31:9092"),
    ),
    "the disk is full while Kafka is gone": (
        spool("full", "/var has 5 bytes left, of which spool.keep_free = 9 stay free", disk_free=5),
        "broken",
        "disk-full",
        (
            "The disk of the bridge's machine is full",
            "/var/lib/mqtt-kafka-bridge",
            "Make room",
            "EMQ's queue",
        ),
    ),
    "the disk is full while all else works": (
        spool("unusable", "database or disk is full", healthy()),
        "warning",
        "disk-full",
        ("The disk of the bridge's machine is full", "still flow", "Make room"),
    ),
    "the disk is full, through which all messages must go": (
        spool("full", "/var has 5 bytes left, of which spool.keep_free = 9 stay free", transacting()),
        "broken",
        "disk-full",
        ("exactly-once", "takes none", "EMQ's queue", "Make room"),
    ),
    "the disk is unusable, through which all messages must go": (
        spool("unusable", "Input/output error", transacting("kafka.transaction_lost", "not on disk")),
        "broken",
        "spool-unusable",
        ("exactly-once", "takes none"),
    ),
    "the disk is too full for the spool": (
        spool("usable", "", healthy(), disk_free=400_000_000),
        "warning",
        "disk-full",
        ("400 MB free", "Make room"),
    ),
    "the spool is full by its own limit": (
        spool("full", "it holds 2000000000 bytes of spool.max_bytes = 2000000000"),
        "broken",
        "spool-full",
        ("spool.max_bytes = 2 GB", "Bring Kafka back"),
    ),
    "the spool is unusable": (
        spool("unusable", "Permission denied", way_out="chown it"),
        "broken",
        "spool-unusable",
        ("/var/lib/mqtt-kafka-bridge", "Permission denied", "Chown it."),
    ),
    "dead letters": (
        STATES["dead_letters"](),
        "warning",
        "dead-letters-removed",
        ("removed 4 dead letters for good", "sudo mqtt-kafka-bridge dead-letters list"),
    ),
    "one dead letter": (
        spool("usable", "", flow(dead_lettered={"too large": 1}), dead_letters=1),
        "warning",
        "dead-letters",
        ("1 message can't be delivered as it is", "too large", "dead-letters replay"),
    ),
    "QoS 0 is dropped": (
        replace(flow(dropped={"qos0_limit": 9}), lately=happened("qos0.dropped").lately),
        "warning",
        "qos0-dropped",
        ("9 QoS 0 messages", "QoS 1"),
    ),
    "a certificate expires": (
        certificate(5.0),
        "warning",
        "certificate-expires",
        ("mqtt.tls.cert_file expires in 5 d", "Renew"),
    ),
    "a certificate has expired": (
        certificate(-1.0),
        "broken",
        "certificate-expired",
        ("mqtt.tls.cert_file expired 24 h ago", "Renew"),
    ),
    "the clock is wrong": (
        replace(healthy(), clock_trusted=False),
        "warning",
        "clock-wrong",
        ("clock can't be trusted", "timedatectl"),
    ),
    "a reload was refused": (
        replace(healthy(), reload_trouble="mqtt.port: must be a number"),
        "warning",
        "reload-refused",
        ("changed nothing (mqtt.port: must be a number)", "systemctl reload"),
    ),
    "starting": (STATES["starting"](), "warning", "starting", ("starting for 0.8 s", "172.30.1.10:1884")),
    "stopping": (
        replace(away("mqtt.closed"), state="stopping"),
        "warning",
        "stopping",
        ("stopping", "systemctl start"),
    ),
    "the sums do not add up": (
        flow(unaccounted=3),
        "broken",
        "messages-unaccounted",
        ("3 messages unaccounted", "Report"),
    ),
    "connections end again and again": (
        replace(
            healthy(), happened=tuple(Happened(20.0 * n, "warning", "mqtt.closed", "") for n in range(1, 6))
        ),
        "warning",
        "mqtt-flapping",
        ("ended 5 times within 100 s", "Nothing is lost"),
    ),
    "the database was set aside": (
        happened("spool.set_aside"),
        "warning",
        "error-logged",
        ("spool.set_aside", "sqlite3"),
    ),
    "HAProxy's statistics are silent": (
        replace(healthy(), haproxy=DOWN_STATS),
        "warning",
        "haproxy-not-asked",
        ("http://172.30.1.10:8081/metrics", "can't know which EMQ nodes", "[haproxy]"),
    ),
    "EMQX's API is silent": (
        replace(healthy(), emqx=Neighbour("http://172.30.1.21:18083", None, "HTTP status 401")),
        "warning",
        "emqx-not-asked",
        ("http://172.30.1.21:18083", "HTTP status 401", "[emqx]"),
    ),
}


def test_dead_letters_of_an_earlier_run_get_no_reason_invented() -> None:
    whole = healthy()
    kept = replace(whole, spool=replace(whole.spool, dead_letters=3))
    assert "for this reason" not in diagnose(kept).sentence
    fresh = replace(kept, flow=replace(whole.flow, dead_lettered={"unroutable": 0, "too_large": 2}))
    assert "for this reason: too_large" in diagnose(fresh).sentence


def test_a_neighbour_that_is_asked_for_the_first_time_is_not_called_silent() -> None:
    asked = replace(
        healthy(), uptime=2.0, emqx=Neighbour("http://e"), haproxy=Neighbour("http://h"), nodes=()
    )
    assert diagnose(asked).level == "good"
    assert diagnose(replace(asked, uptime=40.0)).level == "warning"


@pytest.mark.parametrize("state", TABLE)
def test_the_sentence_names_host_and_remedy(state: str) -> None:
    snapshot, level, worst, texts = TABLE[state]
    found = diagnose(snapshot)
    assert (found.level, found.findings[0].id) == (level, worst), found.sentence
    assert [text for text in texts if text not in found.sentence] == [], found.sentence


def test_every_finding_has_its_row() -> None:
    ids = {finding.id for snapshot, *_ in TABLE.values() for finding in diagnose(snapshot).findings}
    assert _ids_in_the_source() - ids == {"bridge-stuck", "kafka-connecting", "spool-fills"}


def test_the_runbook_has_an_entry_for_each_finding() -> None:
    assert _ids_in_the_source() - pages.anchors(RUNBOOK) == set()


def test_a_disk_through_which_all_must_go_is_the_cause_and_kafka_is_not_blamed() -> None:
    whole = spool("unusable", "Input/output error", transacting("kafka.transaction_lost", "not on disk"))
    assert "kafka-late" not in {finding.id for finding in diagnose(whole).findings}


def test_all_is_well_tells_since_when_and_how_much_flows() -> None:
    found = diagnose(healthy())
    assert (found.level, found.findings) == ("good", ())
    assert found.sentence.startswith("All is well, since 2026-11-27 07:25 UTC (2 d 1 h).")
    assert "from EMQ behind 172.30.1.10:1884 to Kafka: 214 messages/s now" in found.sentence


def test_all_is_well_without_neighbours() -> None:
    assert diagnose(without_neighbours(healthy())).level == "good"


def test_no_time_of_day_is_told_by_a_clock_that_is_wrong() -> None:
    assert "UTC" not in diagnose(replace(healthy(), clock_trusted=False)).sentence


def test_a_wrong_clock_lets_no_certificate_expire() -> None:
    snapshot = replace(certificate(-1.0), clock_trusted=False)
    assert [finding.id for finding in diagnose(snapshot).findings] == ["clock-wrong"]


@pytest.mark.parametrize("age", [None, 1500.0])
def test_silence_of_the_devices_is_no_fault_and_is_said(age: float | None) -> None:
    found = diagnose(flow(last_received_age=age, received_rate=0.0))
    assert found.level == "good"
    assert "no message has come" in found.sentence
    assert "no fault if no device has published" in found.sentence


def test_a_loop_that_is_stuck_is_all_that_is_said() -> None:
    found = diagnose(STATES["kafka_down"](), age=41.0)
    assert [finding.id for finding in found.findings] == ["bridge-stuck"]
    assert "for 41 s" in found.sentence
    assert "systemctl restart mqtt-kafka-bridge" in found.sentence


def test_a_spool_that_fills_is_said_before_it_is_full() -> None:
    findings = {finding.id: finding for finding in diagnose(STATES["spool_filling"]()).findings}
    assert "full in about 27 min" in findings["spool-fills"].what


def test_a_start_waits_a_little_for_kafka() -> None:
    snapshot = replace(healthy(), kafka=replace(healthy().kafka, state="connecting", state_age=2.0))
    assert [(each.id, each.level) for each in diagnose(snapshot).findings] == [
        ("kafka-connecting", "warning")
    ]


def test_the_worst_comes_first_and_the_sentence_counts_the_others() -> None:
    snapshot = replace(STATES["kafka_down"](), clock_trusted=False, reload_trouble="x")
    found = diagnose(snapshot)
    assert [finding.id for finding in found.findings] == ["kafka-gone", "reload-refused", "clock-wrong"]
    assert found.sentence.endswith("There are 2 more findings.")


def test_an_old_answer_of_haproxy_blames_no_node() -> None:
    snapshot = replace(healthy(), **{**nodes("DOWN", "DOWN"), "haproxy": Neighbour("http://h/metrics", 31.0)})
    assert [finding.id for finding in diagnose(snapshot).findings] == ["haproxy-not-asked"]


@pytest.mark.parametrize("state", TABLE)
def test_no_loss_is_claimed_where_there_is_none(state: str) -> None:
    snapshot, _, worst, _ = TABLE[state]
    text = (
        diagnose(snapshot)
        .sentence.replace("No acknowledged message is lost", "")
        .replace("Nothing is lost", "")
    )
    assert LOST not in text or worst in ("session-lost", "bridge-stuck")


def test_no_character_of_another_program_moves_the_cursor() -> None:
    found = diagnose(away("mqtt.refused", "\x1b[2Jall is well\n", PAHO_REFUSED))
    assert found.sentence.isprintable()


# -- any snapshot --------------------------------------------------------------------------------------


_TEXT = st.text(alphabet="a b\n\x1b\u202e", max_size=5) | st.sampled_from(
    ["live", "away", "connecting", "resting", "held", "spooling", "draining", "full", "unusable", "usable"]
    + ["starting", "running", "stopping", "DOWN", "UP", "MAINT", NO_CONNACK, "no permission", "--create"]
    + [str(event) for event in Event]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_snapshot_has_a_diagnosis_and_every_finding_a_remedy(data: st.DataObject) -> None:
    snapshot = data.draw(st.sampled_from(sorted(STATES)).map(lambda name: STATES[name]()))
    snapshot = _shaken(snapshot, data)
    age = data.draw(st.floats(0, 1e6))
    _check(diagnose(snapshot, age))


_MAY_BE_NONE = {"asked_age", "full_in", "lasts", "last_received_age", "last_delivered_age", "taken_over_age"}


def _shaken(value: Any, data: st.DataObject, depth: int = 0) -> Any:
    """`value` with some of its fields replaced by any value of the same type."""
    chosen = data.draw(st.sets(st.sampled_from([each.name for each in fields(value)]), max_size=4))
    changes = {name: _other(getattr(value, name), data, depth) for name in sorted(chosen)}
    changes |= {name: data.draw(st.none() | st.floats()) for name in sorted(chosen & _MAY_BE_NONE)}
    return replace(value, **changes)


def _other(value: Any, data: st.DataObject, depth: int) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return _shaken(value, data, depth + 1)
    if isinstance(value, bool):
        return data.draw(st.booleans())
    if isinstance(value, str):
        return data.draw(_TEXT)
    if isinstance(value, int):
        return data.draw(st.integers(-5, 2**62))
    if isinstance(value, float):
        return data.draw(st.floats())
    if isinstance(value, tuple):
        if value and hasattr(value[0], "__dataclass_fields__"):
            return tuple(_shaken(each, data, depth + 1) for each in value[: data.draw(st.integers(0, 3))])
        return value
    return value


def _check(found: Diagnosis) -> None:
    assert found.sentence.strip()
    assert found.sentence.isprintable()
    assert (found.level == "good") == (not found.findings)
    for finding in found.findings:
        assert finding.what.strip()
        assert finding.remedy.strip()
        assert finding.runbook == finding.id
        assert finding.id in _ids_in_the_source()
    levels = [finding.level for finding in found.findings]
    assert levels == sorted(levels)  # "broken" before "warning"
    assert not levels or levels[0] == found.level


@cache
def _ids_in_the_source() -> set[str]:
    """The ids of all findings, read from the source of the conditions."""
    return set(re.findall(r'^ {8,}"([a-z0-9]+(?:-[a-z0-9]+)*)",$', _SOURCE, re.MULTILINE))


def test_the_events_that_a_diagnosis_looks_for_exist() -> None:
    named = re.findall(r'"((?:mqtt|kafka|spool|service|qos0)\.[a-z_0-9]+)"', _SOURCE)
    assert len(named) > 20
    assert set(named) - {str(event) for event in Event} == {"spool.keep_free"}  # a setting


def test_a_node_without_an_address_is_named_as_haproxy_names_it() -> None:
    snapshot = replace(
        healthy(), nodes=(BrokerNode("server1", "", False, "DOWN", 9.0, check="L4CON"), healthy().nodes[1])
    )
    sentence = diagnose(snapshot).sentence
    assert "EMQ node server1 is down" in sentence
    assert "`server server1` in haproxy.cfg" in sentence


_WITHOUT = [name for name in TABLE if name.startswith("a broker without HAProxy")]


@pytest.mark.parametrize("name", _WITHOUT)
def test_nothing_speaks_of_haproxy_to_people_who_have_none(name: str) -> None:
    found = diagnose(TABLE[name][0])
    assert not [each for each in found.findings if "HAProxy" in f"{each.what} {each.remedy}"]


def test_all_is_well_without_haproxy_either() -> None:
    found = diagnose(at_port(1883, without_neighbours(healthy())))
    assert "from the MQTT broker at 172.30.1.10:1883 to Kafka" in found.sentence
    assert "EMQ" not in found.sentence
