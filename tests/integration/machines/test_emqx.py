"""install.sh emqx on booted machines with the founding addresses, and a package that stands for EMQX's."""

import contextlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.artefacts import pages
from tests.harness import kit
from tests.harness.conditions import wait_until
from tests.harness.emqx import emqx_package
from tests.harness.machine import Machine, debian_root
from tests.harness.universe import Universe
from tests.integration.machines.conftest import INSTALL, NOT_LIVE, SOURCE, Source

A, B = NODES = ("172.30.1.25", "172.30.1.9")
PAGE = kit.ROOT / "docs" / "how-to" / "install-emqx.md"
FIRST, SECOND, BALANCER, STATUS, UPGRADE, UNINSTALL = pages.commands(PAGE)
COOKIE = "/etc/default/emqx-cookie"
LOG = "/var/log/mqtt-kafka-bridge-install.log"
SUITES = ("bookworm", "trixie")
PACKAGES = "/root/packages"
EVERYWHERE = ("/etc", "/usr/local", "/usr/lib/emqx", "/var/lib/emqx", "/var/lib/dpkg", "/root")
FILES = {
    "/etc/emqx/mqtt-kafka-bridge.conf": "644 root root",
    "/etc/emqx/emqx.conf": "644 root root",
    "/etc/emqx/acl.conf": "644 root root",
    "/etc/emqx/emqx.conf.before-mqtt-kafka-bridge": "644 emqx emqx",
    "/etc/emqx/acl.conf.before-mqtt-kafka-bridge": "644 emqx emqx",
    COOKIE: "600 root root",
    "/etc/systemd/system/emqx.service.d/mqtt-kafka-bridge.conf": "644 root root",
}
# Undoes what a test has broken, one or the other way.
MENDS = (
    f"ip addr del {B}/24 dev eth0; systemctl stop 'run-*.service'; rm -f /root/cookie /root/half.deb; true"
)


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("packages")
    for version in ("5.8.9", "5.8.10", "5.8.99", "5.9.0", "4.4.19", "4.4.5", "4.3.22"):
        emqx_package(directory, version)
    emqx_package(directory, "5.8.9", architecture="riscv64")
    emqx_package(directory, "5.8.9", name="emqx-enterprise")
    emqx_package(directory, "5.8.9", name="mosquitto")
    emqx_package(directory, "5.8.8", depends="libc6, libssl1.1 (>= 1.1.1)")
    return directory


@pytest.fixture
def universe() -> Iterator[Universe]:
    with Universe() as universe, universe.inside():
        yield universe


Boot = Callable[[int], Machine]


@pytest.fixture
def boot(universe: Universe, source: Source, packages: Path, tmp_path: Path) -> Iterator[Boot]:
    """Boots the machine of the first or the second node."""
    with contextlib.ExitStack() as running:

        def start(number: int) -> Machine:
            host = universe.host(f"emqx{number}", int(NODES[number - 1].rpartition(".")[2]))
            files = {SOURCE: source(), PACKAGES: packages}
            roots = [debian_root(SUITES[number - 1])]
            return running.enter_context(
                Machine(roots, tmp_path, name=host.name, files=files, network=host.wires.namespace)
            )

        yield start


@pytest.fixture
def package(packages: Path) -> Callable[..., str]:
    """package("5.8.9") is the path on the machines of this version's package."""
    architecture = next(packages.glob("emqx-5.8.10-*")).name.rpartition("-")[2]

    def path(version: str, name: str = "emqx") -> str:
        return f"{PACKAGES}/{name}-{version}-debian12-{architecture}"

    return path


def install(
    pi: Machine, command: str, package: str, *more: str, status: int | None = 0, cookie: str = ""
) -> str:
    """Run a command of the page, with another package. `cookie` is what the page's ssh brings."""
    fetch, _, command = command.rpartition(" | ")
    assert bool(fetch) == bool(cookie)
    words = [
        INSTALL if word == "deploy/install.sh" else word for word in command.removeprefix("sudo ").split()
    ]
    words = [package if word.endswith(".deb") else word for word in words]
    return pi.shell(f"printf %s {shlex.quote(cookie)} | {shlex.join([*words, *more])}", status)


def on(pi: Machine, command: str, *more: str, status: int | None = 0) -> str:
    return pi.run(INSTALL, *command.split()[2:], *more, status=status)


