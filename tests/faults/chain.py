"""A chain in a universe of its own, a flow of messages during a fault, and the verdict."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.faults.load import KINDS, Load, count_at
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
# "In flight and rows" of docs/reference/guarantees.md: the maximum of duplicates when the bridge is killed
# while messages are on disk. In flight from there, in three segments that were begun, and in flight from EMQ.
ROWS = 8192 + 3 * 500 + WINDOW
CLIENT_ID = "mqtt-kafka-bridge"

# The bridge knows that the broker counts upward once it has seen an identifier above the window
# (bridge/delivery/ledger.py, rule 3); before that a lost acknowledgement may cause a duplicate.
_WARM_UP = 2 * WINDOW


class Flow:
    """Messages that flow through the chain. `verdict` is available once the flow has ended."""

    def __init__(self, bridge: BridgeProcess, load: Load, verifier: Verifier, kinds: set[str]) -> None:
        self.bridge, self.load, self.verifier = bridge, load, verifier
        self.kinds = kinds  # kinds whose Kafka topic exists
        self.seconds_to_live = 0.0  # the longest, from a fault until the session was live again
        self.verdict: Verdict | None = None
        self.tally = Tally()
        self.stopped: Entry = {}  # the bridge's last log entry, with its sums

    def goes_on(self, deadline: float = 60.0) -> None:
        """Wait until messages of all kinds sent from now on arrive: the chain has recovered."""
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
        """Wait until Kafka has every message that is queued anywhere now."""
        self.verifier.wait_for(set().union(*self.load.acked(self.kinds)), deadline)

    def delivers_beyond(self, count: int, deadline: float = 60.0) -> None:
        """Wait until Kafka holds more than `count` messages."""
        wait_until(
            lambda: self.verifier.delivered > count,
            deadline,
            lambda: f"{count} are delivered, {self.verifier.delivered} are{self.bridge.log_tail(30)}",
        )

    @contextlib.contextmanager
    def comes_back(self, deadline: float = 60.0) -> Iterator[None]:
        """The block ends the connection; wait until the session is live again. Raises NotInTime."""
        mark, began = self.bridge.journal.mark(), time.time()
        yield

        def live() -> list[Entry]:
            return self.bridge.journal.matching("mqtt.live", {}, mark)

        entry = wait_until(live, deadline, lambda: f"the session is live again{self.bridge.log_tail(30)}")[0]
        at = datetime.fromisoformat(entry["timestamp"]).timestamp()
        self.seconds_to_live = max(self.seconds_to_live, at - began)

    @property
    def doubled_by_a_crash(self) -> int:
        """The bound; higher if messages were on disk, because Kafka was late (as on a busy machine)."""
        return ROWS if self.bridge.journal.matching("spool.late", {}) else WINDOW

    def stays(self) -> None:
        """Assert that the session was never interrupted."""
        assert not self.bridge.journal.matching("mqtt.closed", {}), self.bridge.log_tail(30)


@dataclass
class Chain:
    """Six machines and the bridge's machine. `note` gets the outcome, for the table."""

    universe: Universe
    kafka: KafkaCluster
    emq: TwoDoors
    haproxy: HAProxy
    directory: Path
    round_number: int
    full_length: bool
    note: Callable[[Outcome], None]
    topics: dict[str, str] = field(default_factory=dict)  # kind -> Kafka topic
    delivery: str = "at-least-once"

    @property
    def is_exactly_once(self) -> bool:
        return self.delivery == "exactly-once"

    def bridge(
        self,
        name: str = "bridge",
        *,
        host: Host | None = None,
        mqtt: Mapping[str, Any] | None = None,
        routes: Sequence[Mapping[str, Any]] = (),
        **tables: Any,
    ) -> BridgeProcess:
        """A bridge on its machine, not started yet. `routes` follow the routes of the house."""
        settings = {
            "mqtt": {"host": self.universe.haproxy.address, "port": SUBSCRIBER, "client_id": CLIENT_ID}
            | dict(mqtt or {}),
            "kafka": {
                "bootstrap_servers": self.kafka.bootstrap,
                "delivery": self.delivery,
                **tables.pop("kafka", {}),
            },
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
        """Run bridge and devices inside the block. At its end wait up to `deadline` s for messages in flight;
        the bridge must stop cleanly. `without` names a kind whose Kafka topic does not exist yet.

        With a `relay` between bridge and HAProxy only messages that the bridge has acknowledged must be in
        Kafka: EMQ lost the others.
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
            with contextlib.suppress(NotInTime):  # `judge` counts the losses
                verifier.wait_for(tally.acked, deadline)
            assert bridge.terminate() == 0, bridge.log_tail(30)
            (flow.stopped,) = bridge.entries("service.stopped")
            verifier.wait_end()
            flow.tally = tally
            flow.verdict = verifier.verdict(tally)

    def judge(self, flow: Flow, *, doubled: int = 0, in_order: bool = True) -> None:
        """Check the verdict, for all tests alike: nothing lost, at most `doubled` extra copies, order kept
        (unless two bridges run at once).

        With delivery exactly-once there may be no copy, unless another client has used the session: then the
        bridge does not know what that one acknowledged.
        """
        verdict = flow.verdict
        if self.is_exactly_once and not flow.bridge.entries("mqtt.taken_over"):
            doubled = 0
        assert verdict is not None
        qos_1, qos_2 = (count_at(flow.tally.acked, qos) for qos in (1, 2))
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
                qos_1=qos_1,
                qos_2=qos_2,
            )
        )
        assert qos_1, "no message of QoS 1 was promised, so the round shows nothing"
        assert qos_2, "no message of QoS 2 was promised, so the round shows nothing"
        good = not (verdict.lost or verdict.copies > doubled or (in_order and verdict.inversions))
        assert good, f"{verdict}{flow.bridge.log_tail(100)}"
        sums = flow.stopped
        settled = sums["delivered"] + sums["dead_lettered"] + sums["skipped"] + sums["dropped"]
        assert sums["received"] + sums["restored"] == settled, sums
        assert not sums["in_flight"], sums
        assert not sums["spooled"], sums

    def pass_time(self, seconds: float) -> None:
        """Wait: only time decides how long an outage lasts."""
        ends = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() >= ends, seconds + 5.0, "time passes")

    def node_of_the_session(self) -> int:
        return 1 if self.haproxy.sessions(1) else 2
