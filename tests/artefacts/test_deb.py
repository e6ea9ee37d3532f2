"""The Debian packages that deploy/build-deb makes: one for each architecture, as dpkg sees them.

For the package on a booted machine see tests/integration/machines/test_deb.py.
"""

import os
import re
import subprocess
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import pytest

from bridge import __version__
from tests.harness.kit import ROOT
from tests.harness.machine import wheels

BUILD = ROOT / "deploy" / "build-deb"
VERSION = f"/opt/mqtt-kafka-bridge/{__version__}"

# A machine of the suite and architecture: its Python, the next Python, ELF's number of the processor.
MACHINES = {
    ("bookworm", "amd64"): ("deb12", "3.11", "3.12", 0x3E),
    ("trixie", "arm64"): ("deb13", "3.13", "3.14", 0xB7),
}


class Package:
    def __init__(self, suite: str, architecture: str, directory: Path) -> None:
        self.release, self.python, self.below, self.processor = MACHINES[suite, architecture]
        self.file = directory / f"mqtt-kafka-bridge_{__version__}+{self.release}_{architecture}.deb"
        self.architecture = architecture
        build: list[str | Path] = [BUILD, suite, architecture, "--output", directory, "--wheels", wheels()]
        subprocess.run(build, check=True, cwd=directory)
        with tarfile.open(fileobj=BytesIO(_dpkg("--fsys-tarfile", self.file))) as tar:
            self.members = {member.name.removeprefix("."): member for member in tar}
            self.texts = {
                name: file.read() for name, member in self.members.items() if (file := _regular(tar, member))
            }

    def control(self, name: str) -> str:
        return _dpkg("--info", self.file, name).decode()

    def links(self) -> Mapping[str, str]:
        return {name: member.linkname for name, member in self.members.items() if member.issym()}


def _regular(tar: tarfile.TarFile, member: tarfile.TarInfo) -> BytesIO | None:
    return BytesIO(tar.extractfile(member).read()) if member.isfile() else None  # type: ignore[union-attr]


def _dpkg(*arguments: str | Path) -> bytes:
    return subprocess.run(["dpkg-deb", *arguments], check=True, capture_output=True).stdout


@pytest.fixture(scope="module", params=MACHINES, ids=" ".join)
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Package:
    suite, architecture = request.param
    return Package(suite, architecture, tmp_path_factory.mktemp("deb"))


def test_it_is_for_one_architecture_and_one_python(package: Package) -> None:
    control = package.control("control")
    assert f"\nArchitecture: {package.architecture}\n" in control
    assert f"\nVersion: {__version__}+{package.release}\n" in control
    (depends,) = re.findall(r"^Depends: (.*)$", control, re.MULTILINE)
    assert depends == f"systemd, python3 (>= {package.python}~), python3 (<< {package.below}~)"

    compiled = {name: text for name, text in package.texts.items() if re.search(r"\.so(\.|$)", name)}
    assert len(compiled) >= 3
    assert {int.from_bytes(text[18:20], "little") for text in compiled.values()} == {package.processor}
    tags = {tag for name in compiled for tag in re.findall(r"\.cpython-(\d+)-", name)}
    assert tags == {package.python.replace(".", "")}


