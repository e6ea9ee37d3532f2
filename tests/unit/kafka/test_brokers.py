"""Which brokers are up, from what the metadata and the addresses answered."""

import json

from bridge.kafka.brokers import BELIEVE_AFTER, FORGET_AFTER, Brokers, Partition, Reach, Stopped

THREE = {1: "b1:9092", 2: "b2:9092", 3: "b3:9092"}
TWO = {2: "b2:9092", 3: "b3:9092"}
TWO_LEFT = {1: "b1:9092", 2: "b2:9092"}
ANSWERS, HANGS, AWAY = Reach.ANSWERS, Reach.HANGS, Reach.AWAY


def up(brokers: Brokers) -> dict[int, bool]:
    return {broker.number: broker.is_up for broker in brokers.known}


def seen(*bootstrap: str) -> Brokers:
    brokers = Brokers(bootstrap)
    brokers.judge(100.0, THREE, {})
    return brokers


def test_the_metadata_names_the_brokers_that_are_up() -> None:
    brokers = seen()
    assert up(brokers) == {1: True, 2: True, 3: True}
    assert [broker.address for broker in brokers.known] == list(THREE.values())
    assert brokers.any_up
    assert brokers.taken_at == 100.0
    assert brokers.doubtful(THREE) == []


def test_a_broker_that_is_dead_is_down_and_keeps_its_name() -> None:
    brokers = seen()
    assert brokers.doubtful(TWO) == ["b1:9092"]
    brokers.judge(105.0, TWO, {"b1:9092": AWAY})
    (down,) = [broker for broker in brokers.known if not broker.is_up]
    assert (down.number, down.address, down.since, down.hangs) == (1, "b1:9092", 105.0, False)
    brokers.judge(110.0, TWO, {"b1:9092": AWAY})
    assert brokers.known[0].since == 105.0
    brokers.judge(115.0, THREE, {})
    assert brokers.known[0].is_up
    assert brokers.known[0].since == 115.0


def test_a_broker_that_hangs_is_called_so() -> None:
    brokers = seen()
    brokers.judge(105.0, TWO, {"b1:9092": HANGS})
    assert (brokers.known[0].is_up, brokers.known[0].hangs) == (False, True)
    brokers.judge(110.0, THREE, {})
    assert (brokers.known[0].is_up, brokers.known[0].hangs) == (True, False)


def test_a_broker_that_has_just_started_does_not_know_the_others_yet() -> None:
    brokers = seen()
    brokers.judge(105.0, {2: "b2:9092"}, {"b1:9092": ANSWERS, "b3:9092": ANSWERS})
    assert all(up(brokers).values())
    brokers.judge(100.0 + BELIEVE_AFTER, TWO, {"b1:9092": ANSWERS})
    assert up(brokers) == {1: False, 2: True, 3: True}


def test_a_broker_that_the_cluster_reaches_and_the_bridge_does_not_is_down() -> None:
    brokers = seen()
    brokers.suspect("b2:9092")
    brokers.suspect("elsewhere:9092")
    assert brokers.doubtful(THREE) == ["b2:9092"]
    brokers.judge(105.0, THREE, {"b2:9092": AWAY})
    assert all(up(brokers).values())  # once may be chance
    assert brokers.doubtful(THREE) == ["b2:9092"]
    brokers.judge(110.0, THREE, {"b2:9092": AWAY})
    assert up(brokers) == {1: True, 2: False, 3: True}
    brokers.judge(115.0, THREE, {"b2:9092": ANSWERS})
    assert all(up(brokers).values())
    assert brokers.doubtful(THREE) == []


def test_a_broker_that_was_dead_at_the_start_is_known_by_its_address() -> None:
    brokers = Brokers(["b1:9092", "b2:9092", "b3:9092"])
    assert brokers.doubtful(TWO) == ["b1:9092"]
    brokers.judge(100.0, TWO, {"b1:9092": AWAY})
    assert up(brokers) == {2: True, 3: True, -1: False}
    assert brokers.known[-1].address == "b1:9092"
    brokers.judge(105.0, THREE, {})
    assert up(brokers) == {1: True, 2: True, 3: True}


def test_a_broker_that_was_dead_at_the_start_has_its_number_from_its_replicas() -> None:
    brokers = Brokers(["b1:9092", "b2:9092", "b3:9092"])
    for now in (100.0, 105.0):
        brokers.judge(now, TWO, {"b1:9092": AWAY}, {"t": {1, 2, 3}})
        assert up(brokers) == {1: False, 2: True, 3: True}
        assert brokers.known[0].address == "b1:9092"
        assert brokers.known[0].since == 100.0
    brokers.judge(110.0, THREE, {}, {"t": {1, 2, 3}})
    assert up(brokers) == {1: True, 2: True, 3: True}


