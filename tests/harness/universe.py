"""The founding document's machines with their own addresses: network namespaces around one switch.

    with Universe() as universe, universe.inside():
        with HAProxy(universe.haproxy, directory, None) as haproxy:     # the shipped file, unchanged
            with universe.power_cut(haproxy):
                ...

The switch is a namespace too, and is not connected to this machine's network, so several universes with the
same addresses can run at the same time. Inside `inside()` the test's thread is in the switch's namespace, as
the home's router would be, and the programs that it starts (devices, verifier, Kafka's clients) reach every
machine by plain sockets. The test's own thread enters the namespace, instead of a child process: a namespace
belongs to a thread and its children inherit it, so no data has to be passed between processes.

A cable that is out sends no FIN and no RST. A machine whose power was cut comes back without any memory of
its connections. (Its files are unchanged: this does not test the disk.)
"""

import contextlib
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.harness.host import Host, Network
from tests.harness.kit import ROOT
from tests.harness.netns import Namespace
from tests.harness.process import Process

FOUNDING = "172.30.1"


class Wires:
    """A machine's network namespace, and the cable from it to a port of the switch."""

    def __init__(self, switch: Namespace, port: str, address: str) -> None:
        self.port = port
        self._switch = switch
        self._address = address
        # The address stays after a power cut, as a real one does: other machines' ARP tables stay right.
        self._mac = "02:00:" + ":".join(f"{int(number):02x}" for number in address.split("."))
        self.namespace = Namespace()
        self._is_laid = False
        self._is_out = False
        self.connect()

    def connect(self) -> None:
        """Make the cable. A cable that was pulled stays out until it is plugged in."""
        self._switch.ip(
            f"link add {self.port} type veth peer name eth0 address {self._mac} netns {self.namespace.path}"
        )
        self._bring_up()

    def replace(self) -> None:
        """Configure the ends of another cable, whose interfaces already have the right names."""
        self.namespace.ip(f"link set eth0 address {self._mac}")
        self._bring_up()

    def _bring_up(self) -> None:
        self._is_laid = True
        self._switch.ip(f"link set {self.port} master lan {'down' if self._is_out else 'up'}")
        self.namespace.ip(f"addr add {self._address}/24 dev eth0", "link set eth0 up")

    def remove(self) -> None:
        """Remove the cable."""
        self._is_laid = False
        self._switch.ip(f"link delete {self.port}")

    def pull(self) -> None:
        """Unplug the cable from the switch, also if the machine has no power."""
        self._is_out = True
        if self._is_laid:
            self._switch.ip(f"link set {self.port} down")

    def plug(self) -> None:
        self._is_out = False
        if self._is_laid:
            self._switch.ip(f"link set {self.port} up")

    def forget(self) -> None:
        """Change to a new namespace, without connections and without a cable."""
        self.namespace.close()
        self.namespace = Namespace()


@dataclass(frozen=True, slots=True)
class Machine(Host):
    """A host with a namespace and an address that exist only in its universe."""

    wires: Wires

    @property
    def entering(self) -> list[str]:
        return self.wires.namespace.entering

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        with self.wires.namespace.inside():
            yield


@dataclass(frozen=True, slots=True)
class Universe(Network):
    """All machines, as a context manager. Raises OSError if namespaces cannot be made."""

    prefix: str = FOUNDING
    _switch: Namespace = field(default_factory=Namespace)
    _machines: dict[str, Machine] = field(default_factory=dict)

    def host(self, name: str, octet: int) -> Machine:
        if name not in self._machines:
            address = f"{self.prefix}.{octet}"
            self._machines[name] = Machine(name, address, Wires(self._switch, name, address))
        return self._machines[name]

    @property
    def router(self) -> str:
        """The address of the switch itself."""
        return f"{self.prefix}.1"

    @property
    def bridge(self) -> Machine:
        """A seventh machine for the bridge. The founding document has none; a Kafka Pi can run it too."""
        return self.host("bridge", 40)

    def __enter__(self) -> Self:
        self._switch.ip("link add lan type bridge", f"addr add {self.router}/24 dev lan", "link set lan up")
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self._machines.values():
            machine.wires.namespace.close()
        self._switch.close()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Put this thread, and what it starts, into the switch's namespace."""
        with self._switch.inside():
            yield

    # -- failures of machines ----------------------------------------------------------------------

    @contextlib.contextmanager
    def power_cut(self, *actors: Process) -> Iterator[None]:
        """Cut the power of their machines. Afterwards the machines boot and start these programs again."""
        for actor in actors:
            _wires(actor.host).remove()  # first, or the kernel would send FIN for the killed programs
        for actor in actors:
            actor.kill9()
        try:
            yield
        finally:
            for actor in actors:
                _wires(actor.host).forget()
                _wires(actor.host).connect()
            for actor in actors:
                actor.spawn()
            for actor in actors:
                actor.wait_ready()

    @contextlib.contextmanager
    def cable_out(self, *hosts: Host) -> Iterator[None]:
        """Unplug these machines: no packet gets in or out. Their programs keep running."""
        try:
            for host in hosts:
                _wires(host).pull()
            yield
        finally:
            for host in hosts:
                _wires(host).plug()

    @contextlib.contextmanager
    def bad_cable(
        self, host: Host, directory: Path, *, loss: float = 0.0, delay: float = 0.0
    ) -> Iterator[None]:
        """A cable that, in each direction, loses this share of frames and delays the others by `delay` s."""
        wires = _wires(host)
        places = (self._switch.path, wires.port, wires.namespace.path, "eth0")
        log = directory / f"cable-{random.getrandbits(32):08x}.log"
        cable = Process(
            f"bad cable of {host.name}",
            [sys.executable, "-m", "tests.harness.cable", str(loss), str(delay), *places],
            log=log,
            cwd=ROOT,
            ready=lambda: "ready" in log.read_text(),
        )
        wires.remove()
        cable.start()
        try:
            wires.replace()
            yield
        finally:
            cable.kill9()  # its interfaces disappear with it
            wires.connect()


def _wires(host: Host) -> Wires:
    assert isinstance(host, Machine), f"{host.name} is no machine of a universe"
    return host.wires