def test_two_machines_become_a_pair_and_a_second_run_changes_nothing(
    universe: Universe, boot: Boot, package: Callable[..., str]
) -> None:
    one, two = machines = [boot(number) for number in (1, 2)]
    ours = package("5.8.9")

    before = one.tree(*EVERYWHERE)
    said = install(one, FIRST, ours, "--dry-run")
    assert said.count("would: ") >= 4, said
    assert one.tree(*EVERYWHERE) == before

    said = install(one, FIRST, ours)
    assert "version 5.8.9, node 1 of 2: 172.30.1.25" in said, said
    assert f"{B}:4370: nothing listens there. Does EMQX run on that node?" in said, said
    assert SECOND.replace(SECOND.split()[SECOND.split().index("--package") + 1], ours) in said, said
    assert "the user admin with the password public" in said
    cookie = one.read(COOKIE)
    secret = cookie.split("=")[1].strip()
    assert secret not in said + one.read(LOG) + one.shell("cat /etc/emqx/* /proc/*/cmdline | tr '\\0' ' '")
    assert f"node 2     {B}: away" in on(one, STATUS, status=NOT_LIVE)
    again = install(one, FIRST, ours)
    assert "the other node is not there yet" in again, again
    assert one.read(COOKIE) == cookie

    # Without the cookie the second node would wait for ever.
    before = two.tree(*EVERYWHERE)
    said = install(two, FIRST, ours, status=1)
    assert (
        f"{A} runs EMQX already, and this node needs its cookie: {SECOND.partition(' --nodes')[0]}" in said
    ), said
    assert two.tree(*EVERYWHERE) == before
    said = install(two, SECOND, ours, "--wait", "3", status=NOT_LIVE, cookie="c" * 30)
    assert f"{A} is not in the cluster: does it have the same cookie" in said, said
    assert "add --restart" in install(two, SECOND, ours, status=1, cookie=cookie)
    said = install(two, SECOND, ours, "--restart", cookie=cookie)
    assert "wait until the nodes see each other" in said, said
    assert f"next: {BALANCER.removeprefix('sudo ')}" in said, said

    for pi in machines:
        said = on(pi, STATUS)
        assert (said.count(": up"), said.count("this machine")) == (2, 1), said
        assert pi.read(COOKIE).count(secret) == 1
        assert permissions(pi) == FILES
        assert pi.read("/etc/emqx/emqx.conf").splitlines()[-2] == 'include "mqtt-kafka-bridge.conf"'
        assert "{re, " in pi.read("/etc/emqx/acl.conf").partition("{deny, all")[0]
        assert "bridge" not in pi.read("/etc/emqx/emqx.conf.before-mqtt-kafka-bridge")
        assert pi.shell("systemd-analyze verify emqx.service 2>&1") == ""
        before, started = pi.tree(*EVERYWHERE), pi.show("emqx", "InvocationID")
        said = install(pi, FIRST, ours)
        assert "..." not in said, f"it made a step: {said}"
        assert "it runs, and sees all nodes" in said
        assert pi.tree(*EVERYWHERE) == before
        assert pi.show("emqx", "InvocationID") == started

    # Other settings need a restart, which a person must want.
    two.shell(f"sed -i 's/max_inflight = 100/max_inflight = 200/' {SOURCE}/deploy/emqx/5.8/*.conf")
    before, started = two.tree(*EVERYWHERE), two.show("emqx", "InvocationID")
    said = install(two, FIRST, ours, status=1)
    assert "EMQX must restart, which ends this node's sessions with the messages that wait in them" in said
    assert two.tree(*EVERYWHERE) == before
    two.shell(f"echo nonsense >>{SOURCE}/deploy/emqx/5.8/mqtt-kafka-bridge.conf")
    said = install(two, FIRST, ours, "--restart", status=1)
    assert "syntax error before: nonsense" in said, said
    assert "putting everything back ... as it was before" in said
    assert "max_inflight = 100\n" in two.read("/etc/emqx/mqtt-kafka-bridge.conf")
    assert two.show("emqx", "InvocationID") == started  # and its sessions live
    two.shell(f"sed -i '$d' {SOURCE}/deploy/emqx/5.8/mqtt-kafka-bridge.conf")
    two.shell("echo 'log.console.level = error' >>/etc/emqx/emqx.conf")
    said = install(two, UPGRADE, package("5.8.10"))
    assert two.show("emqx", "InvocationID") != started
    assert "version    5.8.10" in on(two, STATUS)
    assert "max_inflight = 200\n" in two.read("/etc/emqx/mqtt-kafka-bridge.conf")
    assert "log.console.level = error\n" in two.read("/etc/emqx/emqx.conf")

    with universe.cable_out(universe.host("emqx2", 9)):
        two.power_cut()
        wait_until(
            lambda: f"{B}: away" in on(one, STATUS, status=None), 30.0, lambda: on(one, STATUS, status=None)
        )
        assert "the other node is not there yet" in install(one, FIRST, ours)
        refused = on(one, UNINSTALL, "--purge", status=1)
        assert "no other node has the retained messages and the users of this one; --force purges" in refused
    two.boot()
    wait_until(
        lambda: on(one, STATUS, status=None).count(": up") == 2, 60.0, lambda: on(one, STATUS, status=None)
    )

    assert f"kept: /etc/emqx, /var/lib/emqx and {COOKIE}" in on(two, UNINSTALL)
    assert "EMQX is not installed" in on(two, STATUS, status=NOT_LIVE)
    assert two.read(COOKIE).count(secret) == 1
    install(two, FIRST, package("5.8.10"))  # with the cookie that was kept
    on(two, UNINSTALL, "--purge")
    assert left(two) == set()
    on(one, UNINSTALL, "--purge", "--force")
    assert left(one) == set()


