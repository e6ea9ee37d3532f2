"""docs/how-to/one-pi.md: mosquitto, one Kafka broker and the bridge, with the files that the page shows.

All three are on one address, which takes the place of 127.0.0.1.
"""

import getpass
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paho.mqtt import publish

from tests.artefacts import pages
from tests.harness import installer
from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import MQTT, answers_connect
from tests.harness.conditions import wait_until
from tests.harness.host import Host, Network
from tests.harness.kafka import KafkaCluster
from tests.harness.kit import ROOT
from tests.harness.process import Process
from tests.harness.records import Record, records
from tests.harness.terminal import Terminal

PAGE = ROOT / "docs" / "how-to" / "one-pi.md"
NETWORK = Network("127.30.4")
PI = Host("pi", NETWORK.kafka[0].address)


@pytest.fixture(scope="module")
def one_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    text = settings_of_a_node_alone(tmp_path_factory.mktemp("settings"))
    text = text.replace("127.0.0.1", "${address}").replace("/var/lib/kafka/data", "${directory}")
    with KafkaCluster(NETWORK, tmp_path_factory.mktemp("kafka"), nodes=1, properties=f"\n{text}") as cluster:
        yield cluster


def settings_of_a_node_alone(scratch: Path) -> str:
    """What `install.sh kafka --nodes 127.0.0.1` writes, as the page says."""
    assert "deploy/install.sh kafka --nodes 127.0.0.1\n" in PAGE.read_text()
    done = installer.run(scratch, "NODES=(127.0.0.1) NODE=1 BIND=127.0.0.1 HEAP=256; write_kafka_files")
    assert done.returncode == 0, done.stderr
    text = (scratch / "scratch" / "kafka" / "server.properties").read_text()
    assert "\nlog.flush.interval.messages=1\n" in text
    return text


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Process]:
    """mosquitto with the page's file, and the lines of Debian's own file that matter."""
    (text,) = (block for block in pages.fenced(PAGE, "text") if "listener" in block)
    store = tmp_path / "mosquitto"
    store.mkdir()
    file = tmp_path / "mosquitto.conf"
    file.write_text(
        f"persistence true\npersistence_location {store}/\nuser {getpass.getuser()}\n"
        + text.replace("listener 1883", f"listener 1883 {PI.address}")
    )
    process = Process(
        "mosquitto",
        ["mosquitto", "-c", file],
        log=tmp_path / "mosquitto.log",
        host=PI,
        ready=lambda: answers_connect(PI.address),
    )
    process.start()
    yield process
    process.kill9()


@pytest.fixture
def bridge(one_kafka: KafkaCluster, mosquitto: Process, tmp_path: Path) -> BridgeProcess:
    """The page's bridge.toml, stopped; its topic is created as the page says, and empty."""
    (text,) = pages.fenced(PAGE, "toml")
    assert "mqtt-kafka-bridge topics --create" in PAGE.read_text()
    process = BridgeProcess(tomllib.loads(text.replace("127.0.0.1", PI.address)), tmp_path)
    if "mqtt" in one_kafka.admin.list_topics(timeout=10).topics:
        one_kafka.delete_topic("mqtt")
    create = [
        sys.executable,
        "-m",
        "bridge",
        "topics",
        "--create",
        "--yes",
        "--config",
        str(process.settings),
    ]
    subprocess.run(create, cwd=ROOT, check=True, timeout=60, stdout=subprocess.DEVNULL)
    return process


@pytest.fixture
def arrive(one_kafka: KafkaCluster) -> Callable[[int], list[Record]]:
    """arrive(3): the records in the page's topic, once there are 3."""

    def wait(count: int) -> list[Record]:
        wait_until(lambda: len(records(one_kafka.bootstrap, "mqtt")) >= count, 60.0, f"{count} have arrived")
        return records(one_kafka.bootstrap, "mqtt")

    return wait


def send(numbers: range, qos: int = 1) -> None:
    batch = [{"topic": "sensors/kitchen/temp", "payload": str(number), "qos": qos} for number in numbers]
    publish.multiple(batch, hostname=PI.address, port=MQTT)


def in_order(found: list[Record]) -> list[int]:
    return [int(record.value) for record in found if record.key == b"sensors/kitchen/temp"]


def test_what_was_published_at_qos_0_waits_for_a_bridge_that_is_away(
    bridge: BridgeProcess, arrive: Callable[[int], list[Record]]
) -> None:
    with bridge:
        send(range(10), qos=0)
        arrive(10)
    send(range(10, 20), qos=0)
    with bridge:
        found = arrive(20)
    assert in_order(found) == list(range(20))
    assert {record.header("mqtt.qos") for record in found} == {b"1"}


def test_kafka_is_killed_and_started_again(
    bridge: BridgeProcess, one_kafka: KafkaCluster, arrive: Callable[[int], list[Record]]
) -> None:
    with bridge:
        send(range(50))
        arrive(50)
        with one_kafka.all_dead():
            send(range(50, 100))
            bridge.wait_for("spool.late")
        send(range(100, 150))
        assert in_order(arrive(150)) == list(range(150))


def test_mosquitto_is_stopped_and_started_while_the_bridge_is_away(
    bridge: BridgeProcess, mosquitto: Process, arrive: Callable[[int], list[Record]]
) -> None:
    with bridge:
        send(range(10))
        arrive(10)
    send(range(10, 60))
    assert mosquitto.terminate() == 0
    mosquitto.start()
    with bridge:
        assert in_order(arrive(60)) == list(range(60))
        assert bridge.entries("mqtt.session_lost") == []


def runs(terminal: Terminal, kafka: KafkaCluster, topic: str) -> None:
    """With the terminal's bridge.toml the topics are created, and a message comes to this one."""
    terminal.good(".venv/bin/bridge topics --create --yes --config bridge.toml")
    service = terminal.leave_running(".venv/bin/bridge --config bridge.toml", says='"mqtt.live"')
    command = f"mosquitto_pub -h {PI.address} -q 1 -t sensors/kitchen/d1/temp -m 21.5"
    subprocess.run(shlex.split(command), check=True, timeout=20)
    wait_until(
        lambda: [record.value for record in records(kafka.bootstrap, topic)] == [b"21.5"],
        30.0,
        "the message is in Kafka",
    )
    assert service.terminate() == 0


def test_readmes_example_runs_there_too(
    one_kafka: KafkaCluster, mosquitto: Process, terminal: Terminal
) -> None:
    """With one mosquitto and one Kafka in place of the lab's addresses."""
    (text,) = pages.fenced(pages.README, "toml")
    text = re.sub(r'host = "\S+"', f'host = "{PI.address}"', text).replace("port = 1884", f"port = {MQTT}")
    text = re.sub(r'bootstrap_servers = "\S+"', f'bootstrap_servers = "{one_kafka.bootstrap}"', text)
    (terminal.directory / "bridge.toml").write_text(text)
    runs(terminal, one_kafka, "home.temperatures")


def test_what_init_writes_runs_as_it_stands(
    one_kafka: KafkaCluster, mosquitto: Process, terminal: Terminal
) -> None:
    if "mqtt" in one_kafka.admin.list_topics(timeout=10).topics:
        one_kafka.delete_topic("mqtt")
    where = f"--mqtt.host {PI.address} --kafka.bootstrap_servers {one_kafka.bootstrap}"
    terminal.good(f".venv/bin/bridge init {where}")
    runs(terminal, one_kafka, "mqtt")
