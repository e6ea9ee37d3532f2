"""deploy/lab publish and consume, with simulated Kafka and EMQ."""

import itertools
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException

from bridge.kafka import topic_reader
from tests.harness.conditions import NotInTime
from tests.harness.host import Host
from tests.harness.lab import door, visitor
from tests.harness.lab.run import Lab
from tests.harness.lab.verbs import LabError
from tests.harness.packets import Ack, Connack, Connect, Frames, Kind


class Record:
    def __init__(self, topic: str, value: str) -> None:
        self._topic, self._value = topic, value

    def error(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 0, -1

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7

    def key(self) -> bytes:
        return b"gate"

    def headers(self) -> list[tuple[str, bytes]]:
        return [("mqtt.topic", b"garden/gate")]

    def value(self) -> bytes:
        return self._value.encode()


class FakeConsumer:
    """Knows two topics, returns one record, then nothing."""

    answers = True
    leader = 1

    def __init__(self) -> None:
        self.assigned: list[Any] = []
        self._records = [Record("garden", "open")]

    def list_topics(self, timeout: float) -> Any:
        if not self.answers:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        one = SimpleNamespace(partitions={0: SimpleNamespace(leader=self.leader)})
        return SimpleNamespace(topics={"garden": one, "iot.others": one, "harness.ready": one, "__x": one})

    def get_watermark_offsets(self, partition: Any, timeout: float) -> tuple[int, int]:
        return 3, 7

    def assign(self, partitions: list[Any]) -> None:
        self.assigned += partitions

    def poll(self, timeout: float) -> Record | None:
        return self._records.pop() if self._records else None

    def close(self) -> None:
        pass


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> FakeConsumer:
    consumer = FakeConsumer()
    monkeypatch.setattr(topic_reader, "Consumer", lambda options: consumer)
    return consumer


@pytest.fixture
def an_open_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(door, "_SOCKET", tmp_path / "door")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "door"))
        listener.listen()
        yield
    (tmp_path / "door").unlink(missing_ok=True)


@pytest.mark.usefixtures("an_open_lab")
@pytest.mark.parametrize(("from_beginning", "offset"), [(False, 7), (True, OFFSET_BEGINNING)])
def test_consume_reads_what_is_new_or_everything(
    from_beginning: bool, offset: int, consumer: FakeConsumer
) -> None:
    (line,) = itertools.islice(visitor.consume(["garden"], from_beginning=from_beginning), 1)
    assert line == "garden/0@7 | gate | mqtt.topic=garden/gate | open"
    assert [(each.topic, each.offset) for each in consumer.assigned] == [("garden", offset)]


@pytest.mark.usefixtures("an_open_lab", "consumer")
def test_consume_of_an_unknown_topic_names_those_that_exist() -> None:
    with pytest.raises(LabError, match=r"^Kafka has no topic gardens; it has garden, iot.others$"):
        next(visitor.consume(["garden", "gardens"]))


