"""Makes the snapshot, once a second, in the loop's thread; where nobody looks and nothing comes, more seldom.

A snapshot is swapped in whole, so other threads read it without a lock. The collector changes nothing in the
parts that it reads. Its own cost grows with the topics that are in use, a few hundred nanoseconds each, and
with nothing that happens for each message. Thousands of topics are looked at more seldom.
"""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from logging import getLevelName
from typing import Any, Protocol

from bridge import __version__, program
from bridge.delivery.counts import DEAD_LETTERED, DROPPED, SKIPPED
from bridge.delivery.lanes import Lane, LaneState
from bridge.delivery.pipeline import Pipeline
from bridge.observe.events import Event
from bridge.observe.observations import SHORT, Observations
from bridge.observe.recent import RECENT, Noted
from bridge.settings import Settings
from bridge.status.snapshot import (
    BrokerNode,
    Certificate,
    Flow,
    Happened,
    HeldTopic,
    Histogram,
    History,
    Kafka,
    KafkaBroker,
    Mqtt,
    Neighbour,
    Route,
    SessionQueue,
    Snapshot,
    Spool,
    StoppedTopic,
    Transactions,
)

EVERY = 1.0  # seconds
# Seconds where nobody looks. From then on a snapshot is made as soon as the loop turns for something else,
# and a second later at the latest: a wake-up of its own costs a third of what the snapshot costs. A reader
# calls the loop stuck once a snapshot is 10 s old.
IDLE, SLACK = 4.5, 1.0
_READER_STAYS = 20.0  # seconds since somebody has looked: Prometheus looks every 5 to 15 s
_STEP, _POINTS = 5, 180  # of the history: seconds, and 15 minutes
_RATE_OVER, _GROWTH_OVER = 10, 60  # seconds
_GROWTH_AT_LEAST = 5  # seconds of growth, before which no forecast is made
_MOST_MARKS = 4096
_MOST_HELD = 50
# More lanes or routes than _MANY are not looked at for each snapshot: on average so many a second.
_MANY = _A_SECOND = 1000
_ARE_HELD = (LaneState.HELD, LaneState.ASKING)
_LATELY = 3600.0  # seconds for which the last event of a kind is remembered
_STILL = 90.0  # seconds; a cause that lasts is logged once a minute

_NO_EVENTS = dict.fromkeys((str(event) for event in Event), 0)
# Events that tell why a side is not live. The second set: what often follows from one of the others.
_OF_MQTT = frozenset(
    {
        Event.MQTT_CONNECT_FAILED,
        Event.MQTT_TLS_FAILED,
        Event.MQTT_CONNACK_TIMEOUT,
        Event.MQTT_REFUSED,
        Event.MQTT_UNAVAILABLE,
        Event.MQTT_KEEPALIVE_TIMEOUT,
        Event.MQTT_TAKEN_OVER,
        Event.MQTT_SUBSCRIBE_REFUSED,
        Event.MQTT_MALFORMED_PACKET,
    }
)
_AFTER_MQTT = frozenset({Event.MQTT_CLOSED})
_OF_KAFKA = frozenset(
    {
        Event.KAFKA_AUTHENTICATION_FAILED,
        Event.KAFKA_WRONG_LISTENER,
        Event.KAFKA_TLS_FAILED,
        Event.KAFKA_FILES_UNUSABLE,
    }
)
_UNTIL_READ = frozenset({Event.KAFKA_FILES_UNUSABLE})  # logged once
_AFTER_READ = (Event.KAFKA_FILES_READ, Event.KAFKA_REBUILT)
_WHILE_LIVE = (_OF_KAFKA - _UNTIL_READ) | {Event.KAFKA_TRANSACTION_LOST}
_OF_RESTING = _OF_KAFKA | {Event.SERVICE_NO_THREAD}
_AFTER_KAFKA = frozenset({Event.KAFKA_ERROR, Event.KAFKA_ALL_BROKERS_DOWN, Event.KAFKA_FATAL})
_OF_TOPICS = (Event.KAFKA_TOPIC_MISSING, Event.KAFKA_LANE_HELD, Event.SPOOL_LATE)


class MqttSide(Protocol):
    """The part of mqtt.session.Session that is shown."""

    state_since: float
    connects: int
    disconnects: dict[str, int]

    @property
    def state(self) -> Any: ...
    @property
    def protocol(self) -> str: ...
    @property
    def refused(self) -> tuple[str, ...]: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def certificates(self) -> Mapping[str, float]: ...


