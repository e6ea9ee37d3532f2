"""What a machine needs to run the chain, and how it gets it.

    python3 -m tests.harness.kit lab        for deploy/lab
    python3 -m tests.harness.kit tests      for tests/run

Installs what is missing and nothing else: Debian packages by apt-get (as root, or by sudo), Python
packages into .venv at the versions of tests/requirements.txt, the jars of Kafka and HiveMQ by Maven at
those of kafka/pom.xml and hivemq/pom.xml into a cache. With nothing missing it takes a fraction of a
second. Standard library only, for it is what makes everything else available. Raises KitError.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
VENV = ROOT / ".venv"
_REQUIREMENTS = ROOT / "tests" / "requirements.txt"

# A command that must be there -> the Debian package that brings it.
_LAB = {"haproxy": "haproxy", "mosquitto": "mosquitto", "setpriv": "util-linux"}
_TESTS = _LAB | {
    "mosquitto_pub": "mosquitto-clients",
    "openssl": "openssl",
    "rabbitmq-server": "rabbitmq-server",
    "ejabberdctl": "ejabberd",
    "shellcheck": "shellcheck",
    "strace": "strace",
    "faketime": "faketime",
    "mkfs.ext4": "e2fsprogs",
    "losetup": "mount",
    # Machines that boot, for what is installed on them: tests/machines
    "systemd-analyze": "systemd",
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
}
_WANTED = {"lab": _LAB, "rabbitmq": _LAB | {"rabbitmq-server": "rabbitmq-server"}, "tests": _TESTS}

# What comes as jars: those that each purpose needs.
_JARS = {"lab": ["kafka"], "rabbitmq": ["kafka"], "tests": ["kafka", "hivemq"]}
_CALLED = {"kafka": "Kafka", "hivemq": "HiveMQ"}

_OLDEST_JAVA = 17  # what Kafka 4 asks of its brokers
_SPACE = 1700  # MB for packages, jars and .venv together on a bare Debian 12, with room to run

# What a tool prints when it fails -> what the person in front of it can do.
_WAYS_OUT = {
    r"No space left|not enough free space": "the disk is full",
    r"Temporary failure|Could not resolve|Unknown host|Name or service not known|Network is unreachable"
    r"|Could not (?:connect|transfer)|NoPluginFoundForPrefix"
    r"|Failed to establish a new connection|Connection timed out": "no network, which is"
    " needed once to download what is missing",
    r"Could not get lock": "another apt or dpkg is at work: try again when it is done",
    r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|PKIX path": "a certificate is not trusted here:"
    " update-ca-certificates",
}


class KitError(Exception):
    """This machine cannot get what is needed. The text says why and what helps, in one line."""


def provide(purpose: str) -> None:
    """Install what is missing for "lab", "rabbitmq" (the lab on that broker) or "tests"."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this runs on whatever Python the machine has
        raise KitError(f"Python 3.11 or newer is needed, python3 is {sys.version.split()[0]}")
    if _is_complete(purpose):
        return
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "kit.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests/run and deploy/lab may be started side by side
        if _is_complete(purpose):
            return
        _require_space()
        if packages := _missing_packages(purpose):
            _install_packages(packages)
        if not _venv_is_current():
            _build_venv()
        for name in _missing_jars(purpose):
            _fetch_jars(name)


def _is_complete(purpose: str) -> bool:
    return not _missing_packages(purpose) and not _missing_jars(purpose) and _venv_is_current()


def java() -> Path:
    """A Java that Kafka runs on: $JAVA_HOME's, the PATH's, or any that Debian installed."""
    candidates = [Path(home) / "bin/java" for home in [os.environ.get("JAVA_HOME")] if home]
    candidates += [Path(found) for found in [shutil.which("java")] if found]
    candidates += sorted(Path("/usr/lib/jvm").glob("*/bin/java"))
    for candidate in candidates:
        if candidate.exists() and _java_version(candidate.resolve()) >= _OLDEST_JAVA:
            return candidate
    raise KitError(f"no Java {_OLDEST_JAVA} or newer: apt-get install default-jre-headless, or set JAVA_HOME")


def kafka_jars() -> Path:
    """The directory of Kafka's jars."""
    return _jars("kafka", "lab")


def hivemq_jars() -> Path:
    """The directory of HiveMQ's jars."""
    return _jars("hivemq", "tests")


