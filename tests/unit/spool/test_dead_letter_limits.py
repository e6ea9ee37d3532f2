"""[dead_letters]: letters beyond the limits are removed and logged; dead_letters.topic gets copies."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.delivery.counts import Counts
from bridge.delivery.dead_letter import DeadLetter, Selection
from bridge.delivery.lanes import Lane
from bridge.delivery.results import Removed
from bridge.delivery.room import Room
from bridge.delivery.sampled import Sampled
from bridge.delivery.spooling import Spooling
from bridge.kafka import dead_letter_topic as dead_letter_topic_module
from bridge.kafka.dead_letter_topic import DeadLetterTopic
from bridge.loop import Loop
from bridge.message import Message
from bridge.observe.many_topics import ManyTopics
from bridge.settings import DeadLetterSettings, KafkaSettings, SpoolSettings
from bridge.spool import dead_letter_ages as ages_module
from bridge.spool import dead_letter_limits as limits_module
from bridge.spool.dead_letter_limits import DeadLetterLimits
from bridge.spool.dead_letters import StoredLetters
from bridge.spool.schema import letter_bytes
from bridge.spool.spool import Spool
from bridge.spool.store import Store
from tests.harness.conditions import wait_until
from tests.harness.mock_kafka import MockKafka
from tests.harness.records import records
from tests.unit.kafka.test_producer import kafka

__all__ = ["kafka"]

DAY = 86_400
MB = 1_000_000


def letter(payload: bytes = b"x", reason: str = "too large") -> DeadLetter:
    message = Message.of(b"s/1", 2, 0, None, payload)
    message.timestamp = 1_700_000_000_000
    return DeadLetter(message, reason, "r", "iot")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The log entries of the spool and of the dead letter topic."""
    lines: list[dict[str, Any]] = []

    def log(event: str, **fields: Any) -> None:
        lines.append({"event": str(event), **fields})

    monkeypatch.setattr("bridge.spool.disk_thread.log", log)
    monkeypatch.setattr(dead_letter_topic_module, "log", log)
    return lines


def numbers(directory: Path) -> list[int]:
    return [each.number for page in StoredLetters(directory).pages(Selection()) for each in page]


def enforce(store: Store, bounds: DeadLetterLimits) -> list[Removed]:
    found = []
    while removed := store.keep_limits(bounds):
        found.append(removed)
    return found


def limits(**given: Any) -> DeadLetterLimits:
    return DeadLetterLimits(DeadLetterSettings(**given))


# -- bytes --------------------------------------------------------------------------------------------


def test_beyond_max_bytes_the_oldest_go_and_no_more_than_must(store: Store, tmp_path: Path) -> None:
    bounds = limits(max_bytes=MB)
    store.write((), [letter(bytes(300_000)) for _ in range(3)])
    assert enforce(store, bounds) == []
    store.write((), [letter(bytes(300_000))])
    assert enforce(store, bounds) == [Removed("dead_letters.max_bytes", 1, letter_bytes(300_016))]
    assert numbers(tmp_path) == [2, 3, 4]
    assert enforce(store, bounds) == []


def test_what_somebody_else_has_removed_makes_room(store: Store, tmp_path: Path) -> None:
    bounds = limits(max_bytes=MB)
    store.write((), [letter(bytes(300_000)) for _ in range(3)])
    enforce(store, bounds)
    letters = StoredLetters(tmp_path)
    letters.delete(next(iter(letters.pages(Selection(numbers=(2,))))))
    store.write((), [letter(bytes(300_000))])
    assert enforce(store, bounds) == []
    assert numbers(tmp_path) == [1, 3, 4]


def test_a_bound_that_was_lowered_is_reached_in_steps(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_module, "_AT_ONCE", 2)
    store.write((), [letter(bytes(500_000)) for _ in range(7)])
    assert [removed.letters for removed in enforce(store, limits(max_bytes=MB))] == [2, 2, 2]
    assert numbers(tmp_path) == [7]


