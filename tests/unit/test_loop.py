"""The loop: what wakes it, and that no event is missed."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bridge import loop as loop_module
from bridge.errors import NoThread
from bridge.loop import ACTED, READY, RUNG, Loop, require_threads, start_thread

LONG = 30.0  # seconds; a test that waits so long has failed


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def waited(loop: Loop, seconds: float) -> float:
    started = time.monotonic()
    loop.wait(seconds)
    return time.monotonic() - started


def test_what_is_posted_runs_in_order_in_the_loops_thread(loop: Loop) -> None:
    ran: list[tuple[int, str]] = []
    for number in range(3):
        loop.post(lambda number=number: ran.append((number, threading.current_thread().name)))
    assert waited(loop, LONG) < LONG / 2
    assert ran == [(number, threading.main_thread().name) for number in range(3)]


def test_a_post_from_another_thread_wakes_it(loop: Loop) -> None:
    ran = threading.Event()
    thread = threading.Thread(target=lambda: loop.post(ran.set))
    thread.start()
    assert waited(loop, LONG) < LONG / 2
    thread.join()
    assert ran.is_set()


def test_many_posts_from_many_threads_all_run(loop: Loop) -> None:
    ran: list[int] = []
    threads = [
        threading.Thread(target=lambda: [loop.post(lambda: ran.append(1)) for _ in range(500)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + LONG
    while len(ran) < 2000 and time.monotonic() < deadline:
        loop.wait(1.0)
    for thread in threads:
        thread.join()
    assert len(ran) == 2000


def test_what_an_action_posts_runs_in_the_next_turn(loop: Loop) -> None:
    ran: list[str] = []

    def first() -> None:
        ran.append("first")
        loop.post(lambda: ran.append("second"))

    loop.post(first)
    loop.wait(LONG)
    assert ran == ["first"]
    assert waited(loop, LONG) < LONG / 2
    assert ran == ["first", "second"]


def test_it_sleeps_when_there_is_nothing(loop: Loop) -> None:
    loop.post(lambda: None)
    loop.wait(LONG)
    assert waited(loop, 0.05) >= 0.04
    assert waited(loop, -1.0) < 1.0


def test_a_descriptor_that_can_be_read_wakes_it(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    loop.watch(ours.fileno(), write=False)
    assert waited(loop, 0.05) >= 0.04
    theirs.send(b"x")
    assert waited(loop, LONG) < LONG / 2


def test_room_to_write_wakes_it_only_where_that_was_asked_for(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    loop.watch(pair[0].fileno(), write=True)
    assert waited(loop, LONG) < LONG / 2
    loop.watch(pair[0].fileno(), write=False)
    assert waited(loop, 0.05) >= 0.04


def test_who_is_forgotten_wakes_it_no_more(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    loop.watch(ours.fileno(), write=False)
    theirs.send(b"x")
    loop.forget(ours.fileno())
    loop.forget(ours.fileno())  # a second call is harmless
    assert waited(loop, 0.05) >= 0.04


def test_a_descriptor_number_can_be_used_again(loop: Loop) -> None:
    for _ in range(3):
        ours, theirs = socket.socketpair()
        loop.watch(ours.fileno(), write=False)
        theirs.send(b"x")
        assert waited(loop, LONG) < LONG / 2
        loop.forget(ours.fileno())
        ours.close()
        theirs.close()


def test_it_tells_what_has_happened(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    loop.watch(ours.fileno(), write=False)
    assert loop.wait(0) == 0
    theirs.send(b"x")
    assert loop.wait(LONG) == READY
    ours.recv(1)
    loop.ring()
    assert loop.wait(LONG) == RUNG
    theirs.send(b"x")
    loop.post(lambda: None)
    assert loop.wait(LONG) == READY | RUNG | ACTED


def test_each_ring_wakes_it_once(loop: Loop) -> None:
    for _ in range(3):
        loop.ring()
        loop.ring()
        assert loop.wait(LONG) == RUNG
        assert loop.wait(0) == 0


# -- messages that come alone ------------------------------------------------------------------------------


class Parts:
    """The pipeline and the session, which note each pass."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.passes: list[str] = []
        self.watch_by = time.monotonic() + LONG
        self.then: dict[int, Callable[[], object]] = {}  # what happens in the pass of this number
        self.messages, self.packets = Part(self, "reports"), Part(self, "packets")

    def relay(self, seconds: float = LONG) -> float:
        return self.loop.relay(self.messages, self.packets, time.monotonic() + seconds)


