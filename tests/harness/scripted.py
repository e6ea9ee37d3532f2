"""A broker whose every packet the test chooses, for behaviour that no real broker shows on demand.

    with ScriptedBroker() as broker:
        ...the bridge is started with broker.address and broker.port...
        with broker.connection() as connection:
            connection.connack(session_present=True)
            connection.publish(b"t", b"x", qos=1, identifier=7, dup=True)
            assert connection.expect_puback() == 7

One thread reads from all connections. It answers PINGREQ, SUBSCRIBE and UNSUBSCRIBE unless told not to, and
keeps the other packets for the script, which runs in the test's thread. The broker keeps no session state:
only the script knows what was acknowledged, and it may act as if it had not received an acknowledgement.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Self

from tests.harness.conditions import NotInTime
from tests.harness.fields import Malformed
from tests.harness.packets import Connect
from tests.harness.scripted_connection import Connection

Script = Callable[[Connection], None]


class ScriptedBroker:
    """Listens on a loopback address; a free port unless one is given.

    `connects` holds the time (monotonic, s) of each received CONNECT, `hellos` the CONNECT itself.
    """

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, port), family=family, backlog=64)
        self._listener.setblocking(False)
        self.address: str
        self.port: int
        self.address, self.port = self._listener.getsockname()[:2]
        self.connects: list[float] = []
        self.hellos: list[Connect] = []
        self.changed = threading.Condition()  # guards everything; notified when a packet arrives
        self._waiting: deque[Connection] = deque()  # sent CONNECT, and no script has taken them yet
        self._open: set[Connection] = set()
        self._always: Script | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._running = True
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="scripted-broker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything. Raises the reading thread's error, if there was one."""
        self._running = False
        self._thread.join()
        for connection in list(self._open):
            connection.reset()
        self._selector.close()
        self._listener.close()
        if self._failure is not None:
            raise self._failure

    @contextlib.contextmanager
    def connection(self, deadline: float = 15.0) -> Iterator[Connection]:
        """The next connection that sends CONNECT. The end of the block closes it if it is still open."""
        connection = self.next_connection(deadline)
        yield connection
        connection.close()
        if connection.malformed is not None:
            raise connection.malformed

    def next_connection(self, deadline: float = 15.0) -> Connection:
        """Like `connection`, but the connection stays open."""
        with self.changed:
            if not self.changed.wait_for(lambda: self._waiting or self._failure, deadline):
                raise NotInTime(
                    f"no CONNECT within {deadline:g} s; {len(self.connects)} came until now, "
                    f"{len(self._open)} connections are open"
                )
            if self._failure is not None:
                raise RuntimeError("the broker's thread failed") from self._failure
            return self._waiting.popleft()

    @contextlib.contextmanager
    def always(self, script: Script) -> Iterator[None]:
        """Inside the block `script` answers every CONNECT at once, in the broker's thread.

        A waiting CONNECT that no script has taken is answered too: its client would otherwise wait for ever.
        """
        with self.changed:
            self._always = script
            while self._waiting:
                script(self._waiting.popleft())
        try:
            yield
        finally:
            with self.changed:
                self._always = None

    def wait_connects(self, count: int, deadline: float = 15.0) -> None:
        """Wait for `count` CONNECTs, counted from the start. Raises NotInTime."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.connects) >= count, deadline):
                raise NotInTime(f"{count} CONNECTs within {deadline:g} s: {len(self.connects)} came")

    def _run(self) -> None:
        try:
            while self._running:
                ready = self._selector.select(0.1)
                with self.changed:
                    for key, _ in ready:
                        if key.data is None:
                            self._accept()
                        else:
                            self._read(key.data)
                    if ready:
                        self.changed.notify_all()
        except BaseException as error:
            self._failure = error
            with self.changed:
                self.changed.notify_all()

    def _accept(self) -> None:
        accepted, _ = self._listener.accept()
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(accepted, self.changed, self._forget)
        self._selector.register(accepted, selectors.EVENT_READ, connection)
        self._open.add(connection)

    def _read(self, connection: Connection) -> None:
        if connection not in self._open:
            return  # a script reset the connection after the selector reported it
        try:
            connection.read()
        except Malformed as error:
            connection.malformed = error
            connection.reset()
            return
        if connection.hello is not None and not connection.introduced:
            connection.introduced = True
            self.connects.append(time.monotonic())
            self.hellos.append(connection.hello)
            if self._always is not None:
                self._always(connection)
            else:
                self._waiting.append(connection)

    def _forget(self, connection: Connection) -> None:
        """Forget a connection. Called under the lock, just before its socket is closed."""
        if connection in self._open:
            self._open.discard(connection)
            self._selector.unregister(connection.socket)
