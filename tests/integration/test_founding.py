"""The founding document's requirements for HAProxy, and others that it needs, tested on the shipped file.

Two doors simulate EMQ; mosquitto_pub and a raw socket act as devices and bridge.
"""

import base64
import contextlib
import http.client
import resource
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.brokers import TwoDoors
from tests.harness.conditions import wait_until
from tests.harness.haproxy import CONSOLE, DASHBOARDS, DEVICES, PASSWORD, SUBSCRIBER, USER, HAProxy
from tests.harness.host import Host, Network
from tests.harness.packets import Connack, Connect

NETWORK = Network("127.30.4")  # separate: other tests' brokers may run at the same time
CHECK = 12.0  # s until a node that hangs is called DOWN: up to inter 3 + 2, then twice 1 + 2
DETECTION = CHECK + 5.0  # with room for a busy machine


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[TwoDoors]:
    with TwoDoors(NETWORK, tmp_path) as brokers:
        yield brokers


@pytest.fixture
def balancer(nodes: TwoDoors, tmp_path: Path) -> Iterator[HAProxy]:
    """A fresh HAProxy: counts are 0, and the first turn is node 1's."""
    with HAProxy(NETWORK.haproxy, tmp_path, nodes.addresses) as balancer:
        yield balancer


def connect(port: int, client_id: str) -> socket.socket:
    """Open an MQTT session through HAProxy. Raises OSError if that fails."""
    client = socket.create_connection((NETWORK.haproxy.address, port), timeout=DETECTION)
    client.sendall(Connect(client_id, version=4, keepalive=0).encode())
    if client.recv(4) != Connack().encode(version=4):
        client.close()
        raise ConnectionError("no CONNACK")
    return client


def is_cut(client: socket.socket, within: float) -> bool:
    """Whether the other side ends this silent connection within so many seconds."""
    client.settimeout(within)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def get(port: int, path: str = "/", **headers: str) -> tuple[int, str, http.client.HTTPMessage]:
    """GET over a new connection: status, body and headers."""
    with contextlib.closing(
        http.client.HTTPConnection(NETWORK.haproxy.address, port, timeout=5.0)
    ) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip(), answer.headers


# -- devices, :1883 ----------------------------------------------------------------------------------------


def test_connecting_again_and_again_lands_on_the_nodes_in_turn(balancer: HAProxy) -> None:
    counts = []
    for _ in range(6):
        subprocess.run(
            [
                "mosquitto_pub",
                "-h",
                balancer.host.address,
                "-q",
                "1",
                "-t",
                "sensors/hall/temp",
                "-m",
                "21.5",
            ],
            check=True,
            timeout=10.0,
        )
        counts.append((balancer.total_sessions(1, "tcp-in"), balancer.total_sessions(2, "tcp-in")))

    assert counts == [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (3, 3)]


@pytest.mark.parametrize(
    "greeting",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: emq\r\n\r\n", id="a browser"),
        pytest.param(bytes.fromhex("16030100"), id="TLS"),
        pytest.param(b"\x30\x05\x00\x01amm", id="MQTT without CONNECT"),
        pytest.param(b"", id="silence"),
    ],
)
def test_what_is_no_mqtt_does_not_reach_a_node(balancer: HAProxy, greeting: bytes) -> None:
    with socket.create_connection((balancer.host.address, DEVICES)) as scanner:
        scanner.sendall(greeting)

        assert is_cut(scanner, within=12.0)
    assert balancer.total_sessions(1, "tcp-in") + balancer.total_sessions(2, "tcp-in") == 0


