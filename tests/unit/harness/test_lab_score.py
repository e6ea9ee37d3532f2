"""What the lab counts as lost, and what only waits. During a run a message is lost if a later message of the
same device overtook it.
"""

from pathlib import Path
from typing import Any

import pytest

from bridge.status.diagnosis import diagnose
from bridge.status.document import document
from tests.harness.brokers import TwoDoors
from tests.harness.host import Network
from tests.harness.lab.chain import spooled
from tests.harness.lab.run import Outcome
from tests.harness.lab.score import Score, Scoreboard, overtaken
from tests.harness.snapshots import kafka_down


def ids(*numbers: int, device: str = "d01") -> set[str]:
    return {f"{device}-{number}" for number in numbers}


def test_what_is_last_is_on_its_way() -> None:
    assert overtaken(ids(*range(1, 10)), ids(7, 8, 9)) == set()


def test_a_gap_is_overtaken_however_long_it_is() -> None:
    assert overtaken(ids(*range(1, 200)), ids(*range(50, 150), 199)) == ids(*range(50, 150))


def test_numbers_that_were_given_up_are_no_end_of_the_search() -> None:
    assert overtaken(ids(1, 2, 23), ids(2)) == ids(2)


def test_devices_do_not_overtake_each_other() -> None:
    assert overtaken(ids(1, 2) | ids(1, 2, device="d02"), ids(2) | ids(1, device="d02")) == ids(
        1, device="d02"
    )


# -- messages on the bridge's disk -----------------------------------------------------------------


class Seen:
    """What devices and Kafka know: of 100 published messages Kafka has 40."""

    doubled = 0

    def __init__(self) -> None:
        self.tally = self
        self.acked = ids(*range(1, 101))

    def missing(self, wanted: set[str]) -> set[str]:
        return wanted - ids(*range(1, 41))


@pytest.mark.parametrize(("on_disk", "shown", "in_flight"), [(0, 0, 60), (55, 55, 5), (70, 60, 0)])
def test_what_waits_on_disk_is_neither_in_flight_nor_lost(on_disk: int, shown: int, in_flight: int) -> None:
    seen: Any = Seen()
    score = Scoreboard(seen, seen, 1, lambda: on_disk).take()
    assert score == Score(100, 40, in_flight=in_flight, on_disk=shown, lost=0, duplicated=0)
    assert score.published == score.delivered + score.in_flight + score.on_disk + score.lost


def test_the_number_on_disk_is_read_from_the_bridges_page() -> None:
    now = kafka_down()
    assert now.flow.spooled > 0
    assert spooled(document(now, diagnose(now))) == now.flow.spooled


def judged(last: Score, *out: str) -> Outcome:
    return Outcome.of(last, out=out, duplicated=0, out_of_order=0, suspects=())


def test_at_the_end_what_is_on_disk_is_not_lost_but_the_run_was_not_good() -> None:
    outcome = judged(Score(100, 40, in_flight=5, on_disk=55, lost=0, duplicated=0), "kafka1", "kafka2")
    assert str(outcome) == (
        "published 100, delivered 40, in flight 5, on disk 55, lost 0, duplicated 0, out of order 0"
    )
    assert not outcome.is_good


def test_at_the_end_of_a_whole_chain_what_left_no_trace_is_lost() -> None:
    outcome = judged(Score(100, 90, in_flight=4, on_disk=0, lost=6, duplicated=0))
    assert str(outcome) == "published 100, delivered 90, lost 10, duplicated 0, out of order 0"
    assert not outcome.is_good


def test_what_another_client_of_the_session_may_have_is_not_called_lost() -> None:
    score = Score(100, 49, in_flight=0, on_disk=0, lost=51, duplicated=30, is_shared=True)
    assert str(score).endswith("on disk 0, taken by another client 51, duplicated 30")
    outcome = judged(score)
    assert str(outcome).startswith("published 100, delivered 49, taken by another client 51, ")
    assert not outcome.is_good


def test_the_score_asks_whether_the_session_is_shared() -> None:
    seen: Any = Seen()
    assert Scoreboard(seen, seen, 1, lambda: 0, lambda: True).take().is_shared
    assert not Scoreboard(seen, seen, 1, lambda: 0).take().is_shared


def test_a_run_that_delivered_all_is_good_and_one_without_messages_is_not() -> None:
    assert judged(Score(100, 100, 0, 0, 0, 0)).is_good
    assert not judged(Score(0, 0, 0, 0, 0, 0)).is_good


def test_only_what_mosquitto_dropped_for_the_labs_own_bridge_counts(tmp_path: Path) -> None:
    doors = TwoDoors(Network(), tmp_path)
    log = tmp_path / "mosquitto.log"
    log.write_text("1: Outgoing messages are being dropped for client garden.\n")
    assert not doors.has_dropped_for("mqtt-kafka-bridge")
    log.write_text("1: Outgoing messages are being dropped for client mqtt-kafka-bridge-2.\n")
    assert not doors.has_dropped_for("mqtt-kafka-bridge")
    log.write_text("1: x\n2: Outgoing messages are being dropped for client mqtt-kafka-bridge.\n3: y\n")
    assert doors.has_dropped_for("mqtt-kafka-bridge")
