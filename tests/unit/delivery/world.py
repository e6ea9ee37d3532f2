"""A pipeline between a session that records acknowledgements, a scripted Kafka, and a disk."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count

from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.journal import Journal, Journaled, Standing, recalled
from bridge.delivery.pipeline import Pipeline
from bridge.delivery.results import (
    Failure,
    FromDisk,
    NoTopicAnswer,
    ReadBack,
    Refused,
    TopicAnswer,
    Verdict,
    Written,
)
from bridge.delivery.segment import Segment, Wanted, pack, unpack
from bridge.message import Message, Packet, Properties, Release
from bridge.routing.router import Router
from bridge.settings import RouteSettings, Settings
from bridge.spool.store import Backlog
from bridge.status.collector import unaccounted

ROUTES = [
    RouteSettings(name="noise", filter="s/debug", action="drop"),
    RouteSettings(name="fresh", filter="fresh/{device}", topic="fresh", retained="skip"),
    RouteSettings(name="full", filter="full/{device}", topic="full", empty="skip"),
    RouteSettings(name="site", filter="site/{name}", topic="iot.{name}"),
    RouteSettings(name="sensors", filter="s/#", topic="sensors"),
]
LIMIT = 1000


class Clock:
    """Replaces the module `time` in tests that set the time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return 1_700_000_000_000_000_000


class Session:
    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.completed: list[tuple[int, bool]] = []

    def acknowledge(self, messages: list[Message]) -> bool:
        self.acknowledged += [message.packet_id for message in messages]
        return True

    def complete(self, packet_id: int, known: bool) -> None:
        self.completed.append((packet_id, known))


class Kafka:
    """Accepts records, and reports the results that the test chooses."""

    def __init__(self) -> None:
        self.is_broken = self.wants_successor = False
        self.answers: deque[TopicAnswer | NoTopicAnswer] = deque()
        self.delivered: list[Message] = []
        self.in_flight: deque[Message] = deque()
        self.produced: list[Message] = []
        self.probed: list[int] = []
        self.asked: list[str] = []
        self.rebuilt = self.retired = 0
        self.refuses: Verdict | None = None  # the verdict that produce() returns at once
        self.refuses_once: dict[int, Verdict] = {}  # the same, for these identifiers
        self._failures: list[Failure] = []

    def produce(self, messages: Iterable[Message], failed: Callable[[Failure], None]) -> None:
        for message in messages:
            if verdict := self.refuses or self.refuses_once.pop(message.packet_id, None):
                failed(Failure(message, verdict, "refused"))
            else:
                self.produced.append(message)
                self.in_flight.append(message)

    def probe(self, message: Message, failed: Callable[[Failure], None]) -> None:
        self.probed.append(message.packet_id)
        self.produce([message], failed)

    def poll(self) -> int:
        return len(self.delivered)

    @property
    def queued(self) -> int:
        return len(self.in_flight)

    @property
    def only_reports(self) -> bool:
        return not (self._failures or self.is_broken or self.wants_successor)

    def relay(self) -> tuple[int, list[Message]] | None:
        return (self.poll(), self.take_delivered()) if self.only_reports else None

    def take_delivered(self) -> list[Message]:
        delivered, self.delivered = self.delivered, []
        return delivered

    def take_failures(self) -> list[Failure]:
        failures, self._failures = self._failures, []
        return failures

    def look_up(self, topic: str) -> None:
        self.asked.append(topic)

    def retire(self) -> None:
        self.retired += 1
        self.wants_successor = False

    def rebuild(self) -> None:
        self.rebuilt += 1
        self.is_broken = False
        self.in_flight.clear()

    def deliver(self, *numbers: int) -> None:
        """Confirm these identifiers; without arguments, all messages in flight."""
        for message in [each for each in self.in_flight if not numbers or each.packet_id in numbers]:
            self.in_flight.remove(message)
            self.delivered.append(message)

    def fail(self, verdict: Verdict) -> None:
        self._failures += [Failure(message, verdict, "why") for message in self.in_flight]
        self.in_flight.clear()


