"""librdkafka's own mock of a Kafka cluster: as many brokers as a test wants, and errors on demand.

It is asked through the library inside the wheel, since confluent_kafka does not show all of it. It knows no
ACLs, no topic's max.message.bytes, and creates every topic that is asked for.
"""

import ctypes
from pathlib import Path
from typing import Any

import confluent_kafka

QUIET = {"log_level": 0}
_OUT_OF_ORDER = 45  # Kafka protocol guide, "Error Codes"
_INIT_PRODUCER_ID = 22  # Kafka protocol guide, "Api Keys"


class Rdkafka:
    """What confluent_kafka does not show of librdkafka."""

    def __init__(self) -> None:
        wheel = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
        self._library = ctypes.CDLL(str(next(wheel.glob("librdkafka-*"))))
        self._library.rd_kafka_handle_mock_cluster.restype = ctypes.c_void_p
        self._library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p

    @staticmethod
    def _handle(client: Any) -> ctypes.c_void_p:
        # The rd_kafka_t* stands first in confluent_kafka's Handle, behind CPython's object header.
        return ctypes.c_void_p.from_address(id(client) + object.__basicsize__)

    def cluster(self, client: Any) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._library.rd_kafka_handle_mock_cluster(self._handle(client)))

    def bootstrap(self, cluster: ctypes.c_void_p) -> str:
        found: bytes = self._library.rd_kafka_mock_cluster_bootstraps(cluster)
        return found.decode()

    def make_fatal(self, client: Any) -> None:
        self._library.rd_kafka_test_fatal_error(self._handle(client), _OUT_OF_ORDER, b"a test")

    def set_round_trip(self, cluster: ctypes.c_void_p, milliseconds: int) -> None:
        assert self._library.rd_kafka_mock_broker_set_rtt(cluster, -1, milliseconds) == 0

    def create_topic(self, cluster: ctypes.c_void_p, topic: str, partitions: int) -> None:
        assert self._library.rd_kafka_mock_topic_create(cluster, topic.encode(), partitions, 1) == 0

    def refuse_topic(self, cluster: ctypes.c_void_p, topic: str, code: int) -> None:
        self._library.rd_kafka_mock_topic_set_error(cluster, topic.encode(), code)

    def refuse_producer_ids(self, cluster: ctypes.c_void_p, code: int) -> None:
        codes = (ctypes.c_int * 1000)(*[code] * 1000)  # one for each request
        self._library.rd_kafka_mock_push_request_errors_array(
            cluster, ctypes.c_short(_INIT_PRODUCER_ID), ctypes.c_size_t(len(codes)), codes
        )


class MockKafka:
    """A cluster of so many brokers on this machine's loopback addresses, until the object goes.

    `bootstrap` names all of its brokers.
    """

    def __init__(self, brokers: int = 1) -> None:
        self.rdkafka = Rdkafka()
        self._host = confluent_kafka.Producer(
            {"bootstrap.servers": "mock", "test.mock.num.brokers": brokers, **QUIET}
        )
        self._cluster = self.rdkafka.cluster(self._host)
        self.bootstrap = self.rdkafka.bootstrap(self._cluster)

    def create_topic(self, name: str, partitions: int) -> None:
        self.rdkafka.create_topic(self._cluster, name, partitions)

    def answer_late(self) -> None:
        self.rdkafka.set_round_trip(self._cluster, 200)

    def refuse_topic(self, topic: str, code: int) -> None:
        self.rdkafka.refuse_topic(self._cluster, topic, code)

    def refuse_producer_ids(self, code: int) -> None:
        self.rdkafka.refuse_producer_ids(self._cluster, code)