def test_a_storm_of_devices_leaves_the_bridge_and_the_console_their_places(balancer: HAProxy) -> None:
    """3,600 connections at once; 3,500 may be open, and 200 are taken each second."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.ExitStack() as storm:
        for _ in range(3600):
            device = storm.enter_context(socket.socket())
            device.setblocking(False)
            device.connect_ex((balancer.host.address, DEVICES))

        connect(SUBSCRIBER, "bridge").close()
        assert get(CONSOLE, "/metrics")[0] == 200


# -- the bridge, :1884 -------------------------------------------------------------------------------------


def test_a_new_session_goes_to_the_node_that_has_fewest(balancer: HAProxy) -> None:
    sessions = [connect(SUBSCRIBER, f"s{number}") for number in range(4)]
    assert (balancer.sessions(1), balancer.sessions(2)) == (2, 2)

    for number in (0, 2):  # both on node 1
        sessions[number].close()
    wait_until(lambda: balancer.sessions(1) == 0, 5.0, "node 1 has no session")
    for number in (0, 2):
        sessions[number] = connect(SUBSCRIBER, f"s{number}")

    assert (balancer.sessions(1), balancer.sessions(2)) == (2, 2)
    for session in sessions:
        session.close()


# -- a node fails ------------------------------------------------------------------------------------------


def test_a_dead_node_fails_no_connect_even_before_it_is_seen_to_be_dead(
    balancer: HAProxy, nodes: TwoDoors
) -> None:
    with nodes.node(1).dead():
        for number in range(8):
            connect(DEVICES, f"d{number}").close()
            connect(SUBSCRIBER, f"s{number}").close()


def test_a_node_that_is_seen_to_be_dead_gets_nobody_until_it_is_back(
    balancer: HAProxy, nodes: TwoDoors
) -> None:
    with nodes.node(1).dead():
        balancer.wait_state(1, "DOWN", DETECTION)
        before = balancer.total_sessions(1), balancer.total_sessions(1, "tcp-in")
        for number in range(6):
            connect(DEVICES, f"d{number}").close()
            connect(SUBSCRIBER, f"s{number}").close()

        assert (balancer.total_sessions(1), balancer.total_sessions(1, "tcp-in")) == before
        assert balancer.state(1, "tcp-in") == "DOWN"

    balancer.wait_state(1, "UP", DETECTION)
    for number in range(2):
        connect(DEVICES, f"d{number}").close()
    assert balancer.total_sessions(1, "tcp-in") == before[1] + 1


def test_a_node_that_hangs_is_called_down_and_its_sessions_are_cut(
    balancer: HAProxy, nodes: TwoDoors
) -> None:
    session, device = connect(SUBSCRIBER, "s1"), connect(DEVICES, "d1")  # the first of each: node 1
    with session, device, nodes.node(1).hung():
        assert is_cut(session, within=DETECTION)
        assert is_cut(device, within=1.0)
        assert (balancer.state(1), balancer.state(2)) == ("DOWN", "UP")
        with connect(SUBSCRIBER, "s1"), connect(DEVICES, "d1"):
            assert (balancer.sessions(2), balancer.sessions(2, "tcp-in")) == (1, 1)


@pytest.mark.parametrize("code", range(6))
def test_any_connack_is_the_answer_of_a_living_broker(nodes: TwoDoors, tmp_path: Path, code: int) -> None:
    """A broker with passwords may answer 5 (not authorised) before it checks the client id."""

    class Refuse(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if self.request.recv(100):
                self.request.sendall(bytes([0x20, 2, 0, code]))

    with socketserver.ThreadingTCPServer(("127.30.4.50", 0), Refuse) as broker:
        threading.Thread(target=broker.serve_forever, daemon=True).start()
        host = Host("haproxy", "127.30.4.11")
        with HAProxy(
            host, tmp_path, (nodes.addresses[0], f"127.30.4.50:{broker.server_address[1]}")
        ) as balancer:
            wait_until(lambda: balancer.last_check(2) in ("L7OK", "L7RSP"), 10.0, "node 2 was checked")

            assert balancer.last_check(2) == "L7OK"
        broker.shutdown()


# -- dashboards and console --------------------------------------------------------------------------------


def test_new_visitors_get_the_dashboards_in_turn(balancer: HAProxy) -> None:
    assert [get(DASHBOARDS)[1] for _ in range(4)] == ["emq1", "emq2", "emq1", "emq2"]


def test_a_visitor_stays_at_the_dashboard_that_knows_his_login(balancer: HAProxy) -> None:
    _, dashboard, headers = get(DASHBOARDS)
    cookie = headers["Set-Cookie"].partition(";")[0]

    assert [get(DASHBOARDS, Cookie=cookie)[1] for _ in range(3)] == [dashboard] * 3


@pytest.mark.parametrize(
    ("password", "status"), [(PASSWORD, 200), ("wrong", 401), ("", 401), (None, 401)], ids=str
)
def test_the_console_answers_with_the_password_and_not_without(
    balancer: HAProxy, password: str | None, status: int
) -> None:
    login = base64.b64encode(f"{USER}:{password}".encode()).decode()
    headers = {} if password is None else {"Authorization": f"Basic {login}"}

    answered, page, answer = get(CONSOLE, "/haproxy?stats", **headers)

    assert answered == status
    if status == 200:
        assert answer["refresh"] == "5"
        assert all(name in page for name in ("http-in", "servers", "tcp-in", "mqtt-kafka"))


def test_nobody_sees_the_console_before_a_password_was_set(nodes: TwoDoors, tmp_path: Path) -> None:
    for default in (None, ""):
        with HAProxy(NETWORK.haproxy, tmp_path, nodes.addresses, password_hash=default):
            for password in ("", "!", "admin", "lab"):
                login = base64.b64encode(f"{USER}:{password}".encode()).decode()

                assert get(CONSOLE, "/haproxy?stats", Authorization=f"Basic {login}")[0] == 401


# -- operating it ------------------------------------------------------------------------------------------


def test_a_reload_cuts_nobody(balancer: HAProxy) -> None:
    with connect(SUBSCRIBER, "s1") as session, connect(DEVICES, "d1") as device:
        balancer.reload()

        for client in (session, device):
            client.sendall(b"\xc0\x00")  # PINGREQ
            assert client.recv(2) == b"\xd0\x00"  # PINGRESP
        connect(SUBSCRIBER, "s2").close()
