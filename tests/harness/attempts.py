"""Attempts to connect that all fail, as many as are wanted and without waiting between them, in a process
of their own: what the process has in memory afterwards, each attempt has left there.

    python -m tests.harness.attempts mqtt 2000 '{"host": "127.0.0.1", "port": 1}'
    python -m tests.harness.attempts kafka 2000 '{"bootstrap_servers": "127.0.0.1:1"}'

It prints {"attempts": 2000, "grown_mb": 0.4, "failed": {"mqtt.connect_failed": 2100}}: the resident memory
that came after the first WARM_UP attempts, in MB (10^6 bytes), and how often each event was logged.
"""

import io
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bridge.app import _spare_the_collector
from bridge.kafka.cluster import Cluster
from bridge.loop import Loop
from bridge.message import Packet
from bridge.mqtt.session import Session, State
from bridge.observe import logging
from bridge.routing.topics import Subscription
from bridge.settings import KafkaSettings, MqttSettings
from tests.harness.conditions import NotInTime, wait_until

WARM_UP = 100  # attempts before memory is looked at: caches fill, allocators take their pools
_GIVE_UP = 120.0  # seconds
_FEW_THREADS = 16  # of one session or cluster; each producer that is still about to end has four or five


class _Handler:
    """Of a session that never gets anything."""

    def subscriptions(self, refused: Collection[str]) -> Sequence[Subscription]:
        return [Subscription("t", 1, None)]

    def receive(self, packets: list[Packet]) -> None: ...
    def connecting(self) -> None: ...
    def connected(self, session_present: bool, mqtt5: bool) -> None: ...
    def subscribed(self) -> None: ...
    def session_lost(self) -> None: ...
    def handed_over(self, acknowledgements: int) -> None: ...
    def taken_over(self) -> None: ...
    def disconnected(self) -> None: ...


def mqtt(settings: MqttSettings) -> Callable[[], None]:
    """One attempt of a session, from the connect to the end of what came of it.

    `connack_timeout` counts in milliseconds here.
    """
    loop = Loop()
    settings = settings.model_copy(update={"connack_timeout": settings.connack_timeout / 1000})
    session = Session(settings, loop, _Handler(), "bridge", None)

    def attempt() -> None:
        session._connect_at = time.monotonic()  # whatever the delay would be
        due = session.turn()
        while session.state is not State.BACKING_OFF:
            loop.wait(due)
            if session.state is not State.BACKING_OFF:
                due = session.turn()

    return attempt


def kafka(settings: KafkaSettings, lines: io.StringIO) -> Callable[[], None]:
    """One life of a producer: built, closed once its first error was logged."""
    loop = Loop()
    cluster = Cluster(settings, loop)

    def attempt() -> None:
        cluster._errors.again_at.clear()  # or only one a minute would be logged
        cluster.rebuild()
        cluster.look_up("topic")
        gives_up = time.monotonic() + _GIVE_UP
        while not lines.tell() and time.monotonic() < gives_up:
            cluster.poll()
            cluster.sleep()
            loop.wait(0.02)

    return attempt


def main(kind: str, count: int, settings: dict[str, Any]) -> None:
    lines = io.StringIO()
    logging.set_up("warning", "json", lines)
    sys.excepthook = sys.__excepthook__  # a failure of this program belongs on standard error
    attempt = mqtt(MqttSettings(**settings)) if kind == "mqtt" else kafka(KafkaSettings(**settings), lines)
    _spare_the_collector()  # as the service does
    logged: Counter[str] = Counter()

    def attempts(number: int) -> None:
        for _ in range(number):
            attempt()
            logged.update(json.loads(line)["event"] for line in lines.getvalue().splitlines())
            lines.seek(0)
            lines.truncate()

    attempts(WARM_UP)
    before = settled_mb()
    attempts(count)
    grown = settled_mb() - before
    sys.stdout.write(json.dumps({"attempts": count, "grown_mb": round(grown, 2), "failed": logged}) + "\n")
    sys.stdout.flush()
    os._exit(0)  # threads of librdkafka may still be about to close


def settled_mb() -> float:
    """The resident memory, in MB, once clients that were closed have ended their threads."""
    with suppress(NotInTime):
        wait_until(lambda: len(os.listdir("/proc/self/task")) <= _FEW_THREADS, _GIVE_UP, "threads end")
    return rss_mb()


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]))
