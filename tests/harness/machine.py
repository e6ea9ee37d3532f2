"""A machine that boots: Debian with systemd as its first process, for tests of an installation.

    root = debian_root("bookworm")              made once, kept in the cache
    with Machine([root], tmp_path) as pi:
        pi.run("systemctl", "is-system-running")
        pi.power_cut()
        pi.boot()

All files are written to the test's own directory: they survive reboots and power cuts, and the root stays
unchanged. A machine shares this machine's network unless it gets a network of its own. Needs root.
"""

import hashlib
import os
import runpy
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.harness import kit
from tests.harness.conditions import wait_until
from tests.harness.netns import Namespace
from tests.harness.process import Process

_MIRROR = "http://deb.debian.org/debian"
_PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,ca-certificates,procps,iproute2"
_HOOKS = [
    # Copy this machine's own certificate authorities: a proxy may need them.
    '--essential-hook=mkdir -p "$1/usr/local/share/ca-certificates"; '
    'cp /usr/local/share/ca-certificates/*.crt "$1/usr/local/share/ca-certificates/" 2>/dev/null || true',
    # Packages that are installed on the booted machine, downloaded once for all tests.
    '--customize-hook=chroot "$1" apt-get -qq update',
    '--customize-hook=chroot "$1" apt-get -qq -y --download-only --no-install-recommends install'
    " haproxy keepalived socat default-jre-headless",
    "--skip=cleanup/apt",
]
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


_DEPLOY = kit.ROOT / "deploy"


class CommandFailed(AssertionError):
    """A command on the machine ended with another status than the expected one."""


def debian_root(suite: str) -> Path:
    """The root directory of a minimal Debian "bookworm" or "trixie" that can boot. Do not write to it."""
    recipe = hashlib.sha256(repr([_MIRROR, _PACKAGES, _HOOKS]).encode()).hexdigest()[:8]
    root = kit.cache() / f"{suite}-{recipe}"
    if root.exists():
        return root
    partial = root.with_name(f"{root.name}.{os.getpid()}")
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PACKAGES}", *_HOOKS]
    try:
        subprocess.run([*command, suite, partial, _MIRROR], check=True, capture_output=True, text=True)
        partial.rename(root)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"mmdebstrap {suite}: {error.stderr[-2000:]}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def wheels() -> Path:
    """A directory with all that install.sh and build-deb download, for every architecture."""
    locks = [_DEPLOY / name for name in ("requirements.lock", "build.lock", "deb.lock")]
    directory = (
        kit.cache()
        / f"wheels-{hashlib.sha256(b''.join(lock.read_bytes() for lock in locks)).hexdigest()[:8]}"
    )
    if directory.exists():
        return directory
    partial = directory.with_name(f"{directory.name}.{os.getpid()}")
    lock_module = runpy.run_path(str(_DEPLOY / "lock.py"))
    try:
        for architecture, python in lock_module["machines"]():
            lock_module["download"](architecture, python, locks, partial)
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return directory


