"""Real Apache Kafka: three combined brokers and controllers, or one for quick tests."""

import contextlib
import os
import struct
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from tests.harness import jvm, kit
from tests.harness.conditions import measuring, wait_until
from tests.harness.host import Host, Network
from tests.harness.process import Process

CLIENTS, CONTROLLER = 9092, 9093
SASL_SSL, SSL = 9094, 9095

_DATA = Path(__file__).parent / "kafka"
_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
# A topic of the harness with one partition led by each broker, to check that writes work.
_READY = "harness.ready"
# Seconds. A broker starts within 10 s; a busy machine took 95 s for one with the topics of 300 tests.
_START = 300.0
# Seconds for the format and the start of all brokers, on two cores with nothing else to do, rounded up.
_USUAL = 15.0
_QUIET: dict[str, Any] = {
    "log_level": 0,
    "error_cb": lambda _: None,  # this harness makes brokers unreachable on purpose
    "reconnect.backoff.max.ms": 200,
    "socket.connection.setup.timeout.ms": 2000,
    "topic.metadata.refresh.interval.ms": 1000,
}


@dataclass(frozen=True)
class Secured:
    """What brokers need for TLS. `certificates` is the output of deploy/make-certificates, with the brokers'
    directories named kafka1, kafka2 ...; `user` may log in with `password`.
    """

    certificates: Path
    user: str
    password: str


class KafkaNode(Process):
    """One broker. `start` waits until the broker is in sync with the others."""

    def __init__(self, number: int, host: Host, **process: Any) -> None:
        super().__init__(host.name, host=host, **process)
        self.number = number

    def spawn(self) -> None:
        self.host.require_free(CLIENTS, CONTROLLER)
        super().spawn()


