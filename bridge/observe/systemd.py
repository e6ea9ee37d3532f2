"""What systemd is told: that we are ready, what we are at, that the loop still turns. See sd_notify(3).

Not under systemd it says nothing.
"""

import contextlib
import math
import os
import socket
import time

_TRY_AGAIN = 0.5  # seconds, where systemd had no room for it


class Notifier:
    """For the loop's thread alone: called from another, `alive` would vouch for a loop that hangs."""

    def __init__(self) -> None:
        self._address = _address(os.environ.get("NOTIFY_SOCKET", ""))
        self._feed_every = _watchdog_seconds() / 3  # so that one that is late is no reason to be killed
        self._feed_at = time.monotonic() if self._address and self._feed_every else math.inf
        self._is_ready = False
        self._status = ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def ready(self, status: str) -> None:
        """The service has started; after the first time only `status` is told."""
        if not self._is_ready:
            self._is_ready = self._send("READY=1")
        self.status(status)

    def status(self, text: str) -> None:
        """What `systemctl status` shows, in one line. Told once, however often it is called with it."""
        if text != self._status and self._send(f"STATUS={text}"):
            self._status = text

    def stopping(self, status: str, seconds: float) -> None:
        """A stop has begun that may take `seconds`, whatever TimeoutStopSec= of the unit says."""
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")
        self.status(status)

    def alive(self) -> float:
        """To be called at every turn of the loop. Returns after how many seconds at the latest again."""
        now = time.monotonic()
        if now >= self._feed_at:
            self._feed_at = now + (self._feed_every if self._send("WATCHDOG=1") else _TRY_AGAIN)
        return self._feed_at - now

    def close(self) -> None:
        self._socket.close()

    def _send(self, message: str) -> bool:
        """False: systemd has no room for it now (or is not there to be told: that is no error of ours)."""
        if self._address:
            with contextlib.suppress(OSError):
                return self._socket.sendto(message.encode(), self._address) > 0
        return False


def _address(text: str) -> str:
    """ "@" stands for the zero byte of an abstract address."""
    return f"\0{text[1:]}" if text.startswith("@") else text


def _watchdog_seconds() -> float:
    """WatchdogSec= of the unit, 0 where there is none, or where it is another process's."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
