"""With delivery exactly-once a full disk is emptied, although each transaction needs room for its intent.

Without a bridge: the spool, on a small disk, and in place of Kafka a loop that takes what is on disk.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.delivery.intent import Intent, Row
from bridge.delivery.journal import Standing
from bridge.delivery.results import Refused, Written
from bridge.delivery.segment import Segment, cut
from bridge.loop import Loop
from bridge.message import Message
from bridge.settings import SpoolSettings
from bridge.spool.spool import Spool
from tests.harness.conditions import wait_until
from tests.harness.disk import CannotMount, Disk, disk_in_memory

TOPICS = 40
_PATIENCE = 120.0  # seconds for the disk: a job on a full one syncs often, and a busy machine syncs slowly
_LEAVE = 8192  # bytes; ext4 itself needs some for the file that fills it


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Disk]:
    try:
        disk = Disk(tmp_path, megabytes=8).__enter__()
    except CannotMount as error:
        pytest.skip(f"no disk to fill here: {error}")
    try:
        yield disk
    finally:
        disk.__exit__()


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    with disk_in_memory(tmp_path, megabytes=2) as place:
        yield place


class World:
    """The spool, and how it is filled and emptied. `rows`: those on disk, in order of arrival."""

    def __init__(
        self, directory: Path, max_bytes: int = 10**9, keep_free: int = 0, topics: int = TOPICS
    ) -> None:
        self.settings = SpoolSettings(keep_free=keep_free, max_bytes=max_bytes)
        self.directory, self.topics = directory, topics
        self.rows: dict[Row, Segment] = {}
        self.sequence = self.number = self.confirmed = 0  # the last message, transaction, committed one
        self.open()

    def open(self) -> None:
        self.loop = Loop()
        self.spool = Spool(
            self.settings, self.directory, self.loop, "routes", _lane_of, "me", keeps_journal=True
        )

    def close(self) -> None:
        self.spool.close([])
        self.loop.close()

    def until(self, condition: Callable[[], object]) -> None:
        def goes_on() -> object:
            self.spool.turn(10.0**9)
            self.loop.wait(0.01)
            return condition()

        wait_until(goes_on, _PATIENCE, "the disk has answered")

    def write(self, size: int = 120, rows: int = 20) -> bool:
        """Write so many rows. Returns whether the disk took them all."""
        self.until(lambda: not self.spool._busy)
        self.spool.disk.again_at = 0.0  # otherwise it waits for a second
        for _ in range(rows):
            self.sequence += 1
            topic = f"t{self.sequence % self.topics}"
            message = Message.of(topic.encode(), 2, 1, None, bytes(size))
            message.sequence, message.timestamp = self.sequence, -1
            self.spool.write(topic, cut([message]))
        results = self.spool.results
        self.until(lambda: results and not self.spool._busy)
        is_taken = True
        while results:
            result = results.popleft()
            if isinstance(result, Written):
                self.rows |= {(topic, segment.first): segment for topic, segment in result.segments}
            is_taken = is_taken and not isinstance(result, Refused)
        return is_taken

    def fill(self, size: int = 120) -> None:
        """Write until the disk takes no single row any more."""
        while self.write(size, rows=max(5, 20_000 // (size + 20))):
            pass
        for _ in range(20):
            self.write(size, rows=1)

    def deliver(self, most: int) -> bool:
        """A transaction of at most so many rows: its intent, the commit, the deletions with the next one."""
        self.number += 1
        rows = list(self.rows)[:most]
        told: list[str] = []
        intent = Intent(self.number, "run", dict.fromkeys(rows, ()), self.confirmed, "t0")
        self.spool.intend(intent, told.append)
        self.until(lambda: told)
        if not told[0]:
            return False
        self.confirmed = self.number
        self.spool.confirm(self.number)
        for row in rows:
            self.spool.delete(row[0], [self.rows.pop(row)])
        return True

    def empty(self) -> None:
        """Deliver all. A transaction without an intent on disk is tried again with half of its rows."""
        most = 20_000
        while self.rows:
            if not self.deliver(most):
                assert most > 300, "the smallest transaction must find room"
                most //= 2

    def takes_again(self, size: int = 120, rows: int = 1) -> None:
        wait_until(lambda: self.write(size, rows), _PATIENCE, "the disk takes messages again")


def _lane_of(topic: bytes) -> tuple[str, str]:
    return topic.decode(), ""


@contextlib.contextmanager
def others_take_the_rest(disk: Disk, happens: bool) -> Iterator[None]:
    with disk.filled(_LEAVE) if happens else contextlib.nullcontext():
        yield


@pytest.mark.parametrize("others", [False, True], ids=["alone", "others take the rest"])
@pytest.mark.parametrize("size", [10, 120, 20_000])
@pytest.mark.parametrize("keep_free", [0, 1_000_000])
def test_a_full_disk_is_emptied(small: Disk, size: int, keep_free: int, others: bool) -> None:
    world = World(small.path, keep_free=keep_free)
    world.fill(size)
    filled = len(world.rows)
    assert filled > 20
    with others_take_the_rest(small, others):
        world.empty()
        assert world.deliver(0)  # deletes what the last one has delivered
    world.takes_again()
    world.close()


@pytest.mark.parametrize("size", [600, 1000])
def test_a_commit_that_finds_no_room_leaves_the_disk_as_it_was(small: Disk, size: int) -> None:
    """The first transaction has all rows. Its intent is short enough to stay in SQLite's log. The deletions
    are far too many for the room, so their commit fails, and then the log fills the disk.
    """
    world = World(small.path, topics=3)
    world.fill(size)
    assert world.deliver(20_000)
    assert not world.rows
    assert world.deliver(0)
    world.takes_again()
    world.close()


@pytest.mark.parametrize("rows", [20, 100, 300])
@pytest.mark.parametrize("size", [200, 600, 3000])
def test_a_disk_that_large_commits_fill_is_emptied(tiny: Path, size: int, rows: int) -> None:
    """SQLite's pages take more than the rows, in its log and then in the file. What comes while the disk is
    emptied finds rows' room in the file, which is not free before it was given back.
    """
    world = World(tiny, topics=3)
    while world.write(size, rows):
        pass
    for _ in range(10):
        world.write(size, 30)
    while len(world.rows) > 300:
        assert world.deliver(300)
        world.write(size, 1)
    world.empty()
    assert world.deliver(0)
    world.takes_again(size, rows=20)
    world.close()


def test_a_spool_that_max_bytes_fills_is_emptied(small: Disk) -> None:
    world = World(small.path, max_bytes=1_000_000)
    world.fill()
    world.empty()
    world.takes_again()
    world.close()


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_start_on_a_full_disk_takes_the_verdict(small: Disk, is_committed: bool) -> None:
    world = World(small.path)
    world.fill()
    assert world.deliver(100)
    world.spool._next.confirmed = 0  # it is killed before the disk has learned what Kafka says
    world.spool._next.done.clear()
    with small.filled(_LEAVE):
        world.close()
        world.open()
        told: list[bool] = []
        assert world.spool.moves
        world.spool.settle(is_committed, lambda: told.append(True))
        world.until(lambda: told)
        world.until(lambda: world.spool.results)
        world.close()


def test_a_full_disk_takes_how_far_the_bridge_came(small: Disk) -> None:
    world = World(small.path)
    world.fill()
    with small.filled(_LEAVE):
        for _ in range(50):
            world.spool.stand(Standing.ASKED, False)
            world.spool.stand(Standing.KNOWN, True)
    world.close()


def test_no_message_takes_the_room_that_empties_the_disk(small: Disk) -> None:
    world = World(small.path)
    reserve = small.path / "spool.reserve"
    world.write()
    size = reserve.stat().st_size
    assert reserve.stat().st_blocks * 512 >= size > 300_000
    world.fill()
    assert reserve.stat().st_size == size
    with small.filled(_LEAVE):
        world.empty()
        assert not reserve.exists()
        assert world.deliver(0)
        before = len(world.rows)
        world.write()
        assert len(world.rows) == before or reserve.exists(), "nothing is taken without it"
    world.takes_again()
    assert reserve.stat().st_size == size
    world.close()


def test_the_default_mode_keeps_nothing_back(small: Disk) -> None:
    loop = Loop()
    (small.path / "spool.reserve").write_bytes(b"of the mode")
    Spool(SpoolSettings(keep_free=0), small.path, loop, "routes", _lane_of, "me").close([])
    assert not (small.path / "spool.reserve").exists()
    loop.close()