class Part:
    def __init__(self, parts: Parts, name: str) -> None:
        self._parts, self._name = parts, name
        self.is_calm = self.passes_all = True
        self.has_work = self.is_empty = False
        self.relay_at = self.waited = 0.0

    def watch_by(self, _now: float) -> float:
        return self._parts.watch_by

    def relay(self, waited: float = 0.0) -> bool:
        self.waited = waited
        self._parts.passes.append(self._name)
        self._parts.then.pop(len(self._parts.passes), lambda: None)()
        return self.passes_all


@pytest.fixture
def parts(loop: Loop) -> Parts:
    return Parts(loop)


def test_reports_and_packets_are_passed_on_until_the_time_of_the_turn(
    parts: Parts, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    parts.loop.watch(ours.fileno(), write=False)
    parts.loop.ring()
    parts.then = {1: lambda: theirs.send(b"x"), 2: lambda: (ours.recv(1), parts.loop.ring())}
    parts.relay(0.2)
    assert parts.passes == ["reports", "packets", "reports"]


def test_reports_that_may_gather_are_passed_on_together(
    parts: Parts, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    parts.loop.watch(ours.fileno(), write=False)
    parts.messages.relay_at = time.monotonic() + 0.1
    parts.loop.ring()
    parts.then = {1: lambda: (ours.recv(1), parts.loop.ring()), 2: lambda: times.append(time.monotonic())}
    times: list[float] = []
    theirs.send(b"x")
    parts.relay(0.3)
    assert parts.passes == ["packets", "reports"], "a message does not wait for the reports"
    assert times[0] >= parts.messages.relay_at
    assert 0.05 < parts.messages.waited <= 0.3, "since the first report has come"


def test_after_the_reports_that_gathered_the_loop_sleeps_until_the_bell_rings(parts: Parts) -> None:
    parts.messages.relay_at = time.monotonic() + 0.02
    parts.loop.ring()
    began = time.monotonic()
    parts.relay(0.2)
    assert parts.passes == ["reports"]
    assert time.monotonic() - began >= 0.19


def test_a_turn_does_not_wait_for_reports_to_gather(parts: Parts) -> None:
    parts.messages.relay_at = time.monotonic() + LONG
    parts.loop.ring()
    began = time.monotonic()
    parts.relay(0.05)
    assert parts.passes == ["reports"], "they are taken before the turn, with the time that they have waited"
    assert parts.messages.waited >= 0.04
    assert time.monotonic() - began < LONG / 2


def test_where_nothing_comes_the_turn_follows_at_its_time(parts: Parts) -> None:
    began = time.monotonic()
    assert parts.relay(0.05) == 0.0
    assert time.monotonic() - began >= 0.04
    assert parts.passes == []


@pytest.mark.parametrize("part", ["messages", "packets"])
def test_a_part_that_has_something_else_to_do_gets_its_turn_before_any_pass(parts: Parts, part: str) -> None:
    getattr(parts, part).is_calm = False
    parts.loop.ring()
    parts.relay()
    assert parts.passes == []


def test_where_reports_leave_something_to_do_the_turn_follows_at_once(parts: Parts) -> None:
    parts.messages.passes_all = False
    parts.then = {1: parts.loop.ring}
    parts.loop.ring()
    parts.relay()
    assert parts.passes == ["reports"]


def test_where_a_message_needs_more_than_kafka_the_turn_follows_at_once(
    parts: Parts, pair: tuple[socket.socket, socket.socket]
) -> None:
    parts.loop.watch(pair[0].fileno(), write=False)
    pair[1].send(b"x")
    parts.then = {1: lambda: setattr(parts.messages, "has_work", True)}
    parts.relay()
    assert parts.passes == ["packets"]


def test_what_was_posted_ends_it_and_has_run(parts: Parts) -> None:
    ran: list[str] = []
    parts.then = {1: lambda: parts.loop.post(lambda: ran.append("posted"))}
    parts.loop.ring()
    parts.relay()
    assert ran == ["posted"]
    assert parts.passes == ["reports"]


def test_where_there_is_more_to_read_a_turn_reads_it(
    parts: Parts, pair: tuple[socket.socket, socket.socket]
) -> None:
    parts.loop.watch(pair[0].fileno(), write=False)
    pair[1].send(b"x")
    parts.packets.passes_all = False
    parts.relay()
    assert parts.passes == ["packets"]


def test_a_message_in_flight_makes_a_turn_look_for_late_ones_in_time(
    parts: Parts, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    parts.loop.watch(ours.fileno(), write=False)
    parts.watch_by = time.monotonic() + 0.05
    theirs.send(b"x")
    parts.then = {1: lambda: ours.recv(1)}
    parts.relay()
    assert parts.passes == ["packets"]
    assert time.monotonic() >= parts.watch_by


def test_a_message_that_the_turn_before_has_read_makes_a_turn_look_for_late_ones_too(parts: Parts) -> None:
    parts.watch_by = time.monotonic() + 0.05
    parts.relay()
    assert parts.watch_by <= time.monotonic() < parts.watch_by + LONG / 2
    assert not parts.passes


def test_where_kafka_has_the_message_by_then_nobody_looks_for_late_ones(
    parts: Parts, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    parts.loop.watch(ours.fileno(), write=False)
    parts.messages.is_empty = True
    parts.watch_by = time.monotonic() + 0.05
    ends = time.monotonic() + 0.2
    theirs.send(b"x")
    parts.then = {1: lambda: ours.recv(1)}
    parts.relay(0.2)
    assert parts.passes == ["packets"]
    assert time.monotonic() >= ends


def test_messages_without_end_do_not_put_the_turn_off(
    parts: Parts, pair: tuple[socket.socket, socket.socket]
) -> None:
    parts.loop.watch(pair[0].fileno(), write=False)
    pair[1].send(b"x")  # nobody reads it, so there is always something to read
    began = time.monotonic()
    parts.relay(0.05)
    assert 0.05 <= time.monotonic() - began < LONG / 2
    assert parts.passes


def test_it_tells_the_longest_pass(parts: Parts) -> None:
    def last(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass

    parts.then = {1: lambda: (last(0.05), parts.loop.ring())}
    parts.loop.ring()
    assert 0.05 <= parts.relay(0.3) < 0.3


# -- threads -----------------------------------------------------------------------------------------------


class Refused(threading.Thread):
    """A thread that the kernel does not allow."""

    def start(self) -> None:
        raise RuntimeError("can't start new thread")


def test_room_for_threads_leaves_none_behind() -> None:
    before = threading.active_count()
    require_threads(5)
    assert threading.active_count() == before


def test_a_thread_that_can_not_be_started_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "Thread", Refused)
    with pytest.raises(NoThread, match="TasksMax="):
        start_thread(print, "name")
    with pytest.raises(NoThread):
        require_threads(1)


def test_threads_that_were_started_for_room_end_where_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread
    left = iter([real, real, Refused])
    before = threading.active_count()
    monkeypatch.setattr(loop_module, "Thread", lambda **given: next(left)(**given))
    with pytest.raises(NoThread):
        require_threads(3)
    assert threading.active_count() == before