class BrokerSeen(Protocol):
    """A kafka.brokers.Broker."""

    @property
    def number(self) -> int: ...
    @property
    def address(self) -> str: ...
    @property
    def is_up(self) -> bool: ...
    @property
    def since(self) -> float: ...
    @property
    def round_trip_p99(self) -> float | None: ...
    @property
    def hangs(self) -> bool: ...


class StoppedSeen(Protocol):
    """A kafka.brokers.Stopped."""

    @property
    def topic(self) -> str: ...
    @property
    def partitions(self) -> int: ...
    @property
    def of(self) -> int: ...
    @property
    def has_leader(self) -> bool: ...
    @property
    def awaits(self) -> tuple[int, ...]: ...


class Brokers(Protocol):
    """The part of kafka.brokers.Brokers that is shown."""

    any_up: bool
    ever_up: bool
    taken_at: float

    @property
    def known(self) -> Sequence[BrokerSeen]: ...
    @property
    def stopped(self) -> Sequence[StoppedSeen]: ...


class Counted(Protocol):
    """The part of kafka.transactions.Transactions that is shown."""

    committed_count: int
    failed_count: int
    fenced_count: int
    is_fenced: bool


class TransactionalSide(Protocol):
    """What only kafka.transactional_cluster.TransactionalCluster has of what is shown."""

    commits: Observations

    @property
    def transactions(self) -> Counted: ...


class KafkaSide(Protocol):
    """The part of kafka.cluster.Cluster, or of TransactionalCluster, that is shown."""

    @property
    def rebuilds(self) -> int: ...
    @property
    def transactional(self) -> TransactionalSide | None: ...
    @property
    def brokers(self) -> Brokers: ...
    @property
    def rests(self) -> bool: ...
    @property
    def producer_queue(self) -> int: ...
    @property
    def certificates(self) -> Mapping[str, float]: ...


class Disk(Protocol):
    """The part of spool.disk_thread.DiskThread that is shown."""

    state: str
    state_since: float
    why: str
    way_out: str
    commits: Observations
    used: int
    free: int
    letters: int
    letter_bytes: int
    oldest: int


class Neighbours(Protocol):
    """The part of neighbours.neighbours.Neighbours that is shown."""

    @property
    def haproxy(self) -> Neighbour | None: ...
    @property
    def nodes(self) -> tuple[BrokerNode, ...]: ...
    @property
    def emqx(self) -> Neighbour | None: ...
    @property
    def queue(self) -> SessionQueue | None: ...


