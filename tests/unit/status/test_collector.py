"""The snapshot says what the parts really hold."""

import time
from dataclasses import dataclass, field
from enum import Enum

import pytest

from bridge.delivery.held_lanes import Why
from bridge.delivery.lanes import Lane, LaneState
from bridge.delivery.results import Hold, TopicAnswer, Verdict
from bridge.delivery.room import Room
from bridge.observe.events import Event, log
from bridge.observe.observations import SHORT, Observations
from bridge.observe.recent import RECENT, Recent
from bridge.settings import Settings
from bridge.status.collector import Collector
from bridge.status.snapshot import Kafka, Snapshot
from tests.unit.delivery.world import ROUTES, World

SETTINGS = Settings(mqtt={"host": "h"}, kafka={"bootstrap_servers": "k:9092"}, routes=ROUTES)


class _State(Enum):
    LIVE = "live"
    BACKING_OFF = "backing_off"


@dataclass
class _Mqtt:
    state: _State = _State.LIVE
    state_since: float = 0.0
    connects: int = 1
    disconnects: dict[str, int] = field(default_factory=lambda: {"closed": 2})
    protocol: str = "5"
    refused: tuple[str, ...] = ()
    bytes_read: int = 0
    certificates: dict[str, float] = field(default_factory=dict)


@dataclass
class _Brokers:
    any_up: bool = True
    ever_up: bool = True
    taken_at: float = 0.0
    known: tuple[()] = ()
    stopped: tuple[()] = ()


@dataclass
class _Kafka:
    brokers: _Brokers = field(default_factory=_Brokers)
    rests: bool = False
    producer_queue: int = 0
    rebuilds: int = 0
    transactional: None = None
    certificates: dict[str, float] = field(default_factory=dict)


@dataclass
class _Disk:
    state: str = "usable"
    state_since: float = 0.0
    why: str = ""
    way_out: str = ""
    commits: Observations = field(default_factory=lambda: Observations(SHORT))
    used: int = 0
    free: int = 10**12
    letters: int = 0
    letter_bytes: int = 0
    oldest: int = -1


class Seen:
    """A collector of a world, with a clock of its own."""

    def __init__(self) -> None:
        self.world = World()
        self.mqtt, self.kafka, self.disk = _Mqtt(), _Kafka(), _Disk()
        self.collector = Collector(SETTINGS, self.world.pipeline, self.mqtt, self.kafka, self.disk)
        self.now = self.collector._began

    def look(self, seconds: float = 1.0, *, is_read: bool = True) -> Snapshot:
        """The newest snapshot so many seconds later. `is_read`: somebody looks at the page all the time."""
        self.now += seconds
        if is_read:
            self.collector._read_at = self.now
        self.collector.turn(self.now, 0.001)
        assert self.collector.latest is not None
        return self.collector.latest


@pytest.fixture
def seen() -> Seen:
    RECENT._last_of.clear()  # other tests log too, some by a clock of their own
    return Seen()


def test_counts_are_by_qos_route_and_reason(seen: Seen) -> None:
    world = seen.world
    world.receive(qos=0)
    world.receive(qos=1, payload=b"four")
    world.receive(qos=2)
    world.receive(b"s/debug")
    world.receive(b"full/1", b"")
    world.answer()
    world.kafka.deliver()
    world.turn()
    flow = seen.look().flow
    assert flow.received_by_qos == (1, 3, 1)
    assert flow.received == 5
    assert flow.delivered == 3
    assert flow.delivered_bytes == 6
    assert flow.skipped == {"route_drops": 1, "retained": 0, "empty": 1, "other_subscription": 0}
    assert flow.dropped == {"qos0_limit": 0}
    routes = {route.name: route for route in seen.look().routes}
    assert routes["sensors"].delivered == 3
    assert routes["noise"].skipped == 1


