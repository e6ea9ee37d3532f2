"""The loop: waits in the one thread that makes all decisions, and takes actions from other threads.

Resolving names, connecting, asking Kafka about topics and waiting for delivery reports all block, so small
threads do that work. They post their results as actions, and the loop runs these actions between two turns.
So no other thread ever touches the ledger, a lane or the session.
"""

import os
import select
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Event as Signal
from threading import Thread
from typing import Protocol

from bridge.errors import NoThread

# What `wait` returns: a watched descriptor is ready, the bell has rung, a posted action has run.
READY, RUNG, ACTED = 1, 2, 4

_EVENTS = 16  # taken at once; Python allocates room for as many, and for 1023 if it is not told
_GONE = 0.0002  # seconds between two looks whether the kernel has removed a thread


class Loop:
    """epoll over one connection and a queue of posted actions. While nothing happens, the loop sleeps."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Edge-triggered: each addition wakes the loop once, and nobody has to read the number.
        self._epoll.register(self._bell, select.EPOLLIN | select.EPOLLET)
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

    def wait(self, seconds: float) -> int:
        """Sleep until a watched descriptor is ready, the bell rings, or the time is over.

        Then run the posted actions. Returns what has happened: a sum of READY, RUNG and ACTED.
        """
        happened = 0
        for descriptor, _ in self._epoll.poll(0 if self._posted else max(0.0, seconds), _EVENTS):
            happened |= RUNG if descriptor == self._bell else READY
        if self._posted:
            happened |= ACTED
            self._act()
        return happened

    def relay(self, messages: "Messages", packets: "Packets", due: float) -> float:
        """Sleep until a turn must follow. Meanwhile pass on the messages that come one by one.

        Such a message wakes the loop when EMQ sends it, and when Kafka has it. Neither can change most
        of what a turn asks of all parts, so neither makes a turn. A turn follows at `due`, in monotonic
        seconds, and at once where anything else has happened. Returns the seconds that the longest of these
        passes took.

        After the bell has rung, reports may be left to gather until `relay_at`. The bell does not ring
        meanwhile, because librdkafka's queue of reports is not empty. They are taken before a turn that is
        due.
        """
        if not (messages.is_calm and packets.is_calm):
            self.wait(due - time.monotonic())
            return 0.0
        poll, posted, bell, monotonic = self._epoll.poll, self._posted, self._bell, time.monotonic
        longest = rang_at = 0.0
        has_reports = False
        now = monotonic()
        # A turn may have read what is in flight, after it had asked when to look for late messages.
        until = wakes_at = due if messages.is_empty else min(due, messages.watch_by(now))
        while True:
            events = poll(wakes_at - now if wakes_at > now and not posted else 0, _EVENTS)
            if posted:
                self._act()
                return longest
            began = monotonic()
            if began >= until:
                if began >= due or not messages.is_empty:
                    if has_reports:
                        messages.relay(began - rang_at)
                    return longest
                until = due
            for descriptor, _ in events:
                if descriptor == bell:
                    has_reports, rang_at = True, began
                elif not packets.relay() or messages.has_work:
                    return longest
                elif (watch_by := messages.watch_by(began)) < until:  # what is in flight may become late
                    until = watch_by
            wakes_at = until
            if has_reports:
                relay_at = messages.relay_at
                if began >= relay_at:
                    has_reports = False
                    if not messages.relay(began - rang_at):
                        return longest
                elif relay_at < until:
                    wakes_at = relay_at
            now = monotonic()
            if now - began > longest:
                longest = now - began

    def _act(self) -> None:
        """Run the actions that are posted now. What they post runs next time."""
        for _ in range(len(self._posted)):
            self._posted.popleft()()

    def close(self) -> None:
        self._epoll.close()
        os.close(self._bell)


class Messages(Protocol):
    """The part of delivery.pipeline.Pipeline that `relay` uses; its docstrings are there."""

    @property
    def is_calm(self) -> bool: ...
    @property
    def has_work(self) -> bool: ...
    @property
    def relay_at(self) -> float: ...
    @property
    def is_empty(self) -> bool: ...
    def watch_by(self, now: float) -> float: ...
    def relay(self, waited: float) -> bool: ...


class Packets(Protocol):
    """The part of mqtt.session.Session that `relay` uses; its docstrings are there."""

    @property
    def is_calm(self) -> bool: ...
    def relay(self) -> bool: ...


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
                time.sleep(_GONE)
