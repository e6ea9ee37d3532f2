"""The composition root: builds all parts of the service, and starts and stops them in order.

Only this file knows all the parts.
"""

import gc
import json
import signal
import sys
import time
from collections.abc import Callable
from functools import partial

from bridge import __version__
from bridge.delivery.counts import STATES
from bridge.delivery.pipeline import Pipeline
from bridge.delivery.stop_deadline import StopDeadline
from bridge.errors import BridgeError, ConfigurationError, NoThread, without_frames
from bridge.http.server import Server
from bridge.kafka.cluster import Cluster
from bridge.kafka.dead_letter_topic import DeadLetterTopic
from bridge.kafka.transactional_cluster import TransactionalCluster
from bridge.loop import Loop, start_thread
from bridge.mqtt.session import Session, State
from bridge.neighbours.neighbours import Neighbours
from bridge.observe import logging
from bridge.observe.events import Event, log
from bridge.observe.systemd import Notifier
from bridge.routing import advice
from bridge.routing.router import MEANING, Router
from bridge.settings import Settings
from bridge.settings.changes import TAKEN_WHILE_RUNNING, changes
from bridge.spool.spool import LAST_COMMITS_TIMEOUT, Spool
from bridge.status.collector import Collector

_MINUTE = 60.0
_START_TAKES = 10.0  # seconds; after them systemd is told READY, although no broker has answered yet
_SWITCH_INTERVAL = 0.0002  # seconds that another thread, such as the page's, may keep the loop waiting
_FAREWELL_TAKES = LAST_COMMITS_TIMEOUT + 5.0  # seconds for DISCONNECT, the disk, and closing the rest


# The kernel's default for each is to end the process, which then acknowledges nothing and leaves copies of
# what was in flight. People send them to make a service open its log again.
_WITHOUT_EFFECT = (signal.SIGUSR1, signal.SIGUSR2)


ReadAgain = Callable[[], tuple[Settings, Router]]


def run(settings: Settings, read_again: ReadAgain) -> int:
    """Run the service until a signal stops it. Returns the exit status.

    At SIGHUP a thread calls `read_again`, which reads the settings from the same places again, and makes the
    router of their routes: with many routes that takes too long for the loop. It raises BridgeError.
    """
    for number in _WITHOUT_EFFECT:
        signal.signal(number, signal.SIG_IGN)
    # SIGHUP waits until the loop can take it. The threads that start meanwhile never take it: they would not
    # wake the loop.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))
    logging.set_up(settings.log.level, settings.log.format)
    router = Router(settings.routes)
    router.require_protocol(settings.mqtt.protocol)
    for warning in [*settings.warnings(), *advice.warnings(settings.routes, router.routes)]:
        log(Event.CONFIG_WARNING, warning=warning)
    return Service(settings, router, read_again).run()


