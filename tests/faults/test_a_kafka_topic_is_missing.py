"""One of three Kafka topics does not exist. Its messages must not hold up the other topics."""

from tests.faults.chain import Chain


def test_it_is_created_later_and_gets_everything(chain: Chain) -> None:
    missing = chain.topics["temp"]
    chain.kafka.delete_topic(missing)
    with chain.flow(without="temp") as flow:
        flow.bridge.wait_for("kafka.topic_missing", topic=missing)
        flow.load.rate = 900.0
        flow.load.wait_sent(6_000 if chain.full_length else 3_000, deadline=120)
        flow.load.rate = 150.0
        flow.goes_on()
        chain.kafka.create_topic(missing)
        flow.verifier.follow(missing)
        flow.kinds.add("temp")
        flow.goes_on()
        flow.stays()
    chain.judge(flow)


def test_the_bridge_is_started_again_before_it_is_created(chain: Chain) -> None:
    """Messages for the missing topic are on disk, and survive a stop."""
    missing = chain.topics["temp"]
    chain.kafka.delete_topic(missing)
    with chain.flow(without="temp") as flow:
        flow.load.wait_sent(200)
        with flow.comes_back():
            assert flow.bridge.terminate(deadline=60) == 0
            flow.bridge.start()
            flow.bridge.wait_live()
        flow.goes_on()
        chain.kafka.create_topic(missing)
        flow.verifier.follow(missing)
        flow.kinds.add("temp")
        flow.goes_on()
    chain.judge(flow)
