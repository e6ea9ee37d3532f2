"""Booted Debian machines for the bridge, next to the chain that the other tests use too."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.harness import kit
from tests.harness.conditions import wait_until
from tests.harness.devices import Devices
from tests.harness.haproxy import DEVICES, SUBSCRIBER, HAProxy
from tests.harness.host import Network
from tests.harness.kafka import CLIENTS, KafkaCluster
from tests.harness.kit import ROOT
from tests.harness.machine import Machine, debian_root, wheels
from tests.harness.netns import Namespace
from tests.harness.verifier import Verifier

TOPIC = "mqtt"  # the shipped route's
UNIT = "mqtt-kafka-bridge"
SETTINGS = "/etc/mqtt-kafka-bridge/bridge.toml"
SOURCE = "/root/mqtt-kafka-bridge"
INSTALL = f"{SOURCE}/deploy/install.sh"
INSTALLED_SH = "/opt/mqtt-kafka-bridge/current/deploy/install.sh"
PACKAGE = "/root/package.deb"
APT = {"DEBIAN_FRONTEND": "noninteractive"}  # the environment of apt-get
NOT_LIVE = 3  # install.sh's exit code then
JARS = "/root/jars.tgz"
# Kafka from its packed jars, with a heap for several brokers on a shared machine, and time for a busy one.
KAFKA_HERE = ("--archive", JARS, "--heap", "256", "--wait", "240")
WHEELS = ("--wheels", "/root/wheels")  # all tests but one need no download

NewMachine = Callable[..., Machine]
Source = Callable[..., Path]
NewPackage = Callable[..., Path]
Installed = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if reason := _why_none_can_boot():
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.skip(reason=reason))


def _why_none_can_boot() -> str:
    if os.geteuid() != 0:
        return "only root can boot a machine"
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    if not any(inside == place == "/" for _, _, _, inside, place, *_ in mounts):
        return "systemd-nspawn boots no machine from within a chroot"
    return ""


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Makes a clone: source("0.2.0", {"bridge/app.py": "its replaced content"})."""

    def create(version: str | None = None, changes: dict[str, str] | None = None) -> Path:
        target = tmp_path_factory.mktemp("clone")
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if name.startswith("tests/") or not (ROOT / name).exists():
                continue
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
        package = target / "bridge" / "__init__.py"
        if version:
            text = re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', package.read_text())
            package.write_text(text)
        for name, text in (changes or {}).items():
            (target / name).write_text(text)
        return target

    return create


@pytest.fixture(scope="session")
def jars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The jars that install.sh kafka takes from Maven, packed as docs/how-to/install-kafka.md says."""
    archive = tmp_path_factory.mktemp("kafka") / "jars.tgz"
    pack(kit.kafka_jars(), archive, "libs")
    return archive


def pack(jars: Path, archive: Path, name: str) -> None:
    """Pack the directory of jars as `name`."""
    command = ["tar", "-czf", archive, "-C", jars, f"--transform=s|^[.]|{name}|", "."]
    subprocess.run(command, check=True)


@pytest.fixture
def new_machine(source: Source, tmp_path: Path) -> NewMachine:
    """Makes machines: new_machine("bookworm") is a minimal Debian with a clone in /root, not booted."""

    def create(
        suite: str, layers: Sequence[Path] = (), files: Mapping[str, Path] | None = None, name: str = "pi"
    ) -> Machine:
        below = {} if layers else {SOURCE: source(), WHEELS[1]: wheels()}
        return Machine([*layers, debian_root(suite)], tmp_path, name=name, files={**below, **(files or {})})

    return create


@pytest.fixture
def lone_pi(request: pytest.FixtureRequest, source: Source, tmp_path: Path) -> Iterator[Machine]:
    """A booted machine with a clone, alone in its network. The parameter is a Debian release."""
    suite = getattr(request, "param", "bookworm")
    with (
        contextlib.closing(Namespace()) as network,
        Machine([debian_root(suite)], tmp_path, files={SOURCE: source()}, network=network) as machine,
    ):
        yield machine


@pytest.fixture
def chain(haproxy: HAProxy, kafka: KafkaCluster) -> Iterator[list[str]]:
    """HAProxy, EMQ and Kafka with the shipped route's topic, as options for `install.sh bridge`."""
    kafka.create_topic(TOPIC, 3)
    yield ["--mqtt", f"{haproxy.host.address}:{SUBSCRIBER}", "--kafka", kafka.bootstrap]
    kafka.delete_topic(TOPIC)