WRONG = {
    "no node": ("", ("--nodes", ""), "--nodes: needs a value"),
    "three nodes": ("", ("--nodes", f"{A},{B},172.30.1.8"), "3 nodes, and HAProxy stands in front of two"),
    "a port": (
        "",
        ("--nodes", f"{A}:1883"),
        f"--nodes {A}:1883: must be an address or a name, without a port",
    ),
    "twice the same": ("", ("--nodes", f"{A},{A}"), f"--nodes names {A} twice"),
    "a name without a domain": (
        "",
        ("--nodes", f"pi1,{B}"),
        "--nodes pi1: must be an IPv4 address, or a name",
    ),
    "no address of this machine": (
        "",
        ("--nodes", "172.30.1.77"),
        f"is this machine, which has {A}: correct them",
    ),
    "two addresses of this machine": (
        f"ip addr add {B}/24 dev eth0",
        (),
        "nodes 1,2 of --nodes are both this machine: say which with --node",
    ),
    "an option that is none": ("", ("--cookie", "x"), "emqx: --cookie: no such option"),
    "no package": ("", ("--package", "/root/none.deb"), "--package /root/none.deb: no such file"),
    "half a package": (
        f"head -c 2000 {PACKAGES}/emqx-5.8.10-*.deb >/root/half.deb",
        ("--package", "/root/half.deb"),
        "damaged, or no Debian package: download it again",
    ),
    "another edition": (
        "",
        ("--package", "emqx-enterprise 5.8.9"),
        "is emqx-enterprise, another edition; take",
    ),
    "another program": ("", ("--package", "mosquitto 5.8.9"), "is mosquitto, not emqx"),
    "a version with licences": ("", ("--package", "emqx 5.9.0"), "from 5.9 on a cluster needs a licence"),
    "an old version": ("", ("--package", "emqx 4.3.22"), "EMQX 4.3.22: these settings are for 5.8 and 4.4"),
    "another architecture": (
        "",
        ("--package", f"{PACKAGES}/emqx-5.8.9-debian12-riscv64.deb"),
        "is for riscv64",
    ),
    "a package for another Debian": (
        "",
        ("--package", "emqx 5.8.8"),
        "needs libssl1.1, which this system does not have: take the package for debian 12",
    ),
    "a port that is taken": (
        "systemd-run --quiet --service-type=exec python3 -m http.server 1883;"
        " timeout 60 bash -c 'until ss -Hltn sport = :1883 | grep -q .; do sleep 0.1; done'",
        (),
        'port 1883 is served by "python3", and EMQX needs it: stop that first',
    ),
    "no file with a cookie": ("", ("--cookie-file", "/root/none"), "--cookie-file /root/none: no such file"),
    "no cookie in the file": (
        "echo emqxsecretcookie >/root/cookie",
        ("--cookie-file", "/root/cookie"),
        "--cookie-file /root/cookie: has no cookie, which is 20 letters or digits or more, a letter first",
    ),
    "no cookie from the other node": (
        "",
        ("--cookie-file", "-"),
        f"20 letters or digits or more, a letter first: give {COOKIE} of the other node",
    ),
}


