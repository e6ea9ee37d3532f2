"""The right to write to one of three topics is taken away, and given back."""

from tests.faults.access import as_user, forbidden, grant, grant_transactions
from tests.faults.chain import CLIENT_ID, Chain
from tests.faults.test_kafka_is_gone import burst


def test_the_others_go_on_and_it_gets_everything_later(chain: Chain) -> None:
    for topic in chain.topics.values():
        grant(chain.kafka.admin, topic)
    if chain.is_exactly_once:
        grant_transactions(chain.kafka.admin, CLIENT_ID, chain.topics.values())
    with chain.flow(kafka=as_user(chain.kafka.bootstrap, chain.directory)) as flow:
        with forbidden(chain.kafka.admin, chain.topics["door"]):
            flow.kinds.remove("door")
            flow.bridge.wait_for("kafka.lane_held", topic=chain.topics["door"])
            burst(flow)
            flow.goes_on()
        flow.kinds.add("door")
        flow.goes_on()
        flow.stays()
    chain.judge(flow)
