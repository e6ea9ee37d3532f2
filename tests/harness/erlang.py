"""What two Erlang nodes on one machine need to find and to trust each other."""

import abc
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.harness.brokers import MQTT, Brokers
from tests.harness.host import Host, Network
from tests.harness.process import Process

_ADDRESS = "127.0.0.1"


class NameServer(Process):
    """epmd, Erlang's name server. Otherwise the nodes would start epmd themselves and leave it running.

    A node, or a command to a node, must be started with `environment`.
    """

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self._cookie = directory / ".erlang.cookie"
        self.environment = {
            "HOME": str(directory),  # for the cookie with which the nodes authenticate each other
            "ERL_EPMD_PORT": str(port),
            "ERL_EPMD_ADDRESS": _ADDRESS,
        }
        super().__init__(
            "epmd",
            ["epmd", "-port", str(port), "-address", _ADDRESS],
            log=directory / "epmd.log",
            ready=lambda: Host("epmd", _ADDRESS).listens(port),
        )

    def spawn(self) -> None:
        """Raises RuntimeError if localhost does not resolve, as in a bare root without /etc/hosts."""
        _require_localhost()
        if not self._cookie.exists():  # two nodes that start at the same time would each make one
            self._cookie.parent.mkdir(parents=True, exist_ok=True)
            self._cookie.write_text(secrets.token_hex(16))
            self._cookie.chmod(0o400)
        super().spawn()


class ErlangPair(Brokers):
    """Two nodes on the founding addresses. A subclass sets `_nodes` and joins them to one cluster."""

    ports: tuple[int, ...] = (MQTT,)
    """The port at which each node listens."""
    _nodes: Sequence[Process]

    def __init__(self, network: Network, directory: Path) -> None:
        self._directory = directory
        self._hosts = network.emq
        self._epmd = NameServer(directory)

    @abc.abstractmethod
    def _form_cluster(self) -> None:
        """Join the two running nodes. Raises RuntimeError if that fails."""

    def start(self) -> None:
        for host in self._hosts:
            host.require_free(*self.ports)
        self._epmd.start()
        try:
            for node in self._nodes:
                node.spawn()
            for node in self._nodes:
                node.wait_ready()
            self._form_cluster()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for process in (*self._nodes, self._epmd):
            process.kill9()

    def node(self, number: int) -> Process:
        return self._nodes[number - 1]

    @property
    def addresses(self) -> tuple[str, str]:
        one, two = self._hosts
        return f"{one.address}:{MQTT}", f"{two.address}:{MQTT}"


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind((_ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port


def _require_localhost() -> None:
    try:
        socket.getaddrinfo("localhost", None)
    except socket.gaierror:
        raise RuntimeError(
            "localhost does not resolve, and Erlang's nodes are called by it; "
            "write the line `127.0.0.1 localhost` into /etc/hosts"
        ) from None
