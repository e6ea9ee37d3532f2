"""Finds what is wrong, whose fault that is, and what to do, from one snapshot. Pure.

The text alone must do: a person who sees no colours and no log reads which host is at fault, where messages
wait meanwhile, and what to do. The text says only what the snapshot knows, and says what the bridge can't
know.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from bridge.observe.printable import printable
from bridge.status import kafka_faults, machine_faults, mqtt_faults
from bridge.status.finding import Diagnosis, Finding
from bridge.status.snapshot import Snapshot
from bridge.status.spoken import count, duration, rate
from bridge.status.whereabouts import has_haproxy, mqtt_address

__all__ = ["Diagnosis", "Finding", "diagnose"]

_QUIET = 300.0  # seconds without a message after which the sentence says so

# The worst first. Within one level, findings keep this order, so a cause stands before what follows from it.
_CONDITIONS: tuple[Callable[[Snapshot], Iterator[Finding]], ...] = (
    machine_faults.unaccounted,
    mqtt_faults.rival,
    machine_faults.disk,  # with Kafka away as well, EMQ's queue is all that is left
    mqtt_faults.nodes,
    mqtt_faults.session,
    mqtt_faults.refused_filters,
    kafka_faults.cluster,
    kafka_faults.fenced,
    kafka_faults.no_leader,
    kafka_faults.brokers,
    kafka_faults.missing_topics,
    kafka_faults.forbidden_topics,
    kafka_faults.held_topics,
    mqtt_faults.queue,
    machine_faults.certificates,
    machine_faults.errors,
    mqtt_faults.lost,
    mqtt_faults.dropped,
    machine_faults.dropped,
    machine_faults.dead_letters,
    kafka_faults.late,
    mqtt_faults.flapping,
    machine_faults.reload,
    machine_faults.restart,
    machine_faults.clock,
    mqtt_faults.unasked,
    machine_faults.starting,
)


def diagnose(snapshot: Snapshot, age: float = 0.0) -> Diagnosis:
    """What `snapshot` means. `age`: seconds since the snapshot was made, which only its reader knows."""
    # While the bridge is stuck or stops, the rest of the snapshot is old or the effect of the stop.
    findings = list(machine_faults.stuck(age)) or list(machine_faults.stopping(snapshot))
    if not findings:
        findings = [finding for condition in _CONDITIONS for finding in condition(snapshot)]
        findings.sort(key=lambda finding: finding.level == "warning")
    findings = [_typed(finding, snapshot) for finding in findings]
    if not findings:
        return Diagnosis("good", _all_is_well(snapshot), ())
    worst, *others = findings
    more = f" {_more(len(others))}" if others else ""
    return Diagnosis(worst.level, f"{worst.what} {worst.remedy}{more}", tuple(findings))


def _typed(finding: Finding, s: Snapshot) -> Finding:
    what, remedy = (printable(s.program.typed(text)) for text in (finding.what, finding.remedy))
    return replace(finding, what=what, remedy=remedy)


def _more(others: int) -> str:
    return "There is one more finding." if others == 1 else f"There are {others} more findings."


def _all_is_well(s: Snapshot) -> str:
    return f"All is well, since {_since(s)}. {_flow(s)}"


def _since(s: Snapshot) -> str:
    """When the last thing got well: time of day and duration."""
    ages = [s.uptime, s.mqtt.state_age, s.kafka.state_age, s.spool.state_age]
    ages += [node.state_age for node in s.nodes] + [broker.state_age for broker in s.kafka.brokers]
    age = max(0.0, min(ages))
    if s.clock_trusted:
        try:
            at = datetime.fromisoformat(s.made_at) - timedelta(seconds=age)
        except (ValueError, OverflowError):
            pass
        else:
            return f"{at:%Y-%m-%d %H:%M} UTC ({duration(age)})"
    return f"{duration(age)}"


def _flow(s: Snapshot) -> str:
    flow = s.flow
    way = f"from {'EMQ behind' if has_haproxy(s) else 'the MQTT broker at'} {mqtt_address(s)} to Kafka"
    if flow.last_received_age is None:
        quiet = f"in the {duration(s.uptime)} since the start"
    elif flow.last_received_age > _QUIET:
        quiet = f"for {duration(flow.last_received_age)}"
    else:
        delivered = f"{count(flow.delivered, 'message')} delivered since the start"
        return f"Messages flow {way}: {rate(flow.received_rate)} now, {delivered}."
    return (
        f"The way {way} is open, but no message has come {quiet}. That is no fault if no device has"
        " published; otherwise check that the devices connect, and that a route's filter matches their"
        " topics."
    )
