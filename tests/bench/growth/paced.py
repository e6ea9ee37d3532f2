"""One quality of service, at a rate that the bridge keeps up with: nothing slows QoS 0 down."""

from functools import partial

from tests.bench import meter
from tests.bench.drain import Incomplete
from tests.bench.growth import topics
from tests.bench.growth.drained import CPU, PEAK, Figures, bridge
from tests.bench.growth.load import Load, publish
from tests.bench.growth.records import Records, Tally
from tests.bench.peers import Peer
from tests.bench.rig import PARTITIONS, Rig

PER_SECOND = 5_000
PANELS = ((CPU, (CPU,)), (PEAK, (PEAK,)))


def measure(here: Rig, qos: int, messages: int) -> Figures:
    """Raises Incomplete if a message of QoS 1 or 2 is not in Kafka, once and in order."""
    load = Load(messages, qos=qos)
    here.allow_inflight(load.window)
    place = here.place("bridge", mqtt5=True)
    topics.create(here.kafka, [place.topic], PARTITIONS)
    records = Records(here.kafka, [place.topic], PARTITIONS)
    with here.live(Peer("mqtt-kafka-bridge", "bridge", partial(bridge, load)), place) as process:
        before = meter.wait_quiet(process)
        publish(place, load, per_second=PER_SECOND)
        used = meter.wait_quiet(process) - before
        peak = meter.peak_mb(process)
    found = records.read(Tally(load.count, load.devices))
    records.close()
    here.forget_session(place)
    topics.delete(here.kafka, [place.topic])
    lost = load.count - found.different
    if (lost and qos) or found.copies or found.misplaced:
        raise Incomplete(f"{found} instead of {load.count:,} messages, once and in order")
    return {CPU: used / load.count * 1e6, PEAK: peak, "lost": lost}
