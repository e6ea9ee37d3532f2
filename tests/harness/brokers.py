"""EMQ's two nodes, and the brokers that simulate them where EMQ cannot be installed."""

import abc
import contextlib
import getpass
import re
import shlex
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Literal, Self

from tests.harness.conditions import wait_until
from tests.harness.host import Network
from tests.harness.packets import Connect
from tests.harness.process import Node, Process

MQTT, MQTTS, DASHBOARD = 1883, 8883, 18083

# How many seconds to wait for brokers that somebody else starts: a real EMQX starts slowly.
EXTERNAL_DEADLINE = 60.0

_CONNACK = bytes.fromhex("2002 0000")
_DISCONNECT = bytes.fromhex("e000")

Family = Literal["mosquitto", "rabbitmq", "ejabberd", "hivemq", "external"]
Credentials = tuple[str, str]  # username and password


def answers_connect(address: str, port: int = MQTT, credentials: Credentials | None = None) -> bool:
    """Whether the broker there accepts a client. A listening port alone does not prove that."""
    # MQTT 3.1.1, clean session, an empty client id: every broker may accept it (3.1.3-6).
    username, password = credentials or (None, None)
    connect = Connect("", 4, keepalive=10, username=username, password=password)
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1.0) as client:
        client.sendall(connect.encode())
        if client.recv(4, socket.MSG_WAITALL) == _CONNACK:
            client.sendall(_DISCONNECT)
            return True
    return False


class Brokers(abc.ABC):
    """Two MQTT nodes that share their sessions (External brokers may not).

    A context manager: inside it both nodes serve. `node(1)` and `node(2)` return a Node.
    """

    family: Family
    supports_mqtt5: bool
    max_qos: int
    sessions_survive_node: bool
    """Whether a session survives the death of the node that its client was connected to."""
    credentials: Credentials | None = None
    """The username and password that every client must send; None: none is needed."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start both nodes, and return when both accept clients."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End the processes that start() started."""

    @abc.abstractmethod
    def node(self, number: int) -> Node:
        """The node with this number, 1 or 2."""

    @property
    @abc.abstractmethod
    def addresses(self) -> tuple[str, str]:
        """HOST:PORT of both nodes, for MQTT clients."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


_MOSQUITTO = Template("""\
listener 1883 ${address}
allow_anonymous true
user ${user}
# Nagle's algorithm would double the latency: 12.9 instead of 6.9 ms.
set_tcp_nodelay true
max_inflight_messages ${inflight}
max_queued_messages ${queued}
log_type error
log_type warning
log_type notice
connection_messages true
""")

# Mutual TLS: mosquitto refuses a client without a certificate of this authority.
_MOSQUITTO_TLS = Template("""\
listener 8883 ${address}
certfile ${certificate}
keyfile ${key}
cafile ${authority}
require_certificate true
use_identity_as_username true
""")

_DOOR = Template("""\
global
    nbthread 1
defaults
    mode tcp
    timeout connect 3s
    # Long timeouts: only the balancer in front of this proxy may cut a connection.
    timeout client 24h
    timeout server 24h
listen mqtt
    bind ${address}:1883
    server broker ${broker}:1883
listen mqtts
    bind ${address}:8883
    server broker ${broker}:8883
frontend dashboard
    mode http
    bind ${address}:18083
    http-request return status 200 content-type text/plain string "${name}\\n"