def test_a_dead_broker_that_nothing_but_a_replica_names_is_known_by_its_number() -> None:
    brokers = Brokers(["b2:9092"])
    brokers.judge(100.0, TWO, {}, {"t": {1, 2}})
    assert up(brokers) == {1: False, 2: True, 3: True}
    assert brokers.known[0].address == ""
    assert brokers.doubtful(TWO) == []
    brokers.judge(105.0, TWO, {}, {"t": {2, 3}})
    assert up(brokers) == {2: True, 3: True}


def test_another_name_of_a_broker_is_no_broker() -> None:
    brokers = Brokers(["kafka.home:9092"])
    assert brokers.doubtful(THREE) == ["kafka.home:9092"]
    brokers.judge(100.0, THREE, {"kafka.home:9092": ANSWERS})
    assert up(brokers) == {1: True, 2: True, 3: True}
    assert brokers.doubtful(THREE) == []


def test_a_broker_that_was_removed_is_forgotten_in_time() -> None:
    brokers = seen("b2:9092")
    brokers.judge(105.0, TWO, {"b1:9092": AWAY})
    brokers.judge(100.0 + FORGET_AFTER, TWO, {"b1:9092": AWAY})
    assert 1 in up(brokers)
    brokers.judge(101.0 + FORGET_AFTER, TWO, {"b1:9092": AWAY})
    assert up(brokers) == {2: True, 3: True}


def test_a_dead_broker_that_is_still_wanted_is_not_forgotten() -> None:
    by_settings, by_replica = seen("b1:9092"), seen()
    by_settings.judge(1e6, TWO, {"b1:9092": AWAY})
    by_replica.judge(1e6, TWO, {"b1:9092": AWAY}, {"t": {1, 2}})
    assert up(by_settings) == up(by_replica) == {1: False, 2: True, 3: True}
    by_replica.keep_topics([])
    by_replica.judge(2e6, TWO, {"b1:9092": AWAY})
    assert up(by_replica) == {2: True, 3: True}


def test_all_brokers_are_gone() -> None:
    brokers = seen("b1:9092")
    assert brokers.doubtful(None) == ["b1:9092", "b2:9092", "b3:9092"]
    brokers.judge(105.0, None, dict.fromkeys(THREE.values(), AWAY))
    assert not any(up(brokers).values())
    assert not brokers.any_up
    assert brokers.ever_up


def test_all_brokers_hang() -> None:
    brokers = seen()
    for now in (105.0, 110.0):
        brokers.judge(now, None, dict.fromkeys(THREE.values(), HANGS))
    assert not any(up(brokers).values())
    assert all(broker.hangs for broker in brokers.known)
    assert not brokers.any_up


def test_the_one_broker_that_was_asked_hangs() -> None:
    brokers = seen()
    brokers.judge(105.0, None, {"b1:9092": HANGS, "b2:9092": ANSWERS, "b3:9092": ANSWERS})
    assert all(up(brokers).values())
    assert brokers.any_up
    assert brokers.taken_at == 100.0
    brokers.judge(110.0, TWO, {"b1:9092": HANGS})
    assert up(brokers) == {1: False, 2: True, 3: True}


def test_no_broker_was_there_since_the_start() -> None:
    brokers = Brokers(["b1:9092", "b2:9092"])
    brokers.judge(100.0, None, {"b1:9092": AWAY, "b2:9092": HANGS})
    assert [(broker.address, broker.is_up, broker.hangs) for broker in brokers.known] == [
        ("b1:9092", False, False),
        ("b2:9092", False, True),
    ]
    assert not brokers.ever_up


def _statistics(count: int) -> str:
    each = {"nodeid": 1, "state": "UP", "rtt": {"p99": 2500, "cnt": count}}
    return json.dumps({"brokers": {"b1:9092/1": each}, "topics": {"t": {}}}, separators=(",", ":"))


def test_a_round_trip_is_of_the_last_minute() -> None:
    brokers = seen()
    brokers.take(_statistics(4))
    brokers.judge(101.0, THREE, {})
    assert [broker.round_trip_p99 for broker in brokers.known] == [0.0025, None, None]
    for text in ("", "{}", '{"brokers":[]}', '{"brokers":{"a":{"rtt":{"cnt":1}}}}', '{"brokers":{"a":'):
        brokers.take(text)
    brokers.judge(102.0, THREE, {})
    assert brokers.known[0].round_trip_p99 == 0.0025
    brokers.take(_statistics(0))
    brokers.judge(103.0, THREE, {})
    assert brokers.known[0].round_trip_p99 is None


