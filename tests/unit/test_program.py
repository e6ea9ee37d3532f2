"""Commands in texts are ones that can be typed on this machine."""

import dataclasses
import re
import sys
from pathlib import Path

import pytest

from bridge.commands import invocation
from bridge.commands.check.table import CHECKS
from bridge.program import AS_INSTALLED, Program
from bridge.settings.load import DEFAULT_FILE
from bridge.status.diagnosis import diagnose
from tests.harness.snapshots import STATES

CHECKOUT = Program(".venv/bin/bridge", " --config bridge.toml", "")
SECOND = Program(
    "sudo mqtt-kafka-bridge", " --config /etc/mqtt-kafka-bridge/second.toml", "mqtt-kafka-bridge@second"
)


@pytest.mark.parametrize(
    ("text", "checkout", "second"),
    [
        (
            "run `sudo mqtt-kafka-bridge check`.",
            "run `.venv/bin/bridge check --config bridge.toml`.",
            "run `sudo mqtt-kafka-bridge check --config /etc/mqtt-kafka-bridge/second.toml`.",
        ),
        (
            "sudo mqtt-kafka-bridge dead-letters list shows them",
            ".venv/bin/bridge dead-letters list --config bridge.toml shows them",
            "sudo mqtt-kafka-bridge dead-letters list --config /etc/mqtt-kafka-bridge/second.toml shows them",
        ),
        (
            "sudo mqtt-kafka-bridge topics --create",
            ".venv/bin/bridge topics --create --config bridge.toml",
            "sudo mqtt-kafka-bridge topics --create --config /etc/mqtt-kafka-bridge/second.toml",
        ),
        (
            "Restart it: sudo systemctl restart mqtt-kafka-bridge.",
            "Restart it: end it (Ctrl-C), then .venv/bin/bridge --config bridge.toml.",
            "Restart it: sudo systemctl restart mqtt-kafka-bridge@second.",
        ),
        (
            "see the log: sudo journalctl -u mqtt-kafka-bridge",
            "see the log: the terminal that the bridge runs in",
            "see the log: sudo journalctl -u mqtt-kafka-bridge@second",
        ),
        ("sudo systemctl restart kafka", "sudo systemctl restart kafka", "sudo systemctl restart kafka"),
    ],
)
def test_a_command_is_named_as_it_is_typed_here(text: str, checkout: str, second: str) -> None:
    assert CHECKOUT.typed(text) == checkout
    assert SECOND.typed(text) == second
    assert AS_INSTALLED.typed(text) == text


@pytest.mark.parametrize("state", STATES)
def test_no_finding_of_a_checkout_names_the_installed_program(state: str) -> None:
    found = diagnose(dataclasses.replace(STATES[state](), program=CHECKOUT))
    texts = [found.sentence, *[f"{each.what} {each.remedy}" for each in found.findings]]
    assert not [text for text in texts if re.search(r"sudo mqtt-kafka|systemctl \w+ mqtt-kafka", text)]


def test_no_check_of_a_checkout_names_the_installed_program() -> None:
    remedies = [CHECKOUT.typed(each.remedy) for each in CHECKS]
    assert not [
        text for text in remedies if re.search(r"sudo mqtt-kafka|(systemctl \w+|-u) mqtt-kafka", text)
    ]


def test_a_checkout_is_called_as_it_was_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [".venv/bin/bridge", "check"])
    assert invocation.program(Path("bridge.toml")) == CHECKOUT
    whole = invocation.program(
        Path("bridge.toml"), is_service=True
    )  # its texts are read in other directories
    assert whole == Program(f"{tmp_path}/.venv/bin/bridge", f" --config {tmp_path}/bridge.toml", "")
    assert invocation.program(None).config == ""


def test_python_m_bridge_names_the_program_beside_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bridge/__main__.py"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert invocation.program(None).command == f"{tmp_path}/python -m bridge"
    (tmp_path / "bridge").touch()
    assert invocation.program(None).command == f"{tmp_path}/bridge"


def test_the_installed_program_has_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/opt/mqtt-kafka-bridge/0.2.0/venv")
    assert invocation.program(None) == invocation.program(DEFAULT_FILE) == AS_INSTALLED
    assert invocation.program(DEFAULT_FILE.with_name("second.toml"), is_service=True) == SECOND
    assert invocation.program(Path("/tmp/try.toml")).unit == ""


def test_a_name_with_a_blank_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bridge"])
    assert invocation.program(Path("my bridge.toml")).config == " --config 'my bridge.toml'"
