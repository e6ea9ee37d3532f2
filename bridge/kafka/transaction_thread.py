"""The thread of the transactional producer, whose calls block. It does one command after the other.

The loop gives the commands, and gets their outcomes as actions that it posts to itself.
"""

import time
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from threading import Condition
from typing import Protocol

from bridge.errors import BridgeError, without_frames
from bridge.kafka.transactional_producer import Found, Lost, Refused, TransactionalProducer
from bridge.kafka.transactions import Run
from bridge.loop import start_thread

_CLOSE_TAKES = 5.0  # seconds; a process that ends does not wait longer for librdkafka's threads


class Listener(Protocol):
    """What the thread tells, in the loop's thread."""

    def opened(self, found: Found) -> None: ...
    def not_opened(self, error: BridgeError | Lost) -> None: ...
    def committed(self, run: Run, seconds: float) -> None: ...
    def refused(self, refused: Refused) -> None: ...
    def lost(self, lost: Lost) -> None: ...
    def is_due(self) -> None: ...


class TransactionThread:
    """`open`, `run`: the outcome comes to the listener, and only then the next command may be given."""

    def __init__(
        self, producer: TransactionalProducer, listener: Listener, post: Callable[[Callable[[], None]], None]
    ) -> None:
        """Raises NoThread."""
        self._producer = producer
        self._listener = listener
        self._post = post
        self._commands: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._intended: dict[Run, str] = {}
        self._intents = Condition()
        self._rings_at: float | None = None  # monotonic seconds
        self._is_abandoned = False
        self._thread = start_thread(self._work, "transactions")

    def open(self, offset_topic: str) -> None:
        self._commands.put(partial(self._open, offset_topic))

    def run(self, run: Run) -> None:
        self._commands.put(partial(self._run, run))

    def intended(self, run: Run, spool: str) -> None:
        """The disk has written the run's intent, in the spool of this name; empty: it could not."""
        with self._intents:
            self._intended[run] = spool
            self._intents.notify_all()

    def wait(self, seconds: float) -> None:
        """Tell the listener in so many seconds that it is due, and not when the last call has said."""
        self._commands.put(partial(self._ring, time.monotonic() + seconds))

    def close(self) -> None:
        """Close the producer. What was not committed is not: the next start reads the number."""
        self._producer.is_closing = True
        self._commands.put(None)
        self._thread.join(_CLOSE_TAKES)

    def abandon(self) -> None:
        """The producer is stuck: what the thread tells counts no more. It ends if its call returns."""
        self._is_abandoned = True
        self._producer.is_closing = True
        self._commands.put(None)

    # -- the thread ------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            try:
                left = None if self._rings_at is None else max(0.0, self._rings_at - time.monotonic())
                command = self._commands.get(timeout=left)
            except Empty:
                self._rings_at = None
                self._tell(self._listener.is_due)
                continue
            if command is None:
                break
            command()
        self._producer.close()

    def _ring(self, at: float) -> None:
        self._rings_at = at

    def _open(self, offset_topic: str) -> None:
        listener = self._listener
        try:
            found = self._producer.open(offset_topic)
        except (BridgeError, Lost) as error:
            self._tell(partial(listener.not_opened, without_frames(error)))
        except Exception as defect:
            self._tell(partial(listener.not_opened, Lost(f"{defect!r} (report it, with the log)")))
        else:
            self._tell(partial(listener.opened, found))

    def _run(self, run: Run) -> None:
        listener = self._listener
        try:
            seconds = self._producer.run(run, partial(self._spool_of, run))
        except Refused as error:
            self._tell(partial(listener.refused, without_frames(error)))
        except Lost as error:
            self._tell(partial(listener.lost, without_frames(error)))
        except Exception as defect:  # nobody knows how far it came
            self._producer.close()
            lost = Lost(f"{defect!r} (report it, with the log)", may_have_committed=True)
            self._tell(partial(listener.lost, lost))
        else:
            self._tell(partial(listener.committed, run, seconds))
        with self._intents:
            self._intended.clear()

    def _tell(self, tell: Callable[[], None]) -> None:
        self._post(lambda: None if self._is_abandoned else tell())

    def _spool_of(self, run: Run, seconds: float) -> str:
        with self._intents:
            self._intents.wait_for(lambda: run in self._intended, seconds)
            spool = self._intended.get(run, "")
        if not spool:
            # A smaller transaction has a smaller intent; no topic is at fault.
            raise Lost("the intent of the transaction is not on disk", is_slow=True)
        return spool