@pytest.mark.parametrize("payload", [4, 100, 1000, 3000, 5000, 100_000])
def test_a_letter_counts_for_what_it_takes_of_the_file(store: Store, payload: int) -> None:
    before, count = store.size, max(20, 2_000_000 // payload // 10)
    store.write((), [letter(bytes(payload)) for _ in range(count)])
    taken = store.size - before
    (counted,) = store._db.execute("SELECT sum(size) FROM dead_letters").fetchone()
    assert 0.85 * taken <= counted <= 1.15 * taken


# -- age ----------------------------------------------------------------------------------------------


class Time:
    """This machine's clocks: monotonic seconds, the wall clock and whether NTP has set it."""

    def __init__(self) -> None:
        self.monotonic_seconds, self.wall, self.is_synchronised = 1000.0, 1_800_000_000.0, True

    def monotonic(self) -> float:
        return self.monotonic_seconds

    def time_ns(self) -> int:
        return round(self.wall * 1e9)

    def passes(self, seconds: float) -> None:
        self.monotonic_seconds += seconds
        self.wall += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(ages_module, "time", made)
    monkeypatch.setattr(ages_module, "is_synchronised", lambda: made.is_synchronised)
    return made


def test_a_clock_that_is_100_days_ahead_removes_nothing(store: Store, tmp_path: Path, clock: Time) -> None:
    clock.is_synchronised = False
    bounds = limits(max_age=30 * DAY)
    store.write((), [letter()])
    assert enforce(store, bounds) == []
    clock.wall += 100 * DAY
    assert enforce(store, bounds) == []
    clock.passes(DAY)
    assert enforce(store, bounds) == []
    assert numbers(tmp_path) == [1]


def test_a_letter_of_a_clock_that_was_behind_is_not_taken_for_old_once_it_is_right(
    store: Store, tmp_path: Path, clock: Time
) -> None:
    clock.is_synchronised, right = False, clock.wall
    clock.wall -= 100 * DAY
    bounds = limits(max_age=30 * DAY)
    store.write((), [letter()])
    enforce(store, bounds)
    clock.is_synchronised, clock.wall = True, right
    clock.passes(DAY)
    assert enforce(store, bounds) == []
    assert numbers(tmp_path) == [1]


def test_what_was_lived_through_counts_whatever_the_clock_shows(
    store: Store, tmp_path: Path, clock: Time
) -> None:
    clock.is_synchronised = False
    bounds = limits(max_age=30 * DAY)
    store.write((), [letter(), letter()])
    enforce(store, bounds)
    clock.passes(20 * DAY)
    store.write((), [letter()])
    enforce(store, bounds)
    clock.passes(11 * DAY)
    assert [(each.bound, each.letters) for each in enforce(store, bounds)] == [("dead_letters.max_age", 2)]
    assert numbers(tmp_path) == [3]


def test_what_was_lived_through_is_added_up_over_restarts(store: Store, tmp_path: Path, clock: Time) -> None:
    clock.is_synchronised = False
    store.write((), [letter()])
    for _ in range(30):  # a day each, and a night of which this machine knows nothing
        bounds = limits(max_age=30 * DAY)
        assert numbers(tmp_path) == [1]
        enforce(store, bounds)
        for _ in range(24):
            clock.passes(3600)
            enforce(store, bounds)
        clock.monotonic_seconds = 5.0
    assert numbers(tmp_path) == []


def test_ntp_s_word_then_and_now_counts_through_a_long_stop(
    store: Store, tmp_path: Path, clock: Time
) -> None:
    store.write((), [letter()])
    enforce(store, limits(max_age=30 * DAY))
    clock.monotonic_seconds = 5.0
    clock.wall += 31 * DAY
    clock.is_synchronised = False
    assert enforce(store, limits(max_age=30 * DAY)) == []
    clock.is_synchronised = True
    assert [each.letters for each in enforce(store, limits(max_age=30 * DAY))] == [1]


def test_the_ages_of_many_letters_take_little_room(store: Store, tmp_path: Path, clock: Time) -> None:
    bounds = limits(max_age=30 * DAY)
    for _ in range(3 * 31 * 24):
        store.write((), [letter()])
        enforce(store, bounds)
        clock.passes(3600)
    (kept,) = store._db.execute("SELECT value FROM facts WHERE name = 'dead_letter_ages'").fetchone()
    assert len(kept) < 10_000
    assert 30 * 24 <= len(numbers(tmp_path)) <= 31 * 24


# -- in the service -----------------------------------------------------------------------------------


def test_the_service_removes_says_and_counts(tmp_path: Path, said: list[dict[str, Any]]) -> None:
    loop = Loop()
    copied: list[DeadLetter] = []
    spool = Spool(
        SpoolSettings(keep_free=0),
        tmp_path,
        loop,
        "routes",
        lambda _: ("iot", ""),
        "me",
        DeadLetterSettings(max_bytes=MB),
        copied.extend,
    )
    counts = Counts()
    spooling = Spooling(
        spool,
        1.0,
        counts,
        lane=lambda topic: Lane(topic, Room(1, 1)),
        settle=lambda _: None,
        route=lambda *_: None,
        sampled=Sampled(),
        many_topics=ManyTopics(),
    )
    letters = [letter(bytes(400_000)) for _ in range(3)]
    for each in letters:
        each.message.sequence = 1
        spooling.keep_letter(DeadLetter(each.message, each.reason))

    def removed() -> int:
        spooling.turn(time.monotonic())
        loop.wait(0.01)
        spooling.take_results({})
        return counts.dead_letters_removed

    assert wait_until(removed, 20.0, "a letter is removed") == 1
    assert (counts.dead_lettered, len(copied)) == (3, 3)
    spool.close([])
    loop.close()
    assert said == [
        {
            "event": "deadletter.removed",
            "bound": "dead_letters.max_bytes",
            "letters": 1,
            "bytes": letter_bytes(400_012),
        }
    ]


# -- dead_letters.topic -------------------------------------------------------------------------------


@pytest.fixture
def new_topic(kafka: MockKafka) -> Iterator[Callable[[str], DeadLetterTopic]]:
    made: list[DeadLetterTopic] = []

    def new(topic: str) -> DeadLetterTopic:
        made.append(DeadLetterTopic(KafkaSettings(bootstrap_servers=kafka.bootstrap), topic))
        return made[-1]

    yield new
    for box in made:
        box.close()


def test_each_letter_is_produced_with_where_it_comes_from(
    new_topic: Callable[[str], DeadLetterTopic], kafka: MockKafka, said: list[dict[str, Any]]
) -> None:
    box = new_topic("dead")
    given = letter(b"21.5")
    box.post([given])
    box.post([DeadLetter(given.message, "no route")])
    first, second = wait_until(lambda: (r := records(kafka.bootstrap, "dead"))[1:] and r, 20.0, "two records")
    assert (first.key, first.value) == (b"s/1", b"21.5")
    found = dict(first.headers)
    assert abs(int(found.pop("dead-letter.time")) / 1000 - time.time()) < 60
    assert found == {
        "mqtt.topic": b"s/1",
        "dead-letter.reason": b"too large",
        "dead-letter.route": b"r",
        "dead-letter.kafka-topic": b"iot",
    }
    assert {name for name, _ in second.headers} == {"mqtt.topic", "dead-letter.reason", "dead-letter.time"}
    wait_until(lambda: not box._unreported, 10.0, "both are reported")
    assert said == []


def test_what_can_not_be_produced_is_said_once_a_minute(
    new_topic: Callable[[str], DeadLetterTopic],
    monkeypatch: pytest.MonkeyPatch,
    said: list[dict[str, Any]],
) -> None:
    box = new_topic("dead")
    monkeypatch.setattr(box._producer, "produce", lambda message: (message, 10, "too large"))
    box.post([letter(), letter()])
    assert [(line["event"], line["topic"], line["letters"]) for line in said] == [
        ("deadletter.not_produced", "dead", 1)
    ]
    assert "max.message.bytes" in said[0]["reason"]
    monkeypatch.setattr(box, "_say_at", 0.0)
    box.post([letter()])
    assert said[1]["letters"] == 2


def test_a_letter_whose_timestamp_is_refused_goes_without_one(
    new_topic: Callable[[str], DeadLetterTopic], kafka: MockKafka, said: list[dict[str, Any]]
) -> None:
    box = new_topic("dead.late")
    record = box._record(letter(b"21.5"))
    record.timestamp = 1_700_000_000_000
    box._count(1)
    box._producer.failed.append((record, 32, "Broker: Invalid timestamp"))
    box._take_reports(box._producer)
    (found,) = wait_until(lambda: records(kafka.bootstrap, "dead.late"), 20.0, "the letter")
    assert (found.value, found.timestamp) == (b"21.5", None)
    assert said == []


def test_a_password_that_was_replaced_is_read_with_the_next_letter(
    tmp_path: Path, said: list[dict[str, Any]]
) -> None:
    password = tmp_path / "password"
    password.write_text("sesame")
    sasl = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanisms": "PLAIN", "sasl.username": "bridge"}
    settings = KafkaSettings(bootstrap_servers="127.46.0.1:1", password_file=password, options=sasl)
    box = DeadLetterTopic(settings, "dead")
    first = box._producer
    box.post([letter()])
    assert box._producer is first
    password.unlink()
    box.post([letter()])
    assert box._producer is first, "there is no better producer yet"
    password.write_text("open sesame")
    box.post([letter()])
    assert box._producer is not first
    box.close()
    assert [(line["event"], line.get("letters")) for line in said] == [
        ("kafka.files_unusable", None),
        ("deadletter.not_produced", 2),
        ("deadletter.not_produced", 1),
    ]


def test_a_start_that_lacks_a_file_leaves_letters_on_disk_until_it_is_there(
    tmp_path: Path, said: list[dict[str, Any]]
) -> None:
    password = tmp_path / "password"
    sasl = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanisms": "PLAIN", "sasl.username": "bridge"}
    settings = KafkaSettings(bootstrap_servers="127.46.0.1:1", password_file=password, options=sasl)
    box = DeadLetterTopic(settings, "dead")
    box.post([letter()])
    assert [line["event"] for line in said] == ["kafka.files_unusable", "deadletter.not_produced"]
    password.write_text("sesame")
    box.post([letter()])
    assert not box._producer.is_broken
    box.close()


def test_a_producer_that_is_fatally_wrong_has_a_successor_with_the_next_letter(
    new_topic: Callable[[str], DeadLetterTopic], kafka: MockKafka
) -> None:
    box = new_topic("dead.again")
    box._producer.is_broken = True
    box.post([letter(b"21.5")])
    (record,) = wait_until(lambda: records(kafka.bootstrap, "dead.again"), 20.0, "the letter")
    assert record.value == b"21.5"


def test_what_is_not_confirmed_at_a_stop_is_said(said: list[dict[str, Any]]) -> None:
    box = DeadLetterTopic(KafkaSettings(bootstrap_servers="127.46.0.1:1"), "dead")
    box.post([letter(), letter()])
    box.close()
    assert [(line["event"], line["letters"]) for line in said] == [("deadletter.not_produced", 2)]
