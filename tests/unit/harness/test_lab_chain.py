"""How the lab tells its own bridge from a bridge of the user, which connects to the same port of HAProxy."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.settings.mqtt import MqttSettings
from tests.harness.lab import chain as chain_module
from tests.harness.lab import run
from tests.harness.lab.chain import CLIENT_ID, Chain, Plan
from tests.harness.lab.run import Lab
from tests.harness.lab.snapshot import Seat
from tests.harness.lab.watch import Watch
from tests.harness.process import tcp_sources

STAT = (
    "# pxname,svname,scur,status\n"
    "tcp-in,server1,10,UP\ntcp-in,server2,9,UP\nmqtt-kafka,server1,2,UP\nmqtt-kafka,server2,0,UP\n"
)
# Two lines of HAProxy 2.6, shortened at their ends.
SESSIONS = (
    "0x55f: proto=tcpv4 src=127.0.0.1:{own} fe=mqtt-kafka be=mqtt-kafka srv=server1 ts=00 epoch=0 age=4s\n"
    "0x560: proto=tcpv4 src=127.0.0.1:9 fe=mqtt-kafka be=mqtt-kafka srv=server{other} ts=00 epoch=0 age=1s\n"
    "0x561: proto=tcpv4 src=127.0.0.1:8 fe=tcp-in be=tcp-in srv=server1 ts=00 epoch=0 age=1s calls=1\n"
    "0x562: proto=tcpv4 src=127.0.0.1:7 fe=tcp-in be=tcp-in srv=<none> ts=00 epoch=0 age=1s calls=1\n"
    "0x7f5: proto=unix_stream src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0 age=0s calls=1\n"
)


@pytest.fixture(autouse=True)
def no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = SimpleNamespace(tally=SimpleNamespace(acked={"d01-1", "d01-2"}))
    monkeypatch.setattr(chain_module, "Devices", lambda *args, **options: devices)


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """A chain whose HAProxy and bridge are up; the user's bridge is at emq1 too."""
    chain = Chain(Plan(), tmp_path)
    answers = {"show stat": STAT, "show sess": SESSIONS.format(own=4711, other=1)}
    monkeypatch.setattr(chain, "condition", lambda name: "up")
    monkeypatch.setattr(chain.haproxy, "ask", answers.__getitem__)
    monkeypatch.setattr(chain_module, "tcp_sources", lambda pid: frozenset({"127.0.0.1:4711"}))
    monkeypatch.setattr(type(chain.bridge), "alive", True)
    monkeypatch.setattr(type(chain.bridge), "pid", 1)
    return chain


def test_a_bridge_of_the_user_is_not_counted_as_the_labs(chain: Chain) -> None:
    assert chain.seats() == {"emq1": Seat("UP", 10, 1, 1), "emq2": Seat("UP", 9, 0, 0)}
    assert chain.is_bridge_at(1)
    assert not chain.is_bridge_at(2)


def test_a_node_with_the_users_bridge_alone_is_not_left_by_the_labs(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        chain.haproxy, "clients", lambda: [("127.0.0.1:4711", "server1"), ("127.0.0.1:9", "server2")]
    )
    assert chain.seats() == {"emq1": Seat("UP", 10, 1, 0), "emq2": Seat("UP", 9, 0, 1)}
    assert not chain.is_bridge_at(2)


def test_a_haproxy_that_does_not_answer_has_nobody_known(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(command: str) -> str:
        raise OSError

    monkeypatch.setattr(chain.haproxy, "ask", ask)
    assert chain.seats() is None
    assert not chain.is_bridge_at(1)


def test_the_connections_of_a_process_are_known_by_their_own_ports() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            address, port = client.getsockname()
            assert f"{address}:{port}" in tcp_sources(os.getpid())
            assert f"{address}:{port}" not in tcp_sources(1)
        assert f"{address}:{port}" not in tcp_sources(os.getpid())
    assert tcp_sources(2**31 - 1) == frozenset()


# -- the session of the lab's bridge -----------------------------------------------------------------


def test_a_bridge_with_the_default_client_id_does_not_share_the_labs_session(tmp_path: Path) -> None:
    assert MqttSettings.model_fields["client_id"].default != CLIENT_ID
    assert f'"client_id" = "{CLIENT_ID}"' in Chain(Plan(), tmp_path).bridge.settings.read_text()


def test_another_client_of_the_session_is_told_wherever_the_score_is(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    board: Any = chain.scoreboard
    monkeypatch.setattr(board, "_on_disk", lambda: 0)
    monkeypatch.setattr(board, "_verifier", SimpleNamespace(missing=lambda ids: {"d01-1"}, doubled=7))
    nothing: Any = SimpleNamespace()
    lab = Lab(chain, nothing, nothing, 0.0)
    assert run._SHARED not in lab.status()

    chain.bridge.journal.path.write_text('{"event": "mqtt.taken_over", "client_id": "lab"}\n')

    assert run._SHARED in lab.status()
    assert "other bridges 1" in lab.status()
    assert "taken by another client 0, duplicated 7" in lab.status()
    watch = Watch(chain)
    watch.look()
    assert watch._warning() == 'Another client has used the client id "lab" (deploy/lab status tells more)'
