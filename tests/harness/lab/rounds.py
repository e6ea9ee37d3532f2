"""deploy/lab rounds: kills or hangs every host of the chain and brings it back, many times."""

import time
from collections.abc import Iterator, Sequence

from tests.harness.lab.chain import Plan
from tests.harness.lab.run import Lab, lab
from tests.harness.relay import Sighting

STEPS = (
    ("kill", "emq1"),
    ("start", "emq1"),
    ("hang", "emq2"),
    ("resume", "emq2"),
    ("kill", "kafka1"),
    ("start", "kafka1"),
    ("hang", "kafka2"),
    ("resume", "kafka2"),
)

# A node may fail before it reads an acknowledgement that was sent this long before. Seconds.
_UNREAD = 0.05


def rounds(plan: Plan, count: int) -> int:
    """Returns 0 if nothing was lost, the flow resumed each time, and duplicates stayed within their bound.

    The bound is 0 for a broker that keeps identifiers over a reconnect. RabbitMQ does not: its bound is the
    number of messages in flight when a connection broke.
    """
    bound = 0
    with lab(plan, recorded=True) as running:
        for number in range(1, count + 1):
            before = running.chain.verifier.doubled
            cuts = [cut for verb, name in STEPS for cut in _step(running, verb, name)]
            in_flight = [_in_flight(running.chain.sightings, connection, at) for connection, at in cuts]
            bound += sum(in_flight)
            running.say(
                f"-- round {number} of {count}: {running.chain.scoreboard.take()}; "
                f"{len(cuts)} cuts with {' + '.join(map(str, in_flight)) or 0} in flight, "
                f"{running.chain.verifier.doubled - before} duplicated"
            )
        allowed = bound if plan.brokers == "rabbitmq" else 0
        outcome = running.judge()
        running.say(f"in flight at all cuts {bound}, so duplicated at most {allowed}")
        for name in outcome.suspects[:10]:
            running.say(running.chain.story(name))
        if running.verbs.unseen:
            running.say(f"did not happen: {', '.join(running.verbs.unseen)}")
        good = outcome.is_complete and outcome.duplicated <= allowed
        in_order = not outcome.out_of_order or plan.brokers == "rabbitmq"
        return int(not (good and in_order and not running.verbs.unseen))


def _step(running: Lab, verb: str, name: str) -> Iterator[tuple[int, float]]:
    """Fail or restore a host, and yield the bridge's connection that this cut, with the time."""
    chain = running.chain
    is_cut = verb in ("kill", "hang") and name.startswith("emq") and chain.is_bridge_at(int(name[-1]))
    connection, at = chain.connections, time.monotonic()
    running.do(verb, name)
    if is_cut:
        yield connection, at


def _in_flight(sightings: Sequence[Sighting], connection: int, at: float) -> int:
    """How many messages a node had sent over this connection, at that time, without reading the ack."""
    in_flight = set()
    for seen in sightings:
        if seen.connection != connection:
            continue
        if seen.packet == "PUBLISH" and seen.qos and seen.at <= at:
            in_flight.add(seen.identifier)
        elif seen.packet in ("PUBACK", "PUBCOMP") and seen.at < at - _UNREAD:
            in_flight.discard(seen.identifier)
    return len(in_flight)