class Disk:
    """Accepts jobs, and answers when the test chooses."""

    def __init__(self, moves: bool) -> None:
        self.results: deque[FromDisk] = deque()
        self.accepts = True
        self.moves = moves
        self.is_quick = True  # each commit returns at once
        self.is_due_now = True  # no commit waits for more messages
        self.is_small = False  # one lane's messages already fill a commit
        self.rows: dict[int, bytes] = {}
        self.topics: dict[int, str] = {}  # topics of rows that were written here
        self.letters: list[tuple[str, bytes]] = []  # reason and payload
        self.deleted: list[int] = []
        self._writing: list[tuple[str, Segment, bytes]] = []
        self.has_other_routes = False
        self._writing_letters: list[DeadLetter] = []
        self.journal: Journal | None = None
        self.standings: list[tuple[Standing, bool]] = []
        self.received: dict[int, bytes] = {}  # rows of the journal

    @property
    def accepts_more(self) -> bool:
        return self.accepts and not (self.is_small and self._writing)

    def write(self, topic: str, segments: Sequence[Segment]) -> None:
        self._writing += [(topic, segment, pack(segment.messages)) for segment in segments]
        if self.journal:
            for segment in segments:
                self.journal.add(segment, segment.messages)

    def write_letters(self, letters: Sequence[DeadLetter]) -> None:
        self._writing_letters += letters
        if self.journal:
            for letter in letters:
                self.journal.add(letter, [letter.message])

    def read(self, topic: str, wanted: Wanted) -> None:
        firsts = [each for each in sorted(self.rows) if wanted.after < each <= wanted.last]
        found = [Segment(unpack(self.rows[each])) for each in firsts if self.topics.get(each, topic) == topic]
        self.results.append(ReadBack(topic, found))

    def delete(self, topic: str, segments: Sequence[Segment]) -> None:
        for segment in segments:
            del self.rows[segment.first]
            self.deleted.append(segment.first)

    def replace(self, topic: str, old: Segment, rest: Sequence[Segment]) -> None:
        self.write(topic, rest)
        if rest[0].first != old.first:
            self.delete(topic, [old])

    @property
    def releases(self) -> int:
        return self.journal.releases if self.journal else 0

    def is_due(self, now: float) -> bool:
        return self.is_due_now

    def turn(self, now: float, gathers: bool = False) -> float:
        return 60.0

    def routes_changed(self) -> None:
        self.has_other_routes = True

    @property
    def has_work(self) -> bool:
        wants_row = self.journal is not None and (self.journal.wants_commit or self.journal.releases)
        return bool(self._writing or self._writing_letters or wants_row)

    def stand(self, standing: Standing, forgets: bool) -> None:
        self.standings.append((standing, forgets))
        if forgets:
            self.received.clear()

    def commit(self) -> None:
        if self.journal:
            row = self.journal.take_row()
            contents = [*(segment for _, segment, _ in self._writing), *self._writing_letters]
            body, count = row.packed(contents)
            if row.forgets:
                self.received.clear()
            self.received = {number: each for number, each in self.received.items() if number > row.obsolete}
            if body:
                self.received[row.number] = body
            if row.settles:
                self.standings.append((Standing.KNOWN, row.forgets))
            self.results.append(Journaled(row.number, count))
        segments = [(topic, segment) for topic, segment, _ in self._writing]
        self.rows |= {segment.first: body for _, segment, body in self._writing}
        self.topics |= {segment.first: topic for topic, segment in segments}
        self.letters += [(letter.reason, letter.message.payload) for letter in self._writing_letters]
        self.results.append(Written(segments, self._writing_letters))
        self._writing, self._writing_letters = [], []

    def refuse(self) -> None:
        segments = [(topic, segment) for topic, segment, _ in self._writing]
        self.results.append(Refused(segments, self._writing_letters, is_full=True, reason="full"))
        self._writing, self._writing_letters = [], []


class World:
    def __init__(
        self,
        *,
        moves: bool = False,
        routes: Sequence[RouteSettings] = ROUTES,
        delivery: str = "at-least-once",
        after: "World | None" = None,
        session_present: bool = False,
        **mqtt: object,
    ) -> None:
        """`after`: what this run had on disk when it was killed is there."""
        kafka = {"bootstrap_servers": "k:9092", "delivery": delivery}
        settings = Settings(mqtt={"host": "h", **mqtt}, kafka=kafka, routes=routes)
        self.kafka, self.session, self.disk = Kafka(), Session(), Disk(moves)
        self.pipeline = Pipeline(settings, Router(settings.routes), self.kafka, self.disk)
        self.pipeline.session = self.session
        self.counts = self.pipeline.counts
        if after:
            self._take_up(after.disk)
        self.connect(session_present)
        self._numbers = count(1)

    def _take_up(self, disk: Disk) -> None:
        self.disk.rows, self.disk.topics, self.disk.received = disk.rows, disk.topics, disk.received
        standing = disk.standings[-1][0] if disk.standings else Standing.KNOWN
        messages: dict[str, list[Message]] = {}
        for first, body in disk.rows.items():
            messages.setdefault(disk.topics[first], []).extend(unpack(body))
        found = [
            Backlog(topic, len(its), 0, max(message.sequence for message in its))
            for topic, its in messages.items()
        ]
        self.pipeline.take_up(found, [], recalled(sorted(disk.received.items()), standing))

    def connect(self, session_present: bool) -> None:
        self.pipeline.connecting()
        self.pipeline.connected(session_present, mqtt5=True)

    def receive(
        self,
        topic: bytes = b"s/1",
        payload: bytes = b"v",
        *,
        qos: int = 1,
        flags: int = 0,
        number: int = 0,
        properties: Properties | None = None,
    ) -> Message:
        message = Message.of(
            topic, qos << 1 | flags, number or (next(self._numbers) if qos else 0), properties, payload
        )
        packets: list[Packet] = [message]
        self.pipeline.receive(packets)
        self.add_up()
        return message

    def release(self, number: int) -> None:
        self.pipeline.receive([Release(number)])

    def turn(self) -> float:
        due = self.pipeline.turn()
        if self.disk.is_quick and self.disk.has_work:
            self.disk.commit()
            due = self.pipeline.turn()
        self.add_up()
        return due

    def answer(self, topic: str = "sensors", limit: int | None = LIMIT) -> None:
        self.kafka.answers.append(TopicAnswer(topic, exists=True, limit=limit))
        self.turn()

    def add_up(self) -> None:
        """Check the invariants of the counts."""
        counts = self.counts
        assert counts.in_flight >= 0
        settled = (
            counts.delivered + counts.spooled + counts.unreadable + counts.dead_lettered + counts.skipped
        )
        assert counts.received + counts.restored == settled + counts.in_flight + counts.dropped.total()
        assert sum(counts.received_by_qos) == counts.received
        assert counts.skipped_by_reason.total() == counts.skipped
        assert counts.dead_lettered_by_reason.total() == counts.dead_lettered
        assert counts.delivered_by_route.total() == counts.delivered
        assert unaccounted(self.pipeline) == 0

    @property
    def produced(self) -> list[int]:
        return [message.packet_id for message in self.kafka.produced]