class Machine:
    """Runs inside the `with` block. `files` are first copied over its root: path below / -> file or
    directory.

    `roots` are layers, the uppermost first; the files that another machine has `written` can be a layer.
    Without a `network` the machine uses this machine's network.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        directory: Path,
        *,
        name: str = "pi",
        files: Mapping[str, Path] | None = None,
        network: Namespace | None = None,
    ) -> None:
        self.name = name
        self._directory = directory / name
        self.written = self._directory / "written"
        self._root = self._directory / "root"
        for path in (self.written, self._directory / "work", self._root):
            path.mkdir(parents=True)
        # Services of a real machine may change its network. In a shared network that would be this machine's.
        own = [f"--network-namespace-path={network.path}", "--capability=CAP_NET_ADMIN"] if network else []
        self._network = own
        self._cgroup = f"{name}-{os.getpid()}"
        for place, source in {**_of_this_machine(), **(files or {})}.items():
            self._lay(place, source)
        self._process = Process(
            name,
            ["sh", "-c", self._script(roots)],
            log=self._directory / "console.log",
            ready=self._is_up,
            deadline=60.0,
        )

    def _lay(self, place: str, source: Path) -> None:
        target = self.written / place.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy(source, target)

    def _script(self, roots: Sequence[Path]) -> str:
        """A script that runs systemd-nspawn in a cgroup and mount namespace of its own: no mount stays."""
        lower = ":".join(map(str, roots))
        overlay = f"lowerdir={lower},upperdir={self.written},workdir={self._directory / 'work'}"
        nspawn = [
            *(
                "systemd-nspawn",
                "--quiet",
                f"--directory={self._root}",
                "--boot",
                f"--machine={self._cgroup}",
            ),
            *("--register=no", "--keep-unit", "--kill-signal=SIGRTMIN+3", "--console=pipe"),
            *self._network,
        ]
        inside = (
            f"mount -t overlay overlay -o {overlay} {self._root}; umount -R /sys/fs/cgroup;"
            f" mount -t cgroup2 none /sys/fs/cgroup; exec {shlex.join(nspawn)}"
        )
        return (
            "set -e; for tree in unified systemd ''; do tree=/sys/fs/cgroup/$tree;"
            " [ -e $tree/cgroup.procs ] || continue;"
            f" mkdir -p $tree/{self._cgroup}; echo $$ >$tree/{self._cgroup}/cgroup.procs; done;"
            f" exec unshare --mount --propagation private sh -ec {shlex.quote(inside)}"
        )

    # -- power -----------------------------------------------------------------------------------------

    def boot(self) -> None:
        self._process.start()

    @property
    def is_on(self) -> bool:
        return self._process.alive

    def shut_down(self) -> None:
        """Shut down like `poweroff`: systemd stops every service first."""
        os.kill(self._init(), signal.SIGRTMIN + 3)
        wait_until(lambda: not self._process.alive, 90.0, f"{self.name} is down")
        self._process.kill9()

    def power_cut(self) -> None:
        """Kill every process of the machine at once; data that was not synced may be lost."""
        os.kill(self._init(), signal.SIGKILL)
        self._process.kill9()

    def __enter__(self) -> Self:
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.alive:
            self.power_cut()

    def _is_up(self) -> bool:
        # "degraded": a unit failed that has no purpose in a container.
        return self.run("systemctl", "is-system-running", status=None).strip() in ("running", "degraded")

    def _init(self) -> int:
        """The process id of the machine's first process, as seen from this machine."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    # -- commands on the machine------------------------------------------------------------------------

    def run(
        self,
        *command: str,
        status: int | None = 0,
        timeout: float = 300.0,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Return a command's stdout and stderr. Raises CommandFailed unless it ends with `status`."""
        init = self._init()
        if not init:
            return ""
        words = [
            *_enter(init),
            "env",
            "-i",
            *(f"{k}={v}" for k, v in {**_ENVIRONMENT, **(env or {})}.items()),
        ]
        done = subprocess.run(
            [*words, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        if status is not None and done.returncode != status:
            raise CommandFailed(
                f"{shlex.join(command)}: {done.returncode} instead of {status}\n{done.stdout[-4000:]}"
            )
        return done.stdout

    def shell(self, script: str, status: int | None = 0) -> str:
        return self.run("bash", "-c", script, status=status)

    def read(self, path: str) -> str:
        return self.run("cat", path)

    def write(self, path: str, text: str) -> None:
        self.run("sh", "-c", f"printf %s {shlex.quote(text)} >{shlex.quote(path)}")

    def show(self, unit: str, name: str) -> str:
        """The value of a systemd unit's property."""
        return self.run("systemctl", "show", "-P", name, unit).strip()

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "--unit", unit, "--output", "cat", "--no-pager")

    def tree(self, *paths: str) -> dict[str, str]:
        """Every file below the existing paths: type, mode, owner, group, inode, size, time."""
        form = "%p\t%y %m %u %g %i %s %T@ %l\n"
        lines = self.run("find", *paths, "-printf", form, status=None).splitlines()
        return dict(line.split("\t", 1) for line in lines if "\t" in line)  # type: ignore[misc]


def _enter(init: int) -> Sequence[str]:
    return ["nsenter", "-t", str(init), "-a", "-W", "/"]


def _of_this_machine() -> dict[str, Path]:
    """The files with which the machine reaches package indexes like this machine."""
    files = {name: Path(name) for name in ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")}
    return {name: path for name, path in files.items() if path.exists()}
