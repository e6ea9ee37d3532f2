"""The journal, row by row."""

import pytest

from bridge.delivery import journal
from bridge.delivery.journal import Journal, Journaled, Standing, recalled
from bridge.delivery.ledger import Ledger
from bridge.errors import SpoolUnusable
from bridge.message import Message, Release

WINDOW = 2


class World:
    def __init__(self) -> None:
        self.rows: dict[int, bytes] = {}
        self.said: list[tuple[Standing, bool]] = []
        self.works = True
        self.ledger = Ledger(WINDOW)
        self.journal = Journal(self.ledger, self._say)
        self.journal.connecting()
        self.journal.connected(False, window_known=True)

    def _say(self, standing: Standing, forgets: bool) -> None:
        if not self.works:
            raise SpoolUnusable("broken")
        self.said.append((standing, forgets))

    def receive(self, *numbers: int, qos: int = 1) -> list[Message]:
        messages = [Message.of(b"t", qos << 1, number, None, b"%d" % number) for number in numbers]
        assert self.ledger.receive(messages) == messages
        return messages

    def write(self, messages: list[Message]) -> None:
        """One commit, and the acknowledgements of its messages."""
        self.journal.add("a segment", messages)
        self.commit()
        self.ledger.settle(*messages)
        self.ledger.handed_over(len(self.ledger.take_settled()))

    def release(self, number: int) -> None:
        """The PUBREL of a message that the ledger knows."""
        self.ledger.receive([Release(number)])
        self.journal.release(number, is_known=True)

    def commit(self) -> list[tuple[int, bool]]:
        row = self.journal.take_row()
        body, count = row.packed(["a segment"])
        if row.forgets:
            self.rows.clear()
        self.rows = {number: each for number, each in self.rows.items() if number > row.obsolete}
        if body:
            self.rows[row.number] = body
        return self.journal.committed(Journaled(row.number, count))

    @property
    def recalled(self) -> list[int]:
        return [each.packet_id for each in recalled(sorted(self.rows.items()), Standing.KNOWN).entries]


def test_as_many_messages_stay_as_the_ledger_remembers() -> None:
    world = World()
    for number in range(1, 21):
        world.write(world.receive(number))
    assert 2 * WINDOW <= len(world.recalled) <= 2 * WINDOW + 2
    assert world.recalled[-1] == 20


def test_what_awaits_its_pubrel_stays_however_many_come_after_it() -> None:
    world = World()
    world.write(world.receive(1, 2, qos=2))
    for number in range(3, 40):
        world.write(world.receive(number))
    assert {1, 2} <= set(world.recalled)
    world.release(1)
    assert world.commit() == [(1, True)]
    for number in range(40, 60):
        world.write(world.receive(number))
    assert 1 not in world.recalled
    assert 2 in world.recalled


def test_a_start_goes_on_from_the_rows_of_the_run_before() -> None:
    world = World()
    world.write(world.receive(*range(1, 9), qos=2))
    after = Ledger(WINDOW)
    journal = Journal(after, lambda standing, forgets: None)
    journal.begin(recalled(sorted(world.rows.items()), Standing.KNOWN))
    world.ledger, world.journal = after, journal
    journal.connecting()
    journal.connected(True, window_known=True)
    for number in range(9, 30):
        world.write(world.receive(number))
    assert set(range(1, 9)) <= set(world.recalled)


@pytest.mark.parametrize("damage", [lambda body: body[:-1], lambda body: body[:-1] + b"x", lambda _: b""])
def test_a_damaged_row_makes_all_rows_worthless(damage) -> None:  # type: ignore[no-untyped-def]
    """In doubt, produce."""
    world = World()
    world.write(world.receive(1))
    world.write(world.receive(2))
    (first, second) = sorted(world.rows)
    found = recalled([(first, damage(world.rows[first])), (second, world.rows[second])], Standing.KNOWN)
    assert found.entries == ()
    assert not found.facts.keeps_identifiers
    assert found.number == second


def test_what_is_settled_without_the_disk_is_counted_but_needs_no_commit_of_its_own() -> None:
    world = World()
    world.commit()
    messages = world.receive(*range(1, 64))
    for message in messages:
        world.journal.note(message)
    assert not world.journal.wants_commit
    world.journal.note(*world.receive(64))
    assert world.journal.wants_commit
    world.commit()
    assert world.recalled == [*range(1, 65)]


def test_a_row_that_says_nothing_is_not_written_and_not_remembered() -> None:
    """As with QoS 0 alone, or a connection that is made again and again."""
    world = World()
    for _ in range(100):
        world.journal.add("a segment", [Message.of(b"t", 0, 0, None, b"v")])
        world.commit()
    assert world.rows == {}
    assert not world.journal._rows


def test_connect_waits_for_a_disk_that_can_say_so() -> None:
    world = World()
    world.works = False
    with pytest.raises(SpoolUnusable):
        world.journal.connecting()
    world.works = True
    world.journal.connecting()
    assert world.said[-1] == (Standing.ASKED, False)


def test_subscribe_waits_for_a_disk_that_has_forgotten_the_session() -> None:
    world = World()
    world.write(world.receive(1))
    world.journal.connecting()
    world.works = False
    with pytest.raises(SpoolUnusable):
        world.journal.connected(False, window_known=True)
    world.works = True
    world.journal.connecting()
    world.journal.connected(True, window_known=True)  # nobody knows by which CONNECT it was made
    assert world.said[-1] == (Standing.DOUBTED, False)


def test_a_take_over_that_the_disk_could_not_write_is_written_before_the_next_connect() -> None:
    world = World()
    world.write(world.receive(1))
    world.works = False
    world.journal.taken_over()
    world.works = True
    world.journal.connecting()
    assert world.said[-1] == (Standing.ASKED, True)


def test_a_disk_that_refuses_for_long_fills_no_memory() -> None:
    world = World()
    world.write(world.receive(1, qos=2))
    world.release(1)
    failed = world.journal.take_row()
    pending = world.receive(2, 3, qos=2)
    for _ in range(100):
        world.journal.add(object(), pending)
        failed = world.journal.take_row().after(failed)
    assert world.journal._given is not None
    assert not world.journal._given.taken[2:]
    assert len(failed.entries) == 1
    body, count = failed.packed([])  # the disk takes none of the messages yet
    assert count == 0
    world.rows[failed.number] = body
    assert world.recalled == []
    assert world.journal.committed(Journaled(failed.number, count)) == [(1, True)]
    world.write(pending)
    assert world.recalled == [2, 3]


def test_what_is_skipped_while_the_disk_refuses_fills_no_memory_either() -> None:
    world = World()
    world.write(world.receive(7, qos=2))
    world.release(7)
    failed = world.journal.take_row()
    for number in range(8, 208):
        message = world.receive(number % 100 + 100)[0]
        world.journal.note(message)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(journal, "_LONG", 150 * journal._ENTRY.size)
            failed = world.journal.take_row().after(failed)
    assert len(failed.body) <= 150 * journal._ENTRY.size
    world.rows[failed.number] = failed.packed([])[0]
    assert world.recalled == [*range(108, 200), *range(100, 108)], "and 7 was released"


def test_what_was_forgotten_is_forgotten_by_the_row_that_is_written_in_the_end() -> None:
    world = World()
    world.write(world.receive(1))
    world.ledger.forget_session()
    failed = world.journal.take_row()
    assert failed.forgets
    row = world.journal.take_row().after(failed)
    assert row.forgets
    assert row.settles == failed.settles