def cache() -> Path:
    """The directory for what can be downloaded or made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mqtt-kafka-bridge"


# -- Debian packages ---------------------------------------------------------------------------


def _missing_packages(purpose: str) -> list[str]:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    missing = {
        package for command, package in _WANTED[purpose].items() if not shutil.which(command, path=path)
    }
    try:
        java()
    except KitError:
        missing.add("default-jre-headless")
    if _missing_jars(purpose) and not shutil.which("mvn"):
        missing.add("maven")
    if not _venv_is_current() and not _can_make_venvs():
        missing.add("python3-venv")
    return sorted(missing)


def _install_packages(packages: list[str]) -> None:
    if not shutil.which("apt-get"):
        raise KitError(f"this is not Debian (no apt-get): install what its {', '.join(packages)} would bring")
    command = [sys.executable, "-m", "tests.harness.debian", *packages]
    if os.geteuid():
        if not shutil.which("sudo"):
            raise KitError(
                "neither root nor sudo, so as root: apt-get install --no-install-recommends "
                + " ".join(packages)
            )
        command = ["sudo", *command]
    _step(f"apt-get install {' '.join(packages)}", command)


# -- Python packages ---------------------------------------------------------------------------


def _can_make_venvs() -> bool:
    """Debian splits this off the standard library, into python3-venv."""
    return not subprocess.run(
        [sys.executable, "-c", "import ensurepip"], stderr=subprocess.DEVNULL
    ).returncode


def _venv_is_current() -> bool:
    try:
        return (VENV / "kit").read_text() == _venv_stamp() and (VENV / "bin/python").exists()
    except OSError:
        return False


def _venv_stamp() -> str:
    """Changes whenever .venv has to be made anew: the Python, where it stands, the packages."""
    content = _REQUIREMENTS.read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    return f"{sys.version} {VENV} {hashlib.sha256(content).hexdigest()}\n"


def _build_venv() -> None:
    pip = [str(VENV / "bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    _step("a virtual environment in .venv", [sys.executable, "-m", "venv", "--clear", str(VENV)])
    _step("Python packages of tests/requirements.txt", [*pip, "--requirement", str(_REQUIREMENTS)])
    # The commands bridge and mqtt-kafka-bridge, run from this very source.
    _step("the bridge itself", [*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
    (VENV / "kit").write_text(_venv_stamp())


# -- Java, and what comes as jars ----------------------------------------------------------------


def _java_version(java: Path) -> int:
    """Its major version, from the file beside it where there is one: starting Java is slow."""
    try:
        text = (java.parents[1] / "release").read_text()
    except OSError:
        text = subprocess.run([java, "-version"], capture_output=True, text=True).stderr
    found = re.search(r'(?:JAVA_VERSION=|version )"(?:1\.)?(\d+)', text)
    return int(found[1]) if found else 0


def _jars(name: str, purpose: str) -> Path:
    if not (path := _jars_path(name)).exists():
        raise KitError(f"{_CALLED[name]}'s jars are not there yet: python3 -m tests.harness.kit {purpose}")
    return path


def _missing_jars(purpose: str) -> list[str]:
    return [name for name in _JARS[purpose] if not _jars_path(name).exists()]


def _pom(name: str) -> Path:
    return Path(__file__).parent / name / "pom.xml"


def _jars_path(name: str) -> Path:
    return cache() / f"{name}-{hashlib.sha256(_pom(name).read_bytes()).hexdigest()[:12]}"


def _fetch_jars(name: str) -> None:
    target = _jars_path(name)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    try:
        command = ["mvn", "-q", "-B", "-f", str(_pom(name)), *goal]
        _step(f"{_CALLED[name]}'s jars from Maven Central", command)
        partial.rename(target)  # a download that was cut short is never taken for a whole one
    finally:
        shutil.rmtree(partial, ignore_errors=True)


# -- how it is done ----------------------------------------------------------------------------


def _require_space() -> None:
    for place in (cache(), ROOT, Path("/usr")):
        free = shutil.disk_usage(place).free // 2**20
        if free < _SPACE:
            raise KitError(f"{_SPACE} MB are needed on the disk of {place}, {free} MB are free")


def _step(what: str, command: Sequence[str]) -> None:
    """Run one step of the installation, its output going to a log that is shown only if it fails."""
    sys.stderr.write(f"kit: {what} ...")
    sys.stderr.flush()
    started = time.monotonic()
    log = cache() / "kit.log"
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        except FileNotFoundError as error:
            raise KitError(f"no {error.filename} here") from error
    sys.stderr.write(f" {time.monotonic() - started:.0f} s\n")
    if done.returncode:
        text = log.read_text(errors="replace")
        ways = [way for pattern, way in _WAYS_OUT.items() if re.search(pattern, text)]
        errors = re.findall(r"^.*(?:Error: |E: |ERROR: |ERROR\] ).*$", text, re.MULTILINE)
        reason = [*ways, *reversed(errors), f"exit code {done.returncode}"][0].strip()
        raise KitError(f"{what} failed: {reason} (all of it: {log})")


if __name__ == "__main__":
    try:
        provide(sys.argv[1])
    except KitError as error:
        sys.exit(f"kit: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
