"""The founding document's machines with their own addresses: network namespaces around one switch.

    with Universe() as universe, universe.inside():
        with HAProxy(universe.haproxy, directory, None) as haproxy:     # the shipped file, unchanged
            with universe.power_cut(haproxy):
                ...

The switch is a namespace too, and nothing of this machine is joined to it: several universes, each with all
of the same addresses, can live side by side. Within `inside()` a test stands at the switch, as the home's
router, so that what it starts (devices, verifier, Kafka's clients) reaches every machine by plain sockets.
The test's own thread goes there, and no child does instead of it: a namespace belongs to a thread, and what
it starts inherits it, so nothing of a test has to be carried from process to process.

A cable that is out gives no FIN and no RST. A machine whose power was cut comes back without any memory of
its connections. (Its files are as the kernel has them: that is no test of the disk.)
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
        # Kept when the power is cut, as real ones are: nobody's ARP table is wrong afterwards.
        self._mac = "02:00:" + ":".join(f"{int(number):02x}" for number in address.split("."))
        self.namespace = Namespace()
        self._is_laid = False
        self._is_out = False
        self.connect()

    def connect(self) -> None:
        """Lay the cable. One that is pulled stays so until it is plugged in again."""
        self._switch.ip(
            f"link add {self.port} type veth peer name eth0 address {self._mac} netns {self.namespace.path}"
        )
        self._bring_up()

    def replace(self) -> None:
        """Set up the ends of another cable, where interfaces of these names have been put."""
        self.namespace.ip(f"link set eth0 address {self._mac}")
        self._bring_up()

    def _bring_up(self) -> None:
        self._is_laid = True
        self._switch.ip(f"link set {self.port} master lan {'down' if self._is_out else 'up'}")
        self.namespace.ip(f"addr add {self._address}/24 dev eth0", "link set eth0 up")

    def remove(self) -> None:
        """Take the cable away."""
        self._is_laid = False
        self._switch.ip(f"link delete {self.port}")

    def pull(self) -> None:
        """Out of the switch, also where the machine at its other end has no power."""
        self._is_out = True
        if self._is_laid:
            self._switch.ip(f"link set {self.port} down")

    def plug(self) -> None:
        self._is_out = False
        if self._is_laid:
            self._switch.ip(f"link set {self.port} up")

    def forget(self) -> None:
        """Another namespace, without the connections of this one and without a cable."""
        self.namespace.close()
        self.namespace = Namespace()


@dataclass(frozen=True, slots=True)
class Machine(Host):
    """A host of its own, with an address that only its universe knows."""

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
    """A context manager. Raises OSError where namespaces can't be made."""

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
        """A seventh machine. The founding document's has none; a Kafka Pi may do as well."""
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
        """This thread, and what it starts, stands at the switch."""
        with self._switch.inside():
            yield

    # -- what happens to machines ----------------------------------------------------------------------

    @contextlib.contextmanager
    def power_cut(self, *actors: Process) -> Iterator[None]:
        """Their machines lose their power. Afterwards they boot, and start these again."""
        for actor in actors:
            _wires(actor.host).remove()  # first, or the kernel would say goodbye for those that die
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
        """Nothing reaches these machines, and nothing comes from them; whoever runs there runs on."""
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
        """A cable that loses this share of all frames, and delays each by so many seconds, in both ways."""
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
            cable.kill9()  # its interfaces go with it
            wires.connect()


def _wires(host: Host) -> Wires:
    assert isinstance(host, Machine), f"{host.name} is no machine of a universe"
    return host.wires
