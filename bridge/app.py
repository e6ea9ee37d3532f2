"""The composition root: it alone knows all the parts, builds them, and starts and stops them in order."""

import gc
import json
import signal
import sys
import time
from collections.abc import Collection, Sequence
from typing import TextIO

from bridge import __version__
from bridge.counts import STATES
from bridge.kafka.cluster import Cluster
from bridge.kafka.letterbox import Letterbox
from bridge.loop import Loop
from bridge.message import Message, Packet, Release
from bridge.mqtt.session import Session, State
from bridge.observe import logging
from bridge.observe.events import Event, log
from bridge.observe.systemd import Notifier
from bridge.patience import Patience
from bridge.pipeline import Pipeline
from bridge.routing import MEANING, Router
from bridge.settings import Settings
from bridge.spool.spool import PATIENCE_AT_STOP, Spool
from bridge.topics import Subscription

_MINUTE = 60.0
_START_TAKES = 10.0  # seconds; a broker that has not answered by then is waited for by a service that is up
_FAREWELL_TAKES = PATIENCE_AT_STOP + 5.0  # seconds for DISCONNECT, the disk, and what closes behind them


def run(settings: Settings) -> int:
    """The service. Returns the exit status when a signal has stopped it."""
    logging.set_up(settings.log.level, settings.log.format)
    router = Router(settings.routes)
    router.require_protocol(settings.mqtt.protocol)
    for warning in settings.warnings():
        log(Event.CONFIG_WARNING, warning=warning)
    return Service(settings, router).run()


def dry_run(settings: Settings, count: int | None, json: bool, client_id: str | None) -> int:
    """Show what would be produced, beside a running bridge and without touching what it has."""
    logging.set_up("warning" if settings.log.level == "info" else settings.log.level, settings.log.format)
    return DryRun(settings, count, json, client_id or f"{settings.mqtt.client_id}-dry-run", sys.stdout).run()


class Service:
    """The bridge as systemd runs it."""

    def __init__(self, settings: Settings, router: Router) -> None:
        log(Event.SERVICE_STARTING, version=__version__)
        self._settings = settings
        self._loop = Loop()
        self._kafka = Cluster(settings.kafka, self._loop)
        routes = json.dumps([route.model_dump(mode="json") for route in settings.routes])
        topic = settings.dead_letters.topic
        self._letterbox = Letterbox(settings.kafka, topic) if topic else None
        self._spool = Spool(
            settings.spool,
            settings.spool_directory,
            self._loop,
            f"{MEANING} {routes}",
            router.destination,
            settings.mqtt.session_name(settings.mqtt.client_id),
            settings.dead_letters,
            self._letterbox.post if self._letterbox else lambda _: None,
        )
        self._pipeline = Pipeline(settings, router, self._kafka, self._spool)
        self._pipeline.take_up(self._spool.backlogs, self._spool.identifiers)
        self._session = Session(
            settings.mqtt, self._loop, self._pipeline, settings.mqtt.client_id, settings.state_directory
        )
        self._pipeline.session = self._session
        self._systemd = Notifier()
        self._started_by = time.monotonic() + _START_TAKES
        self._patience: Patience | None = None  # once a signal has come
        self._said_goodbye = False
        self._left_at_once = False
        self._minute_ends = time.monotonic() + _MINUTE
        self._last_counts = self._pipeline.counts.as_fields()

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._loop.post(self._on_signal))
        log(Event.SERVICE_STARTED)
        _spare_the_collector()
        while not self._is_over():
            due = min(self._pipeline.turn(), self._session.turn(), self._keep_time())
            if self._pipeline.has_work:
                due = 0.0
            if due > 0:
                self._kafka.sleep()
            self._loop.wait(min(due, self._tell_systemd()))
        self._kafka.close()
        self._spool.finish()
        self._pipeline.leave()
        self._spool.close(self._pipeline.open_identifiers)
        if self._letterbox:
            self._letterbox.close()
        log(Event.SERVICE_STOPPED, **self._pipeline.counts.as_fields())
        return 1 if self._left_at_once else 0

    def _is_over(self) -> bool:
        if self._left_at_once:
            self._session.abandon()
        if not self._patience or self._session.state is not State.STOPPED:
            return False
        return self._pipeline.is_empty or self._patience.is_over(time.monotonic())

    def _on_signal(self) -> None:
        if self._patience:  # the second one
            self._left_at_once = True
            self._patience.end()
            return
        log(Event.SERVICE_STOPPING, in_flight=self._pipeline.counts.in_flight)
        self._patience = Patience(self._settings.stop_timeout, self._pipeline.counts, time.monotonic())
        self._systemd.stopping("stopping", self._settings.stop_timeout + _FAREWELL_TAKES)
        self._session.take_no_more()
        self._pipeline.stop_reading()

    def _keep_time(self) -> float:
        now = time.monotonic()
        if now >= self._minute_ends:
            self._minute_ends += _MINUTE
            self._say_what_flowed()
        if not self._patience:
            return self._minute_ends - now
        if not self._said_goodbye and (self._pipeline.is_empty or self._patience.is_over(now)):
            self._said_goodbye = True
            if not self._pipeline.is_empty:
                log(Event.SERVICE_STOP_DEADLINE, in_flight=self._pipeline.counts.in_flight)
            self._session.say_goodbye()
        return self._patience.due(now) if not self._said_goodbye else 0.05

    def _tell_systemd(self) -> float:
        """Returns for how many seconds the watchdog needs no feeding."""
        state = self._session.state
        if state is State.LIVE:
            self._systemd.ready("live")
        elif not self._patience and (state is State.BACKING_OFF or time.monotonic() >= self._started_by):
            self._systemd.ready(f"waiting for the broker at {self._settings.mqtt.host}")
        return self._systemd.alive()

    def _say_what_flowed(self) -> None:
        counts = self._pipeline.counts.as_fields()
        before, self._last_counts = self._last_counts, counts
        if counts != before or any(counts[name] for name in STATES):
            flowed = {name: now if name in STATES else now - before[name] for name, now in counts.items()}
            log(Event.FLOW_MINUTE, **flowed)


