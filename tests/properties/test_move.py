"""Routes that change repeatedly while messages are on disk, and starts that are killed at any point."""

from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.delivery import segment as segment_module
from bridge.delivery.segment import Wanted, cut, pack
from bridge.message import Message
from bridge.spool import store as store_module
from bridge.spool.store import Store

ALL = Wanted(0, 2**44 - 1, 10**6, 10**9)
MQTT = (b"0", b"1", b"2")

Routes = tuple[str, ...]  # the Kafka topic of each MQTT topic, or nothing


class Run(NamedTuple):
    """One run: a start with these routes, steps of the move, new messages, more steps, and kill -9."""

    routes: Routes
    before: int
    comes: list[bytes]
    after: int


routes = st.tuples(*[st.sampled_from(("k0", "k1", "k2", ""))] * len(MQTT))
steps = st.integers(0, 8)
runs = st.lists(st.builds(Run, routes, steps, st.lists(st.sampled_from(MQTT), max_size=8), steps), max_size=6)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_module, "MOST_MESSAGES", 3)
    monkeypatch.setattr(store_module, "_REASSIGN_AT_ONCE", 1)


def move(store: Store, routes: Routes, steps: int | None) -> None:
    def lane_of(topic: bytes) -> tuple[str, str]:
        kafka = routes[MQTT.index(topic)]
        return kafka, "" if kafka else "nothing takes it"

    for step in count():
        if step == steps or store.reassign(str(routes), lane_of) is None:
            break


def write(store: Store, messages: list[Message], routes: Routes) -> None:
    lanes: dict[str, list[Message]] = {}
    for message in messages:
        lanes.setdefault(routes[MQTT.index(message.topic)], []).append(message)
    store.write((lane, each, pack(each.messages)) for lane in lanes for each in cut(lanes[lane]))


@settings(max_examples=100, deadline=None)
@given(runs=runs, last=routes)
def test_every_message_is_where_the_last_routes_lead_once_and_in_order(runs: list[Run], last: Routes) -> None:
    numbers = count(1)
    sent: dict[bytes, list[int]] = {topic: [] for topic in MQTT}
    found: dict[bytes, list[int]] = {topic: [] for topic in MQTT}
    with TemporaryDirectory() as directory:
        for run in runs:
            store = Store(Path(directory))
            move(store, run.routes, run.before)
            come = []
            for topic in run.comes:
                if run.routes[MQTT.index(topic)]:
                    message = Message.of(topic, 2, 1, None, b"x")
                    message.sequence, message.timestamp = next(numbers), 0
                    sent[topic].append(message.sequence)
                    come.append(message)
            write(store, come, run.routes)
            move(store, run.routes, run.after)
            store.close()
        store = Store(Path(directory))
        move(store, last, None)
        for backlog in store.backlogs():
            segments, damaged = store.read(backlog.topic, ALL)
            assert not damaged
            assert sum(segment.count for segment in segments) == backlog.messages
            for message in (message for segment in segments for message in segment.messages):
                assert last[MQTT.index(message.topic)] == backlog.topic
                found[message.topic].append(message.sequence)
        dead = [topic for (topic,) in store._db.execute("SELECT mqtt_topic FROM dead_letters")]
        store.close()
    for topic in MQTT:
        assert found[topic] == sorted(set(found[topic])), "duplicated, or out of order"
        assert len(found[topic]) + dead.count(topic) == len(sent[topic]), "lost"
