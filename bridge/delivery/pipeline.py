"""Receives, routes, produces and settles messages. Messages are settled only here.

    session --receive--> ledger: a new message, or a copy that joins a known one?
                         router: which Kafka topic, key, headers?          no route: dead letter
                         lane:   produce now, or wait?       --> Kafka     Kafka is late: disk
    Kafka --report-->    lane, ledger: settled  --> acknowledgements, in order of arrival
    disk  --committed--> lane, ledger: settled

A lane is one Kafka topic as the bridge sees it. A message is settled once Kafka or the disk holds it; then
the bridge may acknowledge it. The pipeline runs in the loop's thread. In a turn of the loop, the pipeline
takes Kafka's delivery reports, then the results of the disk thread, and then sends acknowledgements. The
session passes on arriving messages in its own turn.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Protocol, TypeVar

from bridge.delivery import held_lanes
from bridge.delivery.clock import EARLIEST, is_believable
from bridge.delivery.coalescing import BATCH, FEW, Coalescing
from bridge.delivery.counts import Counts
from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.held_lanes import HeldLanes
from bridge.delivery.journal import NOTHING, Journal, Journaled, Recalled, Standing
from bridge.delivery.lanes import EVERY_TIMESTAMP, Lane, LaneState
from bridge.delivery.ledger import Ledger
from bridge.delivery.plans import Plans
from bridge.delivery.qos0 import Qos0
from bridge.delivery.results import Failure, Found, Verdict
from bridge.delivery.sampled import Sampled
from bridge.delivery.spooling import Spool, Spooling
from bridge.errors import NoRoute, Unroutable
from bridge.message import NO_TIMESTAMP, RETAIN, Message, OpenIdentifier, Packet, Release
from bridge.observe.events import Event, log
from bridge.observe.many_topics import ManyTopics
from bridge.observe.repeated import Repeated
from bridge.routing.plan import DROP, Plan, plain_plan
from bridge.routing.router import Router
from bridge.routing.topics import Subscription
from bridge.settings import RouteSettings, Settings

_LOOK_AT_CLOCK_EVERY = 60.0  # seconds; the pipeline logs counted events then too
_FRESH = 600_000  # ms; a message that was received so lately shows what the clock shows
# So many lanes are kept, although nothing has come for them for a while: about 15 MB.
_LANES = 5000
_QOS_1 = 0x02  # the flags of a PUBLISH of QoS 1 that is no copy, and not retained
_ARE_AT_REST = (LaneState.LIVE, LaneState.IDLE)
_AT_WORK = (LaneState.LIVE, LaneState.SPOOLING)
_LIVE = LaneState.LIVE  # a name of its own, because a look-up in the class takes six times as long
_Value = TypeVar("_Value", int, str)
_KINDS = {Verdict.TOO_LARGE: "too_large", Verdict.BAD_TIMESTAMP: "bad_timestamp"}

_WRONG_CLOCK = (
    "this machine's clock, or Kafka's, is wrong by more than the topic's message.timestamp.after.max.ms (1 h"
    " by default) or message.timestamp.before.max.ms allows: compare `date -u` on both. On a machine without"
    " a clock set message.timestamp.type=LogAppendTime for the topic"
)
_TOO_OLD = "it waited on disk for longer than the topic's message.timestamp.before.max.ms allows"


def _count(counter: Counter[_Value], values: list[_Value]) -> None:
    """Count the values of a batch. Most batches have one value alone, and a set finds that quickly."""
    if len(set(values)) == 1:
        counter[values[0]] += len(values)
    else:
        counter.update(values)


class Acknowledger(Protocol):
    """The part of mqtt.session.Session that the pipeline uses."""

    def acknowledge(self, messages: list[Message]) -> bool: ...
    def complete(self, packet_id: int, known: bool) -> None: ...


class Kafka(held_lanes.Kafka, Protocol):
    """The part of kafka.cluster.Cluster that the pipeline uses; its docstrings are there."""

    @property
    def is_broken(self) -> bool: ...
    @property
    def wants_successor(self) -> bool: ...
    @property
    def only_reports(self) -> bool: ...
    @property
    def queued(self) -> int: ...
    def poll(self) -> int: ...
    def relay(self) -> tuple[int, list[Message]] | None: ...
    def take_delivered(self) -> list[Message]: ...
    def take_failures(self) -> list[Failure]: ...
    def retire(self) -> None: ...
    def rebuild(self) -> None: ...


class Pipeline:
    """The session's handler. app.py sets `session` once the session is built."""

    session: Acknowledger

    def __init__(self, settings: Settings, router: Router, kafka: Kafka, spool: Spool) -> None:
        """`router` is made of the settings' routes, before any broker has refused a filter."""
        self.counts = Counts()
        self.sampled = Sampled()
        self.routes: Sequence[RouteSettings] = settings.routes
        self._kafka = kafka
        self._router = router
        self._earlier: list[Router] = []  # of the routes before each reload, the newest first
        self._refused: Collection[str] = ()  # filters that the broker refuses
        self._spool = spool
        self._ledger = Ledger(settings.mqtt.receive_maximum)
        self._only_route = settings.routes[0].name if len(settings.routes) == 1 else ""
        self._plans = Plans()
        self._coalescing = Coalescing(settings.mqtt.receive_maximum)
        self._came_at = 0.0  # monotonic seconds
        self._lanes: dict[str, Lane] = {}
        self._idle: dict[Lane, None] = {}  # those that were IDLE at the last look, the longest first
        self._stirred = False  # a dead letter waits for the disk, so the next turn must come at once
        self._sequence = 0
        self._settled = 0  # messages up to this number are at least on disk
        self._is_certain = True  # the broker has granted all subscriptions that are expected to bring copies
        self._undecided: list[Message] = []  # copies to be skipped, if it does grant them
        self._decides = False  # that is known now
        self._qos0 = Qos0(settings.mqtt.qos0_messages, settings.mqtt.qos0_bytes, self.counts)
        self._repeated = Repeated()
        self._many_topics = ManyTopics()
        self._believes_clock = True
        self._look_at_clock_at = 0.0
        self._stampless: set[Lane] = set()  # whose topics refuse the time that this machine's clock shows
        self._spooling = Spooling(
            spool,
            settings.spool.after,
            self.counts,
            self._lane,
            self._settle,
            self._route_again,
            self.sampled,
            self._many_topics,
            self._journaled,
            settings.kafka.is_exactly_once,
        )
        # With delivery exactly-once; None: at-least-once.
        self._journal = Journal(self._ledger, spool.stand) if settings.kafka.is_exactly_once else None
        spool.journal = self._journal
        self._release = self._complete if self._journal is None else self._complete_later
        self._held = HeldLanes(kafka, self._spooling, self._failed, self._many_topics)

    def take_up(
        self,
        found: Sequence[Found],
        identifiers: Iterable[OpenIdentifier],
        recalled: Recalled = NOTHING,
    ) -> None:
        """Take what was on disk at the start: messages, the open identifiers of QoS 2, and the journal.

        There is a journal with delivery at-least-once too, if the run before had exactly-once.
        """
        self._sequence = max((each.last for each in found), default=self._sequence)
        self._spooling.take_up(found)
        self.counts.spooled = self.counts.restored
        self._ledger.restore(identifiers)
        if self._journal:
            self._journal.begin(recalled)
        elif recalled.standing is Standing.KNOWN:
            self._ledger.recall(recalled.entries, recalled.facts)

    def change_routes(self, routes: Sequence[RouteSettings], router: Router | None = None) -> str:
        """Route what arrives from now on by `routes`. Returns why that needs a restart; empty: it is done.

        `router` is made of `routes`: with many routes the caller makes it in a thread.

        A message that was received before keeps its Kafka topic, in memory and on disk. The caller must then
        tell the session. docs/decisions/0025 has the states and invariants.
        """
        router = (router or Router(routes)).without(self._refused)
        if why := router.why_restart(self._router):
            return why
        before = self._router
        self._earlier = [before, *(each for each in self._earlier if each.routes != before.routes)]
        self.routes, self._router = routes, router
        self._only_route = ""  # messages of an earlier route may still be on their way
        self._plans.forget()
        self._spool.routes_changed()
        return ""

    # -- the session's handler -------------------------------------------------------------------------

    def subscriptions(self, refused: Collection[str]) -> Sequence[Subscription]:
        self._refused = frozenset(refused)
        router = self._router.without(refused)
        if router is not self._router and router.subscriptions != self._router.subscriptions:
            self._plans.forget()
        self._router = router
        return router.subscriptions

    def connecting(self) -> None:
        if self._journal:
            self._journal.connecting()

    def connected(self, session_present: bool, mqtt5: bool) -> None:
        (self._journal or self._ledger).connected(session_present, window_known=mqtt5)
        self._coalescing.connected()
        self._is_certain = not mqtt5  # on MQTT 3.1.1 no copy is skipped
        self._decides = bool(self._undecided) and not session_present

    def subscribed(self) -> None:
        self._is_certain = True
        self._decides = bool(self._undecided)

    def session_lost(self) -> None:
        self.counts.sessions_lost += 1

    def disconnected(self) -> None:
        # Copies that are undecided wait for the SUBACK of the next connection, where the broker resends them.
        self._ledger.disconnected()

    def taken_over(self) -> None:
        if self._journal:
            self._journal.taken_over()
        else:
            self._ledger.forget_session()

    def handed_over(self, acknowledgements: int) -> None:
        self._ledger.handed_over(acknowledgements)

    def receive(self, packets: list[Packet]) -> None:
        if self._decides:
            self._decide()
        if len(packets) > 1 or not self._passes_on(packets[0]):
            self._kafka.produce(self._let_through(packets), self._failed)

    def _passes_on(self, packet: Packet) -> bool:
        """Produce a packet that came alone, if it is a message like nearly all. False: nothing is done yet.

        These are the lines of `_let_through` for a new message of QoS 1 that nothing stops.
        """
        if type(packet) is Release or packet.flags != _QOS_1:
            return False
        plan = self._plans.by_key.get(packet.topic)
        if plan is None:
            return False
        lane: Lane | None = plan.lane
        if (
            lane is None
            or lane.state is not _LIVE
            or len(packet.payload) + plan.overhead > lane.plain
            or (packet.properties and not plan.takes(packet))
        ):
            return False
        packet.timestamp = timestamp = time.time_ns() // 1_000_000
        if timestamp < EARLIEST or not self._believes_clock or not self._ledger.takes_next(packet):
            return False
        self._sequence = packet.sequence = self._sequence + 1
        self.counts.received += 1
        packet.plan = plan
        lane.in_flight[packet] = None
        self._kafka.produce((packet,), self._failed)
        return True

    def _let_through(self, packets: list[Packet]) -> Iterator[Message]:
        """Yield the messages to produce now. The others wait in their lanes, or need nothing more.

        The caller must hand each message over to Kafka before it asks for the next one, because a failure of
        one message decides whether the next one may be produced.
        """
        counts, plans = self.counts, self._plans.by_key
        sequence = self._sequence
        timestamp = time.time_ns() // 1_000_000
        if timestamp < EARLIEST or not self._believes_clock:
            timestamp = NO_TIMESTAMP
        passed = self._ledger.receive(packets)
        counts.joined += len(packets) - len(passed)
        for packet in passed:
            if type(packet) is Release:
                self._release(packet)
                continue
            message = packet
            if not message.flags & 0x02:  # not QoS 1, the most common one
                if message.flags & 0x04:
                    counts.received_qos2 += 1
                elif not self._qos0.admits(message):
                    continue
            sequence += 1
            message.sequence = sequence
            message.timestamp = timestamp
            plan = plans.get(message.topic) or self._make_plan(message)
            if plan is None:
                continue
            message.plan = plan
            lane: Lane | None = plan.lane
            if lane is None or (message.flags & RETAIN and plan.skip_retained):
                self._skip(message)
            elif message.properties and not plan.takes(message):
                if self._is_certain:
                    self._skip(message)
                else:
                    self._undecided.append(message)
            # Lane.offer, written out: nearly all messages go this way, and the call would cost most here.
            elif lane.state is _LIVE and len(message.payload) + plan.overhead <= lane.plain:
                lane.in_flight[message] = None
                yield message
            elif self._offer(lane, message):
                yield message
        counts.received += sequence - self._sequence
        self._sequence = sequence

    def _complete(self, release: Release) -> None:
        self.session.complete(release.packet_id, release.known)

    def _complete_later(self, release: Release) -> None:
        """Send PUBCOMP once the journal has the PUBREL."""
        if self._journal:
            self._journal.release(release.packet_id, release.known)
            self._stirred = True

    def _journaled(self, row: Journaled) -> None:
        if self._journal:
            for packet_id, is_known in self._journal.committed(row):
                self.session.complete(packet_id, is_known)

    def _skip(self, message: Message) -> None:
        plan: Plan = message.plan
        if plan is DROP:
            reason = "empty"
        elif plan.lane is None:
            reason = "route_drops"
        else:
            reason = "retained" if message.flags & RETAIN and plan.skip_retained else "other_subscription"
        self.counts.skipped += 1
        self.counts.skipped_by_reason[reason] += 1
        self.counts.skipped_by_route[plan.route] += 1
        if self._journal:
            self._journal.note(message)
        self._settle(message)

    def _decide(self) -> None:
        """Skip the copies that another subscription brings too; produce those of which nobody knows.

        A connection may end before the broker has answered SUBSCRIBE: then all are produced.
        """
        undecided, self._undecided = self._undecided, []
        self._decides = False
        self._kafka.produce(self._take_up_undecided(undecided), self._failed)

    def _take_up_undecided(self, messages: Iterable[Message]) -> Iterator[Message]:
        for message in messages:
            self._sequence += 1  # a lane relies on rising numbers, and newer messages went ahead
            message.sequence = self._sequence
            plan = message.plan = self._plans.by_key.get(message.topic) or self._make_plan(message)
            if plan is None:
                continue
            lane: Lane | None = plan.lane
            if lane is None or (self._is_certain and not plan.takes(message)):
                self._skip(message)
            elif self._offer(lane, message):
                yield message

    def _offer(self, lane: Lane, message: Message) -> bool:
        """Lane.offer, for a lane that may be no longer LIVE. True: produce the message now."""
        if lane.state is LaneState.FORGOTTEN:
            lane = message.plan.lane = self._lane(lane.topic)
        if lane.offer(message):
            return True
        if not self._spooling.takes_along(lane):
            self._held.add(lane)
        return False

    # -- a turn of the loop ----------------------------------------------------------------------------

    def turn(self) -> float:
        """Settle what Kafka and the disk have confirmed, acknowledge it, and serve lanes that are not LIVE.

        Returns for how many seconds the pipeline needs no turn if nothing happens.
        """
        self._stirred = False
        if self._decides:
            self._decide()
        reports = self._kafka.poll()
        for failure in self._kafka.take_failures():  # first: what is delivered may have overtaken them
            self._failed(failure)
        self._take_delivered(reports, self._kafka.take_delivered())
        if self._kafka.answers:
            self._held.take_answers(time.monotonic(), self._lanes)
        if self._kafka.is_broken:
            self._start_over()
        if self._kafka.wants_successor:
            self._retire()
        for lane in self._spooling.take_results(self._lanes):
            self._held.add(lane)
        if self._spooling.sequences_found:
            self._sequence += self._spooling.sequences_found
            self._spooling.sequences_found = 0
        now = time.monotonic()
        if self._is_watched:
            lanes, flying = self._lanes.values(), self._held.flying
            for lane in self._spooling.watch(now, self._sequence, self._settled, lanes, flying):
                self._held.add(lane)
        if self._held.stirred or now >= self._held.due:
            self._held.turn(now)
        disk_due = self._spooling.turn(now)
        if not self.counts.in_flight:
            self._settled = self._sequence
        if now >= self._many_topics.due:
            self._many_topics.turn(now)
        if settled := self._ledger.take_settled():
            self.session.acknowledge(settled)
        if now >= self._look_at_clock_at:
            self._look_at_clock(now)
        return min(disk_due, self._next_due(now))

    def relay(self, waited: float) -> bool:
        """Settle and acknowledge what Kafka has confirmed, between two turns. Only while `is_calm`.

        The first report came `waited` seconds ago. False: anything else is to be done, so a turn must follow
        at once.
        """
        taken = self._kafka.relay()
        if taken is None:
            return False  # a turn takes the failures first
        self._take_delivered(*taken, waited)
        settled = self._ledger.take_settled()
        if settled and not self.session.acknowledge(settled):
            return False
        return not self._held.stirred

    @property
    def is_calm(self) -> bool:
        """Whether messages come and go, and nothing else is to be done before a turn is due.

        Lanes may be held: what happens to one of them stirs it.
        """
        return not self.has_work and self._kafka.only_reports

    @property
    def relay_at(self) -> float:
        """When to `relay` reports that have come, in monotonic seconds: at once, or some of them together."""
        coalescing = self._coalescing
        return coalescing.until if self._ledger.unacknowledged <= coalescing.most else 0.0

    def watch_by(self, now: float) -> float:
        """When a turn must look for late messages, in monotonic seconds, if any is in flight then.

        A message has come now, or may have. After a pause the first look waits a little: Kafka has nearly all
        by then.
        """
        self._came_at = now
        watch_at = self._spooling.watch_at
        return watch_at if watch_at > now else now + self._spooling.look_after

    def log_repeated(self) -> None:
        """Log the number of events that were counted instead of logged."""
        self._repeated.log_counts()
        self._many_topics.log_counts()

    @property
    def has_work(self) -> bool:
        """Whether the next turn must come at once: a message can be acknowledged, or a lane can do more."""
        return bool(
            self._stirred
            or self._held.stirred
            or self._kafka.answers
            or self._spooling.untried
            or self._decides
            or self._ledger.has_settled
        )

    @property
    def is_empty(self) -> bool:
        """Whether no message is in flight, not even one that is also on disk."""
        return not (self.counts.in_flight or self._held.flying)

    @property
    def _is_watched(self) -> bool:
        """Whether a lane may become late, or may stop being late."""
        return not self.is_empty or self._spooling.any_calming

    def stop_reading(self) -> None:
        """The bridge is about to stop: messages on disk stay there for the next start."""
        self._spooling.read_no_more()
        self._decides = bool(self._undecided)

    def leave(self) -> None:
        """The bridge is about to end: delete from the disk the messages that Kafka holds."""
        self._spooling.take_results(self._lanes)  # results of the last commit
        self._spooling.leave(self._lanes.values())

    @property
    def open_identifiers(self) -> list[OpenIdentifier]:
        """What `take_up` needs at the next start. Call this last, after every delivery report was handled."""
        if self._journal:  # it has them
            return []
        return self._ledger.open_identifiers()

    # -- seen from outside -------------------------------------------------------------------------------

    @property
    def sequence(self) -> int:
        """The sequence number of the last message that was received."""
        return self._sequence

    @property
    def believes_clock(self) -> bool:
        return self._believes_clock

    @property
    def lanes(self) -> Collection[Lane]:
        return self._lanes.values()

    @property
    def held(self) -> HeldLanes:
        """Every lane that is not LIVE."""
        return self._held

    @property
    def spooled(self) -> int:
        """How many messages are on disk now that Kafka has not confirmed."""
        return self._spooling.room.stored

    @property
    def waiting_elsewhere(self) -> int:
        """Messages in no lane: dead letters that are not on disk yet, and copies of which nobody decided."""
        return self._spooling.letters_waiting + len(self._undecided)

    # -- routing ---------------------------------------------------------------------------------------

    def _make_plan(self, message: Message) -> Plan | None:
        """Returns None if no route can take this message: it becomes a dead letter. An event is logged.

        A plan that depends on the payload has a key of its own, so that messages of other plans need no
        check.
        """
        topic = message.topic
        plan = self._plans.skipping(topic) if self._plans.any_skipping else None
        if plan is None:
            try:
                plan = self._router.plan(topic)
            except Unroutable as error:
                plan = self._plan_otherwise(message, error)
                if plan is None:
                    return None
            if plan.rule.action == "produce":
                plan.lane = self._lanes.get(plan.kafka_topic) or self._lane(plan.kafka_topic)
            self._plans.keep(topic, plan)
        if plan.rule.empty == "skip" and not message.payload:
            return DROP
        return plan

    def _plan_otherwise(self, message: Message, error: Unroutable) -> Plan | None:
        """The plan by the routes before a reload. None: they don't take it either, so it is a dead letter.

        If a reload has removed the topic's route, EMQ may still send messages that it had queued before it
        unsubscribed: they go the way of the removed route.
        """
        for router in self._earlier if isinstance(error, NoRoute) else ():
            try:
                return router.plan(message.topic)
            except NoRoute:
                continue
            except Unroutable as earlier:
                error = earlier
                break
        self._repeated.log(
            Event.ROUTE_UNROUTABLE,
            topic=message.topic.decode("utf-8", "backslashreplace"),
            size=len(message.payload),
            reason=error.reason,
        )
        self._spooling.keep_letter(DeadLetter(message, error.reason))
        self._stirred = True
        return None

    def _lane(self, topic: str) -> Lane:
        lane = self._lanes.get(topic)
        if lane is None:
            lane = self._lanes[topic] = self._spooling.new_lane(topic)
            self._held.add(lane)
            self._kafka.look_up(topic)
        return lane

    def _forget_lanes(self) -> None:
        """Forget lanes of topics that are not in use, if there are too many: once a minute.

        A lane becomes IDLE first. Of those that are still IDLE a minute later, as many as there are too many
        are forgotten, the longest idle first: a topic that comes again makes a new lane, which asks Kafka. A
        plan may still have a FORGOTTEN lane: such a lane takes no message, and `_offer` then makes a new one.
        """
        too_many = len(self._lanes) - _LANES
        if too_many <= 0:
            return
        self._idle = {lane: None for lane in self._idle if lane.state is LaneState.IDLE}
        for lane in list(islice(self._idle, too_many)):
            if lane.forget():
                del self._lanes[lane.topic], self._idle[lane]
        for lane in self._lanes.values():
            if lane.state in _AT_WORK:
                lane.rest()
                if lane.state is LaneState.IDLE:
                    self._idle[lane] = None
                    if lane.through_disk:
                        self._held.add(lane)  # which has all lanes that are not LIVE or IDLE

    def _route_again(self, message: Message, kafka_topic: str) -> None:
        """Route a message that was read from disk, where it was stored for `kafka_topic`.

        The routes in force may lead its MQTT topic elsewhere since a reload. The message stays in its lane:
        only the next start moves rows.
        """
        topic = message.topic
        plan = self._plans.by_key.get(topic)
        if plan is None or plan.kafka_topic != kafka_topic:
            plan = self._plans.of_row(topic, kafka_topic)
        if plan is None:
            plan = self._row_plan(topic, kafka_topic)
            self._plans.keep_of_row(topic, plan)
        if plan.lane.state is LaneState.FORGOTTEN:
            plan.lane = self._lane(kafka_topic)
        message.plan = plan

    def _row_plan(self, topic: bytes, kafka_topic: str) -> Plan:
        """The plan of the newest routes that lead this MQTT topic to this Kafka topic."""
        for router in (self._router, *self._earlier):
            with suppress(Unroutable):
                plan = router.plan(topic)
                if plan.kafka_topic == kafka_topic:
                    break
        else:
            plan = plain_plan(topic, kafka_topic)
        plan.lane = self._lane(kafka_topic)
        return plan

    # -- producing -------------------------------------------------------------------------------------

    def _take_delivered(self, reports: int, delivered: list[Message], waited: float = 0.0) -> None:
        if not delivered:
            return
        if len(delivered) >= BATCH * reports:  # with few topics, so that these cost nothing more
            self._coalescing.batches_taken()
        elif self._ledger.unacknowledged > FEW or self._qos0.messages or self._held.flying:
            self._coalescing.taken(time.monotonic(), reports, len(delivered), self._kafka.queued)
        else:
            self._coalescing.few_taken(
                time.monotonic(), len(delivered), self._ledger.unacknowledged, self._came_at, waited
            )
        counts = self.counts
        self.sampled.delivered(delivered, waited)
        counts.delivered += len(delivered)
        if self._only_route:
            counts.delivered_by_route[self._only_route] += len(delivered)
        else:
            _count(counts.delivered_by_route, [message.plan.route for message in delivered])
        size = 0
        others: dict[Lane, list[Message]] = {}  # of lanes that are not LIVE
        for message in delivered:
            size += len(message.payload)  # before the payload becomes a digest
            lane: Lane = message.plan.lane
            if lane.state is _LIVE:  # Lane.delivered, written out
                del lane.in_flight[message]
            elif its := others.get(lane):
                its.append(message)
            else:
                others[lane] = [message]
        for lane, messages in others.items():
            lane.delivered(messages)
            self._held.add(lane)
        counts.delivered_bytes += size
        if self._qos0.messages:
            self._qos0.settle(delivered)
        self._ledger.settle(*delivered)

    def _settle(self, *messages: Message) -> None:
        self._qos0.settle(messages)
        self._ledger.settle(*messages)  # skips settled messages, as all of QoS 0 now are

    def _failed(self, failure: Failure) -> None:
        message, verdict = failure.message, failure.verdict
        lane: Lane = message.plan.lane
        if verdict is Verdict.PRODUCER_LOST:
            self._stirred = True
            return  # it stays in flight, with all others, until the producer is replaced
        if verdict is Verdict.RETURNED:
            lane.returned(message)
            self._held.add(lane)
            return
        if verdict is Verdict.NOT_NOW:
            lane.failed(message, time.monotonic(), failure.hold.needs_a_person)
            self._held.add(lane)
            self._held.log_held(lane, failure.reason, failure.hold)
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
            self._give_up(message, failure.reason, _KINDS.get(verdict, "invalid"))
        if verdict is Verdict.TOO_LARGE:
            self._kafka.look_up(lane.topic)  # somebody may have lowered the limit

    def _leave_out_timestamps(self, lane: Lane, message: Message) -> None:
        """The topic refuses this one, so the bridge need not learn it anew with each message."""
        stamp = message.timestamp
        is_fresh = abs(time.time_ns() // 1_000_000 - stamp) < _FRESH
        if not lane.refuses_stamps:
            self._many_topics.log(
                Event.KAFKA_TIMESTAMPS_REFUSED,
                topic=lane.topic,
                record_timestamp=datetime.fromtimestamp(stamp / 1000, UTC).isoformat(timespec="seconds"),
                reason=_WRONG_CLOCK if is_fresh else _TOO_OLD,
            )
        if is_fresh:
            self._stampless.add(lane)
        lane.refuse_stamp(message, EVERY_TIMESTAMP if is_fresh else stamp + _FRESH)
        self._held.add(lane)

    def _try_timestamps(self) -> None:
        """Now and then: somebody may have set the clock, or the topic."""
        for lane in list(self._stampless):
            if lane.refuses_stamps:
                lane.try_stamp()
            else:
                self._stampless.discard(lane)
                self._many_topics.log(Event.KAFKA_TIMESTAMPS_TAKEN, topic=lane.topic)

    def _give_up(self, message: Message, reason: str, kind: str) -> None:
        plan: Plan = message.plan
        plan.lane.given_up(message)
        self._spooling.keep_letter(DeadLetter(message, reason, plan.route, plan.kafka_topic, kind))
        self._held.add(plan.lane)
        self._repeated.log(
            Event.KAFKA_REFUSED,
            topic=plan.kafka_topic,
            mqtt_topic=message.topic.decode("utf-8", "backslashreplace"),
            size=len(message.payload),
            reason=reason,
        )

    # -- a new producer ----------------------------------------------------------------------------------

    def _start_over(self) -> None:
        """The producer has failed fatally: a new producer produces its messages again."""
        self._kafka.rebuild()
        for lane in self._lanes.values():
            lane.start_over()
            if lane.state not in _ARE_AT_REST:
                self._held.add(lane)

    def _retire(self) -> None:
        """A new producer with smaller batches or new files takes over; the old one finishes its messages."""
        for lane in self._lanes.values():
            lane.drain()
            if lane.state not in _ARE_AT_REST:
                self._held.add(lane)
        self._kafka.retire()

    # -- the clock ----------------------------------------------------------------------------------------

    def _look_at_clock(self, now: float) -> None:
        self._look_at_clock_at = now + _LOOK_AT_CLOCK_EVERY
        self._repeated.log_counts()
        self._try_timestamps()
        self._forget_lanes()
        believes = is_believable()
        if believes != self._believes_clock:
            self._believes_clock = believes
            log(Event.CLOCK_RIGHT if believes else Event.CLOCK_WRONG)

    def _next_due(self, now: float) -> float:
        due = [self._look_at_clock_at, self._held.due, self._many_topics.due]
        if self._is_watched:
            due.append(self._spooling.watch_at)
        return max(0.0, min(due) - now)
