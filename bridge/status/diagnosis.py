"""From a snapshot to one sentence: stands here until the diagnosis of issue 15 is merged. Pure."""

from bridge.status.finding import Diagnosis
from bridge.status.snapshot import Snapshot

__all__ = ["Diagnosis", "diagnose"]


def diagnose(snapshot: Snapshot) -> Diagnosis:
    if snapshot.mqtt.state == "live" and snapshot.kafka.state == "live":
        return Diagnosis("good", "All is well.", ())
    return Diagnosis("broken", f"MQTT is {snapshot.mqtt.state}, Kafka is {snapshot.kafka.state}.", ())
