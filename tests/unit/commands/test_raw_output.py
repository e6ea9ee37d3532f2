"""A command for people prints its own sentences, and nothing that librdkafka or paho logs or words."""

import logging
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bridge.commands import cli
from bridge.spool.store import Store
from tests.harness.mock_kafka import MockKafka
from tests.unit.commands.test_dead_letters import keep_letters, letter

# librdkafka's notation in its log ("%3|1700000000.1|FAIL|rdkafka#producer-1| [thrd:...]") and in its texts
RAW = re.compile(r"%\d\||rdkafka#|\[thrd:|/bootstrap:|ipv[46]#|after \d+ms|Local: |Broker: |No handlers")

FILE = """
state_directory = "{state}"
[mqtt]
host = "127.47.0.1"
port = 1
[kafka]
bootstrap_servers = "{kafka}"
[http]
listen = ""
[[routes]]
name = "r"
filter = "#"
topic = "iot"
"""


@pytest.fixture(scope="module")
def hangs_up() -> Iterator[str]:
    """A port that takes each connection and closes it, as a container's proxy does before Kafka runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    listener.accept()[0].close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    store = Store(tmp_path)
    keep_letters(store, letter(), letter(topic=b"s/2"))
    store.close()
    return tmp_path


def printed(command: str, state: Path, kafka: str) -> str:
    """What `bridge COMMAND` prints on both streams."""
    file = state / "bridge.toml"
    file.write_text(FILE.format(state=state, kafka=kafka))
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *command.split(), "--config", str(file)],
        cwd=Path(__file__).parents[3],
        env={name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("command", "refuses"),
    [
        ("check", "no one listens"),
        ("check", "hangs up"),
        ("topics", "hangs up"),
        ("topics --create --yes", "no one listens"),
        ("consume", "no one listens"),
        ("consume mqtt", "hangs up"),
        ("dead-letters replay", "hangs up"),
    ],
)
def test_a_kafka_that_refuses_is_told_in_plain_words(
    command: str, refuses: str, state: Path, hangs_up: str
) -> None:
    servers = "127.47.0.1:1,127.47.0.2:1,127.47.0.3:1"
    text = printed(command, state, servers if refuses == "no one listens" else f"127.47.0.1:1,{hangs_up}")
    assert "127.47.0.1:1: Connection refused" in text
    assert not RAW.findall(text), text


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("check", "Kafka has given the bridge no producer id within 2 s"),
        ("dead-letters replay", "Kafka has not confirmed the message"),
    ],
)
def test_a_kafka_that_gives_no_producer_id_is_told_in_plain_words(
    command: str,
    said: str,
    state: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """librdkafka logs that twice a second."""
    kafka = MockKafka()
    kafka.refuse_producer_ids(14)  # the coordinator is loading
    for module in ("blocking_producer", "cluster_check"):
        monkeypatch.setattr(f"bridge.kafka.{module}._TIMEOUT", 2.0)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a process of its own
    file = state / "bridge.toml"
    file.write_text(FILE.format(state=state, kafka=kafka.bootstrap))
    assert cli.main([*command.split(), "--config", str(file)]) == 1
    printed = "".join(capfd.readouterr())
    assert said in printed
    assert "PID" not in printed
    assert not RAW.findall(printed), printed


def test_what_a_library_logs_is_not_printed_by_pythons_handler_of_last_resort(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = state / "bridge.toml"
    file.write_text(FILE.format(state=state, kafka="127.47.0.1:1"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a process of its own
    assert cli.main(["config", "--config", str(file)]) == 0
    capsys.readouterr()
    for library in ("paho", "librdkafka", "another"):
        logging.getLogger(library).warning("raw")
    assert capsys.readouterr() == ("", "")
