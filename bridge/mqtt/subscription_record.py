"""The record of the filters that this bridge subscribed the broker's session to. It outlives restarts.

A persistent session keeps filters that are no longer in the settings, so the bridge unsubscribes them. And on
MQTT 3.1.1 the broker sends all retained messages again after a needless SUBSCRIBE. So the bridge keeps the
last known state in a small file:

    {"session": "mqtt-kafka-bridge at emq:1884", "applied": {"sensors/#": [1, 0]}, "uncertain": ["alarms/#"]}

`applied`: the broker granted these filters in a SUBACK, for this requested QoS and Subscription Identifier
(0: none). `uncertain`: the session may or may not have these filters, because the broker has not answered a
SUBSCRIBE or UNSUBSCRIBE, or has refused one. If there is no file, or the file is of another session, nothing
is known about the session.

Only the broker knows what its session is subscribed to now. Another host with the same client id may have
changed the subscriptions, and the file may be a copy from a backup. So the bridge uses what it finds in the
file only to unsubscribe filters, and never to leave out a SUBSCRIBE.
"""

import contextlib
import json
import os
from pathlib import Path

from bridge.observe.events import Event, log

Granted = dict[str, tuple[int, int]]  # requested QoS and Subscription Identifier (0: none), by filter


class SubscriptionRecord:
    """The filters of one session. `known`: there is a record of this session.

    Without a directory the record ends with the process, as a session with a clean start does.
    """

    def __init__(self, directory: Path | None, session: str) -> None:
        self._path = directory and directory / "subscriptions.json"
        self._session = session
        self.known = False
        self.applied: Granted = {}
        self.uncertain: set[str] = set()
        self._unwritable: str | None = None  # the reason that was logged last
        if self._path:
            self._load(self._path)

    def record(self, applied: Granted, uncertain: set[str]) -> None:
        """Write the record and sync it before returning. Where that fails, log it and go on."""
        if self.known and applied == self.applied and uncertain == self.uncertain:
            return
        self.known, self.applied, self.uncertain = True, applied, uncertain
        if not self._path:
            return
        try:
            self._save(self._path)
            self._unwritable = None
        except OSError as error:
            # The file may be wrong now. A wrong record is worse than none, so remove the file.
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            if error.strerror == self._unwritable:
                return
            self._unwritable = error.strerror
            log(
                Event.MQTT_STATE_UNWRITABLE,
                path=str(self._path),
                reason=error.strerror,
                way_out="make state_directory writable for the service's user",
            )

    def _load(self, path: Path) -> None:
        try:
            found = json.loads(path.read_text())
            applied = {name: (int(qos), int(number)) for name, (qos, number) in found["applied"].items()}
            uncertain = {str(name) for name in found["uncertain"]}
            self.known = found["session"] == self._session
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return
        if self.known:
            self.applied, self.uncertain = applied, uncertain

    def _save(self, path: Path) -> None:
        content = {
            "session": self._session,
            "applied": self.applied,
            "uncertain": sorted(self.uncertain),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        with fresh.open("w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
