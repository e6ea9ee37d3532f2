"""Builds the MQTT clients of tests/clients, which people use on devices.

Each client is run as COMMAND HOST PORT 5|3.1.1 TOPIC FILE and publishes the file at QoS 0, 1 and 2. The
versions of its parts are pinned, and downloaded once. The build stays in kit.cache(), under a name that
changes with the client's sources.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.harness import kit
from tests.harness.conditions import NotInTime
from tests.harness.process import Process

Command = list[str | Path]

_SOURCES = kit.ROOT / "tests" / "clients"
_OLDEST_NODE = 18
_DOWNLOAD = 90.0  # seconds
_BUILD = 300.0  # seconds: on a Raspberry Pi Go compiles its own library for minutes

# A download that fails with one of these is no network problem: a pin is wrong, or its file has changed.
_WRONG = re.compile(r"EINTEGRITY|EUSAGE|checksum mismatch|missing go\.sum entry")


_not_here: dict[str, str] = {}  # directory -> reason: a client that could not be built is not tried again


class NotHere(Exception):
    """The client cannot be built on this machine. The text says why, and what helps."""


def mosquitto_pub() -> Command:
    _require("mosquitto-clients", "mosquitto_pub")
    return [_SOURCES / "mosquitto_pub" / "publish.sh"]


def mqtt_js() -> Command:
    _require("nodejs npm", "node", "npm")
    version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < _OLDEST_NODE:
        raise NotHere(f"Node.js {_OLDEST_NODE} or newer is needed, node is {version.strip()}")
    return ["node", _kept("mqtt-js", _npm_ci) / "publish.js"]


def paho_go_311() -> Command:
    _require("golang", "go")
    return [_kept("go", _go_build) / "publish311"]


def paho_go_5() -> Command:
    _require("golang", "go")
    return [_kept("go", _go_build) / "publish5"]


def paho_c() -> Command:
    packages = "gcc libc6-dev libpaho-mqtt-dev"
    _require(packages, "cc")
    header = subprocess.run(
        ["cc", "-E", "-x", "c", "-"], input=b"#include <MQTTClient.h>\n", capture_output=True
    )
    if header.returncode:
        raise NotHere(f"no MQTTClient.h: apt-get install {packages}")
    return [_kept("c", _cc) / "publish"]


def _require(packages: str, *commands: str) -> None:
    for command in commands:
        if not shutil.which(command):
            raise NotHere(f"no {command}: apt-get install {packages}")


# -- how each client is built: from the directory of its sources into another one----------------------


def _npm_ci(source: Path, into: Path) -> None:
    shutil.copytree(source, into, ignore=shutil.ignore_patterns("node_modules"), dirs_exist_ok=True)
    downloads = into / "npm"
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
    _download("npm ci", command, cwd=into, env={"npm_config_cache": str(downloads)})
    shutil.rmtree(downloads)


def _go_build(source: Path, into: Path) -> None:
    modules, objects = into / "modules", into / "objects"
    env = {
        "GOMODCACHE": str(modules),
        "GOCACHE": str(objects),
        "GOFLAGS": "-modcacherw -trimpath -buildvcs=false",
        "GOTOOLCHAIN": "local",  # a Go that is too old says so, and downloads no other
        "GOWORK": "off",
        "CGO_ENABLED": "0",
    }
    _download("go mod download", ["go", "mod", "download"], cwd=source, env=env)
    _run("go build", ["go", "build", "-o", str(into), "./..."], cwd=source, env=env, deadline=_BUILD)
    shutil.rmtree(modules)
    shutil.rmtree(objects)


def _cc(source: Path, into: Path) -> None:
    command = ["cc", "-o", str(into / "publish"), "publish.c", "-lpaho-mqtt3c"]
    _run("cc", command, cwd=source, env={}, deadline=_BUILD)


def _kept(name: str, make: Callable[[Path, Path], None]) -> Path:
    """The directory of the build of tests/clients/`name`, which is built now if it is missing."""
    if name in _not_here:
        raise NotHere(_not_here[name])
    source = _SOURCES / name
    target = kit.cache() / "clients" / f"{name}-{_digest(source)}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, ignore_cleanup_errors=True) as partial:
            try:
                make(source, Path(partial))
            except NotHere as error:
                _not_here[name] = str(error)
                raise
            Path(partial).rename(target)  # an interrupted build is never used
    return target


def _digest(source: Path) -> str:
    files = sorted(path for path in source.rglob("*") if path.is_file() and "node_modules" not in path.parts)
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _download(what: str, command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
    """Run a download. Raises NotHere if it fails, RuntimeError if a pin does not match."""
    try:
        _run(what, command, cwd=cwd, env=env, deadline=_DOWNLOAD)
    except (NotInTime, RuntimeError) as error:
        if _WRONG.search(str(error)):
            raise
        why = f"took more than {_DOWNLOAD:g} s" if isinstance(error, NotInTime) else "failed"
        raise NotHere(f"{what} {why}, see {_log(what)}: it needs the network, once") from error


def _run(what: str, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], deadline: float) -> None:
    """Run a command. Raises RuntimeError with the end of its output, NotInTime after `deadline` s."""
    log = _log(what)
    log.unlink(missing_ok=True)
    process = Process(what, command, log=log, cwd=cwd, env={**os.environ, **env})
    process.start()
    try:
        process.wait_end(deadline)
    finally:
        process.kill9()


def _log(what: str) -> Path:
    return kit.cache() / f"{what.replace(' ', '-')}.log"