def test_two_brokers_that_were_dead_at_the_start_are_counted_once() -> None:
    """Their numbers come from replicas, their addresses from the settings; nobody tells which is which."""
    brokers = Brokers(THREE.values())
    for now in (5.0, 10.0, 15.0):
        dead = {"b2:9092": AWAY, "b3:9092": AWAY}
        brokers.judge(now, {1: "b1:9092"}, dead, {"t": {1, 2, 3}})
    assert [(broker.address, broker.is_up) for broker in brokers.known] == [
        ("b1:9092", True),
        ("b2:9092", False),
        ("b3:9092", False),
    ]


def test_addresses_that_no_broker_has_are_not_suspected_for_ever() -> None:
    brokers = seen()
    for number in range(100):
        brokers.suspect(f"10.0.0.{number}:9092")
    brokers.suspect("b1:9092")
    brokers.judge(105.0, THREE, {})
    assert brokers.doubtful(THREE) == ["b1:9092"]
    assert len(brokers._suspects) == 1


def part(leader: int, in_sync: set[int], replicas: tuple[int, ...] = (1, 2, 3)) -> Partition:
    return Partition(leader, frozenset(replicas), frozenset(in_sync))


def test_after_all_died_a_partition_waits_for_the_broker_that_was_in_sync_last() -> None:
    brokers = seen()
    brokers.judge(105.0, {1: "b1:9092", 2: "b2:9092"}, {"b3:9092": AWAY})
    parts = [part(1, {1, 2}), part(-1, {3}), part(-1, {3})]
    brokers.judge(110.0, TWO_LEFT, {"b3:9092": AWAY}, partitions={"iot": parts, "else": [part(1, {1, 2})]})
    assert brokers.stopped == (Stopped("iot", 2, 3, has_leader=False, awaits=(3,)),)
    brokers.judge(115.0, THREE, {}, partitions={"iot": [part(1, {1, 2}), part(3, {3}), part(3, {3})]})
    assert brokers.stopped == ()


def test_two_of_three_died_at_once_and_the_third_still_names_them_as_leaders() -> None:
    brokers = seen()
    parts = [part(1, {1, 2, 3}), part(2, {1, 2, 3}), part(3, {1, 2, 3})]
    gone = {"b2:9092": AWAY, "b3:9092": AWAY}
    for now in (105.0, 110.0, 115.0):
        brokers.suspect("b2:9092")
        brokers.suspect("b3:9092")
        brokers.judge(now, THREE, gone, partitions={"iot": parts})
        assert brokers.stopped == ()  # Kafka may be about to elect others
    brokers.judge(125.0, THREE, gone, partitions={"iot": parts})
    assert brokers.stopped == (Stopped("iot", 2, 3, has_leader=False, awaits=(2, 3)),)


def test_what_was_told_before_a_broker_died_names_no_partition_without_leader() -> None:
    brokers = seen()
    brokers.judge(104.0, THREE, {}, partitions={"iot": [part(1, {1, 2, 3})]})
    for now in (105.0, 130.0, 200.0):
        brokers.judge(now, TWO, {"b1:9092": AWAY})
    assert brokers.stopped == ()


def test_a_leader_is_up_and_alone_in_sync() -> None:
    brokers = seen()
    brokers.judge(105.0, {1: "b1:9092"}, {"b2:9092": AWAY, "b3:9092": AWAY})
    brokers.judge(110.0, {1: "b1:9092"}, {}, partitions={"iot": [part(1, {1})], "one": [part(1, {1}, (1,))]})
    assert brokers.stopped == (Stopped("iot", 1, 1, has_leader=True, awaits=(2, 3)),)


def test_without_a_majority_of_controllers_the_dead_stay_in_sync_for_ever() -> None:
    brokers = seen()
    gone = {"b2:9092": AWAY, "b3:9092": AWAY}
    brokers.judge(105.0, {1: "b1:9092"}, gone)
    for now, stopped in ((120.0, 0), (150.0, 1)):
        brokers.judge(now, {1: "b1:9092"}, gone, partitions={"iot": [part(1, {1, 2, 3})]})
        assert len(brokers.stopped) == stopped


def test_while_no_broker_answers_no_topic_is_named() -> None:
    brokers = seen()
    brokers.judge(105.0, THREE, {}, partitions={"iot": [part(-1, {3})]})
    assert brokers.stopped
    brokers.judge(110.0, None, dict.fromkeys(THREE.values(), AWAY))
    assert brokers.stopped == ()


def test_a_topic_that_is_gone_does_not_wait() -> None:
    brokers = seen()
    brokers.judge(105.0, THREE, {}, partitions={"iot": [part(-1, {3})]})
    brokers.keep_topics([])
    brokers.judge(110.0, THREE, {})
    assert brokers.stopped == ()
