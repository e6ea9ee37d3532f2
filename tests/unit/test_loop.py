"""The loop: what wakes it, and that no event is missed."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from bridge import loop as loop_module
from bridge.errors import NoThread
from bridge.loop import Loop, require_threads, start_thread

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
