"""Simulated IoT devices: many publishers at one common rate, in one thread.

    with Devices(haproxy.address, 1883, count=20, rate=50, qos=1) as devices:
        ...
    verdict = verifier.verdict(devices.tally)

At 500 messages a second the thread takes 5 % of a core.
"""

import selectors
import socket
import threading
import time
from typing import Self

from tests.harness.conditions import NotInTime, wait_until
from tests.harness.device import Device, Tally


class Devices:
    """`count` devices that share `rate` messages a second; each has an MQTT connection of its own.

    `topic` may contain `{device}` and `{number}`. `size` is the payload's, in bytes. A payload begins with
    the message's id, "<prefix><number>-<sequence>". `credentials` are username and password. If no device can
    send when a message is due, that message is skipped, so devices do not burst after an outage.
    """

    def __init__(
        self,
        host: str,
        port: int = 1883,
        *,
        count: int = 20,
        rate: float = 50.0,
        qos: int = 1,
        version: int = 4,
        topic: str = "sensors/house/{device}/temp",
        prefix: str = "d",
        size: int = 60,
        credentials: tuple[str, str] | None = None,
    ) -> None:
        self.tally = Tally()
        self._size = size
        self._period = 1.0 / rate
        self._devices = [
            Device(
                name,
                (host, port),
                version,
                topic.format(device=name, number=number),
                qos,
                self.tally,
                credentials,
            )
            for number, name in ((number, f"{prefix}{number:02d}") for number in range(1, count + 1))
        ]
        self._turn = 0
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._publishing = threading.Event()
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"devices-{prefix}", daemon=True)
        self._failure: BaseException | None = None

    @property
    def rate(self) -> float:
        """Messages a second of all devices together. May be changed at any time."""
        return 1.0 / self._period

    @rate.setter
    def rate(self, rate: float) -> None:
        self._period = 1.0 / rate

    @property
    def topics(self) -> tuple[str, ...]:
        """The MQTT topics that the devices publish to."""
        return tuple(sorted({device.topic for device in self._devices}))

    @property
    def sent(self) -> int:
        """How many messages were sent up to now."""
        return self.tally.sent + self.outstanding

    @property
    def outstanding(self) -> int:
        """How many messages wait for their acknowledgement."""
        return sum(device.outstanding for device in self._devices)

    def start(self, deadline: float = 10.0) -> Self:
        """Connect all devices, then publish. Raises NotInTime if not all could connect."""
        self._running.set()
        self._thread.start()
        try:
            wait_until(
                lambda: self.tally.connects >= len(self._devices) or self._failure,
                deadline,
                lambda: f"{len(self._devices)} devices are connected, {self.tally.connects} are",
            )
        except NotInTime:
            self.stop(0)
            raise
        self._publishing.set()
        self._waker.send(b"!")
        return self

    def stop(self, deadline: float = 10.0) -> Tally:
        """Stop publishing, wait up to `deadline` s for outstanding acknowledgements, disconnect.

        Messages that are still unacknowledged then count as unknown. A second call does nothing.
        """
        if self._running.is_set():
            self._publishing.clear()
            try:
                wait_until(lambda: not self.outstanding, deadline, "all acknowledgements are there")
            except NotInTime:
                pass  # these messages count as unknown
            finally:
                self._running.clear()
                self._waker.send(b"!")
                self._thread.join()
                self._wake.close()
                self._waker.close()
        if self._failure is not None:
            raise RuntimeError("the devices' thread failed") from self._failure
        return self.tally

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_sent(self, number: int, deadline: float = 30.0) -> None:
        """Wait until `number` more messages are sent. Raises NotInTime."""
        target = self.sent + number
        wait_until(lambda: self.sent >= target, deadline, lambda: f"{target} sent, {self.sent} are")

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            self._failure = error
        finally:
            for device in self._devices:
                device.leave(self._selector, time.monotonic())
            self._selector.close()

    def _loop(self) -> None:
        due = 0.0
        while self._running.is_set():
            now = time.monotonic()
            self._reconnect(now)
            if self._publishing.is_set():
                due = self._publish(max(due, now - 0.1), now)  # after a late wake-up, catch up
            for key, events in self._selector.select(max(0.0, min(due - now, 0.1)) if due else 0.1):
                if key.fileobj is self._wake:
                    self._wake.recv(64)
                    continue
                device: Device = key.data
                if events & selectors.EVENT_READ:
                    device.read(self._selector, now)
                if events & selectors.EVENT_WRITE and device.connected:
                    device.write(self._selector, now)

    def _reconnect(self, now: float) -> None:
        for device in self._devices:
            if device.is_stuck(now):
                device.lost(self._selector, now)
            if not device.connected and now >= device.retry_at:
                device.connect(self._selector, now)

    def _publish(self, due: float, now: float) -> float:
        """Send every due message from the next device that can send; return when the next is due."""
        while due <= now:
            due += self._period
            for _ in self._devices:
                self._turn = (self._turn + 1) % len(self._devices)
                if self._devices[self._turn].ready:
                    self._devices[self._turn].publish(self._size, self._selector, now)
                    break
            else:
                self.tally.skipped += 1
        return due
