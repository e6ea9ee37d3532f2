"""One immutable picture of the service, which the loop makes once a second while somebody looks. Pure.

The page, /metrics, `bridge top` and `bridge check` show a snapshot and nothing else, so what they do costs
the message path nothing. `/status.json` is a snapshot as JSON: the names of the fields are an interface.

Ages and durations are in seconds, by the monotonic clock. An age is None where the thing has never happened.
"""

from dataclasses import dataclass, field

from bridge.program import AS_INSTALLED, Program

FORMAT = 1  # of /status.json; a new number where a field is removed or changes its meaning


@dataclass(frozen=True, slots=True)
class Histogram:
    """Observations in cumulative buckets, as Prometheus has them. `bounds` are upper bounds in seconds."""

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()  # one more than bounds: the last one counts all
    total: float = 0.0  # sum of the observations, in seconds


@dataclass(frozen=True, slots=True)
class Mqtt:
    """The session with EMQ. `trouble` and `way_out`: of the last ERROR or WARNING since it was LIVE."""

    host: str
    port: int
    client_id: str
    protocol: str  # "5" or "3.1.1"
    state: str  # a value of mqtt.session.State
    state_age: float
    connects: int = 0  # CONNACKs that accepted
    disconnects: dict[str, int] = field(default_factory=dict)  # by reason, of a closed list
    sessions_lost: int = 0
    refused: tuple[str, ...] = ()  # filters that SUBACK refused
    taken_over_age: float | None = None
    trouble: str = ""  # the event's name, such as "mqtt.refused"
    reason: str = ""
    way_out: str = ""


@dataclass(frozen=True, slots=True)
class KafkaBroker:
    """One broker: by Kafka's metadata, and by whether the bridge reaches it."""

    number: int  # node.id; negative: not known yet, for no broker was seen at this address of the settings
    address: str  # host:port; empty: only the number is known
    is_up: bool
    state_age: float
    round_trip_p99: float | None = None  # seconds, of the last minute; None too with over 500 Kafka topics
    hangs: bool = False  # it is not up: it accepts connections and answers nothing


@dataclass(frozen=True, slots=True)
class StoppedTopic:
    """A Kafka topic of which `partitions` (of all `of`) wait for brokers, and cannot be written meanwhile.

    `has_leader` true: leaders are up, but have no second in-sync replica, which min.insync.replicas may ask.
    `awaits`: the brokers' numbers.
    """

    topic: str
    partitions: int
    of: int
    has_leader: bool
    awaits: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Transactions:
    """Kafka transactions since the start, with delivery exactly-once.

    `failed`: the bridge threw their producer away, and produced again what Kafka did not have. `fenced`: how
    often another bridge with the same transactional.id took over. `is_fenced`: one has it now.
    """

    committed: int = 0
    failed: int = 0
    fenced: int = 0
    commit_seconds: Histogram = Histogram()
    is_fenced: bool = False


@dataclass(frozen=True, slots=True)
class Kafka:
    """The cluster. `state`: "live", "connecting" (never reached yet), "away" (no broker is up) or "resting"
    (no broker lets the producer in until a person acts).
    """

    bootstrap_servers: str
    state: str
    state_age: float
    brokers: tuple[KafkaBroker, ...] = ()
    producer_queue: int = 0  # messages that librdkafka holds
    rebuilds: int = 0
    transactions: Transactions | None = None  # None: delivery at-least-once
    trouble: str = ""  # as in Mqtt
    reason: str = ""
    way_out: str = ""
    stopped: tuple[StoppedTopic, ...] = ()  # the first 50


@dataclass(frozen=True, slots=True)
class Spool:
    """What waits on disk. `state`: "usable", "full" or "unusable"."""

    path: str
    state: str
    state_age: float
    messages: int = 0
    bytes_used: int = 0
    bytes_limit: int = 0
    disk_free: int = 0
    disk_keep_free: int = 0
    full_in: float | None = None  # seconds, at the rate of the last minute; None: it does not grow
    lasts: float | None = None  # seconds that its room would last at the usual rate; None: not known
    dead_letters: int = 0
    dead_letter_bytes: int = 0
    commit_seconds: Histogram = Histogram()
    reason: str = ""  # why it is full or unusable
    way_out: str = ""


