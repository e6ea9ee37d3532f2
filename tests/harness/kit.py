"""Installs what a machine needs to run the chain.

    python3 -m tests.harness.kit lab        for deploy/lab
    python3 -m tests.harness.kit observe    for deploy/lab up --observe, besides
    python3 -m tests.harness.kit tests      for tests/run

It installs only what is missing: Debian packages by apt-get (as root, or by sudo), Python packages into .venv
at the versions of tests/requirements.txt, and by Maven the jars of Kafka and HiveMQ into a cache, at the
versions of deploy/kafka/pom.xml, kafka/older.xml and hivemq/pom.xml. If nothing is missing, it takes a
fraction of a second. Standard library only, because it installs everything else. Raises KitError.
"""

import ctypes
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

# A command that is needed -> the Debian package that contains it.
_LAB = {"haproxy": "haproxy", "mosquitto": "mosquitto", "setpriv": "util-linux"}
_OBSERVE = {"prometheus": "prometheus"}
_TESTS = _LAB | {
    "mosquitto_pub": "mosquitto-clients",
    "openssl": "openssl",
    "rabbitmq-server": "rabbitmq-server",
    "ejabberdctl": "ejabberd",
    "shellcheck": "shellcheck",
    "strace": "strace",
    "tcc": "tcc",
    "jq": "jq",  # tests/artefacts/test_docs.py runs the filters of the pages
    "mkfs.ext4": "e2fsprogs",
    "losetup": "mount",
    # Machines that boot, for the tests of installation: tests/integration/machines
    "systemd-analyze": "systemd",
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    # The page in a browser; npm brings axe-core.
    "chromium": "chromium",
    "npm": "npm",
    "prometheus": "prometheus",
    "promtool": "prometheus",
}
_WANTED = {
    "lab": _LAB,
    "observe": _OBSERVE,
    "rabbitmq": _LAB | {"rabbitmq-server": "rabbitmq-server"},
    "tests": _TESTS,
}
# A shared library that is needed -> the Debian package that contains it.
_LIBRARIES = {"tests": {"libatomic.so.1": "libatomic1"}}  # of Playwright's own Node

# The sets of jars that each purpose needs.
_JARS = {
    "lab": ["kafka"],
    "observe": [],
    "rabbitmq": ["kafka"],
    "tests": ["kafka", "older-kafka", "hivemq"],
}
_CALLED = {"kafka": "Kafka", "older-kafka": "an older Kafka", "hivemq": "HiveMQ"}
_POMS = {
    "kafka": ROOT / "deploy/kafka/pom.xml",  # install.sh kafka installs the same
    "older-kafka": ROOT / "tests/harness/kafka/older.xml",
    "hivemq": ROOT / "tests/harness/hivemq/pom.xml",
}

# How long a complete installation takes, with a fast network and with a slow one.
_TAKES = {"tests": "2 to 10 minutes"}
_TAKES_OTHERWISE = "1 to 5 minutes"

_OLDEST_JAVA = 17  # Kafka 4's brokers need it
_SPACE = 1700  # MB for packages, jars and .venv together on a bare Debian 12, and for a run

# What a tool prints when it fails -> the cause, or what the user can do.
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
    """A requirement cannot be installed. The text says why and what helps, in one line."""


def provide(purpose: str) -> None:
    """Install what is missing for "lab", "rabbitmq" (the lab on that broker), "observe" or "tests"."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this runs on whatever Python the machine has
        raise KitError(f"Python 3.11 or newer is needed, python3 is {sys.version.split()[0]}")
    if _is_complete(purpose):
        return
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "kit.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests/run and deploy/lab may start at the same time
        if _is_complete(purpose):
            return
        _require_space()
        packages = _missing_packages(purpose)
        sys.stderr.write(_announced(purpose, packages))
        if packages:
            _install_packages(packages)
        if not _venv_is_current():
            _build_venv()
        for name in _missing_jars(purpose):
            _fetch_jars(name)


def _is_complete(purpose: str) -> bool:
    return not _missing_packages(purpose) and not _missing_jars(purpose) and _venv_is_current()


def _announced(purpose: str, packages: Sequence[str]) -> str:
    """What will be installed, where, and how long it takes."""
    lines = []
    if packages:
        lines.append(f"Debian packages, by apt-get: {', '.join(packages)}")
    if not _venv_is_current():
        lines.append(f"Python packages of {_REQUIREMENTS.relative_to(ROOT)}, into {VENV}")
    lines += [f"{_CALLED[name]}'s jars, into {_jars_path(name)}" for name in _missing_jars(purpose)]
    takes = _TAKES.get(purpose, _TAKES_OTHERWISE)
    head = f"kit: the following is missing here, and is installed now. All of it takes {takes}, once:\n"
    return head + "".join(f"kit:   {line}\n" for line in lines)


def java() -> Path:
    """A Java that can run Kafka: from $JAVA_HOME, from the PATH, or installed by Debian."""
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


def older_kafka_jars() -> Path:
    """The directory of the jars of a Kafka from which a test upgrades."""
    return _jars("older-kafka", "tests")


def hivemq_jars() -> Path:
    """The directory of HiveMQ's jars."""
    return _jars("hivemq", "tests")


