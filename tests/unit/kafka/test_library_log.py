"""librdkafka's own lines: the one that comes at nearly every start, and the silence for commands."""

import logging
from collections.abc import Iterator
from unittest.mock import ANY

import pytest

from bridge.kafka import library_log
from bridge.kafka.library_log import HealsItself
from bridge.observe.events import Event

LINE = (
    "GETPID [rdkafka#producer-2] [thrd:main]: Failed to acquire idempotence PID from broker k1:9092/1:"
    " Broker: Coordinator load in progress: retrying"
)


class Log:
    """The filter, with a clock that the test moves. `said`: what the bridge itself logs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.said: list[tuple[Event, str, str]] = []
        monkeypatch.setattr(
            library_log, "log", lambda event, reason, way_out: self.said.append((event, reason, way_out))
        )
        self._filter = HealsItself(lambda: self.now)

    def producer_opens(self) -> None:
        self._filter.ends()

    def level_of(self, text: str) -> int:
        record = logging.LogRecord("librdkafka", logging.WARNING, "", 0, text, (), None)
        assert self._filter.filter(record)
        return record.levelno

    def lines_until(self, end: float, line: str = LINE) -> None:
        while self.now < end:
            self.level_of(line)
            self.now += 0.5


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    return Log(monkeypatch)


def test_at_a_start_a_late_producer_id_is_no_warning(log: Log) -> None:
    assert log.level_of(LINE) == logging.DEBUG
    log.lines_until(1009.0)
    assert not log.said


def test_a_producer_id_that_does_not_come_is_said_once_a_minute_with_the_way_out(log: Log) -> None:
    log.lines_until(1060.0)
    assert log.said == [(Event.KAFKA_ERROR, ANY, ANY)]
    assert "no producer id for 10 s" in log.said[0][1]
    assert log.said[0][1].endswith("Coordinator load in progress")
    assert log.said[0][2].startswith("Kafka's controllers give these ids")
    log.lines_until(1080.0)
    assert len(log.said) == 2


def test_with_delivery_exactly_once_the_coordinator_is_named(log: Log) -> None:
    line = LINE.replace("idempotence", "transactional")
    assert log.level_of(line) == logging.DEBUG
    log.lines_until(1009.0, line)
    assert not log.said
    log.lines_until(1060.0, line)
    assert log.said == [(Event.KAFKA_ERROR, ANY, ANY)]
    assert log.said[0][1].endswith("Coordinator load in progress")
    assert log.said[0][2].startswith("the transaction coordinator")


def test_each_wait_begins_anew(log: Log) -> None:
    for _ in range(3):
        log.lines_until(log.now + 9.0)
        log.now += 60.0
    assert not log.said


def test_a_producer_that_got_its_id_ends_the_wait(log: Log) -> None:
    """Each producer that replaces a lost one may wait some seconds for the end of the old transaction."""
    for _ in range(10):
        log.lines_until(log.now + 5.0)
        log.producer_opens()
    assert not log.said


@pytest.mark.parametrize("leader", ["1", "-1"])
def test_a_leader_that_is_not_known_yet_is_no_warning(leader: str, log: Log) -> None:
    line = (
        "METADATAUPDATE [bridge#producer-1] [thrd:main]: Partition test.1(mBKPLrgcTO6Ui48qJZW2zg)[1]:"
        f" new leader{leader} not found in cache"
    )
    assert log.level_of(line) == logging.DEBUG
    assert not log.said


def test_other_lines_keep_their_level(log: Log) -> None:
    assert log.level_of("CONFWARN: another") == logging.WARNING
    assert not log.said


def test_the_services_logger_has_the_filter_once() -> None:
    first, second = library_log.of_the_service(), library_log.of_the_service()
    assert first is second
    assert sum(isinstance(each, HealsItself) for each in first.filters) == 1