@pytest.mark.usefixtures("an_open_lab")
@pytest.mark.parametrize(
    ("open_ports", "why"),
    [
        ((), r"kafka1, kafka2, kafka3 accept no connection \(deploy/lab start kafka\)"),
        (("kafka2",), r"kafka1, kafka3 accept no connection \(deploy/lab start kafka\)"),
        (
            ("kafka1", "kafka2", "kafka3"),
            "its brokers accept connections, but answer nothing within 5 s. .*deploy/lab resume kafka.*",
        ),
    ],
)
def test_consume_while_kafka_does_not_answer_says_which_brokers_are_at_fault(
    open_ports: tuple[str, ...], why: str, consumer: FakeConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer.answers = False
    monkeypatch.setattr(Host, "listens", lambda host, port: host.name in open_ports)
    with pytest.raises(LabError, match=f"^Kafka does not answer: {why}$"):
        next(visitor.consume(["garden"]))


@pytest.mark.usefixtures("an_open_lab")
def test_consume_of_a_topic_without_leaders_is_an_error_instead_of_silence(consumer: FakeConsumer) -> None:
    consumer.leader = -1
    with pytest.raises(LabError, match=r"^garden/0 cannot be read: no leader\. .*deploy/lab start kafka"):
        next(visitor.consume(["garden"]))


@pytest.mark.usefixtures("consumer")
def test_consume_without_a_lab_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_SOCKET", tmp_path / "door")
    with pytest.raises(LabError, match=r"^no lab is up: deploy/lab up, in another terminal$"):
        next(visitor.consume())


@pytest.mark.usefixtures("an_open_lab", "consumer")
def test_consume_ends_with_the_lab(tmp_path: Path) -> None:
    lines = visitor.consume(["garden"])
    next(lines)
    (tmp_path / "door").unlink()
    with pytest.raises(LabError, match="no lab is up"):
        next(lines)


# -- publish ---------------------------------------------------------------------------------------


class FakeReader:
    def __enter__(self) -> "FakeReader":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def find(self, topic: str, text: str) -> str:
        return f"iot.others/0@7 | gate | mqtt.topic={topic} | {text}"


class SlowReader(FakeReader):
    def find(self, topic: str, text: str) -> str:
        raise NotInTime("not within 30 s")


def silent() -> FakeReader:
    raise visitor.KafkaSilent("timed out")


def published(
    monkeypatch: pytest.MonkeyPatch, reader: object, *, kafka: bool = True, bridge: str = "up"
) -> str:
    """The answer to `publish garden/gate open`, while the number of messages on disk grows."""
    numbers = itertools.count(100)
    chain = SimpleNamespace(condition=lambda name: bridge, on_disk=lambda: next(numbers))
    lab: Any = Lab(chain, SimpleNamespace(kafka_answers=kafka), None, 0.0)  # type: ignore[arg-type]
    monkeypatch.setattr(visitor, "Reader", reader)
    monkeypatch.setattr(visitor, "publish", lambda topic, text: "EMQ had it after 3 ms")
    return str(lab.publish("garden/gate", "open"))


@pytest.fixture
def emq(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What listens at HAProxy's port for devices."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = SimpleNamespace(haproxy=SimpleNamespace(address="127.0.0.1"))
        monkeypatch.setattr(visitor, "_NETWORK", place)
        monkeypatch.setattr(visitor, "DEVICES", listener.getsockname()[1])
        yield listener


def answering(emq: socket.socket, *packets: bytes) -> list[bytes]:
    """Accept a client, answer it with these packets, and close. Returns what the client sent."""
    received: list[bytes] = []

    def serve() -> None:
        with emq.accept()[0] as client:
            received.append(client.recv(4096))
            for packet in packets:
                client.sendall(packet)
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):  # so that the kernel sends no RST
                pass

    threading.Thread(target=serve, daemon=True).start()
    return received


CONNACK, PUBACK = Connack().encode(4), Ack(Kind.PUBACK, 1).encode(4)


def test_publish_says_when_emq_had_the_message(emq: socket.socket) -> None:
    answering(emq, CONNACK, PUBACK)
    assert visitor.publish("garden/gate", "open").startswith("EMQ had it after ")


@pytest.mark.parametrize(
    ("packets", "why"),
    [
        ((), "HAProxy closed the connection before CONNACK, as it does while no EMQ node is up"),
        ((Connack(reason=5).encode(4),), "the broker refused the client: CONNACK with return code 5"),
        ((CONNACK,), "the connection ended before PUBACK: the EMQ node died, or the broker refused the mess"),
    ],
)
def test_publish_that_fails_names_no_host_that_is_not_at_fault(
    packets: tuple[bytes, ...], why: str, emq: socket.socket
) -> None:
    answering(emq, *packets)
    with pytest.raises(LabError, match=f"^open was not sent: {why}"):
        visitor.publish("garden/gate", "open")


@pytest.mark.parametrize(("packets", "who"), [((), "HAProxy or an EMQ node"), ((CONNACK,), "an EMQ node")])
def test_publish_to_a_host_that_hangs_says_so(
    packets: tuple[bytes, ...], who: str, emq: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visitor, "_PUBACK", 0.2)
    hung = []

    def serve() -> None:
        hung.append(emq.accept()[0])
        for packet in packets:
            hung[0].sendall(packet)

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    with pytest.raises(LabError, match=rf"^open: no PUBACK within 0 s; {who} hangs \(deploy/lab status\)$"):
        visitor.publish("garden/gate", "open")
    serving.join()
    hung[0].close()


def test_two_visitors_have_two_client_ids(emq: socket.socket) -> None:
    ids = set()
    for _ in range(2):
        received = answering(emq, CONNACK, PUBACK)
        visitor.publish("garden/gate", "open")
        ids |= {each.client_id for each in Frames().feed(received[0]) if isinstance(each, Connect)}
    assert len(ids) == 2


def test_publish_shows_its_own_message_come_out(monkeypatch: pytest.MonkeyPatch) -> None:
    said = published(monkeypatch, FakeReader)
    assert said.startswith("open was sent to garden/gate; EMQ had it after 3 ms, and it came out of Kafka ")
    assert said.endswith(" ms later: iot.others/0@7 | gate | mqtt.topic=garden/gate | open")


@pytest.mark.parametrize(("reader", "kafka"), [(FakeReader, False), (silent, True), (SlowReader, True)])
def test_publish_while_kafka_is_down_sends_and_says_where_the_message_waits(
    reader: object, kafka: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = published(monkeypatch, reader, kafka=kafka)
    assert said.startswith("open was sent to garden/gate; EMQ had it after 3 ms; Kafka does not take it now")
    assert "it waits on the bridge's disk until Kafka is back (102 messages wait there)" in said


def test_publish_while_the_bridge_is_down_says_that_emq_keeps_the_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = published(monkeypatch, FakeReader, kafka=False, bridge="hung")
    assert said.endswith("EMQ had it after 3 ms; bridge is hung, so the message waits in EMQ's queue")