def test_thousands_of_routes_are_looked_at_only_as_often_as_a_thousand_in_a_second(seen: Seen) -> None:
    few = seen.look().routes
    assert seen.look().routes is not few
    pipeline = seen.world.pipeline
    pipeline.routes = [route for route in pipeline.routes for _ in range(5000 // len(pipeline.routes))]
    many = seen.look().routes
    assert len(many) > 4000
    assert seen.look(3.0).routes is many
    assert seen.look(2.0).routes is not many


def test_a_dead_letter_has_its_reason(seen: Seen) -> None:
    world = seen.world
    world.receive()
    world.answer()
    world.kafka.fail(Verdict.INVALID)
    world.turn()
    world.turn()
    world.kafka.fail(Verdict.INVALID)
    for _ in range(3):
        world.turn()
    flow = seen.look().flow
    assert flow.dead_lettered["invalid"] == 1
    assert flow.unaccounted == 0


def test_a_message_that_a_defect_loses_is_unaccounted(seen: Seen) -> None:
    world = seen.world
    message = world.receive()
    assert seen.look().flow.unaccounted == 0
    lane = message.plan.lane
    lane.in_flight.pop(message, None)
    if message in lane.waiting:
        lane.waiting.remove(message)
    assert seen.look().flow.unaccounted == 1


def test_the_oldest_message_that_waits_has_its_age(seen: Seen) -> None:
    world = seen.world
    assert seen.look().flow.oldest_undelivered_age == 0.0
    world.receive()
    world.answer()
    seen.look()
    for _ in range(29):
        world.receive()
        seen.look()
    assert seen.look().flow.oldest_undelivered_age == pytest.approx(31, abs=1.1)
    world.kafka.deliver(1)
    world.turn()
    assert seen.look().flow.oldest_undelivered_age == pytest.approx(31, abs=1.1)
    world.kafka.deliver()
    world.turn()
    assert seen.look().flow.oldest_undelivered_age == 0.0


def test_an_outage_of_a_day_is_remembered_in_bounded_memory(seen: Seen) -> None:
    seen.world.receive()
    for _ in range(3):
        seen.look()
    for number in range(20_000):
        seen.collector._mark(seen.now + number, number + 2)
    assert len(seen.collector._marks) <= 4096
    seen.now += 20_000
    assert seen.look().flow.oldest_undelivered_age == pytest.approx(20_004, abs=10)


def test_a_held_topic_is_shown_with_its_reason(seen: Seen) -> None:
    world = seen.world
    world.receive()
    world.answer()
    world.kafka.fail(Verdict.NOT_NOW)
    world.turn()
    snapshot = seen.look()
    (held,) = snapshot.held
    assert (held.topic, held.state, held.messages, held.reason) == ("sensors", "held", 1, "why")
    assert held.kind == "refused"
    assert (snapshot.held_total, snapshot.waiting_total) == (1, 1)


def test_a_missing_topic_is_shown_with_the_command_that_creates_it(seen: Seen) -> None:
    world = seen.world
    world.receive()
    world.kafka.answers.append(TopicAnswer("sensors", exists=False, way_out="create it"))
    world.turn()
    (held,) = seen.look().held
    assert (held.kind, held.reason, held.way_out) == ("missing", "the topic does not exist", "create it")


def test_kafka_is_connecting_then_live_then_away_then_resting(seen: Seen) -> None:
    brokers = seen.kafka.brokers
    brokers.any_up = brokers.ever_up = False
    brokers.taken_at = seen.now + 1e6  # newer than what other tests have logged
    states = [seen.look().kafka.state]
    brokers.any_up = brokers.ever_up = True
    states.append(seen.look().kafka.state)
    brokers.any_up = False
    states.append(seen.look().kafka.state)
    seen.kafka.rests = True
    states.append(seen.look().kafka.state)
    assert states[1:] == ["live", "away", "resting"]
    assert seen.look(5.0).kafka.state_age == 5.0


def test_the_spool_lasts_at_the_rate_of_the_last_minute(seen: Seen) -> None:
    world = seen.world
    message = world.receive()
    message.plan.lane.rows.found(7, 100)
    world.counts.restored = 7
    seen.look()
    for _ in range(10):
        seen.disk.used += 1_000_000
        spool = seen.look().spool
    left = SETTINGS.spool.max_bytes - seen.disk.used
    assert spool.full_in == pytest.approx(left / 1_000_000, rel=0.02)


def test_the_forecast_of_an_outages_first_seconds_leaves_out_the_quiet_time_before(seen: Seen) -> None:
    world = seen.world
    for _ in range(50):
        seen.look()
    message = world.receive()
    message.plan.lane.rows.found(7, 100)
    world.counts.restored = 7
    for _ in range(4):
        seen.disk.used += 1_000_000
        assert seen.look().spool.full_in is None  # too early to tell
    for _ in range(4):
        seen.disk.used += 1_000_000
        spool = seen.look().spool
    left = SETTINGS.spool.max_bytes - seen.disk.used
    assert spool.full_in == pytest.approx(left / 1_000_000, rel=0.2)


def test_while_all_is_well_it_is_told_how_long_the_disk_would_last_without_kafka(seen: Seen) -> None:
    assert seen.look().spool.lasts is None
    for _ in range(60):
        for _ in range(10):
            seen.world.receive()
        seen.world.answer()
        seen.world.kafka.deliver()
        seen.world.turn()
        seen.mqtt.bytes_read += 10 * 200
        spool = seen.look().spool
    assert spool.full_in is None
    assert spool.lasts == pytest.approx(SETTINGS.spool.max_bytes / 2000, rel=0.1)


def test_the_history_holds_fifteen_minutes(seen: Seen) -> None:
    for _ in range(1000):
        snapshot = seen.look()
    assert len(snapshot.history.received_rate) == len(snapshot.history.spooled) == 180


def test_every_event_is_counted_from_the_start(seen: Seen) -> None:
    before = seen.look().events
    assert set(before) == set(Event)
    log(Event.MQTT_CONNECTING, host="h")  # DEBUG, which is not logged by default
    assert seen.look().events["mqtt.connecting"] == before["mqtt.connecting"] + 1


def test_the_newest_cause_is_the_trouble_whatever_its_level_is() -> None:
    recent = Recent()
    causes = frozenset({Event.MQTT_REFUSED, Event.MQTT_CONNECT_FAILED})
    recent.note(Event.MQTT_REFUSED, Event.MQTT_REFUSED.level, {"reason": "password"})
    recent.note(Event.MQTT_CONNECT_FAILED, Event.MQTT_CONNECT_FAILED.level, {"reason": "refused"})
    trouble = recent.trouble(causes, frozenset(), since=0.0)
    assert trouble is not None
    assert trouble.event == Event.MQTT_CONNECT_FAILED
    assert recent.trouble(causes, frozenset(), since=trouble.at + 1e9) is None


def test_what_follows_from_a_cause_does_not_hide_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    recent = Recent()
    sets = frozenset({Event.MQTT_REFUSED}), frozenset({Event.MQTT_CLOSED})

    def seen_after(seconds: float) -> str:
        monkeypatch.setattr(time, "monotonic", lambda: 1000.0 + seconds)
        recent.note(Event.MQTT_CLOSED, Event.MQTT_CLOSED.level, {"reason": "closed"})
        trouble = recent.trouble(*sets, since=0.0)
        return trouble.event if trouble else ""

    assert seen_after(-1.0) == Event.MQTT_CLOSED  # there is no cause
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    recent.note(Event.MQTT_REFUSED, Event.MQTT_REFUSED.level, {"reason": "password"})
    assert seen_after(150.0) == Event.MQTT_REFUSED
    assert seen_after(151.0) == Event.MQTT_CLOSED  # a cause that lasted would have been logged again


def test_the_last_events_are_few_and_short() -> None:
    recent = Recent()
    for _ in range(50):
        recent.note("a", Event.MQTT_LIVE.level, {"topic": b"x" * 100_000, "line": "a\nb\x1b"})
    last = recent.last()
    assert len(last) == 20
    assert max(len(noted.text) for noted in last) <= 300
    recent.note("a", Event.MQTT_LIVE.level, {"line": "a\x1b"})
    assert "\x1b" not in recent.last()[0].text


def test_the_reason_of_the_last_trouble_is_shown_until_live(seen: Seen) -> None:
    seen.mqtt.state = _State.BACKING_OFF
    log(Event.MQTT_REFUSED, reason="not authorised", way_out="set the password")
    mqtt = seen.look().mqtt
    assert (mqtt.trouble, mqtt.reason, mqtt.way_out) == ("mqtt.refused", "not authorised", "set the password")
    seen.mqtt.state, seen.mqtt.state_since = _State.LIVE, RECENT.last()[0].at + 1
    assert seen.look().mqtt.trouble == ""


def test_where_nobody_looks_and_nothing_comes_a_snapshot_is_made_every_five_seconds(seen: Seen) -> None:
    made = {seen.look(is_read=False).made for _ in range(60)}
    assert len(made) in (12, 13)
    seen.world.receive()
    assert seen.look(0.01, is_read=False).made == seen.now  # at once, so ages are right
    seen.world.receive()
    assert seen.look(is_read=False).made == seen.now


def test_an_idle_snapshot_waits_a_moment_for_a_turn_that_comes_anyway(seen: Seen) -> None:
    for _ in range(30):
        seen.look(is_read=False)
    made = seen.look(5.0, is_read=False).made
    assert made == seen.now
    assert seen.collector.turn(seen.now, 0.0) == pytest.approx(5.5)
    assert seen.look(4.4, is_read=False).made == made
    assert seen.look(0.2, is_read=False).made == seen.now
    assert seen.look(5.5, is_read=False).made == seen.now, "a second later at the latest"


def test_while_somebody_looks_a_snapshot_is_made_each_second(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: seen.now)
    for _ in range(60):
        seen.look(is_read=False)
    assert seen.collector.read() is seen.collector.latest
    for _ in range(5):
        seen.look(is_read=False)
    for _ in range(10):
        assert seen.look(is_read=False).made == seen.now


def test_the_history_has_a_point_for_each_five_seconds_whatever_the_pace_is(seen: Seen) -> None:
    for _ in range(100):
        seen.look(is_read=False)
    assert len(seen.look().history.received_rate) in (19, 20)
    seen.look(3600.0)  # the loop has hung
    assert len(seen.look(5.0).history.received_rate) == 180


def test_a_rate_is_of_the_last_ten_seconds_also_after_a_silence(seen: Seen) -> None:
    for _ in range(60):
        seen.look(is_read=False)
    for _ in range(30):
        seen.world.receive()
    assert seen.look(0.5).flow.received_rate == pytest.approx(30 / 10, rel=0.5)


def test_a_topic_that_was_created_is_no_longer_called_missing_while_it_drains(seen: Seen) -> None:
    world = seen.world
    world.receive()
    world.kafka.answers.append(TopicAnswer("sensors", exists=False, way_out="create it"))
    world.turn()
    (lane,) = world.pipeline.held.lanes
    lane.late = True
    assert lane.ask_if_due(time.monotonic() + 60.0)
    assert seen.look().held[0].kind == "missing"  # it is asked about again
    world.answer()
    world.turn()  # its message is read from disk
    (held,) = seen.look().held
    assert (held.state, held.kind, held.reason) == ("spooling", "", "")


def test_a_held_topic_stands_before_the_many_that_wait(seen: Seen) -> None:
    held = seen.world.pipeline.held
    for number in range(60):
        lane = Lane(f"waits-{number}", Room(1, 1))
        lane.state, lane.rows.stored = LaneState.SPOOLING, 1
        held._lanes[lane] = None
    missing = Lane("missing", Room(1, 1))
    missing.state = LaneState.HELD
    held._lanes[missing] = Why(Hold.MISSING, "the topic does not exist")
    shown, held_total, _ = seen.collector._held(seen.now, held.lanes)
    assert (len(shown), shown[0].topic, held_total) == (50, "missing", 1)


def _kafka(seen: Seen, later: float = 0.0) -> Kafka:
    """Kafka as it is now by the clock of the log, or so many seconds later. Brokers answer."""
    seen.kafka.brokers.taken_at = time.monotonic() + 1e6
    return seen.collector.make(time.monotonic() + later).kafka


def test_a_refused_login_is_told_although_older_connections_still_deliver(seen: Seen) -> None:
    assert _kafka(seen).trouble == ""
    log(Event.KAFKA_AUTHENTICATION_FAILED, reason="wrong", way_out="correct it")
    kafka = _kafka(seen)
    assert (kafka.state, kafka.trouble, kafka.reason) == ("live", "kafka.authentication_failed", "wrong")
    assert _kafka(seen, 100.0).trouble == ""  # a refusal that lasts would have been logged again


def test_a_file_that_is_unusable_is_told_until_a_right_one_was_read(seen: Seen) -> None:
    assert _kafka(seen).trouble == ""
    log(Event.KAFKA_FILES_UNUSABLE, reason="half a certificate")
    assert _kafka(seen, 5000.0).trouble == "kafka.files_unusable"
    log(Event.KAFKA_FILES_READ)
    assert _kafka(seen).trouble == ""


def test_a_login_that_was_refused_before_kafka_was_live_is_history(seen: Seen) -> None:
    seen.kafka.rests = True
    log(Event.KAFKA_AUTHENTICATION_FAILED, reason="wrong")
    assert _kafka(seen).trouble == "kafka.authentication_failed"
    seen.kafka.rests = False
    assert _kafka(seen).trouble == ""


def test_a_machine_without_threads_is_why_kafka_rests(seen: Seen) -> None:
    assert _kafka(seen).trouble == ""
    log(Event.SERVICE_NO_THREAD, reason="none left")
    seen.kafka.rests = True
    assert _kafka(seen).trouble == "service.no_thread"
    seen.kafka.rests = False
    log(Event.SERVICE_NO_THREAD, reason="none left")  # perhaps for another part of the bridge
    assert _kafka(seen).trouble == ""


def test_a_lost_session_is_remembered_whatever_is_logged_after_it(seen: Seen) -> None:
    log(Event.MQTT_SESSION_LOST)
    for _ in range(30):
        log(Event.SPOOL_PROGRESS, spooled=1)
    seen.now = max(seen.now, time.monotonic())
    snapshot = seen.look()
    assert "mqtt.session_lost" not in {each.event for each in snapshot.happened}
    assert [each.event for each in snapshot.lately] == ["mqtt.session_lost"]
    seen.now += 3600.0
    assert seen.look().lately == ()