def cache() -> Path:
    """The directory for files that can be downloaded or made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mqtt-kafka-bridge"


# -- Debian packages ---------------------------------------------------------------------------


def _missing_packages(purpose: str) -> list[str]:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    missing = {
        package for command, package in _WANTED[purpose].items() if not shutil.which(command, path=path)
    }
    missing |= {package for library, package in _LIBRARIES.get(purpose, {}).items() if not _is_there(library)}
    try:
        java()
    except KitError:
        missing.add("default-jre-headless")
    if _missing_jars(purpose) and not shutil.which("mvn"):
        missing.add("maven")
    if not _venv_is_current() and not _can_make_venvs():
        missing.add("python3-venv")
    return sorted(missing)


def _is_there(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


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
    """Whether venv works: Debian splits it off the standard library, into python3-venv."""
    return not subprocess.run(
        [sys.executable, "-c", "import ensurepip"], stderr=subprocess.DEVNULL
    ).returncode


def _venv_is_current() -> bool:
    try:
        return (VENV / "kit").read_text() == _venv_stamp() and (VENV / "bin/python").exists()
    except OSError:
        return False


def _venv_stamp() -> str:
    """A text that changes whenever .venv must be made again: Python, location, packages."""
    content = _REQUIREMENTS.read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    return f"{sys.version} {VENV} {hashlib.sha256(content).hexdigest()}\n"


def _build_venv() -> None:
    if VENV.is_symlink():  # venv --clear would follow it
        raise KitError(
            f"{VENV} is a symbolic link, and making it again would empty {VENV.resolve()}: rm {VENV}, so that"
            " this clone gets packages of its own"
        )
    pip = [str(VENV / "bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    _step("a virtual environment in .venv", [sys.executable, "-m", "venv", "--clear", str(VENV)])
    _step("Python packages of tests/requirements.txt", [*pip, "--requirement", str(_REQUIREMENTS)])
    # The commands bridge and mqtt-kafka-bridge, run from this source tree.
    _step("the bridge itself", [*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
    (VENV / "kit").write_text(_venv_stamp())


# -- Java and jars ----------------------------------------------------------------


def _java_version(java: Path) -> int:
    """This Java's major version, from its release file if possible: starting Java is slow."""
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


def _jars_path(name: str) -> Path:
    return cache() / f"{name}-{hashlib.sha256(_POMS[name].read_bytes()).hexdigest()[:12]}"


def _fetch_jars(name: str) -> None:
    target = _jars_path(name)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    try:
        command = ["mvn", "-q", "-B", "-f", str(_POMS[name]), *goal]
        _step(f"{_CALLED[name]}'s jars from Maven Central", command)
        partial.rename(target)  # an interrupted download is never used
    finally:
        shutil.rmtree(partial, ignore_errors=True)


# -- helpers ----------------------------------------------------------------------------


def _require_space() -> None:
    for place in (cache(), ROOT, Path("/usr")):
        free = shutil.disk_usage(place).free // 2**20
        if free < _SPACE:
            raise KitError(f"{_SPACE} MB are needed on the disk of {place}, {free} MB are free")


def _step(what: str, command: Sequence[str]) -> None:
    """Run one step of the installation. Its output goes to a log, which is shown only on failure."""
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
        sys.stderr.write("\nkit: interrupted; the next `deploy/lab up` or `tests/run` installs the rest\n")
        sys.exit(130)
