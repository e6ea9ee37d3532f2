"""The balancer: the shipped haproxy/haproxy.cfg, unchanged, on one address of this machine."""

import contextlib
import csv
import os
import re
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self

from tests.harness.conditions import wait_until
from tests.harness.host import Host
from tests.harness.process import Process

_PORTS = DEVICES, SUBSCRIBER, DASHBOARDS, CONSOLE = 1883, 1884, 8080, 8081
DEVICES_TLS, SUBSCRIBER_TLS = 8883, 8884
CONFIGURATION = Path(__file__).parents[2] / "haproxy" / "haproxy.cfg"

# The console's user here. No secret: the console is served on loopback only.
USER, PASSWORD = "admin", "lab"
_PASSWORD_HASH = (  # openssl passwd -6 -salt lab lab
    "$6$lab$8Didkn.UcNG/jLg7V7QIVX8TXEUMaHiIjiDSTr0wAgIU0I3PLx3iJU9IWSsHB2a53VxKmQZAq1Hyy09qF/fXn1"
)

State = Literal["UP", "DOWN", "MAINT"]
Section = Literal["mqtt-kafka", "tcp-in", "emq-tls", "servers"]


class HAProxy(Process):
    """HAProxy as its Debian package starts it (a master and a worker), in front of `nodes`.

    `nodes` are two HOST:PORT of MQTT nodes; their dashboards are expected at HOST:18083. None: HAProxy uses
    the nodes and addresses that the file itself names, which takes a host where it may listen on every
    address. If an ordinary user starts HAProxy, it keeps that user's rights, because it cannot change its
    user. Without a `password_hash` the console is locked, as shipped. `site` is added to
    /etc/default/haproxy.

    A context manager: inside it the balancer serves, whether or not the nodes behind it do.
    """

    def __init__(
        self,
        host: Host,
        directory: Path,
        nodes: tuple[str, str] | None,
        *,
        password_hash: str | None = _PASSWORD_HASH,
        site: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._admin = directory / "haproxy.sock"
        self._master = directory / "haproxy-master.sock"
        super().__init__(
            host.name,
            ["haproxy", "-W", "-S", self._master, "-f", CONFIGURATION],
            log=directory / f"{host.name}.log",
            host=host,
            env={**self._environment(host, nodes, password_hash), **site},
            ready=self._serves,
        )

    def _environment(
        self, host: Host, nodes: tuple[str, str] | None, password_hash: str | None
    ) -> dict[str, str]:
        environment = {"LOG": "stdout", "ADMIN_SOCKET": str(self._admin)}
        if nodes is not None:
            (emq1, port1), (emq2, port2) = (node.rsplit(":", 1) for node in nodes)
            environment |= {"EMQ1": emq1, "EMQ1_PORT": port1, "EMQ2": emq2, "EMQ2_PORT": port2}
            environment["LISTEN"] = host.address
        if password_hash is not None:
            environment["STATS_PASSWORD_HASH"] = password_hash
        if os.geteuid() != 0:
            environment["UNPRIVILEGED"] = "1"
        return environment

    def spawn(self) -> None:
        self.host.require_free(*_PORTS, DEVICES_TLS, SUBSCRIBER_TLS)
        super().spawn()

    def kill9(self) -> None:
        ran = self.alive
        super().kill9()
        if ran:
            # The master is gone; its worker is killed too, but is not our child and ends a moment later.
            wait_until(lambda: not any(map(self.host.listens, _PORTS)), 10.0, "HAProxy's ports are free")

    def stop(self) -> None:
        """End HAProxy at once, with the sessions it carries."""
        self.kill9()

    def reload(self) -> None:
        """Like `systemctl reload haproxy`: a new worker for new sessions; the old worker keeps its own."""
        before = self._worker()
        os.kill(self.pid, signal.SIGUSR2)
        wait_until(lambda: self._worker() not in (None, before), 10.0, "a new HAProxy worker serves")

    # -- what HAProxy knows of the nodes------------------------------------------------------------

    def state(self, number: int, section: Section = "mqtt-kafka") -> State | None:
        """The state of node 1 or 2 by HAProxy's checks; None while HAProxy does not answer."""
        status = self._column("status", number, section)
        return status.split()[0] if status else None  # type: ignore[return-value]  # "UP 1/3": going down

    def wait_state(self, number: int, state: State, deadline: float = 30.0) -> None:
        """Wait until HAProxy's checks report this state for node 1 or 2. Raises NotInTime."""
        wait_until(
            lambda: self.state(number) == state,
            deadline,
            lambda: f"HAProxy calls node {number} {state}, but HAProxy says {self.state(number)}",
        )

    def last_check(self, number: int) -> str | None:
        """How the last check of node 1 or 2 ended: "L7OK", "L7TOUT" (no answer), "L4CON" (refused) ..."""
        return self._column("check_status", number, "mqtt-kafka")

    def sessions(self, number: int, section: Section = "mqtt-kafka") -> int:
        """How many sessions node 1 or 2 has now, without those of a worker from before a reload."""
        return int(self._column("scur", number, section) or 0)

    def total_sessions(self, number: int, section: Section = "mqtt-kafka") -> int:
        """How many sessions HAProxy gave node 1 or 2 since its start or reload."""
        return int(self._column("stot", number, section) or 0)

    def clients(self, section: Section = "mqtt-kafka") -> list[tuple[str, str]]:
        """Each client of this section: its ADDRESS:PORT, and the server that carries it. Raises OSError."""
        return re.findall(rf" src=(\S+) fe=\S+ be={section} srv=(\S+) ", self.ask("show sess"))

    def ask(self, command: str) -> str:
        """The worker's answer to one command (HAProxy's management guide, 9.3). Raises OSError."""
        return _ask(self._admin, command)

    def _column(self, column: str, number: int, section: Section) -> str | None:
        with contextlib.suppress(OSError):
            for row in csv.DictReader(self.ask("show stat").removeprefix("# ").splitlines()):
                if (row["pxname"], row["svname"]) == (section, f"server{number}"):
                    return row[column]
        return None

    def _worker(self) -> str | None:
        with contextlib.suppress(OSError):
            for line in self.ask("show info").splitlines():
                if line.startswith("Pid:"):
                    return line
        return None

    def _serves(self) -> bool:
        with contextlib.suppress(OSError):
            # A master that does not answer yet would miss a reload signal.
            return "worker" in _ask(self._master, "show proc") and self._worker() is not None
        return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _ask(door: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5.0)
        client.connect(str(door))
        client.sendall(command.encode() + b"\n")
        client.shutdown(socket.SHUT_WR)  # the master would wait for more commands
        answer = bytearray()
        while data := client.recv(65536):
            answer += data
    return answer.decode()