class Service:
    """The bridge as systemd runs it."""

    def __init__(self, settings: Settings, router: Router, read_again: ReadAgain) -> None:
        log(Event.SERVICE_STARTING, version=__version__)
        self._settings = settings
        self._read_again = read_again
        self._reads_again = False  # a thread reads the settings
        self._reload_again = False  # SIGHUP came meanwhile
        self._loop = Loop()
        self._kafka = self._cluster(settings)
        # `empty` leads no message to another topic, so what is on disk may stay where it is.
        routes = json.dumps([route.model_dump(mode="json", exclude={"empty"}) for route in settings.routes])
        topic = settings.dead_letters.topic
        self._dead_letter_topic = DeadLetterTopic(settings.kafka, topic) if topic else None
        self._spool = Spool(
            settings.spool,
            settings.spool_directory,
            self._loop,
            f"{MEANING} {routes}",
            router.destination,
            settings.mqtt.session_name(settings.mqtt.client_id),
            settings.dead_letters,
            self._dead_letter_topic.post if self._dead_letter_topic else lambda _: None,
            settings.kafka.is_exactly_once,
        )
        if isinstance(self._kafka, TransactionalCluster):
            self._kafka.use(self._spool)
        self._pipeline = Pipeline(settings, router, self._kafka, self._spool)
        self._pipeline.take_up(self._spool.backlogs, self._spool.identifiers, self._spool.recalled)
        self._session = Session(
            settings.mqtt, self._loop, self._pipeline, settings.mqtt.client_id, settings.state_directory
        )
        self._pipeline.session = self._session
        self._collector = Collector(settings, self._pipeline, self._session, self._kafka, self._spool.disk)
        self._neighbours = Neighbours(settings)
        self._collector.neighbours = self._neighbours
        self._page = Server(settings.http, self._collector.read)
        self._systemd = Notifier()
        self._started_by = time.monotonic() + _START_TAKES
        self._stop_deadline: StopDeadline | None = None  # set once a signal has arrived
        self._said_goodbye = False
        self._left_at_once = False
        self._minute_ends = time.monotonic() + _MINUTE
        self._last_counts = self._pipeline.counts.as_fields()

    def _cluster(self, settings: Settings) -> Cluster | TransactionalCluster:
        if not settings.kafka.is_exactly_once:
            return Cluster(settings.kafka, self._loop)
        return TransactionalCluster(
            settings.kafka, self._loop, settings.transactional_id, settings.transaction_group
        )

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._loop.post(self._on_signal))
        signal.signal(signal.SIGHUP, lambda *_: self._loop.post(self._reload))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP, *_WITHOUT_EFFECT))
        log(Event.SERVICE_STARTED)
        self._neighbours.start()
        self._page.start()
        _spare_the_collector()
        sys.setswitchinterval(_SWITCH_INTERVAL)
        self._collector.state = "running"
        took = 0.0
        while not self._is_over():
            began = time.monotonic()
            due = min(self._pipeline.turn(), self._session.turn(), self._keep_time())
            if self._pipeline.has_work:
                due = 0.0
            now = time.monotonic()
            due = min(due, self._collector.turn(now, max(took, now - began)))
            if due > 0:
                self._kafka.sleep()
            took = self._rest(time.monotonic() + min(due, self._tell_systemd()))
        self._neighbours.close()
        self._page.close()
        self._kafka.close()
        self._spool.finish()
        self._pipeline.leave()
        self._spool.close(self._pipeline.open_identifiers)
        if self._dead_letter_topic:
            self._dead_letter_topic.close()
        self._pipeline.log_repeated()
        log(Event.SERVICE_STOPPED, **self._pipeline.counts.as_fields())
        return 1 if self._left_at_once else 0

    def _rest(self, due: float) -> float:
        """Sleep until it is time for a turn. Returns the seconds that were not slept, at most at once."""
        if self._stop_deadline or not self._collector.is_calm:
            self._loop.wait(due - time.monotonic())
            return 0.0
        return self._loop.relay(self._pipeline, self._session, due)

    def _is_over(self) -> bool:
        if self._left_at_once:
            self._session.abandon()
        if not self._stop_deadline or self._session.state is not State.STOPPED:
            return False
        return self._pipeline.is_empty or self._stop_deadline.is_over(time.monotonic())

    def _on_signal(self) -> None:
        if self._stop_deadline:  # the second one
            self._left_at_once = True
            self._stop_deadline.end()
            return
        counts = self._pipeline.counts
        waits = self._settings.stop_timeout
        log(Event.SERVICE_STOPPING, in_flight=counts.in_flight, spooled=counts.spooled, at_most_seconds=waits)
        self._stop_deadline = StopDeadline(
            self._settings.stop_timeout, self._pipeline.counts, time.monotonic()
        )
        self._systemd.stopping("stopping", self._settings.stop_timeout + _FAREWELL_TAKES)
        self._collector.state = "stopping"
        self._session.take_no_more()
        self._pipeline.stop_reading()

    # -- reload ----------------------------------------------------------------------------------------

    def _reload(self) -> None:
        """Read the settings again, in a thread: a slow disk must not hold up messages."""
        if self._reads_again:
            self._reload_again = True
        elif not self._stop_deadline:
            self._reads_again = True
            try:
                start_thread(self._read_settings, "reload")
            except NoThread as error:
                self._take_settings(error)

    def _read_settings(self) -> None:
        found: tuple[Settings, Router] | BridgeError
        try:
            found = self._read_again()
        except BridgeError as error:
            found = without_frames(error)
        except Exception as defect:
            found = BridgeError(f"{defect!r} (report it, with the settings)")
        self._loop.post(partial(self._take_settings, found))

    def _take_settings(self, found: tuple[Settings, Router] | BridgeError) -> None:
        self._reads_again = False
        if self._reload_again:  # what the thread has read may be old
            self._reload_again = False
            self._reload()
        elif not isinstance(found, BridgeError):
            if not self._stop_deadline:
                self._use(*found)
        else:
            problems = found.problems if isinstance(found, ConfigurationError) else (str(found),)
            self._collector.reload_trouble = "; ".join(problems)
            for problem in problems:
                log(Event.CONFIG_RELOAD_REFUSED, problem=problem)

    def _use(self, found: Settings, router: Router) -> None:
        """Take over the settings that can change without a restart, and log the others.

        `router` is made of the routes that were found.
        """
        before = self._settings
        changed = changes(before, found)
        waits = [name for name in changed if name not in TAKEN_WHILE_RUNNING]
        reasons = ["they are read at the start alone"] if waits else []
        mqtt = before.mqtt.model_copy(
            update={"password": found.mqtt.password, "password_file": found.mqtt.password_file}
        )
        update: dict[str, object] = {
            "log": before.log.model_copy(update={"level": found.log.level}),
            "mqtt": mqtt,
        }
        if "routes" in changed:
            if why := self._pipeline.change_routes(found.routes, router):
                waits.append("routes")
                reasons.append(f"routes: {why}")
            else:
                update["routes"] = found.routes
                self._session.routes_changed()
                for warning in advice.warnings(found.routes, router.routes):
                    log(Event.CONFIG_WARNING, warning=warning)
        self._session.use_password(mqtt)
        self._settings = before.model_copy(update=update)
        self._collector.reloaded_at, self._collector.reload_trouble = time.monotonic(), ""
        self._collector.restart_wanted = tuple(waits)
        log(Event.CONFIG_RELOADED, changed=[name for name in changed if name not in waits])
        if waits:
            log(Event.CONFIG_NEEDS_RESTART, settings=waits, reason="; ".join(reasons))
        if found.log.level != before.log.level:  # last: the lines above follow the level that was in force
            logging.change_level(found.log.level)

    # -- time ------------------------------------------------------------------------------------------

    def _keep_time(self) -> float:
        now = time.monotonic()
        if now >= self._minute_ends:
            self._minute_ends += _MINUTE
            self._say_what_flowed()
        if not self._stop_deadline:
            return self._minute_ends - now
        if not self._said_goodbye and (self._pipeline.is_empty or self._stop_deadline.is_over(now)):
            self._said_goodbye = True
            if not self._pipeline.is_empty:
                log(Event.SERVICE_STOP_DEADLINE, in_flight=self._pipeline.counts.in_flight)
            self._session.say_goodbye()
        return self._stop_deadline.due(now) if not self._said_goodbye else 0.05

    def _tell_systemd(self) -> float:
        """Tell systemd the service's state, and that the loop runs.

        Returns within how many seconds to call this again; infinite without systemd's watchdog.
        """
        state = self._session.state
        refused = "; the last reload was refused: see the log" if self._collector.reload_trouble else ""
        if state is State.LIVE:
            self._systemd.ready(f"live{refused}")
        elif not self._stop_deadline and (state is State.BACKING_OFF or time.monotonic() >= self._started_by):
            self._systemd.ready(f"waiting for the broker at {self._settings.mqtt.host}{refused}")
        return self._systemd.alive()

    def _say_what_flowed(self) -> None:
        counts = self._pipeline.counts.as_fields()
        before, self._last_counts = self._last_counts, counts
        if counts != before or any(counts[name] for name in STATES):
            flowed = {name: now if name in STATES else now - before[name] for name, now in counts.items()}
            log(Event.FLOW_MINUTE, **flowed)


def _spare_the_collector() -> None:
    """Make Python look for reference cycles rarely.

    Messages are in no reference cycles, so their reference counts free them. By default Python would look for
    cycles among the messages in flight after every 700 messages, and that would take a quarter of the CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000)
