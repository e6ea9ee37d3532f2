"""The commands of README and of the tutorial, run exactly as the pages show them.

test_readme_example.py runs those that use README's example.

Tests that use the lab have one of their own (tests/conftest.py): a lab of the user may be up.
tests/artefacts/test_readme.py and test_docs.py check that no command is missing here.
"""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.artefacts import pages
from tests.artefacts.test_docs import TUTORIAL
from tests.harness.conditions import measuring, wait_until
from tests.harness.haproxy import DEVICES, SUBSCRIBER
from tests.harness.host import LAB, USERS_LAB, Network
from tests.harness.kit import ROOT
from tests.harness.lab.chain import PAGE as BRIDGES_PAGE
from tests.harness.process import Process
from tests.harness.terminal import UP, USUAL, Terminal


def says(process: Process, text: str, deadline: float = 30.0) -> None:
    wait_until(
        lambda: text in process.log.read_text(), deadline, lambda: f"{text!r} is said{process.log_tail(40)}"
    )


# -- commands without a lab-------------------------------------------------------------------------------


def test_tests_run_passes_on_a_trivial_selection() -> None:
    """Runs one test: tests/run cannot run itself completely from inside."""
    done = subprocess.run(
        ["tests/run", "tests/unit/test_units.py", "-q"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


# -- commands for the lab --------------------------------------------------------------------------------


@pytest.fixture
def lab(terminal: Terminal) -> Process:
    """`deploy/lab up`, ready for requests from a second terminal."""
    with measuring(USUAL):
        process = terminal.leave_running("deploy/lab up", says="delivered")  # so it is the only one
    wait_until(lambda: terminal.run("deploy/lab status").returncode == 0, UP, "it answers")
    return process


def test_what_readme_says_to_the_lab(lab: Process, terminal: Terminal) -> None:
    consumer = terminal.leave_running("deploy/lab consume", says="iot.sensors/")
    assert "emq1 killed" in terminal.good("deploy/lab kill emq1")
    assert "emq1 started" in terminal.good("deploy/lab start emq1")
    terminal.good("deploy/lab publish garden/gate open")
    says(consumer, "garden/gate")
    assert "emq1 " in terminal.good("deploy/lab status")
    assert "lost 0, duplicated 0" in terminal.good("deploy/lab down")


def test_the_tutorial(lab: Process, terminal: Terminal) -> None:
    """Every step, from the first command, `deploy/lab up`."""
    steps = iter(pages.commands(TUTORIAL))

    def step(begins: str) -> str:
        command = next(steps)
        assert command.startswith(begins), f"{command} where the test expects {begins}"
        return command

    _tutorial(step, terminal)
    assert list(steps) == []


_OWN_BROKER = (
    ".venv/bin/bridge --config garden.toml --mqtt.host 127.0.0.1 --mqtt.port 11883 --mqtt.client_id garden2"
)

_PUBLISH = """
.venv/bin/python -c 'from paho.mqtt.publish import single; single("garden/pond/level", "42", 1, port=11883)'
""".strip()


def _tutorial(step: Callable[[str], str], terminal: Terminal) -> None:
    step("deploy/lab up")
    # 2. routes
    terminal.good(step("cat > garden.toml <<'END_OF_FILE'"))
    assert "garden" in terminal.good(step(".venv/bin/bridge config --config garden.toml"))
    settings = terminal.directory / "garden.toml"
    text = settings.read_text()
    settings.write_text(text.replace("filter", "filtre"))
    refused = terminal.run(".venv/bin/bridge config --config garden.toml")
    assert refused.returncode == 2
    assert "filtre" in refused.stderr
    assert "did you mean" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    settings.write_text(text)
    # 3. a dry run
    dry_run = terminal.leave_running(step(".venv/bin/bridge --dry-run --count 1 --config garden.toml"))
    send = step("deploy/lab publish garden/gate/open yes")
    wait_until(lambda: bool(terminal.good(send)) and not dry_run.alive, 30.0, "the dry run has ended")
    (shown,) = pages.fenced(TUTORIAL, "text")
    assert [line.rstrip() for line in dry_run.log.read_text().splitlines()] == shown.splitlines()
    # 4. into Kafka
    bridge = terminal.leave_running(step(".venv/bin/bridge --config garden.toml"), says='"mqtt.live"')
    assert step("deploy/lab publish garden/gate/open yes") == send
    terminal.good(send)
    says(bridge, '"kafka.topic_missing"')
    created = terminal.good(step(".venv/bin/bridge topics --create --yes --config garden.toml"))
    assert "created   garden  3 partitions, 3 replicas, min.insync.replicas 2" in created
    says(bridge, '"kafka.lane_live"')
    consumer = terminal.leave_running(step("deploy/lab consume garden"))
    wait_until(
        lambda: bool(terminal.good(send)) and "yes" in consumer.log.read_text(), 30.0, "it is consumed"
    )
    # 5. kill something
    terminal.good(step("deploy/lab kill emq1"))
    terminal.good(step('deploy/lab publish garden/gate/open "is anybody there"'))
    says(consumer, "is anybody there")
    terminal.good(step("deploy/lab start emq1"))
    # 6. a broker of one's own
    assert bridge.terminate() == 0
    terminal.leave_running(step("/usr/sbin/mosquitto -p 11883"), says="running")
    other = terminal.leave_running(step(_OWN_BROKER), says='"mqtt.live"')
    assert '"error"' not in other.log.read_text()
    terminal.good(step(_PUBLISH))
    says(consumer, "mqtt.topic=garden/pond/level")


def test_the_addresses_of_the_tutorial_are_the_labs() -> None:
    lab, page = Network(), TUTORIAL.read_text()
    hosts = [lab.haproxy, *lab.emq, lab.kafka[0], lab.kafka[2]]
    assert [host.address for host in hosts if host.address.replace(LAB, USERS_LAB) not in page] == []
    assert f"ports {DEVICES} and {SUBSCRIBER}" in page
    shown = f"<http://{lab.bridge.address.replace(LAB, USERS_LAB)}:{BRIDGES_PAGE}/>"
    assert shown in page
    assert shown in pages.README.read_text()


def test_the_command_behind_the_figures(tmp_path: Path) -> None:
    """With fewer messages and peers: it installs, measures, checks all records in Kafka, and draws."""
    (command,) = set(re.findall(r"`(tests/bench/run drain [^`]*)`", (ROOT / "README.md").read_text()))
    smaller = command.replace("200000", "1000").replace("docs/images", str(tmp_path))

    done = subprocess.run(
        ["sh", "-c", f"{smaller} --rounds 1 --mqtt 5 --peers paho bridge"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert done.returncode == 0, done.stderr
    assert [line.split(" | ")[0] for line in done.stdout.splitlines()[-2:]] == [
        "| plain paho loop",
        "| mqtt-kafka-bridge",
    ]
    assert "plain paho loop" in (tmp_path / "bench.svg").read_text()
