"""The bridge against families of brokers, at random: cuts, lost acknowledgements, repeated payloads.

The broker knows which message each copy is. No message that the broker saw acknowledged may be missing in
Kafka. The number of duplicates is limited by the number of messages in flight at the cuts.
"""

import random
from collections import Counter

import pytest

from tests.harness.model_session import Identifiers
from tests.harness.simulated import SimulatedBroker
from tests.integration.scripted.conftest import InKafka, NewBridge

MESSAGES = 1500
CUTS = 12
WINDOW = 20


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("identifiers", Identifiers, ids=lambda each: each.value.replace(" ", "-"))
def test_no_family_of_brokers_makes_the_bridge_lose(
    identifiers: Identifiers,
    seed: int,
    new_bridge_to: NewBridge,
    topic: str,
    in_kafka: InKafka,
) -> None:
    chance = random.Random(seed)
    with SimulatedBroker(identifiers, WINDOW) as broker:
        bridge = new_bridge_to(
            broker,
            [{"name": "all", "filter": "t/#", "topic": topic, "qos": 2}],
            {"receive_maximum": WINDOW},
            # So that each cut finds messages that Kafka has not confirmed.
            kafka={"options": {"linger.ms": 50}},
        )
        bridge.start()
        bridge.wait_live()
        # Cuts in pairs: identifiers of a broker that numbers anew are ambiguous only soon after a cut.
        first_cuts = chance.sample(range(WINDOW, MESSAGES - WINDOW), CUTS // 2)
        cuts_at = {*first_cuts, *(cut + chance.randint(1, WINDOW) for cut in first_cuts)}
        cuts = 0
        for number in range(1, MESSAGES + 1):
            # Few topics and payloads, so that many messages are identical, as with sensors.
            broker.publish(
                b"t/%d" % chance.randrange(2), b"%d" % chance.randrange(3), chance.choice([1, 1, 2])
            )
            if number in cuts_at:
                broker.wait_connected()
                broker.wait_acked(number - chance.randint(1, 2 * WINDOW))
                if chance.random() < 0.5:
                    broker.go_deaf()
                if chance.random() < 0.3:
                    broker.resend_live()
                cuts += 1
                # Three in a row that a broker answers at once are what a twin with the same client id does.
                broker.cut(reset=chance.random() < 0.5, away=cuts % 2 == 0)
        broker.wait_acked(MESSAGES, deadline=60)
        acked = broker.acked

    copies = Counter(int(record.header("serial") or b"0") for record in in_kafka(topic))
    assert not acked - copies.keys(), "a message was acknowledged, and is not in Kafka"
    doubled = copies.total() - len(copies)
    assert doubled <= CUTS * WINDOW
    if identifiers is Identifiers.UPWARD:
        assert doubled <= WINDOW, "no duplicates once the bridge has seen an identifier above the window"
