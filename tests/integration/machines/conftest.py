"""Booted Debian machines that the bridge is installed on, beside the chain that the other tests use too."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.harness.haproxy import SUBSCRIBER, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.kit import ROOT
from tests.harness.machine import Machine, debian_root, wheels

TOPIC = "mqtt"  # the shipped route's
UNIT = "mqtt-kafka-bridge"
SOURCE = "/root/mqtt-kafka-bridge"
INSTALL = f"{SOURCE}/deploy/install.sh"
WHEELS = ("--wheels", "/root/wheels")  # but for one test, nobody has to wait for the network

NewMachine = Callable[..., Machine]
Source = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.skip(reason="only root can boot a machine"))


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A clone as somebody has it: source("0.2.0", {"bridge/app.py": "what it says instead"})."""

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


@pytest.fixture
def new_machine(source: Source, tmp_path: Path) -> NewMachine:
    """new_machine("bookworm") is a minimal Debian with a clone in /root, not booted yet."""

    def create(suite: str, layers: Sequence[Path] = (), files: Mapping[str, Path] | None = None) -> Machine:
        below = {} if layers else {SOURCE: source(), WHEELS[1]: wheels()}
        return Machine([*layers, debian_root(suite)], tmp_path, files={**below, **(files or {})})

    return create


@pytest.fixture
def chain(haproxy: HAProxy, kafka: KafkaCluster) -> Iterator[list[str]]:
    """HAProxy, EMQ and Kafka with the shipped route's topic, as options for `install.sh bridge`."""
    kafka.create_topic(TOPIC, 3)
    yield ["--mqtt", f"{haproxy.host.address}:{SUBSCRIBER}", "--kafka", kafka.bootstrap]
    kafka.delete_topic(TOPIC)
