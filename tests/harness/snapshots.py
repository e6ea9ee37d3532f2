"""Snapshots in named states, made by hand: for tests of what shows a snapshot, and of what it means.

    from tests.harness.snapshots import STATES, healthy

Each state is a function that returns a new snapshot. `made` is the monotonic time of the call.
"""

import time
from collections.abc import Callable
from dataclasses import replace

from bridge.status.snapshot import (
    BrokerNode,
    Certificate,
    Flow,
    Happened,
    HeldTopic,
    Histogram,
    History,
    Kafka,
    KafkaBroker,
    Mqtt,
    Neighbour,
    Route,
    SessionQueue,
    Snapshot,
    Spool,
)

_MB = 1_000_000
_GB = 1_000_000_000
_STEPS = 180  # of History: 15 minutes


def _wave(middle: float, width: float, at: int) -> float:
    """A rate that moves a little, the same at each call."""
    return round(middle + width * (((at * 7919) % 101) / 100 - 0.5), 2)


def healthy() -> Snapshot:
    """Messages flow, nothing waits, and all neighbours answer."""
    day = 86_400.0
    rates = tuple(_wave(212.0, 36.0, at) for at in range(_STEPS))
    return Snapshot(
        version="0.2.0",
        made_at="2026-11-29T08:30:12Z",
        made=time.monotonic(),
        uptime=6 * day + 7_260,
        state="running",
        clock_trusted=True,
        mqtt=Mqtt(
            host="172.30.1.10",
            port=1884,
            client_id="mqtt-kafka-bridge",
            protocol="5",
            state="live",
            state_age=2 * day + 3_900,
            connects=3,
            disconnects={"closed": 2},
        ),
        kafka=Kafka(
            bootstrap_servers="172.30.1.31:9092,172.30.1.32:9092,172.30.1.33:9092",
            state="live",
            state_age=6 * day + 7_200,
            brokers=tuple(
                KafkaBroker(number, f"172.30.1.3{number}:9092", True, 6 * day + 7_200, 0.0042)
                for number in (1, 2, 3)
            ),
            producer_queue=2,
        ),
        spool=Spool(
            path="/var/lib/mqtt-kafka-bridge/spool.db",
            state="usable",
            state_age=6 * day + 7_258,
            bytes_used=61_440,
            bytes_limit=2 * _GB,
            disk_free=23 * _GB,
            disk_keep_free=500 * _MB,
            lasts=94_000.0,
        ),
        flow=Flow(
            received=112_384_210,
            received_by_qos=(1_024, 112_380_184, 3_002),
            received_bytes=11_238 * _MB,
            restored=118,
            delivered=112_384_310,
            delivered_bytes=11_237 * _MB,
            in_flight=2,
            in_flight_limit=100,
            spooled_total=40_211,
            joined=7,
            skipped={"drop": 16},
            received_rate=214.3,
            delivered_rate=214.1,
            oldest_undelivered_age=0.004,
            last_received_age=0.003,
            last_delivered_age=0.006,
            delivery_seconds=Histogram((0.01, 0.1, 1.0), (90, 99, 100, 100), 0.7),
            acknowledge_by_kafka_seconds=Histogram((0.01, 0.1, 1.0), (90, 99, 100, 100), 0.7),
            acknowledge_by_disk_seconds=Histogram((0.01, 0.1, 1.0), (0, 0, 0, 0), 0.0),
        ),
        routes=(
            Route("temperatures", "sensors/{site}/{device}/temp", "iot.{site}", 98_220_104),
            Route("lamps", "lamps/+/state", "lamps", 14_164_206),
            Route("noise", "debug/#", "", 0, 16),
        ),
        haproxy=Neighbour("http://172.30.1.10:8081/metrics?scope=server", 1.2),
        nodes=(
            BrokerNode("emq1", "172.30.1.21:1883", True, "UP", 9 * day, 214),
            BrokerNode("emq2", "172.30.1.22:1883", True, "UP", 9 * day, 201),
        ),
        emqx=Neighbour("http://172.30.1.21:18083", 2.1),
        queue=SessionQueue(length=0, limit=1_000, dropped=0, window=2, window_limit=32),
        certificates=(Certificate("Kafka's", time.time() + 220 * day),),
        happened=(
            Happened(2 * day + 3_900, "info", "mqtt.live", "The session with 172.30.1.10 is live."),
            Happened(
                2 * day + 3_901,
                "warning",
                "mqtt.closed",
                "172.30.1.10 closed the connection; it is made anew.",
            ),
            Happened(6 * day + 7_260, "info", "service.started", "The bridge started."),
        ),
        events={"mqtt.live": 3, "mqtt.closed": 2, "service.started": 1},
        history=History(
            5.0,
            rates,
            tuple(_wave(212.0, 30.0, at + 3) for at in range(_STEPS)),
            tuple(round(0.004 + (at % 9) / 1000, 3) for at in range(_STEPS)),
            (0,) * _STEPS,
        ),
        loop_turn_seconds=Histogram((0.001, 0.01), (950, 1000, 1000), 0.4),
    )


