"""Receive, route, produce, settle: the way of a message, and the only place where one is settled.

    session --receive--> ledger: new, or a copy that joins?
                         router: which Kafka topic, key, headers?          no route: dead letter
                         lane:   now, or behind what waits?  --> Kafka     Kafka is late: disk
    Kafka --report-->    lane, ledger: settled  --> acknowledgements, in order of arrival
    disk  --committed--> lane, ledger: settled

All of it runs in the loop's thread. A turn of the loop takes what the session has read, then what Kafka
has reported, then sends acknowledgements.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Protocol

from bridge.delivery import held_lanes
from bridge.delivery.clock import EARLIEST, is_believable
from bridge.delivery.counts import Counts
from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.held_lanes import HeldLanes
from bridge.delivery.lanes import EVERY_TIMESTAMP, Lane, LaneState
from bridge.delivery.ledger import Ledger
from bridge.delivery.qos0 import Qos0
from bridge.delivery.results import Failure, Found, Verdict
from bridge.delivery.spooling import Spool, Spooling
from bridge.errors import Unroutable
from bridge.message import NO_TIMESTAMP, RETAIN, Message, OpenIdentifier, Packet, Release
from bridge.observe.events import Event, log
from bridge.routing.router import Plan, Router
from bridge.routing.topics import Subscription
from bridge.settings import Settings

_PLANS = 20_000  # MQTT topics whose plans are kept; beyond it all are made anew
_LOOK_AT_CLOCK_EVERY = 60.0  # seconds
_FRESH = 600_000  # ms; a message that was received so lately shows what the clock shows
_LIVE = LaneState.LIVE  # a name of its own: looked up in the class it takes six times as long


_WRONG_CLOCK = (
    "this machine's clock, or Kafka's, is wrong by more than the topic's message.timestamp.after.max.ms (1 h"
    " by default) or message.timestamp.before.max.ms allows: compare `date -u` on both. On a machine without"
    " a clock set message.timestamp.type=LogAppendTime for the topic"
)
_TOO_OLD = "it waited on disk for longer than the topic's message.timestamp.before.max.ms allows"


class Acknowledger(Protocol):
    """What of mqtt.session.Session is used here."""

    def acknowledge(self, messages: list[Message]) -> None: ...
    def complete(self, packet_id: int, known: bool) -> None: ...


class Kafka(held_lanes.Kafka, Protocol):
    """What of kafka.cluster.Cluster is used here; its words are described there."""

    @property
    def is_broken(self) -> bool: ...
    @property
    def wants_successor(self) -> bool: ...
    def poll(self) -> None: ...
    def take_delivered(self) -> list[Message]: ...
    def take_failures(self) -> list[Failure]: ...
    def retire(self) -> None: ...
    def rebuild(self) -> None: ...


class Pipeline:
    """The session's handler. `session` is set once there is one."""

    session: Acknowledger

    def __init__(self, settings: Settings, router: Router, kafka: Kafka, spool: Spool) -> None:
        """`router` is that of the settings' routes, with none of them refused."""
        self.counts = Counts()
        self._settings = settings
        self._kafka = kafka
        self._router = router
        self._ledger = Ledger(settings.mqtt.receive_maximum)
        self._plans: dict[bytes, Plan] = {}
        self._lanes: dict[str, Lane] = {}
        self._stirred = False  # a dead letter waits for the disk, so the next turn must come at once
        self._sequence = 0
        self._qos0 = Qos0(settings.mqtt.qos0_messages, settings.mqtt.qos0_bytes, self.counts)
        self._believes_clock = True
        self._look_at_clock_at = 0.0
        self._stampless: set[Lane] = set()  # whose topics refuse the time that this machine's clock shows
        self._spooling = Spooling(
            spool, settings.spool.after, self.counts, self._lane, self._settle, self._route_again
        )
        self._held = HeldLanes(kafka, self._spooling, self._failed)

    def take_up(self, found: Sequence[Found], identifiers: Iterable[OpenIdentifier]) -> None:
        """What was on disk at the start: messages, and what was open at QoS 2."""
        self._sequence = max((each.last for each in found), default=self._sequence)
        self._spooling.take_up(found)
        self.counts.spooled = self.counts.restored
        self._ledger.restore(identifiers)

    # -- the session's handler -------------------------------------------------------------------------

    def subscriptions(self, refused: Collection[str]) -> Sequence[Subscription]:
        router = Router(self._settings.routes, refused=refused)
        if router.subscriptions != self._router.subscriptions:
            self._plans.clear()
        self._router = router
        return router.subscriptions

    def connected(self, session_present: bool, mqtt5: bool) -> None:
        self._ledger.connected(session_present, window_known=mqtt5)

    def session_lost(self) -> None:
        self.counts.sessions_lost += 1

    def disconnected(self) -> None:
        self._ledger.disconnected()

    def taken_over(self) -> None:
        self._ledger.forget_session()

    def handed_over(self, acknowledgements: int) -> None:
        self._ledger.handed_over(acknowledgements)

    def receive(self, packets: list[Packet]) -> None:
        self._kafka.produce(self._let_through(packets), self._failed)

    def _let_through(self, packets: list[Packet]) -> Iterator[Message]:
        """Yield what is to be produced now; the rest waits in its lane, or is done with.

        What becomes of one message decides about the next, so it has been handed over when that is asked for.
        """
        counts, plans = self.counts, self._plans
        sequence = self._sequence
        timestamp = time.time_ns() // 1_000_000
        if timestamp < EARLIEST or not self._believes_clock:
            timestamp = NO_TIMESTAMP
        passed = self._ledger.receive(packets)
        counts.joined += len(packets) - len(passed)
        for packet in passed:
            if type(packet) is Release:
                self.session.complete(packet.packet_id, packet.known)
                continue
            message = packet
            if not message.flags & 0x06 and not self._qos0.admits(message):
                continue
            sequence += 1
            message.sequence = sequence
            message.timestamp = timestamp
            plan = plans.get(message.topic) or self._make_plan(message)
            if plan is None:
                continue
            message.plan = plan
            lane: Lane | None = plan.lane
            if (
                lane is None
                or (message.flags & RETAIN and plan.skip_retained)
                or (message.properties and not plan.takes(message))
            ):
                counts.skipped += 1
                self._settle(message)
            # Lane.offer, written out: nearly all go this way, and the call would be the dearest line here.
            elif lane.state is _LIVE and len(message.payload) + plan.overhead <= lane.plain:
                lane.in_flight[message] = None
                yield message
            elif lane.offer(message):
                yield message
            else:
                self._held.add(lane)
        counts.received += sequence - self._sequence
        self._sequence = sequence

    # -- a turn of the loop ----------------------------------------------------------------------------

    def turn(self) -> float:
        """Settle what Kafka has reported, acknowledge it, and see to the lanes that are held.

        Returns for how many seconds nothing is due here.
        """
        self._stirred = self._held.stirred = False
        self._kafka.poll()
        for failure in self._kafka.take_failures():  # first: what is delivered may have overtaken them
            self._failed(failure)
        self._take_delivered()
        if self._kafka.answers:
            self._held.take_answers(time.monotonic(), self._lanes)
        if self._kafka.is_broken:
            self._start_over()
        if self._kafka.wants_successor:
            self._retire()
        for lane in self._spooling.take_results(self._lanes):
            self._held.add(lane)
        now = time.monotonic()
        if self._is_watched:
            for lane in self._spooling.watch(now, self._sequence, self._lanes.values()):
                self._held.add(lane)
        if self._held:
            self._held.turn(now)
        disk_due = self._spooling.turn(now, self._held.lanes)
        settled = self._ledger.take_settled()
        if settled:
            self.session.acknowledge(settled)
        if now >= self._look_at_clock_at:
            self._look_at_clock(now)
        return min(disk_due, self._next_due(now))

    @property
    def has_work(self) -> bool:
        """The next turn should come at once: something was settled without Kafka, or a lane stirred."""
        return self._stirred or self._held.stirred or self._ledger.has_settled

    @property
    def is_empty(self) -> bool:
        """Nothing is in flight, not even a copy of what is on disk."""
        return not self.counts.in_flight and not self._held.any_in_flight

    @property
    def _is_watched(self) -> bool:
        """Something may become late, or be late no longer."""
        return not self.is_empty or self._held.any_late

    def stop_reading(self) -> None:
        """The bridge is about to stop: what is on disk stays there for the next start."""
        self._spooling.read_no_more()

    def leave(self) -> None:
        """The bridge is about to end: the disk is to keep only what Kafka does not hold."""
        self._spooling.take_results(self._lanes)  # of the last commit
        self._spooling.leave(self._lanes.values())

    @property
    def open_identifiers(self) -> list[OpenIdentifier]:
        """What `take_up` needs at the next start. To be asked last."""
        return self._ledger.open_identifiers()

    # -- routing ---------------------------------------------------------------------------------------

    def _make_plan(self, message: Message) -> Plan | None:
        """None: no route can take this message, it is a dead letter, and a person was told."""
        if len(self._plans) >= _PLANS:
            self._plans.clear()
        try:
            plan = self._router.plan(message.topic)
        except Unroutable as error:
            log(
                Event.ROUTE_UNROUTABLE,
                topic=message.topic.decode("utf-8", "backslashreplace"),
                size=len(message.payload),
                reason=error.reason,
            )
            self._spooling.keep_letter(DeadLetter(message, error.reason))
            self._stirred = True
            return None
        if plan.action == "produce":
            plan.lane = self._lane(plan.kafka_topic)
        self._plans[message.topic] = plan
        return plan

    def _lane(self, topic: str) -> Lane:
        lane = self._lanes.get(topic)
        if lane is None:
            lane = self._lanes[topic] = self._spooling.new_lane(topic)
            self._held.add(lane)
            self._kafka.look_up(topic)
        return lane

    def _route_again(self, message: Message) -> None:
        """It was read from disk, where only what has a route is."""
        message.plan = self._plans.get(message.topic) or self._make_plan(message)

    # -- producing -------------------------------------------------------------------------------------

    def _take_delivered(self) -> None:
        delivered = self._kafka.take_delivered()
        for message in delivered:
            lane: Lane = message.plan.lane
            if lane.state is _LIVE:  # Lane.delivered, written out
                del lane.in_flight[message]
            else:
                lane.delivered(message)
        self.counts.delivered += len(delivered)
        self._settle(*delivered)

    def _settle(self, *messages: Message) -> None:
        self._qos0.settle(messages)
        self._ledger.settle(*messages)  # passes over what is settled, as all of QoS 0 is now

    def _failed(self, failure: Failure) -> None:
        message, verdict = failure.message, failure.verdict
        lane: Lane = message.plan.lane
        if verdict is Verdict.PRODUCER_LOST:
            return  # it stays in flight until the producer is replaced, with all the others
        if verdict is Verdict.NOT_NOW:
            lane.failed(message, time.monotonic())
            self._held.add(lane)
            self._held.log_held(lane, failure.reason)
            return
        if not lane.is_alone(message):
            if verdict is Verdict.BAD_TIMESTAMP:
                lane.suspect_stamp(message)
            elif verdict is Verdict.TOO_LARGE:
                lane.suspect_size(message)
            else:
                lane.suspect(message)
            self._held.add(lane)
        elif verdict is Verdict.BAD_TIMESTAMP and message.timestamp != NO_TIMESTAMP:
            self._leave_out_timestamps(lane, message)
        else:
            self._give_up(message, failure.reason)
        if verdict is Verdict.TOO_LARGE:
            self._kafka.look_up(lane.topic)  # somebody may have lowered the limit

    def _leave_out_timestamps(self, lane: Lane, message: Message) -> None:
        """The topic refuses this one, so the bridge need not learn it anew with each message."""
        stamp = message.timestamp
        is_fresh = abs(time.time_ns() // 1_000_000 - stamp) < _FRESH
        if not lane.refuses_stamps:
            log(
                Event.KAFKA_TIMESTAMPS_REFUSED,
                topic=lane.topic,
                timestamp=datetime.fromtimestamp(stamp / 1000, UTC).isoformat(timespec="seconds"),
                reason=_WRONG_CLOCK if is_fresh else _TOO_OLD,
            )
        if is_fresh:
            self._stampless.add(lane)
        lane.refuse_stamp(message, EVERY_TIMESTAMP if is_fresh else stamp + _FRESH)

    def _try_timestamps(self) -> None:
        """Now and then: somebody may have set the clock, or the topic."""
        for lane in list(self._stampless):
            if lane.refuses_stamps:
                lane.try_stamp()
            else:
                self._stampless.discard(lane)
                log(Event.KAFKA_TIMESTAMPS_TAKEN, topic=lane.topic)

    def _give_up(self, message: Message, reason: str) -> None:
        plan: Plan = message.plan
        plan.lane.given_up(message)
        self._spooling.keep_letter(DeadLetter(message, reason, plan.route, plan.kafka_topic))
        self._held.add(plan.lane)
        log(
            Event.KAFKA_REFUSED,
            topic=plan.kafka_topic,
            mqtt_topic=message.topic.decode("utf-8", "backslashreplace"),
            size=len(message.payload),
            reason=reason,
        )

    # -- a new producer ----------------------------------------------------------------------------------

    def _start_over(self) -> None:
        """The producer is fatally wrong: what it had is produced again by a new one."""
        self._kafka.rebuild()
        for lane in self._lanes.values():
            lane.start_over()
            self._held.add(lane)

    def _retire(self) -> None:
        """Another producer takes over, with smaller batches or new files; the old one finishes its own."""
        for lane in self._lanes.values():
            lane.drain()
            self._held.add(lane)
        self._kafka.retire()

    # -- the clock ----------------------------------------------------------------------------------------

    def _look_at_clock(self, now: float) -> None:
        self._look_at_clock_at = now + _LOOK_AT_CLOCK_EVERY
        self._try_timestamps()
        believes = is_believable()
        if believes != self._believes_clock:
            self._believes_clock = believes
            log(Event.CLOCK_RIGHT if believes else Event.CLOCK_WRONG)

    def _next_due(self, now: float) -> float:
        due = [self._look_at_clock_at]
        due += self._held.due_times()
        if self._is_watched:
            due.append(self._spooling.watch_at)
        return max(0.0, min(due) - now)
