"""Which messages go into which transaction, and what becomes of them when it fails."""

import sys
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.delivery.intent import IntentVerdict, Memory, Number, Rows
from bridge.kafka import transactions
from bridge.kafka.transactions import GATHER, Open, Run, Settle, State, Transactions
from bridge.message import Message

PLANS = {topic: SimpleNamespace(kafka_topic=topic) for topic in ("a", "b", "c", "d")}
FORBIDDEN = (29, "forbidden")


def message(topic: str, size: int = 1) -> Message:
    it = Message.of(topic.encode(), 0x02, 1, None, b"x" * size)
    it.plan, it.sequence = PLANS[topic], 1
    return it


class Machine(Transactions):
    """Time goes on by itself, far enough for whatever is due."""

    def __init__(self, memory: Memory | None = None) -> None:
        super().__init__("run", no_rows)
        self.now = 1000.0
        self.remember(memory or Memory())

    def give(self, *topics: str) -> list[Message]:
        messages = [message(topic) for topic in topics]
        for each in messages:
            self.produce([each], self.now)
        return messages

    def due_command(self) -> Any:
        self.now = max(self.now + 1.0, self.due if self.state is State.CLOSED else 0.0)
        return self.next(self.now)

    def ready(self, **numbers: Number) -> None:
        assert isinstance(self.due_command(), Open)
        self.opened(numbers, "", self.now)

    def run_next(self) -> Run:
        if self.state is State.CLOSED:
            self.ready()
        run = self.due_command()
        assert isinstance(run, Run)
        self.intended(run, "spool")
        return run


def no_rows(_messages: Iterable[Message]) -> Rows:
    return {}


def topics(run: Run) -> str:
    return "".join(each.plan.kafka_topic for each in run.messages)


def test_messages_are_gathered_for_a_moment_and_delivered_in_order() -> None:
    machine = Machine()
    machine.ready()
    first = machine.give("a", "b")
    assert machine.next(machine.now) is None
    assert machine.due == machine.now + GATHER
    second = machine.give("a")
    run = machine.run_next()
    assert run.messages == first + second
    machine.committed(machine.now, may_be_sent_twice=False)
    assert machine.take_handed().delivered == first + second
    assert machine.is_empty


def test_a_number_is_never_used_twice_and_the_intent_tells_the_last_one_that_committed() -> None:
    machine = Machine(Memory("spool", 7, "before", 6))
    machine.ready(spool=Number(7, "before"))
    numbers = []
    for _ in range(2):
        machine.give("a")
        run = machine.run_next()
        numbers.append((run.number, run.intent.confirmed))
        machine.lost(machine.now)
    run = machine.run_next()
    machine.committed(machine.now, may_be_sent_twice=False)
    machine.give("a")
    assert [*numbers, (run.number, run.intent.confirmed)] == [(8, 7), (9, 7), (10, 7)]
    assert machine.run_next().intent.confirmed == 10


def test_what_the_last_run_left_is_settled_before_anything_else() -> None:
    machine = Machine(Memory("spool", 7, "before", 6, is_open=True))
    machine.give("a")
    assert isinstance(machine.due_command(), Open)
    assert machine.opened({"spool": Number(7, "before")}, "", machine.now) == Settle(True)
    assert machine.due_command() is None
    machine.settled(machine.now)
    assert machine.run_next().number == 8


def test_a_message_of_unknown_fate_is_delivered_or_produced_again_once_the_number_was_read() -> None:
    for found, again in ((1, False), (0, True)):
        machine = Machine()
        given = machine.give("a")
        run = machine.run_next()
        machine.lost(machine.now, may_have_committed=True)
        assert isinstance(machine.due_command(), Open)
        assert not machine.take_handed().delivered
        machine.opened({"spool": Number(found, "run")} if found else {}, "", machine.now)
        assert (machine.take_handed().delivered == given) is not again
        assert (list(machine.queue) == given) is again
        assert run.number == 1


def test_a_number_that_kafka_hides_is_said_and_its_messages_are_produced_again() -> None:
    machine = Machine(Memory("spool", 7, "before", 6, is_open=True))
    machine.due_command()
    seen = {"spool": Number(6, "before")}
    assert machine.opened(seen, "", machine.now, hides=True) == Settle(False)
    assert machine.verdict is IntentVerdict.GONE


def test_a_commit_that_may_have_been_sent_twice_ends_its_producer() -> None:
    machine = Machine()
    machine.give("a")
    machine.run_next()
    machine.committed(machine.now, may_be_sent_twice=True)
    assert len(machine.take_handed().delivered) == 1
    assert isinstance(machine.due_command(), Open)