def starting() -> Snapshot:
    """The first second: no broker has answered, nothing is configured that a neighbour could tell."""
    whole = healthy()
    return replace(
        whole,
        uptime=0.8,
        state="starting",
        mqtt=replace(whole.mqtt, state="connecting", state_age=0.7, connects=0, disconnects={}),
        kafka=replace(whole.kafka, state="connecting", state_age=0.8, brokers=(), producer_queue=0),
        flow=Flow(in_flight_limit=100),
        routes=tuple(replace(route, delivered=0, skipped=0) for route in whole.routes),
        haproxy=None,
        nodes=(),
        emqx=None,
        queue=None,
        certificates=(),
        happened=(Happened(0.8, "info", "service.starting", "The bridge starts."),),
        events={"service.starting": 1},
        history=History(),
    )


def one_emq_down() -> Snapshot:
    """HAProxy says that emq2 is down; messages flow through emq1."""
    whole = healthy()
    first, second = whole.nodes
    return replace(
        whole,
        nodes=(
            replace(first, sessions=415),
            replace(second, is_up=False, status="DOWN", state_age=95.0, sessions=0, check="L4CON"),
        ),
    )


def emq_down() -> Snapshot:
    """Both EMQ nodes are down: HAProxy closes the bridge's connection, and nothing is received."""
    whole = healthy()
    zeros = (0.0,) * 26
    history = whole.history
    return replace(
        whole,
        mqtt=replace(
            whole.mqtt,
            state="backing_off",
            state_age=128.0,
            trouble="mqtt.unavailable",
            reason="172.30.1.10 closed the connection before CONNACK",
            way_out="start EMQ; HAProxy closes connections while no EMQ node is up",
        ),
        nodes=tuple(
            replace(node, is_up=False, status="DOWN", state_age=130.0, sessions=0) for node in whole.nodes
        ),
        emqx=Neighbour("http://172.30.1.21:18083", 131.0, "no answer: connection refused"),
        queue=None,
        flow=replace(
            whole.flow,
            in_flight=0,
            delivered=whole.flow.delivered + 2,
            received_rate=0.0,
            delivered_rate=0.0,
            oldest_undelivered_age=0.0,
            last_received_age=129.0,
            last_delivered_age=129.0,
        ),
        happened=(
            Happened(
                61.0, "warning", "mqtt.unavailable", "172.30.1.10 closed the connection before CONNACK."
            ),
            Happened(128.0, "warning", "mqtt.closed", "172.30.1.10 closed the connection."),
            *whole.happened,
        ),
        history=replace(
            history,
            received_rate=history.received_rate[:-26] + zeros,
            delivered_rate=history.delivered_rate[:-26] + zeros,
            oldest_undelivered_age=history.oldest_undelivered_age[:-26] + zeros,
        ),
    )


def kafka_down() -> Snapshot:
    """No Kafka broker is up; the bridge writes to disk and acknowledges."""
    whole = healthy()
    waits = 64_290
    history = whole.history
    return replace(
        whole,
        kafka=replace(
            whole.kafka,
            state="away",
            state_age=302.0,
            brokers=tuple(
                replace(broker, is_up=False, state_age=302.0, round_trip_p99=None)
                for broker in whole.kafka.brokers
            ),
            producer_queue=100,
            trouble="kafka.all_brokers_down",
            reason="172.30.1.31:9092: connection refused",
            way_out="start Kafka; the messages wait on this machine's disk",
        ),
        spool=replace(whole.spool, messages=waits, bytes_used=7_400_000, full_in=81_000.0),
        flow=replace(
            whole.flow,
            received=whole.flow.received + waits,
            in_flight=2,
            spooled=waits,
            spooled_total=whole.flow.spooled_total + waits,
            delivered_rate=0.0,
            oldest_undelivered_age=301.0,
            last_delivered_age=301.4,
        ),
        held=(
            HeldTopic("iot.cellar", "held", 301.0, 51_204, "no broker answers", "start Kafka", "refused"),
            HeldTopic("lamps", "held", 301.0, 13_088, "no broker answers", "start Kafka", "refused"),
        ),
        waiting_total=2,
        happened=(
            Happened(301.0, "warning", "spool.late", "Kafka does not confirm; messages go to disk."),
            Happened(302.0, "warning", "kafka.all_brokers_down", "The bridge can reach no Kafka broker."),
            *whole.happened,
        ),
        history=replace(
            history,
            delivered_rate=history.delivered_rate[:-60] + (0.0,) * 60,
            oldest_undelivered_age=history.oldest_undelivered_age[:-60]
            + tuple(5.0 * at for at in range(1, 61)),
            spooled=history.spooled[:-60] + tuple(1_071 * at for at in range(1, 61)),
        ),
    )


