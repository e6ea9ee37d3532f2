"""The loop: waits in the one thread that makes all decisions, and takes actions from other threads.

Resolving names, connecting, asking Kafka about topics and waiting for delivery reports all block, so small
threads do that work. They post their results as actions, and the loop runs these actions between two turns.
So no other thread ever touches the ledger, a lane or the session.
"""

import os
import select
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Event as Signal
from threading import Thread
from time import sleep

from bridge.errors import NoThread

_GONE = 0.0002  # seconds between two looks whether the kernel has removed a thread


class Loop:
    """epoll over one connection and a queue of posted actions. While nothing happens, the loop sleeps."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._posted: deque[Callable[[], None]] = deque()
        self._watched: dict[int, int] = {}

    def post(self, action: Callable[[], None]) -> None:
        """Have `action` run soon in the loop's thread. Any thread and any signal handler may call this."""
        self._posted.append(action)
        self.ring()

    @property
    def bell(self) -> int:
        """An eventfd. The loop wakes when anybody adds to it."""
        return self._bell

    def ring(self) -> None:
        """Wake the loop. Any thread and any signal handler may call this."""
        with suppress(BlockingIOError):  # the loop has been woken already
            os.eventfd_write(self._bell, 1)

    def watch(self, descriptor: int, write: bool) -> None:
        """Wake the loop when `descriptor` can be read or, with `write`, written."""
        events = select.EPOLLIN | (select.EPOLLOUT if write else 0)
        known = self._watched.get(descriptor)
        if known is None:
            self._epoll.register(descriptor, events)
        elif known != events:
            self._epoll.modify(descriptor, events)
        self._watched[descriptor] = events

    def forget(self, descriptor: int) -> None:
        """Stop watching `descriptor`. Call this before the descriptor is closed."""
        if self._watched.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def wait(self, seconds: float) -> None:
        """Sleep until a watched descriptor is ready, an action was posted, or the time is over.

        Then run the posted actions. The caller does not learn which descriptor was ready: a read that finds
        nothing is cheap, and a turn of the loop looks at everything anyway.
        """
        for descriptor, _ in self._epoll.poll(0 if self._posted else max(0.0, seconds)):
            if descriptor == self._bell:
                with suppress(BlockingIOError):
                    os.eventfd_read(self._bell)
        for _ in range(len(self._posted)):
            self._posted.popleft()()

    def close(self) -> None:
        self._epoll.close()
        os.close(self._bell)


def start_thread(work: Callable[[], object], name: str) -> Thread:
    """Run `work` in a new daemon thread. `top -H` shows the thread as `name`. Raises NoThread."""

    def run() -> None:
        with suppress(OSError), open("/proc/thread-self/comm", "w") as comm:
            comm.write(name[:15])  # proc(5): at most 15 bytes
        work()

    thread = Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # "can't start new thread": EAGAIN of pthread_create(3)
        raise NoThread from None
    return thread


def require_threads(count: int) -> None:
    """Raises NoThread unless the kernel allows `count` further threads now.

    Call this before librdkafka builds a client. A client whose broker thread could not be started never
    connects, and an admin client whose background thread could not be started corrupts memory and ends the
    process (librdkafka 2.16, rd_kafka_new). Starts the threads, ends them, and waits until the kernel has
    removed them: about a millisecond.
    """
    enough = Signal()
    started: list[Thread] = []
    try:
        started.extend(start_thread(enough.wait, "room") for _ in range(count))
    finally:
        enough.set()
        for thread in started:
            thread.join()
        for thread in started:
            while os.path.exists(f"/proc/self/task/{thread.native_id}"):
                sleep(_GONE)