@dataclass(frozen=True, slots=True)
class Flow:
    """Messages since the start, and the sums that must add up (delivery.counts)."""

    received: int = 0
    received_by_qos: tuple[int, int, int] = (0, 0, 0)
    received_bytes: int = 0
    restored: int = 0
    delivered: int = 0
    delivered_bytes: int = 0
    in_flight: int = 0
    in_flight_limit: int = 0  # mqtt.receive_maximum
    spooled: int = 0  # on disk now
    spooled_total: int = 0  # written to disk since the start
    joined: int = 0
    skipped: dict[str, int] = field(default_factory=dict)  # by reason
    dropped: dict[str, int] = field(default_factory=dict)  # QoS 0, by reason
    dead_lettered: dict[str, int] = field(default_factory=dict)  # by reason
    dead_letters_removed: int = 0
    unreadable: int = 0
    unaccounted: int = 0  # 0, or the bridge has a defect
    received_rate: float = 0.0  # messages a second, over the last ten seconds
    delivered_rate: float = 0.0
    oldest_undelivered_age: float = 0.0  # 0: nothing waits
    last_received_age: float | None = None
    last_delivered_age: float | None = None
    delivery_seconds: Histogram = Histogram()  # from receipt to Kafka's delivery report
    acknowledge_by_kafka_seconds: Histogram = Histogram()  # from receipt to PUBACK or PUBREC
    acknowledge_by_disk_seconds: Histogram = Histogram()


@dataclass(frozen=True, slots=True)
class Route:
    name: str
    filter: str
    topic: str  # may have placeholders; empty: its messages are dropped
    delivered: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class HeldTopic:
    """A Kafka topic whose messages wait: it is missing, forbidden, or late."""

    topic: str
    state: str  # of delivery.lanes.LaneState, in small letters
    state_age: float
    messages: int  # that wait, in memory and on disk
    reason: str = ""
    way_out: str = ""
    kind: str = ""  # a value of delivery.results.Hold; empty: it is late, not held


@dataclass(frozen=True, slots=True)
class BrokerNode:
    """One EMQ node as HAProxy sees it: [haproxy] stats. `name`: of its `server` line in haproxy.cfg."""

    name: str
    address: str
    is_up: bool
    status: str  # HAProxy's word, such as "UP", "DOWN", "MAINT"
    state_age: float
    sessions: int = 0
    check: str = ""  # how HAProxy's last check ended, such as "L7OK", "L4CON", "L7TOUT"; empty: not known


@dataclass(frozen=True, slots=True)
class SessionQueue:
    """What EMQX holds for the bridge's session: [emqx] api. `dropped` is lost: EMQX dropped it."""

    length: int
    limit: int  # 0: no limit
    dropped: int
    window: int  # messages in flight to the bridge
    window_limit: int
    full_in: float | None = None  # seconds, at the rate of the last minute
    dropped_age: float | None = None  # since an answer told of more dropped messages


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Whether a neighbour's monitoring could be asked. `trouble` is empty where the last answer was good."""

    url: str
    asked_age: float | None = None  # since the last good answer
    trouble: str = ""
    hangs: bool = False  # it accepts connections and gives no answer


@dataclass(frozen=True, slots=True)
class Certificate:
    whose: str
    expires_at: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class Happened:
    """One of the last events, for people."""

    age: float
    level: str  # "info", "warning" or "error"
    event: str
    text: str  # its fields, in one line of plain words


@dataclass(frozen=True, slots=True)
class History:
    """The last 15 minutes, oldest first: one value for each `step` seconds."""

    step: float = 5.0
    received_rate: tuple[float, ...] = ()
    delivered_rate: tuple[float, ...] = ()
    oldest_undelivered_age: tuple[float, ...] = ()
    spooled: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`haproxy`, `emqx`: None where they are not configured; `nodes` and `queue` are their last answers."""

    version: str
    made_at: str  # UTC, ISO 8601
    made: float  # monotonic seconds
    uptime: float
    state: str  # "starting", "running" or "stopping"
    clock_trusted: bool
    mqtt: Mqtt
    kafka: Kafka
    spool: Spool
    flow: Flow
    format: int = FORMAT
    routes: tuple[Route, ...] = ()
    held: tuple[HeldTopic, ...] = ()  # the first 50; those that are held stand first
    held_total: int = 0  # topics that are missing, forbidden or not writable now
    waiting_total: int = 0  # topics of which messages wait
    haproxy: Neighbour | None = None
    nodes: tuple[BrokerNode, ...] = ()
    emqx: Neighbour | None = None
    queue: SessionQueue | None = None
    certificates: tuple[Certificate, ...] = ()
    happened: tuple[Happened, ...] = ()  # the last 20, newest first
    lately: tuple[Happened, ...] = ()  # the last of each warning and error of an hour, newest first
    events: dict[str, int] = field(default_factory=dict)  # how often each event was logged
    history: History = History()
    loop_turn_seconds: Histogram = Histogram()
    reloaded_age: float | None = None
    reload_trouble: str = ""  # why the last reload changed nothing
    program: Program = AS_INSTALLED  # how the bridge is called on its machine
    restart_wanted: tuple[str, ...] = ()  # settings that a reload has found changed, and that need a restart
