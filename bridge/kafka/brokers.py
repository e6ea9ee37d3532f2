"""Which brokers are up: what follows from Kafka's metadata and from attempts to reach a broker. Pure.

Kafka's controller removes a broker that died or hangs from the metadata, after broker.session.timeout.ms
(9 s). librdkafka's statistics do not tell that: librdkafka connects only to the brokers that it needs, and
shows any other broker as idle. docs/decisions/0019-which-brokers-are-up.md has the reasons.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum

FORGET_AFTER = 3600.0  # seconds; a broker that the metadata does not name, and nothing else does either
BELIEVE_AFTER = 12.0  # seconds without being in the metadata; a broker that has just started knows few others
ELECTS_WITHIN = 12.0  # seconds from a broker's end until its partitions have another leader, and some more
_SHRINKS_WITHIN = (
    40.0  # seconds until a dead replica counts as in sync no more: replica.lag.time.max.ms is 30 s
)
_STRIKES = 2  # attempts in turn; a busy broker may miss one
_BROKERS = '"brokers":'
_decode = json.JSONDecoder().raw_decode


class Reach(Enum):
    """What an address did when the bridge connected and sent a question."""

    ANSWERS = "answers"
    HANGS = "hangs"  # accepts the connection, and sends nothing
    AWAY = "away"  # refuses the connection, ends it, or can't be reached


@dataclass(frozen=True, slots=True)
class Broker:
    """`number`: node.id. Negative: an address of bootstrap_servers at which no broker was seen yet.

    `address`: host:port; empty: only the number is known, because the broker holds a replica.
    `since`: monotonic seconds of the last change of `is_up`. `round_trip_p99`: seconds, of the last minute;
    None: no request was sent, or there are too many topics for statistics. `hangs`: it is not up, and accepts
    connections.
    """

    number: int
    address: str
    is_up: bool
    since: float
    round_trip_p99: float | None = None
    hangs: bool = False


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as the metadata tells it, by numbers of brokers. `leader`: -1 if there is none."""

    leader: int
    replicas: frozenset[int]
    in_sync: frozenset[int]


@dataclass(frozen=True, slots=True)
class Stopped:
    """A topic to which Kafka can't write everywhere: `partitions` of its `of` partitions wait for brokers.

    `has_leader`: the leaders are up, but have no second in-sync replica. With min.insync.replicas = 1 Kafka
    writes all the same.
    `awaits`: the numbers of the brokers.
    """

    topic: str
    partitions: int
    of: int
    has_leader: bool
    awaits: tuple[int, ...]


@dataclass(slots=True)
class _Member:
    address: str
    is_up: bool
    since: float
    hangs: bool = False
    named_at: float = 0.0  # when the metadata last named it, or something else that keeps it known
    listed_at: float = 0.0  # when the metadata last listed it as live
    strikes: int = 0


