"""The bridge against whole families of brokers, at random: cuts, lost acknowledgements, repeated payloads.

The broker knows which message a copy really is. Lost is what it saw acknowledged and Kafka does not have:
none, whatever the broker does. Doubled is bounded by what was in flight at the cuts.
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
            # So that a cut always finds messages that Kafka has not confirmed.
            kafka={"options": {"linger.ms": 50}},
        )
        bridge.start()
        bridge.wait_live()
        # In pairs: only soon after a cut a broker that numbers anew gives out identifiers that are in doubt.
        first_cuts = chance.sample(range(WINDOW, MESSAGES - WINDOW), CUTS // 2)
        cuts_at = {*first_cuts, *(cut + chance.randint(1, WINDOW) for cut in first_cuts)}
        for number in range(1, MESSAGES + 1):
            # Few topics and few payloads: messages that can't be told apart are the rule, as with sensors.
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
                broker.cut(reset=chance.random() < 0.5)
        broker.wait_acked(MESSAGES, deadline=60)
        acked = broker.acked

    copies = Counter(int(record.header("serial") or b"0") for record in in_kafka(topic))
    assert not acked - copies.keys(), "acknowledged, and not in Kafka"
    doubled = copies.total() - len(copies)
    assert doubled <= CUTS * WINDOW
    if identifiers is Identifiers.UPWARD:
        assert doubled <= WINDOW, "once an identifier above the window was seen, nothing doubles"
