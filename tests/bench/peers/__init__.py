"""The bridges that are compared: the program or configuration of each, and the command that starts it.

Each has its fastest setting that still acknowledges to EMQ only messages that are in Kafka:

plain paho   one thread: paho's loop, then librdkafka's reports. Two threads cost more, see plain_paho.py.
mq-bridge    batches of 1000, a queue above any backlog, lz4, acks=all; for the choices see mq-bridge.yaml.
Flechtwerk   batches of up to 20,000, each a Kafka transaction, lz4; see flechtwerk_bridge.py. MQTT 5 only.
Telegraf     batches of 20,000, lz4, acks=all; for the choices see telegraf.conf. MQTT 3.1.1 only.
producer     no bridge: it makes the bridge's records itself, with the bridge's producer options.
the bridge   a Receive Maximum of 5000 and batches with linger; and once more as shipped.
"""

import json
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from string import Template
from typing import Any

from tests.bench import backlog
from tests.bench.peers import flechtwerk_venv, telegraf_build
from tests.harness.bridge import BridgeProcess
from tests.harness.kit import ROOT
from tests.harness.process import Process

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Place:
    """A peer's run: the broker and topic that it drains, and the Kafka topic that it fills."""

    mqtt_host: str
    mqtt_port: int
    bootstrap: str
    site: str
    """The SITE of the topics sensors/SITE/DEVICE/temp. Each run has its own."""
    client_id: str
    mqtt5: bool
    directory: Path
    """The directory for the peer's configuration, log and state."""
    backlog: int = 0
    """How many messages wait for the peer."""

    @property
    def filter(self) -> str:
        return f"sensors/{self.site}/+/temp"

    @property
    def topic(self) -> str:
        """The Kafka topic."""
        return f"iot.{self.site}"


@dataclass(frozen=True)
class Peer:
    """A program to compare. `slug` is its name in file names and MQTT client identifiers."""

    name: str
    slug: str
    process: Callable[[Place], Process]
    only_mqtt311: bool = False
    only_mqtt5: bool = False
    has_mqtt: bool = True
    """False: the peer makes the backlog's messages itself."""
    prepare: Callable[[], object] = lambda: None
    """Installs the program if it is more than a Python package. Raises KitError if that fails."""

    def speaks(self, mqtt5: bool) -> bool:
        return not (self.only_mqtt311 if mqtt5 else self.only_mqtt5)


def bridge_settings(place: Place) -> dict[str, Any]:
    """The contents of bridge.toml for this place. Callers may change them."""
    return tomllib.loads(_fill_in("bridge.toml", place, protocol="5" if place.mqtt5 else "3.1.1"))


def bridge(place: Place, *, as_shipped: bool = False, **kafka: object) -> BridgeProcess:
    """`kafka`: further settings of [kafka]."""
    settings = bridge_settings(place)
    if as_shipped:
        del settings["mqtt"]["receive_maximum"], settings["kafka"]["options"]
    settings["kafka"] |= kafka
    return BridgeProcess(settings, place.directory, name=place.client_id)


def plain_paho(place: Place) -> Process:
    address = f"{place.mqtt_host}:{place.mqtt_port}"
    arguments = [address, place.client_id, place.filter, place.bootstrap, place.topic]
    return _python(place, "plain_paho", *arguments, "5" if place.mqtt5 else "3.1.1")


def mq_bridge(place: Place) -> Process:
    configuration = place.directory / f"{place.client_id}.yaml"
    configuration.write_text(_fill_in("mq-bridge.yaml", place, protocol="v5" if place.mqtt5 else "v3"))
    return _python(place, "mq_bridge", configuration)


def flechtwerk(place: Place) -> Process:
    address = f"{place.mqtt_host}:{place.mqtt_port}"
    program = [flechtwerk_venv.python(), _HERE / "flechtwerk_bridge.py"]
    return Process(
        place.client_id,
        [*program, address, place.client_id, place.filter, place.bootstrap, place.topic],
        log=place.directory / f"{place.client_id}.log",
    )


def telegraf(place: Place, flush_interval: str = "100ms") -> Process:
    """Telegraf. `flush_interval` is how long a partial batch waits: it decides latency and idle CPU."""
    configuration = place.directory / f"{place.client_id}.conf"
    brokers = json.dumps(place.bootstrap.split(","))  # a JSON list is also a TOML list
    configuration.write_text(_fill_in("telegraf.conf", place, flush_interval=flush_interval, brokers=brokers))
    return Process(
        place.client_id,
        [telegraf_build.program(), "--config", configuration],
        log=place.directory / f"{place.client_id}.log",
    )


def producer(
    place: Place,
    topics: Sequence[str] = (),
    *,
    size: int = backlog.SIZE,
    window: int = 5000,  # like the bridge's Receive Maximum in the bench
    linger_ms: int = 5,
) -> Process:
    """A producer of `place.backlog` messages of `size` bytes, for `topics` in turn, or for place.topic."""
    names = place.directory / f"{place.client_id}.topics"
    names.write_text("\n".join(topics or [place.topic]))
    numbers = [str(number) for number in (place.backlog, size, window, linger_ms)]
    return _python(place, "producer", place.bootstrap, names, *numbers)


def bare_producer(place: Place) -> Process:
    """No bridge: a connected producer that waits, the baseline for idle cost."""
    return _python(place, "bare_producer", place.bootstrap, place.topic)


PLAIN_PAHO = Peer("plain paho loop", "paho", plain_paho)
MQ_BRIDGE = Peer("mq-bridge 1.2.0 (Rust)", "mq-bridge", mq_bridge)
TELEGRAF = Peer(
    f"Telegraf {telegraf_build.VERSION} (Go)",
    "telegraf",
    telegraf,
    only_mqtt311=True,
    prepare=telegraf_build.program,
)
FLECHTWERK = Peer(
    f"Flechtwerk {flechtwerk_venv.VERSION} (Python)",
    "flechtwerk",
    flechtwerk,
    only_mqtt5=True,
    prepare=flechtwerk_venv.python,
)
PRODUCER = Peer("no MQTT: a Python producer alone", "producer", producer, has_mqtt=False)
BRIDGE = Peer("mqtt-kafka-bridge", "bridge", bridge)
AS_SHIPPED = Peer("mqtt-kafka-bridge, as shipped", "as-shipped", lambda place: bridge(place, as_shipped=True))
TELEGRAF_IN_USE = replace(TELEGRAF, process=partial(telegraf, flush_interval="20ms"))

FOR_BACKLOGS = (PLAIN_PAHO, MQ_BRIDGE, FLECHTWERK, TELEGRAF, PRODUCER, BRIDGE, AS_SHIPPED)
FOR_USE = (
    PLAIN_PAHO,
    MQ_BRIDGE,
    FLECHTWERK,
    TELEGRAF_IN_USE,
    AS_SHIPPED,
)  # where messages come one by one, or 32


def _fill_in(name: str, place: Place, **more: str) -> str:
    return Template((_HERE / name).read_text()).substitute(
        host=place.mqtt_host,
        port=place.mqtt_port,
        client_id=place.client_id,
        filter=place.filter,
        bootstrap=place.bootstrap,
        topic=place.topic,
        **more,
    )


def _python(place: Place, program: str, *arguments: str | Path) -> Process:
    return Process(
        place.client_id,
        [sys.executable, "-m", f"tests.bench.peers.{program}", *arguments],
        log=place.directory / f"{place.client_id}.log",
        cwd=ROOT,
    )