class Brokers:
    """The brokers by the newest answers. `judge` swaps `known` in whole; other threads read it.

    `bootstrap`: host:port of each of kafka.bootstrap_servers.
    `taken_at`: monotonic seconds of the newest answer that tells whether Kafka is there; 0: none came yet.
    `any_up`: a broker has answered the producer. `ever_up`: one has done so since the start.
    `stopped`: the topics that wait for brokers; swapped in whole too.
    """

    def __init__(self, bootstrap: Sequence[str] = ()) -> None:
        self.known: tuple[Broker, ...] = ()
        self.stopped: tuple[Stopped, ...] = ()
        self.any_up = self.ever_up = False
        self.taken_at = 0.0
        self._bootstrap = tuple(dict.fromkeys(bootstrap))
        self._members: dict[int, _Member] = {}
        self._replicas: dict[str, frozenset[int]] = {}  # by topic: the brokers that hold it
        self._partitions: dict[str, tuple[float, Sequence[Partition]]] = {}  # by topic, and when Kafka told
        self._doors: set[str] = set()  # bootstrap addresses that answered, and are no broker's own address
        self._suspects: set[str] = set()
        self._failures = 0  # questions in turn that no broker answered
        self._trips: dict[int, float] = {}

    # -- what is heard ---------------------------------------------------------------------------------

    def suspect(self, address: str) -> None:
        """librdkafka has an error with this address: try to reach it in the next round. Any thread."""
        if address:
            self._suspects.add(address)

    def take(self, statistics: str) -> None:
        """Take the round trips of librdkafka's statistics (its STATISTICS.md).

        The part "topics" grows with the topics, to megabytes. The part "brokers" stands before it, and only
        that part is parsed. This runs in librdkafka's callback. An error there would end the loop, so a
        format that this code does not know changes nothing.
        """
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            begin = statistics.index(_BROKERS)
            found, _ = _decode(statistics, statistics.index("{", begin))
            self._trips = {
                each["nodeid"]: each["rtt"]["p99"] / 1e6
                for each in found.values()
                if each.get("rtt", {}).get("cnt")
            }

    def forget_trips(self) -> None:
        """The producer makes no statistics any more."""
        self._trips = {}

    # -- a round: ask for the metadata, then try to reach the addresses that are in doubt -------------------

    def doubtful(self, live: Mapping[int, str] | None, needed: Collection[int] = ()) -> list[str]:
        """The addresses that the bridge has to reach itself in this round.

        `live`: node.id and address of each broker in the metadata; None: no broker has answered.
        `needed`: brokers that the metadata may name although they are dead, for messages wait for them.
        """
        members = {member.address for member in self._members.values() if member.address}
        if live is None:
            return sorted(members | set(self._bootstrap))
        listed = set(live.values())
        absent = {member.address for number, member in self._members.items() if number not in live}
        doors = set(self._bootstrap) - self._doors
        # Without a majority of its controllers Kafka names the dead for ever.
        down = {member.address for member in self._members.values() if not member.is_up or member.strikes}
        suspects = self._suspects & members | down | {live[number] for number in needed if number in live}
        return sorted((absent | doors | suspects) - (listed - suspects) - {""})

    def judge(
        self,
        now: float,
        live: Mapping[int, str] | None,
        reached: Mapping[str, Reach],
        replicas: Mapping[str, Collection[int]] | None = None,
        partitions: Mapping[str, Sequence[Partition]] | None = None,
    ) -> None:
        """Take the answers of a round.

        `replicas`: by topic, the brokers that hold it, alive or not. `partitions`: by topic, all of them.
        """
        for topic, parts in (partitions or {}).items():
            self._partitions[topic] = (now, parts)
            self._replicas[topic] = frozenset[int]().union(*(part.replicas for part in parts))
        for topic, holders in (replicas or {}).items():
            self._replicas[topic] = frozenset(holders)
        for address, reach in reached.items():
            if reach is Reach.ANSWERS:
                self._suspects.discard(address)
        # A broker that left the cluster, or that moved to another address, is asked about no more.
        self._suspects &= {member.address for member in self._members.values()} | set((live or {}).values())
        self._see_cluster(now, live, reached)
        if live is not None:
            self._see_live(now, live, reached)
        for number, member in self._members.items():
            if live is None or number not in live:
                self._see_absent(now, member, reached.get(member.address), is_asked=live is not None)
        if live is not None:
            self._see_unlisted(now, live)
        self._see_bootstrap(now, live, reached)
        self.known = tuple(
            Broker(
                number,
                member.address,
                member.is_up,
                member.since,
                self._trips.get(number) if member.is_up else None,
                member.hangs,
            )
            for number, member in sorted(self._members.items(), key=lambda each: (each[0] < 0, abs(each[0])))
        )
        self.stopped = tuple(self._stopped()) if live is not None else ()

    def _stopped(self) -> Iterator[Stopped]:
        for topic, (told, parts) in self._partitions.items():
            leaderless = [part for part in parts if self._has_no_leader(part, told)]
            awaits = [self._awaits(part) for part in leaderless]
            if not leaderless:
                alone = [part for part in parts if self._leads_alone(part, told)]
                awaits = [part.replicas - self._up() for part in alone]
            if number := sum(map(bool, awaits)):
                brokers = tuple(sorted(frozenset[int]().union(*awaits)))
                yield Stopped(topic, number, len(parts), not leaderless, brokers)

    def _has_no_leader(self, part: Partition, told: float) -> bool:
        """Without a majority of its controllers Kafka goes on to name a leader that died."""
        return part.leader < 0 or self._is_down_for(part.leader, ELECTS_WITHIN, told)

    def _leads_alone(self, part: Partition, told: float) -> bool:
        others = part.in_sync - {part.leader}
        return len(part.replicas) > 1 and all(
            self._is_down_for(each, _SHRINKS_WITHIN, told) for each in others
        )

    def _is_down_for(self, number: int, seconds: float, told: float) -> bool:
        member = self._members.get(number)
        return member is None or (not member.is_up and told - member.since >= seconds)

    def _awaits(self, part: Partition) -> frozenset[int]:
        up = self._up()
        if part.leader >= 0:
            return frozenset({part.leader})
        # The brokers that were in sync last have all that was confirmed; Kafka waits for one of them.
        return (part.in_sync - up) or (part.replicas - up) or part.replicas

    def _up(self) -> frozenset[int]:
        return frozenset(number for number, member in self._members.items() if member.is_up)

    def keep_topics(self, topics: Collection[str]) -> None:
        """Forget the replicas of all other topics: nobody asks for them any more, so they may be wrong."""
        kept = frozenset(topics)
        self._replicas = {topic: holders for topic, holders in self._replicas.items() if topic in kept}
        self._partitions = {topic: told for topic, told in self._partitions.items() if topic in kept}

    def _see_cluster(self, now: float, live: Mapping[int, str] | None, reached: Mapping[str, Reach]) -> None:
        if live is not None:
            self._failures = 0
            self.any_up = self.ever_up = True
            self.taken_at = now
            return
        self._failures += 1
        # librdkafka may have asked a broker that hangs; it asks another one the next time.
        if self._failures >= _STRIKES or Reach.ANSWERS not in reached.values():
            self.any_up = False
            self.taken_at = now

    def _see_live(self, now: float, live: Mapping[int, str], reached: Mapping[str, Reach]) -> None:
        for number, address in live.items():
            member = self._members.setdefault(number, _Member(address, True, now))
            member.address = address
            member.named_at = member.listed_at = now
            reach = reached.get(address)
            if reach in (None, Reach.ANSWERS):
                member.strikes = 0
                _set(member, now, is_up=True)
            else:
                member.strikes += 1
                if member.strikes >= _STRIKES:
                    _set(member, now, is_up=False, hangs=reach is Reach.HANGS)

    def _see_absent(self, now: float, member: _Member, reach: Reach | None, *, is_asked: bool) -> None:
        if reach is Reach.ANSWERS:
            member.strikes = 0
            # It runs, and the cluster does not count it as alive.
            if is_asked and now - member.listed_at >= BELIEVE_AFTER:
                _set(member, now, is_up=False)
            return
        if reach is None and not is_asked:
            return
        member.strikes += 1
        if is_asked or reach is Reach.AWAY or member.strikes >= _STRIKES:
            _set(member, now, is_up=False, hangs=reach is Reach.HANGS)

    def _see_unlisted(self, now: float, live: Mapping[int, str]) -> None:
        """Brokers that hold replicas although nobody has seen them; and brokers that left the cluster."""
        holders = frozenset[int]().union(*self._replicas.values())
        for number in holders - live.keys():
            self._members.setdefault(number, _Member("", False, now)).named_at = now
        for number, member in list(self._members.items()):
            if member.address in self._bootstrap:
                member.named_at = now
            # A number without an address is known by its replicas alone.
            patience = FORGET_AFTER if member.address else 0.0
            if number >= 0 and now - member.named_at > patience:
                del self._members[number]

    def _see_bootstrap(
        self, now: float, live: Mapping[int, str] | None, reached: Mapping[str, Reach]
    ) -> None:
        """Addresses of the settings at which no known broker is: where they are dead, a broker is down."""
        own = {member.address for number, member in self._members.items() if number >= 0}
        for index, address in enumerate(self._bootstrap, 1):
            reach = reached.get(address)
            if address in own:
                self._members.pop(-index, None)
            elif reach is Reach.ANSWERS:
                self._members.pop(-index, None)
                if live is not None:
                    self._doors.add(address)  # another name of a broker, or of all of them
            elif reach and address not in self._doors:
                member = self._members.setdefault(-index, _Member(address, False, now))
                member.hangs = reach is Reach.HANGS
        nameless = [number for number, member in self._members.items() if not member.address]
        placeless = [number for number in self._members if number < 0]
        if len(nameless) == len(placeless) == 1:  # so they are the same broker
            found = self._members.pop(placeless[0])
            self._members[nameless[0]] = replace(found, named_at=now)
        elif placeless:  # some are the same, and nobody tells which: an address helps a person more
            for number in nameless[: len(placeless)]:
                del self._members[number]


def _set(member: _Member, now: float, *, is_up: bool, hangs: bool = False) -> None:
    if is_up != member.is_up:
        member.since = now
    member.is_up, member.hangs = is_up, hangs
