"""The snapshots made by hand obey the rules that a real one obeys."""

import pytest

from tests.harness.snapshots import STATES


@pytest.mark.parametrize("state", STATES)
def test_the_sums_of_a_made_snapshot_add_up(state: str) -> None:
    flow = STATES[state]().flow
    settled = flow.delivered + flow.spooled + flow.unreadable
    settled += sum(flow.dead_lettered.values()) + sum(flow.skipped.values())
    assert flow.received + flow.restored == settled + flow.in_flight + sum(flow.dropped.values())


@pytest.mark.parametrize("state", STATES)
def test_the_history_of_a_made_snapshot_has_lists_of_one_length(state: str) -> None:
    history = STATES[state]().history
    lengths = {
        len(values)
        for values in (
            history.received_rate,
            history.delivered_rate,
            history.oldest_undelivered_age,
            history.spooled,
        )
    }
    assert len(lengths) == 1
