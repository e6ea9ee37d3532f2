"""Notifies systemd that the service is ready, of its status, and that the loop runs: sd_notify(3).

Without systemd nothing is sent.
"""

import contextlib
import math
import os
import socket
import time

_TRY_AGAIN = 0.5  # seconds, if systemd's socket had no room


class Notifier:
    """Sends notifications. For the loop's thread only: `alive` from another thread would hide a hung loop."""

    def __init__(self) -> None:
        self._address = _address(os.environ.get("NOTIFY_SOCKET", ""))
        self._feed_every = _watchdog_seconds() / 3  # so that systemd does not kill us for one late WATCHDOG=1
        self._feed_at = time.monotonic() if self._address and self._feed_every else math.inf
        self._is_ready = False
        self._status = ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def ready(self, status: str) -> None:
        """Notify that the service has started. Later calls only send `status`."""
        if not self._is_ready:
            self._is_ready = self._send("READY=1")
        self.status(status)

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows. An unchanged text is not sent again."""
        if text != self._status and self._send(f"STATUS={text}"):
            self._status = text

    def stopping(self, status: str, seconds: float) -> None:
        """Notify that a stop begins and may take `seconds`, even if TimeoutStopSec= of the unit is less."""
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")
        self.status(status)

    def alive(self) -> float:
        """Call this at every turn of the loop. Returns within how many seconds to call it again."""
        now = time.monotonic()
        if now >= self._feed_at:
            self._feed_at = now + (self._feed_every if self._send("WATCHDOG=1") else _TRY_AGAIN)
        return self._feed_at - now

    def close(self) -> None:
        self._socket.close()

    def _send(self, message: str) -> bool:
        """Send a message. Returns False if systemd's socket has no room now, or if systemd is absent."""
        if self._address:
            with contextlib.suppress(OSError):
                return self._socket.sendto(message.encode(), self._address) > 0
        return False


def _address(text: str) -> str:
    """Replace a leading "@", which stands for the zero byte of an abstract address."""
    return f"\0{text[1:]}" if text.startswith("@") else text


def _watchdog_seconds() -> float:
    """WatchdogSec= of the unit; 0 if the unit sets none, or if it is meant for another process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