@pytest.fixture(scope="session")
def new_package(source: Source, tmp_path_factory: pytest.TempPathFactory) -> NewPackage:
    """new_package("bookworm", "0.9.0") is the Debian package of a clone with that version."""
    made: dict[tuple[str, str | None], Path] = {}

    def create(suite: str, version: str | None = None) -> Path:
        if (suite, version) not in made:
            clone, output = source(version), tmp_path_factory.mktemp("package")
            shipped = clone / "deploy" / "bridge.toml"
            if version:
                shipped.write_text(f"{shipped.read_text()}# New in {version}.\n")
            build = [clone / "deploy" / "build-deb", suite, "amd64", "--output", output, "--wheels", wheels()]
            subprocess.run(build, check=True)
            (made[suite, version],) = output.glob("*.deb")
        return made[suite, version]

    return create


@pytest.fixture(scope="session")
def installed(
    network: Network, source: Source, new_package: NewPackage, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    """Makes layers for new_machine: installed("bookworm") has the bridge, and was shut down.

    The bridge is installed by install.sh or by its Debian package.
    """
    layers: dict[tuple[str, str], Path] = {}
    host, kafka = network.haproxy.address, ",".join(f"{each.address}:{CLIENTS}" for each in network.kafka)

    def layer(suite: str, by: str = "install.sh") -> Path:
        if (suite, by) not in layers:
            files = (
                {SOURCE: source(), WHEELS[1]: wheels()}
                if by == "install.sh"
                else {PACKAGE: new_package(suite)}
            )
            machine = Machine([debian_root(suite)], tmp_path_factory.mktemp("installed"), files=files)
            with machine:
                if by == "install.sh":
                    machine.run(
                        INSTALL, "bridge", "--no-start", "--mqtt", "nobody", "--kafka", "nobody:1", *WHEELS
                    )
                else:
                    apt_install(machine, PACKAGE)
                say_where(machine, ["--mqtt", f"{host}:{SUBSCRIBER}", "--kafka", kafka])
                machine.run("systemctl", "enable", UNIT)
                machine.shut_down()
            layers[suite, by] = machine.written
        return layers[suite, by]

    return layer


def on(pi: Machine, command: str, *more: str, clone: str = SOURCE) -> str:
    """Run a command of a page in a clone: as root if the command uses sudo (the machine has no sudo).

    Without sudo an unprivileged user runs it, unless the command is one of the clone's own.
    """
    if "sudo " not in command and not command.startswith("deploy/"):
        return pi.run("runuser", "-u", "nobody", "--", "bash", "-c", f"cd /; {command} {shlex.join(more)}")
    command = re.sub(r"sudo -u (\w+) ", r"runuser -u \1 -- ", command).replace("sudo ", "")
    return pi.shell(f"set -o pipefail; cd {clone}; {command} {shlex.join(more)}")


def apt_install(pi: Machine, package: str, *options: str, status: int = 0) -> str:
    command = ("apt-get", "-q", "-y", *options, "install", package)
    return pi.run(*command, status=status, env=APT)


def says_that_all_works(said: str) -> bool:
    """Whether `bridge check` calls each link of the chain good, and nothing failed."""
    links = (
        "mqtt.tcp",
        "mqtt.connack",
        "mqtt.subscription",
        "kafka.bootstrap",
        "kafka.brokers",
        "kafka.topic",
    )
    links += ("service.answers",)
    return "FAILED" not in said and all(f"good    {link} " in said for link in links)


def say_where(pi: Machine, chain: list[str]) -> None:
    """Write into the settings what an operator writes before the first start."""
    host, port = chain[1].split(":")
    pi.run(
        "sed",
        "-i",
        f's/^host = .*/host = "{host}"/; s/^port = .*/port = {port}/;'
        f' s/^bootstrap_servers = .*/bootstrap_servers = "{chain[3]}"/',
        SETTINGS,
    )


def assert_what_is_sent_arrives_once(haproxy: HAProxy, kafka: KafkaCluster) -> None:
    with Verifier(kafka.bootstrap, [TOPIC]) as verifier:
        with Devices(haproxy.host.address, DEVICES, rate=100) as devices:
            devices.wait_sent(200)
        verifier.wait_for(devices.tally.acked)
        verdict = verifier.verdict(devices.tally)
    assert (verdict.lost, verdict.doubled) == (set(), {}), verdict


def wait_live(machine: Machine, unit: str = UNIT, deadline: float = 60.0) -> None:
    wait_until(
        lambda: (machine.show(unit, "ActiveState"), machine.show(unit, "StatusText")) == ("active", "live"),
        deadline,
        lambda: f"{unit} is live: {machine.run('systemctl', 'status', unit, status=None)}",
    )
