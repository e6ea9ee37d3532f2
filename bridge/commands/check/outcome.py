"""The words that all checks share: a check, its outcome, and what the checks know of the site. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from bridge.errors import BridgeError
from bridge.kafka.cluster_check import ClusterCheck
from bridge.kafka.topic_description import Description
from bridge.mqtt.broker_check import BrokerCheck
from bridge.routing.router import Router
from bridge.settings import Settings
from bridge.status.document import Status
from bridge.status.snapshot import Snapshot


class Level(StrEnum):
    GOOD = "good"
    WARNING = "warning"
    FAILED = "FAILED"
    SKIPPED = "skipped"


class Group(StrEnum):
    SETTINGS = "settings"
    MACHINE = "this machine"
    MQTT = "the MQTT side"
    KAFKA = "the Kafka side"
    SPOOL = "the spool"
    SERVICE = "the running service"
    SEND = "one message through the chain"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the output. An empty remedy or runbook of a warning or failure: the check's applies."""

    level: Level
    found: str
    remedy: str = ""
    runbook: str = ""  # an anchor of docs/runbook.md


def good(found: str) -> Outcome:
    return Outcome(Level.GOOD, found)


def warning(found: str, remedy: str = "") -> Outcome:
    return Outcome(Level.WARNING, found, remedy)


def failed(found: str, remedy: str = "") -> Outcome:
    return Outcome(Level.FAILED, found, remedy)


def skipped(why: str) -> Outcome:
    return Outcome(Level.SKIPPED, why)


@dataclass(slots=True)
class Site:
    """What the checks examine, and what earlier checks have found for later ones.

    `status`: the answer of the running service's /status.json; None: it has not answered.
    """

    settings: Settings
    client_id: str
    settings_file: Path
    haproxy_cfg: Path | None = None  # of --haproxy-cfg
    send: str | None = None  # MQTT topic of --send
    offline: bool = False
    router: Router = field(init=False)
    shown: dict[str, bytes] = field(default_factory=dict)  # certificates of peers, DER
    broker: BrokerCheck | None = None
    cluster: ClusterCheck | None = None
    brokers_port_is_open: bool = False  # at mqtt.host, while mqtt.port is not
    brokers_up: int = 0
    topics: list[Description] = field(default_factory=list)
    status: Status | None = None
    no_status: str = ""  # why there is no status
    page: str = ""  # where the service shows the runbook; "": it has not answered

    def __post_init__(self) -> None:
        self.router = Router(self.settings.routes, shared=False)
        self.router.require_protocol(self.settings.mqtt.protocol)

    @property
    def opened_broker(self) -> BrokerCheck:
        """Raises BridgeError where no check has connected."""
        if self.broker is None:
            raise BridgeError("there is no connection to the broker")
        return self.broker

    @property
    def opened_cluster(self) -> ClusterCheck:
        """Raises BridgeError where no check has connected."""
        if self.cluster is None:
            raise BridgeError("there is no connection to Kafka")
        return self.cluster

    @property
    def snapshot(self) -> Snapshot | None:
        """The service's snapshot; None: the service has not answered."""
        return self.status.snapshot if self.status else None


@dataclass(frozen=True, slots=True)
class Check:
    """`needs`: checks that must not have failed or been skipped. `seconds`: the time-out of the whole check.

    `run` may raise BridgeError, which is a failure.
    """

    id: str
    group: Group
    what: str
    remedy: str
    runbook: str  # an anchor of docs/runbook.md
    run: Callable[[Site], Iterator[Outcome]]
    seconds: float = 10.0
    needs: tuple[str, ...] = ()
    offline: bool = False  # it asks no other machine
