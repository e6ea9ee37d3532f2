"""A chain in a universe of its own, messages that flow through it while something fails, and the judge."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.faults.load import KINDS, Load
from tests.faults.table import Outcome
from tests.harness.bridge import BridgeProcess, Entry
from tests.harness.brokers import TwoDoors
from tests.harness.conditions import NotInTime, wait_until
from tests.harness.device import Tally
from tests.harness.haproxy import SUBSCRIBER, HAProxy
from tests.harness.host import Host
from tests.harness.kafka import KafkaCluster
from tests.harness.relay import RecordingRelay
from tests.harness.universe import Universe
from tests.harness.verdict import Verdict
from tests.harness.verifier import Verifier

WINDOW = 100  # mqtt.receive_maximum
# "In flight and rows" of docs/reference/guarantees.md: what may come twice when the bridge is killed while
# messages are on disk. In flight from there, in three segments that were begun, and in flight from EMQ.
ROWS = 8192 + 3 * 500 + WINDOW
CLIENT_ID = "mqtt-kafka-bridge"

# Only once an identifier above the window was seen is it known that the broker counts upward
# (bridge/delivery/ledger.py, rule 3); before that a lost acknowledgement may double.
_WARM_UP = 2 * WINDOW


class Flow:
    """Messages that flow through the chain. `verdict` is there once that has ended."""

    def __init__(self, bridge: BridgeProcess, load: Load, verifier: Verifier, kinds: set[str]) -> None:
        self.bridge, self.load, self.verifier = bridge, load, verifier
        self.kinds = kinds  # whose Kafka topics are there
        self.seconds_to_live = 0.0  # the longest, from a fault until the session was live again
        self.verdict: Verdict | None = None
        self.tally = Tally()
        self.stopped: Entry = {}  # the bridge's last words: its sums

    def goes_on(self, deadline: float = 60.0) -> None:
        """Wait until messages of all kinds that are sent from now on arrive: what was broken is whole."""
        before = self.load.acked(self.kinds)

        def arrived() -> list[int]:
            new = [now - then for now, then in zip(self.load.acked(self.kinds), before, strict=True)]
            return [len(ids) - len(self.verifier.missing(ids)) for ids in new]

        wait_until(
            lambda: all(count >= 5 for count in arrived()),
            deadline,
            lambda: f"messages of all kinds arrive, {arrived()} did{self.bridge.log_tail(30)}",
        )

    def catches_up(self, deadline: float = 60.0) -> None:
        """Wait until what was queued anywhere by now is in Kafka: only the window is in flight again."""
        self.verifier.wait_for(set().union(*self.load.acked(self.kinds)), deadline)

    def delivers_beyond(self, count: int, deadline: float = 60.0) -> None:
        """Wait until Kafka holds more than so many."""
        wait_until(
            lambda: self.verifier.delivered > count,
            deadline,
            lambda: f"{count} are delivered, {self.verifier.delivered} are{self.bridge.log_tail(30)}",
        )

    @contextlib.contextmanager
    def comes_back(self, deadline: float = 60.0) -> Iterator[None]:
        """What is done inside ends the session, and it is live again in time. Raises NotInTime."""
        mark, began = self.bridge.journal.mark(), time.time()
        yield

        def live() -> list[Entry]:
            return self.bridge.journal.matching("mqtt.live", {}, mark)

        entry = wait_until(live, deadline, lambda: f"the session is live again{self.bridge.log_tail(30)}")[0]
        at = datetime.fromisoformat(entry["timestamp"]).timestamp()
        self.seconds_to_live = max(self.seconds_to_live, at - began)

    @property
    def doubled_by_a_crash(self) -> int:
        """The bound: more where Kafka was late before, and messages so on disk, as on a busy machine."""
        return ROWS if self.bridge.journal.matching("spool.late", {}) else WINDOW

    def stays(self) -> None:
        """Assert that the session was never interrupted."""
        assert not self.bridge.journal.matching("mqtt.closed", {}), self.bridge.log_tail(30)


@dataclass
class Chain:
    """Six machines and the bridge's. `note` takes what came out, for the table."""

    universe: Universe
    kafka: KafkaCluster
    emq: TwoDoors
    haproxy: HAProxy
    directory: Path
    round_number: int
    full_length: bool
    note: Callable[[Outcome], None]
    topics: dict[str, str] = field(default_factory=dict)  # kind -> Kafka topic

    def bridge(
        self,
        name: str = "bridge",
        *,
        host: Host | None = None,
        mqtt: Mapping[str, Any] | None = None,
        routes: Sequence[Mapping[str, Any]] = (),
        **tables: Any,
    ) -> BridgeProcess:
        """A bridge on its machine, not started yet. `routes` come after those of the house."""
        settings = {
            "mqtt": {"host": self.universe.haproxy.address, "port": SUBSCRIBER, "client_id": CLIENT_ID}
            | dict(mqtt or {}),
            "kafka": {"bootstrap_servers": self.kafka.bootstrap, **tables.pop("kafka", {})},
            "routes": [
                {
                    "name": kind,
                    "filter": f"house/{kind}/{{device}}",
                    "topic": topic,
                    "key": "{device}",
                    "qos": 2,
                }
                for kind, topic in self.topics.items()
            ]
            + list(routes),
            **tables,
        }
        return BridgeProcess(settings, self.directory, name=name, host=host or self.universe.bridge)

    @contextlib.contextmanager
    def flow(
        self,
        *,
        rate: float = 150.0,
        without: str = "",
        relay: RecordingRelay | None = None,
        deadline: float = 90.0,
        **settings: Any,
    ) -> Iterator[Flow]:
        """Bridge and devices run inside. At the end `deadline` s are left for what is under way, and the
        bridge must stop in order. `without` names a kind whose Kafka topic is not there yet.

        With a `relay` between bridge and HAProxy that is promised which the bridge has acknowledged: the rest
        is what EMQ lost.
        """
        kinds = set(KINDS) - {without}
        if relay:
            settings["mqtt"] = {"host": relay.address, "port": relay.port, **settings.get("mqtt", {})}
        with (
            Verifier(self.kafka.bootstrap, [self.topics[kind] for kind in kinds]) as verifier,
            self.bridge(**settings) as bridge,
        ):
            with Load(self.universe.haproxy.address, rate) as load:
                flow = Flow(bridge, load, verifier, kinds)
                load.wait_sent(_WARM_UP)
                flow.goes_on()
                yield flow
            tally = load.tally()
            if relay:
                by_emq = tally.acked - relay.acknowledged
                tally = replace(tally, acked=tally.acked - by_emq, unknown=tally.unknown | by_emq)
            else:
                assert not self.emq.has_dropped, "EMQ's queue for the session was full, and it has dropped"
            with contextlib.suppress(NotInTime):  # the judge counts what is lost
                verifier.wait_for(tally.acked, deadline)
            assert bridge.terminate() == 0, bridge.log_tail(30)
            (flow.stopped,) = bridge.entries("service.stopped")
            verifier.wait_end()
            flow.tally = tally
            flow.verdict = verifier.verdict(tally)

    def judge(self, flow: Flow, *, doubled: int = 0, in_order: bool = True) -> None:
        """The oracle, the same for all: nothing lost, at most so many copies, all in order. Two bridges
        at once can keep no order.
        """
        verdict = flow.verdict
        assert verdict is not None
        self.note(
            Outcome(
                published=flow.tally.sent,
                lost=len(verdict.lost),
                doubled=verdict.copies,
                bound=doubled,
                inversions=len(verdict.inversions),
                stall=flow.verifier.stall,
                seconds_to_live=flow.seconds_to_live,
                peak_mb=flow.bridge.peak_mb,
            )
        )
        good = not (verdict.lost or verdict.copies > doubled or (in_order and verdict.inversions))
        assert good, f"{verdict}{flow.bridge.log_tail(100)}"
        sums = flow.stopped
        settled = sums["delivered"] + sums["dead_lettered"] + sums["skipped"] + sums["dropped"]
        assert sums["received"] + sums["restored"] == settled, sums
        assert not sums["in_flight"], sums
        assert not sums["spooled"], sums

    def pass_time(self, seconds: float) -> None:
        """How long an outage lasts is a matter of time alone."""
        ends = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() >= ends, seconds + 5.0, "time passes")

    def node_of_the_session(self) -> int:
        return 1 if self.haproxy.sessions(1) else 2
