"""The counts, whose sums must add up."""

from bridge.delivery.counts import Counts


def test_what_was_received_is_settled_in_flight_or_dropped() -> None:
    counts = Counts(received=20, restored=7, delivered=5, spooled=4, dead_lettered=1, skipped=2)
    counts.dropped["qos0_limit"] = 3
    counts.dropped["other"] = 1
    assert counts.in_flight == 20 + 7 - 5 - 4 - 1 - 2 - 4


def test_a_copy_that_joined_is_not_received_again() -> None:
    assert Counts(received=1, joined=5).in_flight == 1


def test_the_line_of_each_minute_has_all_of_them() -> None:
    counts = Counts(received=9, delivered=1, dead_lettered=1, skipped=1, joined=1, sessions_lost=1)
    counts.dropped["qos0_limit"] += 1
    assert counts.as_fields() == {
        "received": 9,
        "delivered": 1,
        "in_flight": 5,
        "restored": 0,
        "spooled": 0,
        "unreadable": 0,
        "dead_lettered": 1,
        "dead_letters_removed": 0,
        "skipped": 1,
        "dropped": 1,
        "joined": 1,
        "sessions_lost": 1,
    }