def test_it_brings_the_locked_packages_and_the_bridge(package: Package) -> None:
    brought = dict(re.findall(r"/([\w.]+)-([\w.]+)\.dist-info/METADATA$", "\n".join(package.texts), re.M))
    lock = (ROOT / "deploy" / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", lock.replace("-", "_"), re.M))
    assert brought == locked | {"mqtt_kafka_bridge": __version__}
    packages = f"{VERSION}/venv/lib/python{package.python}/site-packages"
    assert package.texts[f"{packages}/bridge/app.py"] == (ROOT / "bridge" / "app.py").read_bytes()
    page = ROOT / "bridge" / "http" / "page"
    assert {
        file.name: package.texts.get(f"{packages}/bridge/http/page/{file.name}") for file in page.iterdir()
    } == {file.name: file.read_bytes() for file in page.iterdir()}
    assert not [name for name in package.members if "__pycache__" in name]


def test_it_is_laid_out_as_install_sh_does_but_has_nothing_below_usr_local(package: Package) -> None:
    links = package.links()
    assert links["/opt/mqtt-kafka-bridge/current"] == __version__
    assert links["/usr/bin/mqtt-kafka-bridge"] == "/opt/mqtt-kafka-bridge/current/bin/mqtt-kafka-bridge"
    for command in ("bridge", "mqtt-kafka-bridge"):
        assert links[f"{VERSION}/bin/{command}"] == f"../venv/bin/{command}"
        script = package.texts[f"{VERSION}/venv/bin/{command}"]
        assert script.startswith(f"#!{VERSION}/venv/bin/python\n".encode())
    assert links[f"{VERSION}/venv/bin/python"] == "python3"
    assert links[f"{VERSION}/venv/bin/python3"] == f"python{package.python}"
    assert links[f"{VERSION}/venv/bin/python{package.python}"] == f"/usr/bin/python{package.python}"

    elsewhere = {name for name in package.texts if not name.startswith("/opt/")}
    units = [f"/usr/lib/systemd/system/mqtt-kafka-bridge{kind}.service" for kind in ("", "@")]
    backoff = {f"{unit}.d/backoff.conf" for unit in units} if package.release == "deb13" else set()
    kinds = ("sysusers", "tmpfiles")
    assert elsewhere == {
        *units,
        *backoff,
        *(f"/usr/lib/{kind}.d/mqtt-kafka-bridge.conf" for kind in kinds),
        "/etc/profile.d/mqtt-kafka-bridge.sh",
    }
    for name in elsewhere:
        assert package.texts[name] in _shipped()
    assert package.control("conffiles") == "/etc/profile.d/mqtt-kafka-bridge.sh\n"


def _shipped() -> set[bytes]:
    return {file.read_bytes() for file in (ROOT / "deploy").rglob("*") if file.is_file()}


def test_all_of_it_is_roots_and_only_root_may_write(package: Package) -> None:
    assert {(member.uid, member.gid) for member in package.members.values()} == {(0, 0)}
    files = {name: member.mode for name, member in package.members.items() if not member.issym()}
    assert [name for name, mode in files.items() if mode & 0o7022] == []
    assert [name for name, mode in files.items() if mode & 0o444 != 0o444] == []


# -- the command ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param((), "for which suite and architecture?", id="nothing"),
        pytest.param(("bullseye", "arm64"), "only bookworm and trixie", id="an old Debian"),
        pytest.param(("bookworm", "armhf"), "only for amd64 and arm64", id="a 32-bit Pi"),
        pytest.param(("bookworm", "arm64", "--sign"), "--sign: no such option", id="an unknown option"),
        pytest.param(("bookworm", "arm64", "--output"), "which directory?", id="no directory"),
    ],
)
def test_a_wrong_command_line_is_said_in_one_line(words: tuple[str, ...], said: str) -> None:
    done = subprocess.run([BUILD, *words], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_package_that_is_not_the_one_that_was_locked_is_not_packed(tmp_path: Path) -> None:
    others = tmp_path / "wheels"
    others.mkdir()
    for wheel in wheels().iterdir():
        (others / wheel.name).symlink_to(wheel)
    for wheel in list(others.glob("paho*")):
        changed = wheel.read_bytes() + b"changed"
        wheel.unlink()
        wheel.write_bytes(changed)
    build: list[str | Path] = [BUILD, "bookworm", "arm64", "--output", tmp_path, "--wheels", others]
    done = subprocess.run(build, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 1
    assert "do not install it" in done.stderr
    assert list(tmp_path.glob("*.deb")) == []