class KafkaCluster:
    """A cluster of `nodes` (1 or 3) brokers that creates no topic by itself; min.insync.replicas is 2 of 3.

    If `secured`, every broker listens with TLS too: with SASL_SSL for users, with SSL for clients with a
    certificate. `properties` are more lines for every broker's server.properties; ${address} is its address.
    `heap` is a broker's memory in Java's words; 256 MB hold some thousand partitions.

    A context manager: inside it every broker acknowledges acks=all.
    """

    def __init__(
        self,
        network: Network,
        directory: Path,
        *,
        nodes: int = 3,
        secured: Secured | None = None,
        properties: str = "",
        heap: str = "256m",
    ) -> None:
        self._directory = directory
        self._heap = heap
        self._secured = secured
        self._hosts = network.kafka[:nodes]
        self._properties = properties
        self._nodes = [self._broker(number, host) for number, host in enumerate(self._hosts, 1)]
        self._admin: AdminClient | None = None

    @property
    def bootstrap(self) -> str:
        """The value of bootstrap.servers."""
        return self.bootstrap_at(CLIENTS)

    def bootstrap_at(self, port: int) -> str:
        """The value of bootstrap.servers for this port, SASL_SSL's or SSL's."""
        return ",".join(f"{host.address}:{port}" for host in self._hosts)

    @property
    def nodes(self) -> tuple[KafkaNode, ...]:
        return tuple(self._nodes)

    def node(self, number: int) -> KafkaNode:
        """The broker with this number, 1 to 3."""
        return self._nodes[number - 1]

    # -- start and stop ------------------------------------------------------------------------

    def start(self) -> None:
        """Format new data directories, start all brokers at once. Raises NotInTime with the log's end."""
        for host in self._hosts:
            host.require_free(CLIENTS, CONTROLLER)
        with measuring(_USUAL):
            self._format_and_start()

    def _format_and_start(self) -> None:
        formats = [self._format(node) for node in self._nodes if not self._settings(node.number).exists()]
        for process in formats:
            process.spawn()
        for process in formats:
            process.wait_end()
        self.resurrect()

    def stop(self) -> None:
        """Kill all brokers at once: nobody needs their data any more."""
        for node in self._nodes:
            node.kill9()

    def resurrect(self) -> None:
        """Start all dead brokers at once: the controllers do not answer without a majority."""
        for node in self._nodes:
            if not node.alive:
                node.spawn()
        for node in self._nodes:
            node.wait_ready()
        for works in (self._has_ready_topic, self._acknowledges):
            wait_until(works, _START, lambda: f"Kafka acknowledges acks=all{self.node(1).log_tail()}")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- failures of all brokers at once -----------------------------------------------------

    @contextlib.contextmanager
    def all_hung(self) -> Iterator[None]:
        """Hang all brokers: connections are accepted and stay open, but no broker answers."""
        for node in self._nodes:
            node.hang()
        try:
            yield
        finally:
            for node in self._nodes:
                node.resume()
            self.resurrect()

    @contextlib.contextmanager
    def all_dead(self) -> Iterator[None]:
        """Kill all brokers: connections are refused. The restart takes longer than after `all_hung`."""
        for node in self._nodes:
            node.kill9()
        try:
            yield
        finally:
            self.resurrect()

    # -- topics ----------------------------------------------------------------------------------

    @property
    def admin(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.bootstrap, **_QUIET})
        return self._admin

    def create_topic(
        self, name: str, partitions: int = 3, config: Mapping[str, str | int] | None = None
    ) -> None:
        """Create the topic and wait until every partition has a leader. Raises KafkaException."""
        topic = NewTopic(
            name,
            num_partitions=partitions,
            replication_factor=len(self._hosts),
            config={key: str(value) for key, value in (config or {}).items()},
        )
        self._create(topic)
        wait_until(lambda: self._leaders(name) == partitions, 30.0, f"topic {name} has its leaders")

    def delete_topic(self, name: str) -> None:
        """Delete the topic and wait until Kafka does not list it any more. Raises KafkaException."""
        self.admin.delete_topics([name], operation_timeout=10.0)[name].result(timeout=15.0)
        wait_until(lambda: self._leaders(name) == 0, 15.0, f"topic {name} is gone")

    def alter_topic_config(self, name: str, config: Mapping[str, str | int]) -> None:
        """Set these settings of the topic, leaving its others. Raises KafkaException."""
        entries = [
            ConfigEntry(key, str(value), incremental_operation=AlterConfigOpType.SET)
            for key, value in config.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=entries)
        for future in self.admin.incremental_alter_configs([resource]).values():
            future.result(timeout=15.0)

    def leader(self, topic: str, partition: int = 0) -> KafkaNode:
        """The broker that leads this partition now."""
        return self.node(
            self.admin.list_topics(topic, timeout=10.0).topics[topic].partitions[partition].leader
        )

    def coordinator(self, topic: str, name: str) -> KafkaNode:
        """The broker that coordinates this transactional id or group: a leader of a topic of Kafka's own.

        `topic` is __transaction_state or __consumer_offsets.
        """
        hashed = 0
        for character in name:  # Java's String.hashCode
            hashed = (31 * hashed + ord(character)) & 0xFFFFFFFF
        partitions = len(self.admin.list_topics(topic, timeout=10.0).topics[topic].partitions)
        return self.leader(topic, (hashed & 0x7FFFFFFF) % partitions)

    def epochs(self, topic: str) -> set[tuple[int, int]]:
        """Producer id and epoch of each batch in partition 0, read from its leader's disk."""
        node = self.leader(topic)
        (log,) = (self._settings(node.number).parent / "data" / f"{topic}-0").glob("*.log")
        batches, found = log.read_bytes(), set()
        while batches:
            _, length = struct.unpack_from(">qi", batches)  # base offset, bytes that follow these two fields
            found.add(struct.unpack_from(">qh", batches, 43))  # KIP-98's RecordBatch
            batches = batches[12 + length :]
        return found

    def leaderless(self) -> int:
        """How many partitions have no leader. 0 while no broker answers."""
        with _not_yet():
            topics = self.admin.list_topics(timeout=3.0).topics.values()
            return sum(each.leader < 0 for topic in topics for each in topic.partitions.values())
        return 0

    def tool(self, name: str, *arguments: str) -> str:
        """Run one of Kafka's own command-line tools as a super user, by the name of its class in
        org.apache.kafka.tools. Returns what it says on both streams. Raises CalledProcessError.
        """
        command = self._java(
            f"org.apache.kafka.tools.{name}", "--bootstrap-server", self.bootstrap, *arguments
        )
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=True
        )
        return done.stdout

    # -- inside ----------------------------------------------------------------------------------

    def _settings(self, number: int) -> Path:
        return self._directory / f"kafka{number}" / "server.properties"

    def _broker(self, number: int, host: Host) -> KafkaNode:
        return KafkaNode(
            number,
            host,
            command=self._java("kafka.Kafka", self._settings(number)),
            log=self._directory / f"{host.name}.log",
            ready=lambda: self._in_sync(number),
            deadline=_START,
        )

    def _format(self, node: KafkaNode) -> Process:
        settings = self._settings(node.number)
        settings.parent.mkdir(parents=True, exist_ok=True)
        voters = (f"{number}@{host.address}:{CONTROLLER}" for number, host in enumerate(self._hosts, 1))
        text = Template((_DATA / "server.properties").read_text() + self._properties).substitute(
            node_id=node.number,
            address=node.host.address,
            voters=",".join(voters),
            directory=settings.parent / "data",
            replicas=len(self._hosts),
            in_sync=min(2, len(self._hosts)),
        )
        users: list[str] = []
        if self._secured:
            own = self._secured.certificates / f"kafka{node.number}"
            text += Template((_DATA / "tls.properties").read_text()).substitute(  # the last value wins
                address=node.host.address, certificate=own / f"{own.name}.pem", authority=own / "ca.crt"
            )
            user, password = self._secured.user, self._secured.password
            users = ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
        settings.write_text(text)
        return Process(
            f"format of {node.name}",
            self._java("kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", settings, *users),
            log=node.log,
        )

    def _java(self, main: str, *arguments: str | Path) -> list[str | os.PathLike[str]]:
        scratch = f"-Djava.io.tmpdir={self._directory}"  # Java unpacks libraries here; kill -9 leaves them
        logging = f"-Dlog4j2.configurationFile={_DATA / 'log4j2.xml'}"
        memory = ("-Xms128m", f"-Xmx{self._heap}")  # the last -Xmx counts
        return jvm.command(kit.kafka_jars(), *memory, scratch, logging, main, *arguments)

    def _create(self, topic: NewTopic) -> None:
        self.admin.create_topics([topic], operation_timeout=15.0)[topic.topic].result(timeout=20.0)

    def _leaders(self, topic: str) -> int:
        """How many partitions have a leader. Right after creation the metadata may list no partition."""
        found = self.admin.list_topics(topic, timeout=10.0).topics.get(topic)
        if found is None or found.error is not None:
            return 0
        return sum(1 for partition in found.partitions.values() if partition.leader > 0)

    def _in_sync(self, number: int) -> bool:
        """Whether this broker is a member, with its replicas of the harness's own topic in sync."""
        if not self._hosts[number - 1].listens(CLIENTS):
            return False
        with _not_yet():
            metadata = self.admin.list_topics(timeout=3.0)
            ready = metadata.topics.get(_READY)
            return number in metadata.brokers and (
                ready is None or all(number in partition.isrs for partition in ready.partitions.values())
            )
        return False

    def _has_ready_topic(self) -> bool:
        """Whether the harness's own topic exists; create it if not."""
        count = len(self._hosts)
        # Partition 0 prefers broker 1 as its leader, partition 1 broker 2, ...
        assignment = [[(first + place) % count + 1 for place in range(count)] for first in range(count)]
        try:
            self._create(NewTopic(_READY, num_partitions=count, replica_assignment=assignment))
        except KafkaException as error:  # brokers that have just started may give other errors: ask again
            return bool(error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS)
        return True

    def _acknowledges(self) -> bool:
        """Whether all replicas acknowledge a record to each partition of the harness's own topic."""
        acknowledged: list[int] = []

        def delivered(error: KafkaError | None, message: Any) -> None:
            if error is None:
                acknowledged.append(message.partition())

        producer = Producer(
            {"bootstrap.servers": self.bootstrap, "acks": "all", "message.timeout.ms": 5000, **_QUIET}
        )
        with _not_yet():
            for partition in range(len(self._hosts)):
                producer.produce(_READY, b"", partition=partition, on_delivery=delivered)
            producer.flush(6.0)
        return len(acknowledged) == len(self._hosts)


@contextlib.contextmanager
def _not_yet() -> Iterator[None]:
    """Ignore Kafka's errors: while Kafka starts, they only mean that the caller should ask again."""
    with contextlib.suppress(KafkaException):
        yield


__all__ = ["CLIENTS", "CONTROLLER", "SASL_SSL", "SSL", "KafkaCluster", "KafkaNode", "Secured"]