def one_kafka_down() -> Snapshot:
    """One Kafka broker of three is down; the others take its partitions over."""
    whole = healthy()
    first, second, third = whole.kafka.brokers
    down = replace(third, is_up=False, state_age=47.0, round_trip_p99=None)
    return replace(whole, kafka=replace(whole.kafka, brokers=(first, second, down)))


def spool_filling() -> Snapshot:
    """Kafka is away for hours, and the disk's limit is near."""
    whole = kafka_down()
    waits = 15_800_000
    return replace(
        whole,
        kafka=replace(whole.kafka, state_age=72_400.0),
        spool=replace(whole.spool, messages=waits, bytes_used=1_840_000_000, full_in=1_620.0),
        flow=replace(
            whole.flow,
            received=whole.flow.received + waits - whole.flow.spooled,
            spooled=waits,
            oldest_undelivered_age=72_399.0,
            last_delivered_age=72_399.0,
        ),
        history=replace(
            whole.history,
            delivered_rate=(0.0,) * _STEPS,
            oldest_undelivered_age=tuple(71_500.0 + 5 * at for at in range(_STEPS)),
            spooled=tuple(waits - 1_070 * (_STEPS - at) for at in range(_STEPS)),
        ),
    )


def spool_full() -> Snapshot:
    """The spool is full: the bridge acknowledges no more, and EMQ's queue fills."""
    whole = spool_filling()
    return replace(
        whole,
        spool=replace(
            whole.spool,
            state="full",
            state_age=44.0,
            bytes_used=2 * _GB,
            full_in=0.0,
            reason="spool.max_bytes is reached",
            way_out="bring Kafka back, or raise spool.max_bytes",
        ),
        flow=replace(whole.flow, in_flight=100, received=whole.flow.received + 98, received_rate=0.0),
        queue=SessionQueue(length=812, limit=1_000, dropped=0, window=32, window_limit=32, full_in=8.7),
    )


def queue_filling() -> Snapshot:
    """EMQX's queue for the session is nearly full, and has already dropped messages."""
    whole = healthy()
    return replace(
        whole,
        queue=SessionQueue(length=940, limit=1_000, dropped=118, window=32, window_limit=32, full_in=4.0),
    )


def dead_letters() -> Snapshot:
    """Kafka has refused messages for ever; they are dead letters on disk."""
    whole = healthy()
    return replace(
        whole,
        spool=replace(whole.spool, dead_letters=37, dead_letter_bytes=48_000_000),
        flow=replace(
            whole.flow,
            received=whole.flow.received + 41,
            dead_lettered={"too large": 37, "no route": 4},
            dead_letters_removed=4,
        ),
        happened=(
            Happened(
                340.0,
                "error",
                "kafka.refused",
                "Kafka refused a message of 1.3 MB for lamps: it is too large.",
            ),
            *whole.happened,
        ),
    )


def topic_missing() -> Snapshot:
    """One route's topic does not exist; its messages wait on disk, all others flow."""
    whole = healthy()
    waits = 1_204
    return replace(
        whole,
        spool=replace(whole.spool, messages=waits, bytes_used=380_000, full_in=5_000_000.0),
        flow=replace(
            whole.flow,
            received=whole.flow.received + waits,
            spooled=waits,
            oldest_undelivered_age=611.0,
        ),
        held=(
            HeldTopic(
                "lamps",
                "held",
                611.0,
                waits,
                "the topic does not exist",
                "sudo mqtt-kafka-bridge topics --create",
                "missing",
            ),
        ),
        held_total=1,
        waiting_total=1,
    )


def wrong_password() -> Snapshot:
    """EMQ refuses the bridge's password."""
    whole = emq_down()
    return replace(
        whole,
        mqtt=replace(
            whole.mqtt,
            trouble="mqtt.refused",
            reason="bad user name or password",
            way_out="correct mqtt.username and mqtt.password_file",
        ),
        nodes=healthy().nodes,
        emqx=healthy().emqx,
    )


def without_neighbours() -> Snapshot:
    """A broker without a balancer, and no monitoring of it: the smallest settings."""
    return replace(healthy(), haproxy=None, nodes=(), emqx=None, queue=None, certificates=())


STATES: dict[str, Callable[[], Snapshot]] = {
    state.__name__: state
    for state in (
        healthy,
        starting,
        one_emq_down,
        emq_down,
        kafka_down,
        one_kafka_down,
        spool_filling,
        spool_full,
        queue_filling,
        dead_letters,
        topic_missing,
        wrong_password,
        without_neighbours,
    )
}
