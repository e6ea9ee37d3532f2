"""What the number in Kafka says about the intent on disk, and what the disk keeps."""

import pytest

from bridge.delivery.intent import (
    Account,
    Intent,
    IntentVerdict,
    Memory,
    Number,
    Row,
    from_json,
    from_metadata,
    judge,
    merged,
    to_json,
    to_metadata,
)

RUN = "run1"
MEMORY = Memory("spool", 7, RUN, 6, is_open=True)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Number(7, RUN), IntentVerdict.COMMITTED),
        (Number(6, RUN), IntentVerdict.NOT_COMMITTED),
        (Number(5, RUN), IntentVerdict.BEHIND),
        (Number(8, RUN), IntentVerdict.AHEAD),
        (Number(7, "of a copy"), IntentVerdict.AHEAD),
    ],
)
def test_only_the_intents_own_number_of_its_own_run_says_that_it_has_committed(
    found: Number, verdict: IntentVerdict
) -> None:
    assert judge(MEMORY, {"spool": found, "other": Number(99, "x")}) is verdict


def test_no_number_is_never_taken_for_one() -> None:
    assert judge(MEMORY, {}) is IntentVerdict.GONE
    assert judge(MEMORY, {"other": Number(7, RUN)}) is IntentVerdict.GONE
    never_confirmed = Memory("spool", 1, RUN, 0, is_open=True)
    assert judge(never_confirmed, {}) is IntentVerdict.NOT_COMMITTED
    assert judge(Memory(), {}) is IntentVerdict.NOT_COMMITTED
    assert judge(Memory(), {"other": Number(7, RUN)}) is IntentVerdict.OTHER


def test_a_person_is_told_what_may_double() -> None:
    assert {verdict for verdict in IntentVerdict if not verdict.is_loud} == {
        IntentVerdict.COMMITTED,
        IntentVerdict.NOT_COMMITTED,
    }


def test_metadata_carries_the_numbers_of_other_spools_and_the_highest_of_each_counts() -> None:
    one = to_metadata("a", Number(5, "x"), {"b": Number(3, "y"), "a": Number(4, "x")})
    two = to_metadata("b", Number(2, "z"), {})
    assert from_metadata([one, two]) == {"a": Number(5, "x"), "b": Number(3, "y")}


def test_the_metadata_fits_into_what_kafka_takes_however_many_spools_there_were() -> None:
    others = {f"{number:032x}": Number(10**12 + number, "12345678") for number in range(1000)}
    text = to_metadata("f" * 32, Number(10**12, "12345678"), others)
    assert len(text) < 4096
    assert "f" * 32 in from_metadata([text])


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", '{"spools": 1}', '{"spools": {"a": 1}}', "null"])
def test_metadata_of_others_is_passed_over(text: str) -> None:
    assert from_metadata([text]) == {}


def test_rows_are_on_disk_as_they_were() -> None:
    rows: dict[Row, tuple[int, ...]] = {("a", 5): (), ("a", 9): (9, 11, 400), ("b", 6): (7,)}
    assert from_json(to_json(rows)) == rows


def test_parts_of_a_row_come_together_and_a_whole_row_stays_whole() -> None:
    assert merged({("a", 1): (1, 2)}, {("a", 1): (3,), ("b", 4): ()}) == {("a", 1): (1, 2, 3), ("b", 4): ()}
    assert merged({("a", 1): (1, 2)}, {("a", 1): ()}) == {("a", 1): ()}
    assert merged({("a", 1): ()}, {("a", 1): (3,)}) == {("a", 1): ()}


class Disk:
    def __init__(self, **rows: int) -> None:
        self.rows = {("a", int(name.removeprefix("r"))): count for name, count in rows.items()}

    def count(self, row: Row) -> int:
        return self.rows.get(row, 0)


def test_a_row_is_deleted_when_its_last_part_is_confirmed() -> None:
    disk, account = Disk(r1=3, r4=2), Account("spool")
    assert account.write(Intent(1, RUN, {("a", 1): (1, 2)}, 0), disk.count) == []
    assert account.write(Intent(2, RUN, {("a", 1): (3,), ("a", 4): ()}, 1), disk.count) == []
    assert account.delivered == {("a", 1): (1, 2)}
    assert set(account.confirm(2, disk.count)) == {("a", 1), ("a", 4)}
    assert not account.memory.is_open
    assert account.confirm(2, disk.count) == []


def test_an_intent_that_was_not_confirmed_is_forgotten() -> None:
    disk, account = Disk(r1=3), Account("spool")
    account.write(Intent(1, RUN, {("a", 1): ()}, 0), disk.count)
    assert account.write(Intent(2, RUN, {("a", 1): (1,)}, 0), disk.count) == []
    assert account.settle(False) == {}


def test_a_confirmation_of_another_file_deletes_nothing() -> None:
    disk, account = Disk(r1=3), Account("begun anew")
    assert account.write(Intent(8, RUN, {("a", 1): ()}, 7), disk.count) == []
    assert account.confirmed == 0


def test_the_verdict_deletes_what_was_confirmed_and_what_has_committed() -> None:
    disk = Disk(r1=3, r4=2)
    for is_committed in (True, False):
        account = Account("spool")
        account.write(Intent(1, RUN, {("a", 1): (1, 2)}, 0), disk.count)
        account.write(Intent(2, RUN, {("a", 4): ()}, 1), disk.count)
        expected: dict[Row, tuple[int, ...]] = {("a", 1): (1, 2)}
        assert account.settle(is_committed) == (expected | {("a", 4): ()} if is_committed else expected)
        assert not account.memory.is_open


def test_names_of_rows_that_are_gone_are_forgotten_before_new_rows_may_get_them() -> None:
    account = Account("spool")
    account.write(Intent(1, RUN, {("a", 1): (), ("a", 4): ()}, 0), Disk(r1=3, r4=2).count)
    assert account.prune(Disk(r4=2).count)
    assert account.settle(True) == {("a", 4): ()}
    assert not account.prune(Disk().count)
