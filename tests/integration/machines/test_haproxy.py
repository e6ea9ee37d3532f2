"""install.sh haproxy on a clean Debian that boots, in a network of its own."""

import pytest

from tests.harness.conditions import wait_until
from tests.harness.machine import Machine
from tests.integration.machines.conftest import INSTALL, NOT_LIVE, SOURCE

CFG, BEFORE = "/etc/haproxy/haproxy.cfg", "/etc/haproxy/haproxy.cfg.before-mqtt-kafka-bridge"
DEFAULTS = "/etc/default/haproxy"
LOG = "/var/log/mqtt-kafka-bridge-install.log"
NODES = ("--emq", "127.0.0.1:2883", "--emq", "127.0.0.2:2883")

# A node that satisfies HAProxy's check: it answers CONNECT with CONNACK 2 (refused).
NODE = """
import socketserver, sys
class Node(socketserver.BaseRequestHandler):
    def handle(self):
        while self.request.recv(1000):
            self.request.sendall(bytes.fromhex("20020002"))
socketserver.ThreadingTCPServer((sys.argv[1], 2883), Node).serve_forever()
"""


@pytest.fixture
def pi(lone_pi: Machine) -> Machine:
    return lone_pi


def nodes_are_up(pi: Machine) -> None:
    for address in ("127.0.0.1", "127.0.0.2"):
        pi.run("systemd-run", "--quiet", "--service-type=exec", "python3", "-c", NODE, address)


@pytest.mark.parametrize("lone_pi", ["bookworm", "trixie"], indirect=True)
def test_it_serves_the_given_nodes_and_keeps_what_was_there(pi: Machine) -> None:
    nodes_are_up(pi)
    pi.shell(f"printf LOG=/dev/log >{DEFAULTS}")  # as the page says for a spare, before the package is there
    said = pi.run(INSTALL, "haproxy", *NODES)
    assert pi.read(DEFAULTS).startswith("LOG=/dev/log\nEMQ1=127.0.0.1\n")
    assert "EMQ1 127.0.0.1: answers as a broker" in said
    assert "EMQ2 127.0.0.2: answers as a broker" in said
    assert pi.read(CFG) == pi.read(f"{SOURCE}/haproxy/haproxy.cfg")
    assert "mqtt-kafka" not in pi.read(BEFORE)
    assert "EMQ2=127.0.0.2\nEMQ2_PORT=2883\n" in pi.read(DEFAULTS)

    (password,) = (line.split("password ")[1].split()[0] for line in said.splitlines() if "password" in line)
    assert password not in pi.read(LOG) + pi.read(DEFAULTS)
    assert status_of_console(pi, f"admin:{password}") == "200"
    assert status_of_console(pi, "admin:admin") == "401"

    process = pi.show("haproxy", "MainPID")
    again = pi.run(INSTALL, "haproxy", *NODES)
    assert "it is in place, and serves" in again
    assert "password" not in again
    assert pi.show("haproxy", "MainPID") == process

    # A new haproxy.cfg needs only a reload: clients stay connected.
    pi.shell(f"echo '# newer' >>{SOURCE}/haproxy/haproxy.cfg")
    connect = "exec 3<>/dev/tcp/127.0.0.1/1884"
    answer = "printf '\\x10\\x00' >&3; timeout 5 head -c 4 <&3 | wc -c | grep -x 4"
    pi.shell(f"set -e; {connect}; {answer}; {INSTALL} haproxy {' '.join(NODES)} 3>&-; {answer}")
    assert pi.show("haproxy", "MainPID") == process
    assert pi.read(CFG).endswith("# newer\n")

    # Other nodes need a restart.
    pi.run(
        INSTALL,
        "haproxy",
        "--emq",
        "127.0.0.1:2883",
        "--emq",
        "127.0.0.9:2883",
        "--wait",
        "3",
        status=NOT_LIVE,
    )
    assert pi.show("haproxy", "MainPID") != process
    assert "EMQ2=127.0.0.9\n" in pi.read(DEFAULTS)


def test_what_haproxy_refuses_is_not_put_in_place(pi: Machine) -> None:
    nodes_are_up(pi)
    pi.run(INSTALL, "haproxy", *NODES)
    files = (CFG, DEFAULTS, BEFORE)
    before, process = [pi.read(file) for file in files], pi.show("haproxy", "MainPID")
    pi.shell(f"echo 'nonsense' >>{SOURCE}/haproxy/haproxy.cfg")

    said = pi.run(INSTALL, "haproxy", *NODES, status=1)

    assert "unknown keyword 'nonsense'" in said
    assert [pi.read(file) for file in files] == before
    assert pi.show("haproxy", "MainPID") == process


def test_a_port_that_another_service_has_is_said_before_anything_is_changed(pi: Machine) -> None:
    pi.run("systemd-run", "--quiet", "--service-type=exec", "python3", "-m", "http.server", "8081")
    wait_until(lambda: pi.run("ss", "-Hltn", "sport = :8081"), 30.0, "somebody listens on 8081")
    said = pi.run(INSTALL, "haproxy", *NODES, status=1)
    assert 'port 8081 is served by "python3"' in said
    pi.run("test", "!", "-e", CFG)


def status_of_console(pi: Machine, user: str) -> str:
    program = (
        "import base64, sys, urllib.request as u, urllib.error as e\n"
        "r = u.Request('http://127.0.0.1:8081/haproxy?stats')\n"
        "r.add_header('Authorization', 'Basic ' + base64.b64encode(sys.argv[1].encode()).decode())\n"
        "try: print(u.urlopen(r).status)\n"
        "except e.HTTPError as error: print(error.code)"
    )
    return pi.run("python3", "-c", program, user).strip()
