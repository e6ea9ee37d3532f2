"""Kafka is away, and the disk for the waiting messages is full.

No acknowledged message is ever dropped. EMQ holds the others: a window of 32, and the rest in its queue.
"""

from tests.faults.chain import Chain, Flow
from tests.harness.disk import disk_in_memory

_SIZE = 2  # MB


def fill(flow: Flow) -> None:
    """Publish as fast as the disk writes, until the bridge logs an ERROR; then slowly, for EMQ's queue."""
    flow.load.rate = 600.0
    flow.bridge.wait_for("spool.full", deadline=120)
    flow.load.rate = 30.0


def outlives_a_full_disk(chain: Chain, keep_free: str | int) -> None:
    with disk_in_memory(chain.directory, _SIZE) as disk:
        with chain.flow(spool={"directory": disk, "keep_free": keep_free}) as flow:
            with chain.universe.cable_out(*chain.universe.kafka):
                fill(flow)
                flow.load.wait_sent(200)
            flow.goes_on()
            flow.stays()
        chain.judge(flow)


def test_it_is_full(chain: Chain) -> None:
    outlives_a_full_disk(chain, keep_free="500kB")


def test_it_is_full_to_the_last_byte(chain: Chain) -> None:
    """spool.keep_free is 0: the bridge only checks that a commit fits."""
    outlives_a_full_disk(chain, keep_free=0)