def _spare_the_collector() -> None:
    """A message makes no cycles, so reference counts free it. Looking for cycles among the messages in
    flight, every 700 of them, would take a quarter of the CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000)


class DryRun:
    """A session of its own, with a clean start, that shows what it gets and produces nothing.

    It is no member of a $share group, so it takes nothing away from the bridge that runs.
    """

    def __init__(
        self, settings: Settings, count: int | None, json: bool, client_id: str, stream: TextIO
    ) -> None:
        # Here and not above: the service needs no tables, and rich is 4 MB of memory.
        from bridge.dryrun import Preview

        self._settings = settings
        self._router = Router(settings.routes, shared=False)
        self._preview = Preview(self._router, json, stream)
        self._left = count
        self._loop = Loop()
        self._session = Session(settings.mqtt, self._loop, self, client_id, state_directory=None)

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._loop.post(self._stop))
        try:
            due = self._session.turn()
            while self._session.state is not State.STOPPED:
                self._loop.wait(due)
                due = self._session.turn()
        except BrokenPipeError:  # `| head` has seen enough
            self._session.abandon()
            return 0
        self._preview.summary()
        return 0

    def _stop(self) -> None:
        self._session.take_no_more()
        self._session.say_goodbye()

    # -- the session's handler -------------------------------------------------------------------------

    def subscriptions(self, refused: Collection[str]) -> Sequence[Subscription]:
        return Router(self._settings.routes, refused=refused, shared=False).subscriptions

    def receive(self, packets: list[Packet]) -> None:
        messages: list[Message] = []
        now = time.time_ns() // 1_000_000
        for packet in packets:
            if isinstance(packet, Release):
                self._session.complete(packet.packet_id, known=True)
                continue
            if self._left == 0:
                break
            if packet.qos:
                messages.append(packet)
            packet.timestamp = now
            self._preview.message(packet)
            if self._left:
                self._left -= 1
        if messages:
            self._session.acknowledge(messages)
        if self._left == 0:
            self._loop.post(self._stop)

    def connected(self, session_present: bool, mqtt5: bool) -> None: ...
    def session_lost(self) -> None: ...
    def handed_over(self, acknowledgements: int) -> None: ...
    def taken_over(self) -> None: ...
    def disconnected(self) -> None: ...
