"""What the broker's session is subscribed to, as far as it is known, over restarts of the bridge.

A persistent session keeps filters that the settings have dropped since, and a SUBSCRIBE that it does
not need would bring all retained messages again. So the last state is kept in a small file:

    {"session": "mqtt-kafka-bridge at emq:1884", "applied": {"sensors/#": [1, 0]}, "uncertain": ["alarms/#"]}

`applied` was granted by a SUBACK, with this QoS and Subscription Identifier (0: none). `uncertain` may or
may not be subscribed: a change was under way. No file, or one of another session, means unknown, and
unknown means SUBSCRIBE.
"""

import contextlib
import json
import os
from pathlib import Path

from bridge.observe.events import Event, log

Granted = dict[str, tuple[int, int]]  # QoS and Subscription Identifier (0: none), by filter


class SubscriptionRecord:
    """`known` is False where nothing is on record.

    Without a directory nothing outlives the process: for sessions that do not either.
    """

    def __init__(self, directory: Path | None, session: str) -> None:
        self._path = directory and directory / "subscriptions.json"
        self._session = session
        self.known = False
        self.applied: Granted = {}
        self.uncertain: set[str] = set()
        if self._path:
            self._load(self._path)

    def record(self, applied: Granted, uncertain: set[str]) -> None:
        """Durable when it returns, as far as the disk can be written at all."""
        if self.known and applied == self.applied and uncertain == self.uncertain:
            return
        self.known, self.applied, self.uncertain = True, applied, uncertain
        if not self._path:
            return
        try:
            self._save(self._path)
        except OSError as error:
            # What is on disk may be wrong now, and wrong is worse than unknown.
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
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