def test_a_topic_at_fault_gets_all_its_messages_back_and_others_go_on_without_it() -> None:
    machine = Machine()
    bad, good, more_bad, behind = machine.give("a", "b", "a", "a")
    machine.run_next()
    late = machine.give("a")
    machine.refused({more_bad: FORBIDDEN}, machine.now)
    handed = machine.take_handed()
    assert handed.failed == [(bad, None), (more_bad, FORBIDDEN), (behind, None), (late[0], None)]
    assert machine.run_next().messages == [good]


def test_topics_that_failed_are_tried_without_the_others_in_turn() -> None:
    machine = Machine()
    (bad,) = machine.give("a")
    machine.run_next()
    machine.refused({bad: FORBIDDEN}, machine.now)
    machine.give("a", "b")
    run = machine.run_next()
    assert (topics(run), run.is_trial, run.hurries) == ("a", True, True)
    machine.lost(machine.now, "does not answer")
    assert [why for _, why in machine.take_handed().failed] == [FORBIDDEN, (-192, "does not answer")]
    machine.give("a")
    run = machine.run_next()
    assert (topics(run), run.is_trial) == ("b", False)
    machine.committed(machine.now, may_be_sent_twice=False)
    run = machine.run_next()
    assert (topics(run), run.hurries) == ("a", False)
    machine.committed(machine.now, may_be_sent_twice=False)
    machine.give("a", "b")
    assert topics(machine.run_next()) == "ab"


def test_where_nobody_knows_which_topic_is_at_fault_half_of_the_suspects_are_tried_until_one_is_left() -> (
    None
):
    machine = Machine()
    machine.give(*"abcd")
    tried = []
    while not machine.handed.failed:
        run = machine.run_next()
        tried.append(topics(run))
        if "c" in topics(run):
            machine.lost(machine.now, "it is one of these")
        else:
            machine.committed(machine.now, may_be_sent_twice=False)
    assert tried == ["abcd", "abcd", "ab", "c"]
    assert [each.plan.kafka_topic for each, _ in machine.take_handed().failed] == ["c"]
    assert topics(machine.run_next()) == "d"


def test_two_failures_of_kafka_itself_cost_a_thousand_topics_only_a_few_more_transactions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = [f"t{number}" for number in range(1000)]
    monkeypatch.setattr(sys.modules[__name__], "PLANS", {t: SimpleNamespace(kafka_topic=t) for t in many})
    machine = Machine()
    machine.give(*many)
    for _ in range(2):
        machine.run_next()
        machine.lost(machine.now)
    count = 0
    while not machine.is_empty:
        machine.run_next()
        machine.committed(machine.now, may_be_sent_twice=False)
        count += 1
    assert count <= 11


def test_topics_that_are_no_suspects_go_on_in_turn() -> None:
    machine = Machine()
    machine.give(*"ab")
    for _ in range(2):
        machine.run_next()
        machine.lost(machine.now)
    machine.give("c")
    assert topics(machine.run_next()) == "a"
    machine.committed(machine.now, may_be_sent_twice=False)
    assert topics(machine.run_next()) == "c"
    machine.committed(machine.now, may_be_sent_twice=False)
    assert topics(machine.run_next()) == "b"


def test_transactions_become_smaller_while_kafka_is_slow_and_no_topic_is_blamed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transactions, "MOST_MESSAGES", 8)
    machine = Machine()
    machine.give(*"a" * 100)
    sizes = []
    for _ in range(4):
        sizes.append(len(machine.run_next().messages))
        machine.lost(machine.now, is_slow=True)
    assert sizes == [8, 4, 2, 1]
    assert not machine.handed.failed
    sizes.clear()
    for seconds in (0.5, 0.5, 0.5, 9.0, *[0.5] * 10):  # only several quick ones in a row count
        sizes.append(len(machine.run_next().messages))
        machine.now += seconds
        machine.committed(machine.now, may_be_sent_twice=False)
    assert sizes == [1] * 12 + [2, 2]


def test_transactions_that_are_lost_one_after_the_other_are_tried_less_often_until_one_commits() -> None:
    """Each leaves its records in Kafka, where nobody sees them: hours without a disk would leave many."""
    machine = Machine()
    machine.give("a")
    delays = []
    for _ in range(7):
        machine.run_next()
        machine.lost(machine.now, "the intent is not on disk", is_slow=True)
        delays.append(round(machine.due - machine.now, 1))
    machine.run_next()
    machine.committed(machine.now, may_be_sent_twice=False)
    machine.give("a")
    machine.run_next()
    machine.lost(machine.now)
    delays.append(round(machine.due - machine.now, 1))
    machine.run_next()
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 0.2]


