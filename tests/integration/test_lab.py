"""deploy/lab as a new user meets it, beginning with README's first command.

It takes the founding addresses 127.30.1.*: no other lab may be up on this machine meanwhile.
"""

import os
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.conditions import wait_until
from tests.harness.haproxy import DEVICES
from tests.harness.host import LAB, Network
from tests.harness.kit import ROOT
from tests.harness.process import Process

UP = 60.0  # s until the chain runs, of which Kafka takes most
NETWORK = Network(LAB)


def ask(*words: str) -> subprocess.CompletedProcess[str]:
    """What a second terminal asks for."""
    return subprocess.run(
        ["deploy/lab", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90.0,
    )


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Process]:
    """`deploy/lab up`, not started yet; it is ready when a second terminal may ask."""
    process = Process(
        "lab",
        ["deploy/lab", "up"],
        log=tmp_path / "lab.log",
        cwd=ROOT,
        ready=lambda: "dashboards http" in process.log.read_text(),
        deadline=UP,
    )
    yield process
    process.kill9()


def nothing_listens() -> bool:
    hosts = (*NETWORK.emq, NETWORK.haproxy, *NETWORK.kafka)
    return not any(host.listens(port) for host in hosts for port in (1883, 1884, 8080, 8081, 9092, 9093))


def test_the_readmes_first_command_shows_that_messages_flow() -> None:
    command = re.search(r"^    (deploy/lab up .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert command is not None
    words = [word if word != "60s" else "20s" for word in shlex.split(command[1])]

    done = subprocess.run(
        words, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=UP + 60
    )

    assert done.returncode == 0, done.stdout + done.stderr
    scores = re.findall(
        r"published +(\d+), delivered +(\d+), in flight +(\d+), lost 0, doubled 0", done.stdout
    )
    assert len(scores) >= 15
    assert all(int(published) == int(delivered) + int(flying) for published, delivered, flying in scores)
    verdict = re.search(r"published (\d+), delivered \1, lost 0, doubled 0, out of order 0", done.stdout)
    assert verdict is not None
    assert int(verdict[1]) > 500
    assert nothing_listens()


def test_a_second_terminal_kills_looks_and_publishes(lab: Process) -> None:
    lab.start()

    assert "a lab is up already" in ask("up").stderr
    killed = ask("kill", "emq1")
    assert (killed.returncode, killed.stderr) == (0, "")
    assert re.search(r"emq1 killed.*HAProxy calls it DOWN after", killed.stdout)
    assert re.search(r"^emq1 +down, DOWN to HAProxy", ask("status").stdout, re.MULTILINE)
    assert "emq1 is down: deploy/lab start emq1" in ask("kill", "emq1").stderr
    assert "UP after" in ask("start", "emq1").stdout

    consumer = Process(
        "consume",
        ["deploy/lab", "consume", "iot.others", "--count", "1"],
        log=lab.log.with_name("consume.log"),
        cwd=ROOT,
    )
    consumer.start()
    wait_until(  # it reads from when it is ready on
        lambda: ask("publish", "garden/visitor", "hello").returncode == 0 and not consumer.alive,
        30.0,
        "what was published came out of Kafka",
    )
    assert re.search(
        r"^iot.others/\d@\d+ .* garden/visitor .* hello$", consumer.log.read_text(), re.MULTILINE
    )

    down = ask("down")
    assert re.match(r"published (\d+), delivered \1, lost 0, doubled 0, out of order 0$", down.stdout)
    wait_until(lambda: not lab.alive, 10.0, "the lab has ended")
    assert lab.returncode == 0
    assert nothing_listens()


def test_ctrl_c_while_it_comes_up_ends_what_was_started(lab: Process) -> None:
    lab.spawn()
    wait_until(lambda: NETWORK.haproxy.listens(DEVICES), UP, "HAProxy serves")

    os.kill(lab.pid, signal.SIGINT)

    wait_until(lambda: not lab.alive, 10.0, "the lab has ended")
    assert lab.returncode == 1
    assert nothing_listens()


def test_a_port_in_use_is_named_with_the_way_to_find_who_uses_it() -> None:
    with socket.create_server((NETWORK.haproxy.address, DEVICES)):
        refused = ask("up")

    assert refused.returncode == 1
    assert "haproxy cannot listen on 127.30.1.10:1883: Address already in use" in refused.stderr
    assert "ss -ltnp" in refused.stderr


def test_a_second_terminal_is_told_when_there_is_no_lab() -> None:
    done = ask("status")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "lab: no lab is up: deploy/lab up, in another terminal\n"
