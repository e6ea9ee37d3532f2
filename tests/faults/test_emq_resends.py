"""EMQX 4 resends unacknowledged messages every 30 s, on the live connection."""

from tests.faults.chain import Chain
from tests.faults.table import Outcome
from tests.harness.host import Host
from tests.harness.model_session import Identifiers
from tests.harness.simulated import SimulatedBroker
from tests.harness.verifier import Verifier

_MESSAGES = 32  # a whole window of EMQ's

# Nothing goes to disk, so that nothing is acknowledged.
_HELD_BACK = {"spool": {"after": "10min"}, "kafka": {"delivery": "at-least-once"}}


def test_every_3_seconds_while_kafka_is_away(chain: Chain) -> None:
    """With --full every 30 s. spool.after is long: otherwise the spool would settle the messages first."""
    topic = chain.topics["temp"]
    with SimulatedBroker(Identifiers.UPWARD, window=_MESSAGES) as broker:
        mqtt = {"host": broker.address, "port": broker.port}
        with (
            Verifier(chain.kafka.bootstrap, [topic]) as verifier,
            chain.bridge(host=Host("router", "127.0.0.1"), mqtt=mqtt, **_HELD_BACK) as bridge,
        ):
            ids = {f"d-{number}" for number in range(1, _MESSAGES + 1)}
            with chain.universe.cable_out(*chain.universe.kafka):
                for name in sorted(ids):
                    broker.publish(b"house/temp/d", name.encode(), qos=1 + len(name) % 2)
                for _ in range(4):
                    chain.pass_time(30 if chain.full_length else 3)
                    broker.resend_live()
                assert not broker.acked
            broker.wait_acked(_MESSAGES, deadline=60)
            verifier.wait_for(ids)
            assert bridge.terminate() == 0
            assert bridge.entries("service.stopped")[0]["joined"] == 4 * _MESSAGES
            verifier.wait_end()
    chain.note(
        Outcome(
            published=_MESSAGES,
            lost=0,
            doubled=verifier.doubled,
            bound=0,
            inversions=0,
            stall=0.0,
            seconds_to_live=0.0,
            peak_mb=bridge.peak_mb,
            qos_1=sum(len(name) % 2 == 0 for name in ids),
            qos_2=sum(len(name) % 2 == 1 for name in ids),
        )
    )
    assert verifier.doubled == 0