def test_what_is_wrong_is_said_in_one_line_before_anything_is_changed(
    boot: Boot, package: Callable[..., str]
) -> None:
    pi = boot(1)
    said = pi.run(INSTALL, "emqx", "--nodes", A, status=2)
    assert "which package? --package emqx-5.8.9-debian12-" in said, said
    for name, (breaks, options, why) in WRONG.items():
        if breaks:
            pi.shell(f"set -e; {breaks}")
        before = pi.tree(*EVERYWHERE)
        words = [package(*reversed(word.split())) if " " in word else word for word in options]
        said = install(pi, FIRST, package("5.8.9"), *words, status=None)
        changed = {path for path, _ in before.items() ^ pi.tree(*EVERYWHERE).items()}
        assert (len(said.splitlines()), changed) == (1, set()), f"{name}: {said}"
        assert said.startswith("install.sh: "), f"{name}: {said}"
        assert why in said, f"{name}: {said}"
        pi.shell(MENDS)

    # A person's own EMQX, which runs with other settings. Nothing of it is changed without a word.
    pi.run("apt-get", "-q", "-y", "install", package("4.4.5"), env={"DEBIAN_FRONTEND": "noninteractive"})
    pi.run("systemctl", "start", "emqx")
    assert "EMQX is not from install.sh: sudo apt-get remove emqx" in on(pi, UNINSTALL, status=1)
    assert "EMQX is not installed, or not by install.sh" in on(pi, STATUS, status=NOT_LIVE)
    one = ("emqx", "--nodes", A)
    assert "add --restart" in pi.run(INSTALL, *one, status=1)
    why = "EMQX 4.4.5 is installed, and 5.8.9 does not read its data"
    assert why in pi.run(INSTALL, *one, "--package", package("5.8.9"), status=1)
    said = pi.run(INSTALL, *one, "--package", package("4.4.19"), "--restart")
    assert "next: deploy/install.sh haproxy --emq 172.30.1.25" in said, said
    why = "EMQX 4.4.19 is installed, and 4.4.5 may not read its data"
    assert why in pi.run(INSTALL, *one, "--package", package("4.4.5"), status=1)
    before = pi.tree(*EVERYWHERE)
    assert "it runs, and sees all nodes" in pi.run(INSTALL, *one)
    assert pi.tree(*EVERYWHERE) == before
    assert "node 1     172.30.1.25: up, this machine" in on(pi, STATUS)
    assert "\nzone.external.max_mqueue_len = 10000\n" in pi.read("/etc/emqx/emqx.conf")
    assert "{client, " in pi.read("/etc/emqx/acl.conf")
    on(pi, UNINSTALL, "--purge", "--force")
    assert left(pi) == set()

    # What cannot run leaves only the package.
    users = pi.read("/etc/passwd")
    said = pi.run(INSTALL, *one, "--package", package("5.8.99"), status=1)
    assert "this version does not run" in said, said
    assert "putting everything back ... as it was before" in said
    assert left(pi) - {"/usr/bin/emqx", "/usr/lib/emqx"} == {
        "/etc/emqx",
        "/var/lib/emqx",
        "/var/log/emqx",
        "/usr/lib/systemd/system/emqx.service",
    }
    assert "install.sh" not in pi.shell("cat /etc/emqx/*")
    assert users in pi.read("/etc/passwd")
    assert pi.show("emqx", "UnitFileState") == "disabled"


def permissions(pi: Machine) -> dict[str, str]:
    lines = pi.run("stat", "--format=%n\t%a %U %G", *FILES).splitlines()
    return dict(line.split("\t") for line in lines)  # type: ignore[misc]


def left(pi: Machine) -> set[str]:
    """EMQX's files on the machine, without the clone and what apt and dpkg keep."""
    where = "/etc /opt /usr/bin /usr/lib /usr/local /var/lib /var/log"
    return set(
        pi.shell(f"find {where} -xdev -path '*/dpkg' -prune -o -name '*emqx*' -prune -print").splitlines()
    )
