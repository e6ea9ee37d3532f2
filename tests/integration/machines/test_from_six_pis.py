"""The tutorial for six Pis: runs each of its commands, taken from the page, in the page's order.

Pis 3 to 6 are booted machines with the founding addresses. EMQX is not available here: the harness simulates
EMQ on Pis 1 and 2. A stop-watch shows at the end how long each command took.
"""

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.artefacts import pages
from tests.harness import kit
from tests.harness.brokers import TwoDoors
from tests.harness.conditions import wait_until
from tests.harness.device import Tally
from tests.harness.devices import Devices
from tests.harness.host import Host, Network
from tests.harness.lab.words import HOSTS
from tests.harness.machine import CommandFailed, Machine, debian_root, wheels
from tests.harness.universe import FOUNDING, Universe
from tests.harness.universe import Machine as Wired
from tests.harness.verifier import Verifier
from tests.integration.machines.conftest import (
    JARS,
    KAFKA_HERE,
    SOURCE,
    TOPIC,
    UNIT,
    WHEELS,
    Source,
    apt_install,
    on,
    says_that_all_works,
)

PAGE = kit.ROOT / "docs" / "tutorial" / "from-six-pis.md"
EMQX = kit.ROOT / "docs" / "how-to" / "install-emqx.md"  # test_emqx.py runs its commands
SECTIONS = dict(re.findall(r"^## (\d)\. (.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL))
COMMANDS = {number: pages.commands_in(text) for number, text in SECTIONS.items()}
(HAPROXY,) = COMMANDS["3"]
(KAFKA,) = COMMANDS["4"]
BRIDGE, CREATE, CHECK = COMMANDS["5"]
UPDATE, MOSQUITTO, PUBLISH, CONSUME, DRY_RUN = COMMANDS["6"]
LOG, COUNT, KAFKA_STATUS = COMMANDS["7"]

BROKERS = "172.30.1.31:9092,172.30.1.32:9092,172.30.1.33:9092"
MOST = 600.0  # seconds that all commands together may take
IN_FLIGHT = 100  # mqtt.receive_maximum: the most messages on their way to the bridge
GUARANTEES = kit.ROOT / "docs" / "reference" / "guarantees.md"
# A plug, and the row of the guarantees that covers it.
PLUGS = {
    "none": "nothing",
    "the bridge's EMQ node": "an EMQ node dies or hangs, the session survives it",
    "the other EMQ node": "an EMQ node dies or hangs, the session survives it",
    "Pi 3": "HAProxy dies or is restarted",
    "Pi 6": "a Kafka broker dies or hangs",
    "Pi 5 too": "all of Kafka dies",
    "Pi 5": "a Kafka broker dies or hangs",
    "Pi 4": "the bridge's power is cut",
}
SETTLED = ("/etc", "/opt", "/usr/local", "/var/lib/dpkg", "/root")

# The Debian releases of Pis 3 to 6.
MIXED = ("trixie", "bookworm", "trixie", "bookworm")
ALIKE = tuple((suite,) * 4 for suite in ("bookworm", "trixie"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """With --full all machines have one release, each of the two in turn. CI has both releases at once."""
    if "suites" in metafunc.fixturenames:
        metafunc.parametrize(
            "suites", ALIKE if metafunc.config.getoption("--full") else [MIXED], ids="-".join
        )


@dataclass
class StopWatch:
    """Runs commands, and notes how long each took: where, which command, seconds."""

    took: list[tuple[str, str, float]] = field(default_factory=list)

    def on(self, pi: Machine, command: str, *more: str, clone: str = SOURCE) -> str:
        began = time.monotonic()
        try:
            return on(pi, command, *more, clone=clone)
        finally:
            self.took.append((pi.name, command, time.monotonic() - began))

    @property
    def sum(self) -> float:
        return sum(seconds for _, _, seconds in self.took)

    def __str__(self) -> str:
        lines = [f"{seconds:6.1f} s  {where:<8}  {command}" for where, command, seconds in self.took]
        return "\n".join([*lines, f"{self.sum:6.1f} s  in all"])


def test_the_page_names_the_hosts_that_the_lab_has() -> None:
    rows = re.findall(r"^\| (\d) \| `(\w+)` \| ([\d.]+) \|", PAGE.read_text(), re.MULTILINE)
    network = Network(FOUNDING)
    hosts = [*network.emq, network.haproxy, *network.kafka]
    assert rows == [(str(number), host.name, host.address) for number, host in enumerate(hosts, 1)]
    assert [name for _, name, _ in rows] == [name for name in HOSTS if name != "bridge"]


def test_each_pi_takes_one_command_and_the_bridges_pi_a_second_one() -> None:
    install = re.findall(r"^    .*deploy/install.sh (\w+) -", PAGE.read_text(), re.MULTILINE)
    assert install == ["emqx", "emqx", "haproxy", "kafka", "bridge"]  # kafka on each of three
    assert [number for number, commands in COMMANDS.items() if not commands] == ["1"]


def test_the_commands_for_emqx_are_those_that_another_test_runs() -> None:
    assert COMMANDS["2"] == [
        each for each in pages.commands(EMQX) if "--nodes" in each and "--restart" not in each
    ]


def test_the_guarantees_allow_duplicates_for_the_plug_of_the_bridge_alone() -> None:
    assert {plug for plug, row in PLUGS.items() if promised(row)[1]} == {"Pi 4"}


def test_what_a_user_has_published_again_is_no_duplicate() -> None:
    twice = ("mqtt/0@1", "mqtt/0@2")
    assert copies({"kitchen-1": twice, "d01-3": twice}, {"kitchen-1": 2, "kitchen-2": 1}) == {"d01-3": 1}


class Plugs:
    """Counts after each pulled plug which messages Kafka has more than once, and compares their number with
    the row of the guarantees that covers this plug.

    The devices never publish a message twice. The user of the page does if `mosquitto_pub` fails, so the
    broker may then have two messages. Such copies do not count.
    """

    def __init__(self, verifier: Verifier, devices: Devices, evidence: Callable[[], str]) -> None:
        self._verifier, self._devices, self._evidence = verifier, devices, evidence
        self._tries: Counter[str] = Counter()
        self._known: Counter[str] = Counter()  # copies that an earlier plug has caused
        self._lines: list[str] = []

    def __str__(self) -> str:
        return "\n".join(self._lines)

    def judge(self, plug: str) -> None:
        """Count the copies since the last call. Raises AssertionError if there are more than guaranteed."""
        count = len(self._devices.tally.acked)
        wait_until(lambda: len(self._devices.tally.acked) >= count + 5, 60.0, "devices publish again")
        self._arrive()
        found = copies(self._verifier.verdict(Tally()).doubled, self._tries)
        new, self._known = found - self._known, found
        duplicated, most = promised(PLUGS[plug])
        named = f" ({', '.join(sorted(new))})" if new else ""
        self._lines.append(
            f"plug pulled: {plug}: doubled {new.total()}{named}; guaranteed: {duplicated} ({PLUGS[plug]})"
        )
        assert new.total() <= most, f"{self}\n{self._evidence()}"

    def publish(self, pi: Machine) -> None:
        """Publish, and retry like a user while HAProxy has not yet noticed that a node is gone."""
        name = f"kitchen-{len(self._tries) + 1}"
        command = PUBLISH.replace("21.5", name)

        def published() -> bool:
            self._tries[name] += 1
            with contextlib.suppress(CommandFailed):
                on(pi, f"timeout 5 {command}")
                return True
            return False

        wait_until(published, 60.0, f"{name} is published")

    def _arrive(self) -> None:
        """Wait until Kafka has all that was published, and the verifier has read all that Kafka has."""
        self._verifier.wait_for(self._devices.tally.acked.copy() | self._tries.keys(), 90.0)
        self._verifier.wait_end()


def copies(doubled: Mapping[str, Sequence[str]], tries: Mapping[str, int]) -> Counter[str]:
    """How many records of each message are too many, of those that Kafka has more than once."""
    return +Counter({name: len(places) - tries.get(name, 1) for name, places in doubled.items()})


def promised(row: str) -> tuple[str, int]:
    """What the guarantees say of duplicates in a row, and the most messages that this is here."""
    cells = rf"^\| {re.escape(row)} \| 1, 2 \| (?:upward|any) \| [^|]+ \| ([^|]+) \|"
    at_least_once, _, _ = GUARANTEES.read_text().partition("## With delivery exactly-once")
    (duplicated,) = re.findall(cells, at_least_once, re.MULTILINE)
    # "In flight and rows": Kafka confirms in time before the plug is pulled, so no rows wait on disk.
    return duplicated, 0 if duplicated.startswith("0") else IN_FLIGHT


def test_from_six_pis_to_messages_in_kafka_and_what_happens_when(
    source: Source,
    jars: Path,
    tmp_path: Path,
    suites: tuple[str, str, str, str],
    record_property: Callable[[str, object], None],
    request: pytest.FixtureRequest,
) -> None:
    is_full = request.config.getoption("--full")  # each plug is pulled; in CI one of a kind
    watch = StopWatch()
    prepared = with_packages(tmp_path, suites[2], watch)
    clone = {SOURCE: source(), WHEELS[1]: wheels(), JARS: jars}
    with Universe() as universe, universe.inside(), contextlib.ExitStack() as running:

        def boot(host: Wired, suite: str, *layers: Path) -> Machine:
            roots, network = [*layers, debian_root(suite)], host.wires.namespace
            machine = Machine(roots, tmp_path, name=host.name, files=clone, network=network)
            return running.enter_context(machine)

        pi3 = boot(universe.host("haproxy", 10), suites[0])
        pi4 = boot(universe.host("kafka1", 31), suites[1])
        pi5 = boot(universe.host("kafka2", 32), suites[2], prepared)
        pi6 = boot(universe.host("kafka3", 33), suites[3])
        emq = running.enter_context(TwoDoors(universe, tmp_path))

        assert watch.on(pi3, HAPROXY).count("answers as a broker") == 2
        assert "it waits for the others" in watch.on(pi4, KAFKA, *KAFKA_HERE)
        for pi in (pi5, pi6):
            assert "wait until it is in sync" in watch.on(pi, KAFKA, *KAFKA_HERE)
        said = watch.on(pi4, BRIDGE, *WHEELS)
        assert said.count("FAILED  ") == 1, said
        assert said.endswith("next: sudo mqtt-kafka-bridge topics --create\n"), said
        assert "created   mqtt" in watch.on(pi4, CREATE, "--yes")
        assert says_that_all_works(watch.on(pi4, CHECK))
        watch.on(pi5, PUBLISH)
        shown = watch.on(pi4, CONSUME, "--count", "1")
        assert re.fullmatch(r"mqtt/\d@0 \| sensors/kitchen/temp \| mqtt\.topic=.* \| 21\.5\n", shown), shown
        record_property("stop-watch", f"{PAGE.name}, {'-'.join(suites)}:\n{watch}")
        assert watch.sum <= MOST, str(watch)

        second_runs_change_nothing(pi3, pi4, pi5, pi6)
        node = emq.node(node_of_the_bridge(pi3))

        verifier = running.enter_context(Verifier(BROKERS, [TOPIC]))
        devices = running.enter_context(
            Devices("172.30.1.10", count=5, rate=10, topic="sensors/cellar/{device}")
        )
        assert on(pi4, DRY_RUN).count(" -> mqtt | ") == 3

        plugs = Plugs(verifier, devices, lambda: pi4.journal(UNIT)[-4000:])
        # Early in a session, a broken connection may double messages: note b of the guarantees.
        devices.rate = 100
        devices.wait_sent(2 * IN_FLIGHT)
        devices.rate = 10
        plugs.judge("none")

        with universe.power_cut(node):
            plugs.publish(pi5)
            wait_until(
                lambda: re.search(r"mqtt\.closed.*mqtt\.live", on(pi4, LOG), re.DOTALL),
                60.0,
                lambda: on(pi4, LOG),
            )
        plugs.judge("the bridge's EMQ node")
        if is_full:
            with universe.power_cut(emq.node(node_of_the_bridge(pi3) ^ 3)):  # of 1 and 2 the other one
                wait_until(lambda: devices.outstanding, 30.0, "a device waits for its answer")
                plugs.publish(pi5)
            plugs.judge("the other EMQ node")
        with without_power(universe, universe.haproxy, pi3):
            wait_until(lambda: devices.outstanding, 30.0, "a device waits for its answer")
        plugs.publish(pi5)
        plugs.judge("Pi 3")
        with without_power(universe, universe.kafka[2], pi6):
            plugs.publish(pi5)
            plugs.judge("Pi 6")
            with without_power(universe, universe.kafka[1], pi5):
                wait_until(
                    lambda: re.search(r"[1-9][\d,]* messages? wait", on(pi4, COUNT)),
                    60.0,
                    lambda: on(pi4, COUNT),
                )
        wait_until(lambda: all_in_sync(pi4), 90.0, lambda: on_any_status(pi4))
        plugs.publish(pi5)
        plugs.judge("Pi 5 too")
        if is_full:
            with without_power(universe, universe.kafka[1], pi5):
                devices.wait_sent(IN_FLIGHT)
                plugs.judge("Pi 5")
            wait_until(lambda: all_in_sync(pi4), 90.0, lambda: on_any_status(pi4))
        with without_power(universe, universe.kafka[0], pi4):
            plugs.publish(pi5)
        wait_until(lambda: all_in_sync(pi5), 90.0, lambda: on_any_status(pi5))
        plugs.judge("Pi 4")

        devices.stop()
        verifier.wait_for(devices.tally.acked, 60.0)
        verdict = verifier.verdict(devices.tally)
        record_property("stop-watch", f"plugs pulled while devices published: {verdict}\n{plugs}")
        assert not verdict.lost, verdict
        assert not verdict.inversions, verdict


def with_packages(directory: Path, suite: str, watch: StopWatch) -> Path:
    """A layer for Pi 5: mosquitto-clients as on the page, and Java, which must fit apt's new lists."""
    with Machine([debian_root(suite)], directory, name="packages") as machine:
        watch.on(machine, UPDATE, clone="/root")
        watch.on(machine, MOSQUITTO, "--yes", clone="/root")
        apt_install(machine, "default-jre-headless", "--no-install-recommends")
        machine.shut_down()
    return machine.written


def second_runs_change_nothing(pi3: Machine, *kafka: Machine) -> None:
    runs = [(pi3, HAPROXY, ()), *((pi, KAFKA, KAFKA_HERE) for pi in kafka), (kafka[0], BRIDGE, WHEELS)]
    for pi, command, more in runs:
        before = pi.tree(*SETTLED)
        said = on(pi, command, *more)
        assert "..." not in said, f"it made a step: {said}"
        assert pi.tree(*SETTLED) == before, command
    assert "nothing was created: no topic is missing" in on(kafka[0], CREATE)


@contextlib.contextmanager
def without_power(universe: Universe, host: Host, pi: Machine) -> Iterator[None]:
    """Pull the plug, and plug it in again at the end."""
    with universe.cable_out(host):  # first, or the kernel would send FIN for the killed programs
        pi.power_cut()
        yield
    pi.boot()


def node_of_the_bridge(balancer: Machine) -> int:
    """The EMQ node that HAProxy has connected the bridge to. Short-lived health checks do not count."""

    def only_one() -> str:
        sockets = balancer.run("ss", "-Hnt", "state", "established", "dport = :1883")
        found = {line.split()[3].rpartition(":")[0] for line in sockets.splitlines()}
        return found.pop() if len(found) == 1 else ""

    return 1 if wait_until(only_one, 30.0, "the bridge alone is connected") == "172.30.1.25" else 2


def on_any_status(pi: Machine) -> str:
    return pi.run(*KAFKA_STATUS.replace("sudo ", f"{SOURCE}/").split(), status=None)


def all_in_sync(pi: Machine) -> bool:
    return "all replicas in sync" in on_any_status(pi)
