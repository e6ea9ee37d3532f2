"""The six machines of the founding document, as addresses on this one.

The document's last octets are kept (25 and 9 for EMQ, 10 for HAProxy, 31 to 33 for Kafka), so that
what is read in a log here reads like one from there. The lab and the tests live on different
networks: one can run beside the other.
"""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

LAB = "127.30.1"
TESTS = "127.30.2"


class PortInUse(RuntimeError):
    """Another program listens where one of ours should."""


@dataclass(frozen=True, slots=True)
class Host:
    """A name and a loopback address of its own. Linux answers on all of 127.0.0.0/8 unasked."""

    name: str
    address: str

    @property
    def entering(self) -> list[str]:
        """What a command begins with that is to run there: nothing, where the host is this machine."""
        return []

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """What this thread does within is done there."""
        yield

    def listens(self, port: int) -> bool:
        """Whether somebody accepts connections there."""
        with socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex((self.address, port)) == 0

    def require_free(self, *ports: int) -> None:
        """Raises PortInUse unless a program started now could listen on all of them."""
        for port in ports:
            with self.inside(), socket.socket() as probe:
                # As the programs themselves do: connections in TIME_WAIT are no hindrance.
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
    def behind_the_doors(self) -> Host:
        """No machine of the document: where the one broker stands that plays both EMQ nodes."""
        return self.host("mosquitto", 100)