def test_a_transaction_after_a_slow_one_is_half_as_large_as_that_one() -> None:
    """Half of the most would be as large again, and each attempt costs seconds."""
    machine = Machine()
    machine.give(*"a" * 5000)
    sizes = []
    for _ in range(3):
        sizes.append(len(machine.run_next().messages))
        machine.lost(machine.now, is_slow=True)
    assert sizes == [5000, 2500, 1250]
    large = Machine()
    large.produce([message("a", 4_000_000) for _ in range(5)], large.now)
    assert len(large.run_next().messages) == 5
    large.lost(large.now, is_slow=True)
    assert len(large.run_next().messages) == 2


def test_a_message_that_fills_a_transaction_is_alone_and_none_overtakes_it() -> None:
    machine = Machine()
    large = message("a", transactions.MOST_BYTES)
    for each in (message("a"), large, message("a"), message("b")):
        machine.produce([each], machine.now)
    sizes = []
    while machine.queue:
        sizes.append([len(each.payload) for each in machine.run_next().messages])
        machine.committed(machine.now, may_be_sent_twice=False)
    assert sizes == [[1], [transactions.MOST_BYTES], [1, 1]]


def test_a_fenced_bridge_waits_longer_each_time_and_a_lost_producer_only_a_little() -> None:
    machine = Machine()
    delays = []
    for _ in range(6):
        machine.give("a")
        machine.run_next()
        machine.lost(machine.now, is_fenced=True)
        delays.append(round(machine.due - machine.now))
    assert delays == [30, 60, 120, 240, 300, 300]
    assert machine.is_fenced
    machine.run_next()
    assert not machine.is_fenced, "it has taken the id back"
    machine.lost(machine.now)
    assert machine.due - machine.now < 1


def test_a_producer_that_kafka_itself_may_have_fenced_is_replaced_at_once_but_not_twice_in_a_row() -> None:
    machine = Machine()
    delays = []
    for _ in range(2):
        machine.give("a")
        machine.run_next()
        machine.lost(machine.now, is_fenced=True, may_be_late=True)
        delays.append(round(machine.due - machine.now))
    assert delays == [0, 60]
    assert machine.fenced_count == 1


def test_the_number_is_committed_again_before_kafka_forgets_it() -> None:
    machine = Machine()
    machine.give("a")
    machine.run_next()
    machine.committed(machine.now, may_be_sent_twice=False)
    assert machine.next(machine.now) is None
    assert machine.due - machine.now <= 24 * 3600
    run = machine.next(machine.due)
    assert isinstance(run, Run)
    assert (run.messages, run.offset_topic, run.number) == ([], "a", 2)


def test_a_bridge_that_only_starts_commits_its_number_soon_too() -> None:
    machine = Machine(Memory("spool", 7, "before", 7))
    assert isinstance(machine.due_command(), Open)
    machine.opened({"spool": Number(7, "before")}, "a", machine.now)
    assert machine.next(machine.now) is None
    run = machine.next(machine.due)
    assert isinstance(run, Run)
    assert run.offset_topic == "a"


@pytest.mark.parametrize(
    "memory", [Memory(), Memory("spool", 7, "before", 7)], ids=["no number", "its topic is gone"]
)
def test_where_there_is_no_number_to_confirm_nothing_is_ever_due(memory: Memory) -> None:
    """Were it due in the past, the loop would never sleep."""
    machine = Machine(memory)
    assert isinstance(machine.due_command(), Open)
    machine.opened({}, "", machine.now)
    for _ in range(2):
        machine.now += 2 * transactions.CONFIRM_EVERY
        assert machine.next(machine.now) is None
        assert machine.due > machine.now
    machine.give("a")
    assert machine.due == machine.now + GATHER


def test_a_number_that_does_not_fit_is_noted_and_the_next_one_is_above_it() -> None:
    machine = Machine(Memory("spool", 7, "before", 6, is_open=True))
    assert isinstance(machine.due_command(), Open)
    assert machine.opened({"spool": Number(50, "another")}, "", machine.now) == Settle(False)
    assert machine.verdict is IntentVerdict.AHEAD
    machine.settled(machine.now)
    machine.give("a")
    assert machine.run_next().number == 51


def test_a_spool_that_was_begun_anew_has_no_number_of_the_old_one() -> None:
    machine = Machine(Memory("old", 7, "before", 7))
    machine.ready(old=Number(7, "before"))
    machine.give("a")
    machine.run_next()  # whose intent is in "spool"
    assert machine.memory == Memory("spool", 8, "run", 0, offset_topic="a")
    machine.lost(machine.now, may_have_committed=True)
    assert isinstance(machine.due_command(), Open)
    machine.opened({"old": Number(7, "before"), "spool": Number(8, "run")}, "", machine.now)
    assert machine.verdict is IntentVerdict.COMMITTED