class Collector:
    """Makes snapshots. Any thread may `read` the newest one.

    app.py sets `state` and `neighbours`. A reload sets `reloaded_at` (monotonic seconds), `reload_trouble`
    and `restart_wanted`.
    """

    def __init__(
        self, settings: Settings, pipeline: Pipeline, mqtt: MqttSide, kafka: KafkaSide, disk: Disk
    ) -> None:
        self.latest: Snapshot | None = None  # None before the first
        self._read_at = -_READER_STAYS
        self._sequence_then = -1  # at the newest snapshot
        self._is_idle = False
        self.state = "starting"
        self.neighbours: Neighbours | None = None
        self.reloaded_at: float | None = None
        self.reload_trouble = ""
        self.restart_wanted: tuple[str, ...] = ()
        self._settings = settings
        self._pipeline = pipeline
        self._mqtt = mqtt
        self._kafka = kafka
        self._disk = disk
        self._began = time.monotonic()
        self._due = self._began
        self._turns = Observations(SHORT)
        self._longest_turn = 0.0
        self._received_at: float | None = None
        self._mqtt_live_at = self._kafka_live_at = 0.0
        self._kafka_state, self._kafka_since = "connecting", self._began
        self._restored_up_to = pipeline.sequence
        self._marks = deque([(self._began, pipeline.sequence)])  # when a sequence number had been reached
        self._seen: deque[tuple[float, int, int, int]] = deque()  # of the last _GROWTH_OVER seconds
        self._points: deque[tuple[float, float, float, int]] = deque(maxlen=_POINTS)
        self._history = History(float(_STEP))
        self._oldest_since_step = 0.0
        self._spools_since = 0.0  # when the spool was last seen empty
        self._step_at = self._began + _STEP
        self._held_since: dict[str, tuple[str, float]] = {}
        self._look_at_lanes_at = self._look_at_routes_at = 0.0
        self._of_lanes = _OfLanes()
        self._of_routes: tuple[Route, ...] = ()

    def turn(self, now: float, took: float) -> float:
        """Call this at each turn of the loop. `took`: seconds that the loop did not wait, at most at once.

        Returns within how many seconds to call this again.
        """
        if took > self._longest_turn:
            self._longest_turn = took
        sequence = self._pipeline.sequence
        if now >= self._due or (self._is_idle and sequence != self._sequence_then):
            self._is_idle = sequence == self._sequence_then and now >= self._read_at + _READER_STAYS
            self._sequence_then = sequence
            self._due = now + (IDLE if self._is_idle else EVERY)
            self._turns.observe(self._longest_turn)
            self._longest_turn = 0.0
            self.latest = self.make(now)
        return self._due - now + (SLACK if self._is_idle else 0.0)

    @property
    def is_calm(self) -> bool:
        """Whether the next snapshot waits for its time; if not, it is made as soon as a message has come."""
        return not self._is_idle

    def read(self) -> Snapshot | None:
        """The newest snapshot, for somebody who looks; None before the first. Any thread may call this."""
        self._read_at = time.monotonic()
        return self.latest

    def make(self, now: float) -> Snapshot:
        """Make a snapshot of this moment. Between two turns of the loop the sums add up."""
        self._pipeline.sampled.look_at_clock()
        if now >= self._look_at_lanes_at:
            self._of_lanes = self._look_at_lanes(now)
        if now >= self._look_at_routes_at:
            self._of_routes = self._look_at_routes(now)
        flow = self._flow(now)
        held, held_total, waiting_total = self._of_lanes.held
        neighbours = self.neighbours
        return Snapshot(
            version=__version__,
            made_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            made=now,
            uptime=now - self._began,
            state=self.state,
            clock_trusted=self._pipeline.believes_clock,
            mqtt=self._of_mqtt(now),
            kafka=self._of_kafka(now),
            spool=self._of_spool(now, flow),
            flow=flow,
            routes=self._of_routes,
            held=held,
            held_total=held_total,
            waiting_total=waiting_total,
            haproxy=neighbours.haproxy if neighbours else None,
            nodes=neighbours.nodes if neighbours else (),
            emqx=neighbours.emqx if neighbours else None,
            queue=neighbours.queue if neighbours else None,
            certificates=self._certificates(),
            happened=tuple(_happened(noted, now) for noted in RECENT.last()),
            lately=tuple(_happened(noted, now) for noted in RECENT.warnings(now - _LATELY)),
            events=_NO_EVENTS | RECENT.counts(),
            history=self._history,
            loop_turn_seconds=_histogram(self._turns),
            reloaded_age=None if self.reloaded_at is None else now - self.reloaded_at,
            reload_trouble=self.reload_trouble,
            restart_wanted=self.restart_wanted,
            program=program.here(),
        )

    # -- the two sides and the disk ----------------------------------------------------------------------

    def _of_mqtt(self, now: float) -> Mqtt:
        mqtt, settings = self._mqtt, self._settings.mqtt
        state = mqtt.state.value
        if state == "live":
            self._mqtt_live_at = mqtt.state_since
        return Mqtt(
            host=settings.host,
            port=settings.port,
            client_id=settings.client_id,
            protocol=mqtt.protocol.removeprefix("MQTT "),
            state=state,
            state_age=now - mqtt.state_since,
            connects=mqtt.connects,
            disconnects=dict(mqtt.disconnects),
            sessions_lost=self._pipeline.counts.sessions_lost,
            refused=mqtt.refused,
            taken_over_age=RECENT.age(Event.MQTT_TAKEN_OVER, now),
            **_trouble(RECENT.trouble(_OF_MQTT, _AFTER_MQTT, self._mqtt_live_at)),
        )

    def _of_kafka(self, now: float) -> Kafka:
        kafka, brokers = self._kafka, self._kafka.brokers
        # The brokers are asked every five seconds; a delivery report, or an error, may tell more since then.
        down = RECENT.age(Event.KAFKA_ALL_BROKERS_DOWN, now)
        down_at = 0.0 if down is None else now - down
        confirmed_at = self._pipeline.sampled.delivered_at
        newest = max(brokers.taken_at, down_at, confirmed_at)
        if kafka.rests:
            state = "resting"
        elif not newest:
            state = "connecting"
        elif confirmed_at == newest or (brokers.taken_at == newest and brokers.any_up):
            state = "live"
        else:
            state = "away" if brokers.ever_up or confirmed_at or down_at else "connecting"
        if state != self._kafka_state:
            self._kafka_state, self._kafka_since = state, now
        if state == "live":
            # Connections that are up go on, although Kafka refuses new ones.
            self._kafka_live_at = now
            trouble = RECENT.trouble(
                _WHILE_LIVE, frozenset(), max(self._kafka_since, now - _STILL)
            ) or RECENT.trouble(_UNTIL_READ, frozenset(), max(self._kafka_since, *_last(_AFTER_READ, now)))
        else:
            causes = _OF_RESTING if kafka.rests else _OF_KAFKA
            trouble = RECENT.trouble(causes, _AFTER_KAFKA, self._kafka_live_at)
        return Kafka(
            bootstrap_servers=self._settings.kafka.bootstrap_servers,
            state=state,
            state_age=now - self._kafka_since,
            brokers=tuple(
                KafkaBroker(
                    each.number, each.address, each.is_up, now - each.since, each.round_trip_p99, each.hangs
                )
                for each in brokers.known
            ),
            producer_queue=kafka.producer_queue,
            rebuilds=kafka.rebuilds,
            transactions=_transactions(kafka.transactional),
            stopped=tuple(
                StoppedTopic(each.topic, each.partitions, each.of, each.has_leader, each.awaits)
                for each in brokers.stopped[:_MOST_HELD]
            ),
            **_trouble(trouble),
        )

    def _of_spool(self, now: float, flow: Flow) -> Spool:
        disk, limits = self._disk, self._settings.spool
        self._seen.append((now, flow.received, flow.delivered, disk.used))
        while self._seen[0][0] < now - _GROWTH_OVER and len(self._seen) > 1:
            self._seen.popleft()
        if not flow.spooled:
            self._spools_since = now
        growth = self._growth(now, disk.used)
        room = max(0, min(limits.max_bytes - disk.used, (disk.free - limits.keep_free) // 2))
        return Spool(
            path=str(self._settings.spool_directory),
            state=disk.state,
            state_age=now - disk.state_since,
            messages=flow.spooled,
            bytes_used=disk.used,
            bytes_limit=limits.max_bytes,
            disk_free=disk.free,
            disk_keep_free=limits.keep_free,
            full_in=room / growth if growth > 0 and flow.spooled else None,
            lasts=room / fills if (fills := self._would_fill(flow)) else None,
            dead_letters=disk.letters,
            dead_letter_bytes=disk.letter_bytes,
            commit_seconds=_histogram(disk.commits),
            reason=disk.why,
            way_out=disk.way_out,
        )

    def _growth(self, now: float, used: int) -> float:
        """Bytes a second by which the spool grows, over the last minute, or since a message waits there.

        In the first seconds of an outage the quiet part of the minute would make the forecast far too long.
        """
        began, _, _, before = next(each for each in self._seen if each[0] >= self._spools_since)
        return (used - before) / (now - began) if now - began >= _GROWTH_AT_LEAST else 0.0

    def _would_fill(self, flow: Flow) -> float:
        """Bytes a second that would go to disk if Kafka took nothing, at the usual rate; 0: not known."""
        rates = [rate for rate in self._history.received_rate if rate > 0] or [flow.received_rate]
        size = flow.received_bytes / flow.received if flow.received else 0.0
        return size * sum(rates) / len(rates)

    # -- messages ----------------------------------------------------------------------------------------

    def _look_at_lanes(self, now: float) -> "_OfLanes":
        """Look at all lanes. Where there are thousands, this is done more seldom than a snapshot is made."""
        lanes, not_live = self._pipeline.lanes, self._pipeline.held.lanes
        if len(lanes) > _MANY:
            self._look_at_lanes_at = now + len(lanes) / _A_SECOND
        return _OfLanes(
            self._held(now, not_live), _oldest_sequence(lanes, not_live), unaccounted(self._pipeline)
        )

    def _flow(self, now: float) -> Flow:
        counts, sampled = self._pipeline.counts, self._pipeline.sampled
        spooled = self._pipeline.spooled
        in_flight = counts.in_flight + counts.spooled - spooled  # counts.spooled is of the last turn
        sequence = self._pipeline.sequence
        if counts.received and (not self._seen or counts.received != self._seen[-1][1]):
            self._received_at = now
        self._mark(now, sequence)
        oldest = self._oldest(now, self._of_lanes.oldest)
        received_rate, delivered_rate = self._rates(now, counts.received, counts.delivered)
        self._remember(now, received_rate, delivered_rate, oldest, spooled)
        return Flow(
            received=counts.received,
            received_by_qos=counts.received_by_qos,
            received_bytes=self._mqtt.bytes_read,
            restored=counts.restored,
            delivered=counts.delivered,
            delivered_bytes=counts.delivered_bytes,
            in_flight=in_flight,
            in_flight_limit=self._settings.mqtt.receive_maximum,
            spooled=spooled,
            spooled_total=counts.spooled_total,
            joined=counts.joined,
            skipped=dict.fromkeys(SKIPPED, 0) | counts.skipped_by_reason,
            dropped=dict.fromkeys(DROPPED, 0) | counts.dropped,
            dead_lettered=dict.fromkeys(DEAD_LETTERED, 0) | counts.dead_lettered_by_reason,
            dead_letters_removed=counts.dead_letters_removed,
            unreadable=counts.unreadable,
            unaccounted=self._of_lanes.unaccounted,
            received_rate=received_rate,
            delivered_rate=delivered_rate,
            oldest_undelivered_age=oldest,
            last_received_age=None if self._received_at is None else now - self._received_at,
            last_delivered_age=now - sampled.delivered_at if sampled.delivered_at else None,
            delivery_seconds=_histogram(sampled.delivery),
            acknowledge_by_kafka_seconds=_histogram(sampled.by_kafka),
            acknowledge_by_disk_seconds=_histogram(sampled.by_disk),
        )

    def _mark(self, now: float, sequence: int) -> None:
        marks = self._marks
        if sequence == marks[-1][1]:
            marks[-1] = (now, sequence)  # what comes next has come after this moment
            return
        marks.append((now, sequence))
        if len(marks) > _MOST_MARKS:  # every second one goes: a long outage is known less exactly
            self._marks = deque([*list(marks)[:-1:2], marks[-1]])

    def _oldest(self, now: float, first: int) -> float:
        """The age of the oldest message that neither Kafka nor the dead letters hold; 0: there is none.

        `first` is its sequence number.
        A message of this run is known by its sequence number, to a second (less exactly in an outage of more
        than an hour). A message on disk alone counts as old as the last one that was read before it. One from
        before the start counts from its timestamp if that is believable, otherwise from the start.
        """
        if not first:
            if len(self._marks) > 1:
                self._marks = deque([self._marks[-1]])
            return 0.0
        if first <= self._restored_up_to:
            received = self._disk.oldest / 1000
            age = time.time() - received
            is_believable = received > 0 and age > now - self._began and self._pipeline.believes_clock
            return age if is_believable else now - self._began
        marks = self._marks
        while len(marks) > 2 and marks[1][1] < first:
            marks.popleft()
        after = bisect_left(marks, first, key=_sequence)
        return max(0.0, now - marks[max(0, min(after, len(marks)) - 1)][0])

    def _rates(self, now: float, received: int, delivered: int) -> tuple[float, float]:
        if not self._seen:
            return 0.0, 0.0
        since = now - _RATE_OVER
        then, received_then, delivered_then, _ = next(
            (each for each in reversed(self._seen) if each[0] <= since), self._seen[0]
        )
        seconds = max(now - then, 1e-3)
        return max(0, received - received_then) / seconds, max(0, delivered - delivered_then) / seconds

    def _remember(
        self, now: float, received_rate: float, delivered_rate: float, oldest: float, spooled: int
    ) -> None:
        self._oldest_since_step = max(self._oldest_since_step, oldest)
        if now >= self._step_at:
            steps = int((now - self._step_at) // _STEP) + 1
            self._step_at += steps * _STEP
            point = (received_rate, delivered_rate, self._oldest_since_step, spooled)
            self._points.extend([point] * min(steps, _POINTS))
            received, delivered, ages, on_disk = zip(*self._points, strict=True)
            self._history = History(float(_STEP), received, delivered, ages, on_disk)
            self._oldest_since_step = 0.0

    # -- routes and topics -------------------------------------------------------------------------------

    def _look_at_routes(self, now: float) -> tuple[Route, ...]:
        """What is counted by route. As with lanes: more seldom where there are thousands."""
        counts, routes = self._pipeline.counts, self._pipeline.routes
        if len(routes) > _MANY:
            self._look_at_routes_at = now + len(routes) / _A_SECOND
        return tuple(
            Route(
                route.name,
                route.filter,
                route.topic or "",
                counts.delivered_by_route[route.name],
                counts.skipped_by_route[route.name],
            )
            for route in routes
        )

    def _held(self, now: float, not_live: Sequence[Lane]) -> tuple[tuple[HeldTopic, ...], int, int]:
        """What a page shows of the lanes that are not LIVE, how many are held, and how many have messages.

        Of thousands of lanes only those that are shown are looked at closely.
        """
        held = self._pipeline.held
        # A lane that is asked about again is ASKING for a moment; it is still held for the same reason.
        # Once Kafka takes the topic, the reason is history, although the lane may drain for hours.
        stuck = [
            lane
            for lane in not_live
            if lane.state is LaneState.HELD or (lane.state is LaneState.ASKING and held.why(lane))
        ]
        shown = stuck[:_MOST_HELD]  # a person must act for these
        if len(shown) < _MOST_HELD:
            are_stuck = set(stuck)
            others = (lane for lane in not_live if lane.waits and lane not in are_stuck)
            shown += islice(others, _MOST_HELD - len(shown))
        since: dict[str, tuple[str, float]] = {}
        found = []
        for lane in shown:
            why = held.why(lane) if lane.state in _ARE_HELD else None
            state = "held" if why else lane.state.name.lower()
            known = self._held_since.get(lane.topic)
            since[lane.topic] = known if known and known[0] == state else (state, now)
            age = now - since[lane.topic][1]
            hold, reason, way_out = why or ("", "", "")
            found.append(HeldTopic(lane.topic, state, age, lane.undelivered, reason, way_out, str(hold)))
        self._held_since = since
        return tuple(found), len(stuck), sum([lane.waits for lane in not_live])

    def _certificates(self) -> tuple[Certificate, ...]:
        known = {**self._mqtt.certificates, **self._kafka.certificates}
        return tuple(Certificate(whose, at) for whose, at in sorted(known.items()))


@dataclass(frozen=True, slots=True)
class _OfLanes:
    """What was found when all lanes were looked at.

    `held`: those that are shown, how many are held, and how many have messages. `oldest`: the sequence number
    of the oldest message that Kafka does not hold; 0: there is none.
    """

    held: tuple[tuple[HeldTopic, ...], int, int] = ((), 0, 0)
    oldest: int = 0
    unaccounted: int = 0


def _oldest_sequence(lanes: Collection[Lane], not_live: Sequence[Lane]) -> int:
    in_memory = [lane.oldest for lane in lanes if lane.in_flight or lane.waiting or lane.behind]
    on_disk = [lane.rows.next_stored for lane in not_live if lane.rows.stored]
    return min([*in_memory, *on_disk], default=0)


def unaccounted(pipeline: Pipeline) -> int:
    """How many messages the counts say are in memory alone, less those that the lanes really hold there.

    0, or the bridge has a defect. Call this between two turns of the loop.
    """
    counts, not_live = pipeline.counts, pipeline.held.lanes
    held = sum([len(lane.in_flight) for lane in pipeline.lanes if lane.in_flight])
    held += pipeline.waiting_elsewhere
    held += sum([len(lane.waiting) + len(lane.behind) for lane in not_live if lane.waiting or lane.behind])
    on_disk_too = sum([lane.rows.kept for lane in not_live])
    return counts.in_flight + counts.spooled - pipeline.spooled - (held - on_disk_too)


def _sequence(mark: tuple[float, int]) -> int:
    return mark[1]


def _trouble(noted: Noted | None) -> dict[str, str]:
    if noted is None:
        return {}
    fields = noted.fields
    reason = fields.get("reason") or fields.get("evidence") or fields.get("meaning") or ""
    if not reason and "awaited" in fields:
        reason = f"no {fields['awaited']} within {fields.get('seconds', '')} s"
    return {"trouble": noted.event, "reason": reason, "way_out": fields.get("way_out", "")}


def _last(events: Sequence[Event], now: float) -> list[float]:
    """When each event was logged last, in monotonic seconds; 0: never."""
    ages = (RECENT.age(event, now) for event in events)
    return [0.0 if age is None else now - age for age in ages]


def _happened(noted: Noted, now: float) -> Happened:
    return Happened(now - noted.at, getLevelName(noted.level).lower(), noted.event, noted.text)


def _transactions(kafka: TransactionalSide | None) -> Transactions | None:
    if kafka is None:
        return None
    counted = kafka.transactions
    return Transactions(
        counted.committed_count,
        counted.failed_count,
        counted.fenced_count,
        _histogram(kafka.commits),
        counted.is_fenced,
    )


def _histogram(observed: Observations) -> Histogram:
    return Histogram(observed.bounds, observed.cumulative(), observed.total)
