"""Where messages are while something is broken, and how long there is room for them there. Pure."""

from bridge.settings.mqtt import BALANCERS_PORTS
from bridge.status.snapshot import Snapshot
from bridge.status.spoken import clause, count, duration, rate

EMQ_QUEUE = 1000  # messages that EMQ keeps for one session, by its own default


def is_live(snapshot: Snapshot) -> bool:
    """Whether messages come from EMQ."""
    return snapshot.mqtt.state == "live"


def kafka_is_live(snapshot: Snapshot) -> bool:
    """Whether at least one Kafka broker lets the producer in."""
    return snapshot.kafka.state == "live"


def mqtt_address(snapshot: Snapshot) -> str:
    """host:port at which the bridge connects: HAProxy, or a broker without HAProxy."""
    return address(snapshot.mqtt.host, snapshot.mqtt.port)


def has_haproxy(snapshot: Snapshot) -> bool:
    """Whether HAProxy seems to stand in front of the broker: it is asked, or the port is its own.

    If not, no text speaks of HAProxy.
    """
    return snapshot.haproxy is not None or snapshot.mqtt.port in BALANCERS_PORTS


def address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def usual_rate(snapshot: Snapshot) -> float:
    """Messages a second that EMQ sent lately; 0: not known. Seconds without any message do not count."""
    flowed = [rate for rate in snapshot.history.received_rate if rate > 0]
    usual = sum(flowed) / len(flowed) if flowed else 0.0
    return max(usual, snapshot.flow.received_rate)


def behind_kafka(snapshot: Snapshot) -> str:
    """Where messages wait for Kafka, as sentences."""
    spool = snapshot.spool
    if spool.state == "usable":
        lasts = f" The disk has room for about {duration(spool.full_in)} more." if spool.full_in else ""
        return (
            f"No acknowledged message is lost: what Kafka does not confirm waits on the bridge's disk in"
            f" {spool.path}, {count(spool.messages, 'message')} now.{lasts}"
        )
    return f"The bridge's disk takes no messages either ({spool.state}). {behind_the_bridge(snapshot)}"


def behind_the_bridge(snapshot: Snapshot) -> str:
    """Where messages wait that the bridge does not acknowledge or can't get, as sentences."""
    queue, emqx = snapshot.queue, snapshot.emqx
    if queue and emqx and not emqx.trouble:
        most = f" of at most {queue.limit:,}" if queue.limit else ""
        lasts = f"; at this rate it is full in {duration(queue.full_in)}" if queue.full_in else ""
        return f"Messages wait in EMQ's queue for this session: {queue.length:,}{most}{lasts}."
    usual = usual_rate(snapshot)
    lasts = ""
    if usual > 0:
        lasts = f": about {duration(EMQ_QUEUE / usual)} at the recent {rate(usual)}"
    return (
        f"Messages wait in EMQ's queue for this session, which holds {EMQ_QUEUE:,} messages unless EMQ's"
        f" settings say otherwise{lasts}; beyond that EMQ drops the oldest."
    )


def quoted(reason: str) -> str:
    """A reason of another program, in brackets; "" if there is none."""
    return f" ({clause(reason)})" if clause(reason) else ""