""")


class Doors(Brokers):
    """One broker behind two TCP proxies ("doors"), one on each founding address, and its dashboard.

    Killing a door simulates the death of a node: the node's connections break, and its port is closed.
    Stopping a door simulates a node that hangs. The sessions are in the broker behind the doors and survive
    both, like EMQ's durable sessions. The `broker` itself listens at `network.behind_the_doors`.
    """

    sessions_survive_node = True

    def __init__(self, network: Network, directory: Path, broker: Process) -> None:
        self._hosts = network.emq
        self._inner = network.behind_the_doors
        self.broker = broker
        directory.mkdir(parents=True, exist_ok=True)
        self._doors = [self._door(number, directory) for number in (1, 2)]

    def _door(self, number: int, directory: Path) -> Process:
        host = self._hosts[number - 1]
        settings = directory / f"{host.name}.cfg"
        settings.write_text(
            _DOOR.substitute(address=host.address, broker=self._inner.address, name=host.name)
        )
        return Process(
            host.name,
            ["haproxy", "-db", "-f", settings],
            log=directory / f"{host.name}.log",
            host=host,
            ready=lambda: answers_connect(host.address),
        )

    def start(self) -> None:
        self._inner.require_free(MQTT)
        for host in self._hosts:
            host.require_free(MQTT, MQTTS, DASHBOARD)
        try:
            self.broker.start()
            for door in self._doors:
                door.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for process in (*self._doors, self.broker):
            process.kill9()

    def node(self, number: int) -> Process:
        return self._doors[number - 1]

    @property
    def addresses(self) -> tuple[str, str]:
        one, two = self._hosts
        return f"{one.address}:{MQTT}", f"{two.address}:{MQTT}"


class TwoDoors(Doors):
    """mosquitto behind the doors: MQTT 5, QoS 2, ready within a second.

    `inflight` and `queued` are EMQ's default limits for a session; mosquitto, like EMQ, drops messages beyond
    `queued`. With `certificates`, a directory that deploy/make-certificates made for one host, both doors
    also accept mutual TLS on port 8883.
    """

    family: Family = "mosquitto"
    supports_mqtt5 = True
    max_qos = 2

    def __init__(
        self,
        network: Network,
        directory: Path,
        *,
        inflight: int = 32,
        queued: int = 1000,
        certificates: Path | None = None,
    ) -> None:
        address = network.behind_the_doors.address
        directory.mkdir(parents=True, exist_ok=True)
        settings = directory / "mosquitto.conf"
        text = _MOSQUITTO.substitute(
            address=address, user=getpass.getuser(), inflight=inflight, queued=queued
        )
        if certificates:
            text += _MOSQUITTO_TLS.substitute(
                address=address,
                certificate=certificates / f"{certificates.name}.crt",
                key=certificates / f"{certificates.name}.key",
                authority=certificates / "ca.crt",
            )
        settings.write_text(text)
        self.mosquitto = Process(
            "mosquitto",
            ["mosquitto", "-c", settings],
            log=directory / "mosquitto.log",
            host=network.behind_the_doors,
            ready=lambda: answers_connect(address),
        )
        super().__init__(network, directory, self.mosquitto)

    @property
    def has_dropped(self) -> bool:
        """Whether a session's queue was full, so that mosquitto dropped messages, as EMQ would."""
        return "messages are being dropped" in self.mosquitto.log.read_text(errors="replace")

    def has_dropped_for(self, client_id: str) -> bool:
        """Whether mosquitto dropped messages for this client."""
        log = self.mosquitto.log.read_text(errors="replace")
        return (
            re.search(rf"messages are being dropped for client {re.escape(client_id)}\.?$", log, re.M)
            is not None
        )


class External(Brokers):
    """Brokers that this harness did not start, such as a real EMQX.

    `addresses` are two HOST:PORT. `control` is a command that is run as
    `CONTROL kill9|start|sigstop|sigcont 1|2`. Without it, start, kill9, hang and resume raise RuntimeError.
    """

    family: Family = "external"
    supports_mqtt5 = True
    max_qos = 2
    sessions_survive_node = False  # unknown, so tests must not rely on it

    def __init__(self, addresses: Sequence[str], control: str | None) -> None:
        if len(addresses) != 2 or not all(":" in address for address in addresses):
            raise ValueError(f"two brokers are needed as HOST:PORT,HOST:PORT, not {','.join(addresses)!r}")
        self._addresses = (addresses[0], addresses[1])
        self._nodes = [ExternalNode(number, address, control) for number, address in enumerate(addresses, 1)]

    def start(self) -> None:
        for node in self._nodes:
            node.wait_ready()

    def stop(self) -> None:
        """Do nothing: this harness did not start the brokers."""

    def node(self, number: int) -> "ExternalNode":
        return self._nodes[number - 1]

    @property
    def addresses(self) -> tuple[str, str]:
        return self._addresses


class ExternalNode(Node):
    """One broker of External. Raises RuntimeError if no control command was given, or if it fails."""

    def __init__(self, number: int, address: str, control: str | None) -> None:
        self.name = f"emq{number}"
        self._number = number
        self._address = address
        self._control = control

    def wait_ready(self) -> None:
        host, port = self._address.rsplit(":", 1)
        wait_until(
            lambda: answers_connect(host, int(port)), EXTERNAL_DEADLINE, f"{self._address} answers CONNECT"
        )

    def start(self) -> None:
        self._run("start")
        self.wait_ready()

    def kill9(self) -> None:
        self._run("kill9")

    def hang(self) -> None:
        self._run("sigstop")

    def resume(self) -> None:
        self._run("sigcont")

    def _run(self, verb: str) -> None:
        if self._control is None:
            raise RuntimeError(f"cannot {verb} {self.name}: no command to control it was given (--emq-ctl)")
        command = [*shlex.split(self._control), verb, str(self._number)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
