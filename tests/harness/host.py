"""The six machines of the founding document, as loopback addresses of this machine.

The last octets are those of the document (25 and 9 for EMQ, 10 for HAProxy, 31 to 33 for Kafka), so that a
log here reads like a log there. The user's lab, the tests and the tests' own lab use different networks, so
that all can run at the same time.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

USERS_LAB = "127.30.1"
LAB = os.environ.get("LAB_NETWORK", USERS_LAB)
"""The lab's network. The tests set LAB_NETWORK, so that their lab does not touch the lab of the user."""
TESTS = "127.30.2"


class PortInUse(RuntimeError):
    """Another program listens on a port that the harness needs."""


@dataclass(frozen=True, slots=True)
class Host:
    """A name and a loopback address of its own. Linux accepts all of 127.0.0.0/8 without setup."""

    name: str
    address: str

    @property
    def entering(self) -> list[str]:
        """The prefix of a command that runs on this host: empty, because the host is this machine."""
        return []

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Inside the block this thread acts on that host."""
        yield

    def listens(self, port: int) -> bool:
        """Whether a program accepts connections on this port."""
        with socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex((self.address, port)) == 0

    def require_free(self, *ports: int) -> None:
        """Raises PortInUse unless a program started now could listen on all these ports."""
        for port in ports:
            with self.inside(), socket.socket() as probe:
                # The programs set it too, so connections in TIME_WAIT do not matter.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.address, port))
                    probe.listen()
                except OSError as error:
                    raise PortInUse(
                        f"{self.name} cannot listen on {self.address}:{port}: {error.strerror}"
                        f" (who does: ss -ltnp 'sport = :{port}')"
                    ) from error


@dataclass(frozen=True, slots=True)
class Network:
    """The founding document's hosts on one loopback network such as "127.30.1"."""

    prefix: str = LAB

    def host(self, name: str, octet: int) -> Host:
        return Host(name, f"{self.prefix}.{octet}")

    @property
    def emq(self) -> tuple[Host, Host]:
        return self.host("emq1", 25), self.host("emq2", 9)

    @property
    def haproxy(self) -> Host:
        return self.host("haproxy", 10)

    @property
    def kafka(self) -> tuple[Host, Host, Host]:
        return self.host("kafka1", 31), self.host("kafka2", 32), self.host("kafka3", 33)

    @property
    def bridge(self) -> Host:
        return self.host("bridge", 40)

    @property
    def observer(self) -> Host:
        return self.host("observer", 50)

    @property
    def behind_the_doors(self) -> Host:
        """The address of the one broker that simulates both EMQ nodes; not in the document."""
        return self.host("mosquitto", 100)
