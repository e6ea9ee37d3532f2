"""bridge init: a starter file from two answers, which starts as it stands, and overwrites nothing."""

import io
import re
import socket
import sys
from pathlib import Path

import pytest

from bridge.commands import cli, init, invocation
from bridge.settings import Settings
from bridge.settings.layers import Layer
from bridge.settings.load import load

NOTHING = Layer({}, lambda _: "")
ANSWERS = ["--mqtt.host", "127.47.4.1:1883", "--kafka.bootstrap_servers", "k1:9092,k2"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys, "argv", ["/opt/bridge/.venv/bin/bridge"])
    return tmp_path


def settings(file: Path) -> Settings:
    return load(NOTHING, file).settings


def answer(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{line}\n" for line in lines)))


def test_without_a_terminal_the_flags_are_the_answers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", *ANSWERS]) == 0
    made = settings(here / "bridge.toml")
    assert (made.mqtt.host, made.mqtt.port) == ("127.47.4.1", 1883)
    assert made.kafka.bootstrap_servers == "k1:9092,k2:9092"
    assert made.state_directory == here / "bridge.state"
    assert [route.topic for route in made.routes] == ["mqtt"]
    assert capsys.readouterr().out.splitlines() == [
        "wrote bridge.toml; now:",
        "    /opt/bridge/.venv/bin/bridge check --config bridge.toml",
        "    /opt/bridge/.venv/bin/bridge topics --create --config bridge.toml",
        "    /opt/bridge/.venv/bin/bridge --dry-run --config bridge.toml",
        "    /opt/bridge/.venv/bin/bridge --config bridge.toml",
    ]


@pytest.mark.parametrize(
    ("file", "state"), [("a.toml", "a.state"), ("a.conf", "a.conf.state"), ("a.state", "a.state.state")]
)
def test_each_file_has_a_state_directory_of_its_own(file: str, state: str, here: Path) -> None:
    assert cli.main(["init", "--config", file, *ANSWERS]) == 0
    assert settings(here / file).state_directory == here / state


def test_a_person_is_asked_twice(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, "127.47.4.2", " ", "kafka")
    assert cli.main(["init", "--config", "garden.toml"]) == 0
    made = settings(here / "garden.toml")
    assert (made.mqtt.host, made.mqtt.port) == ("127.47.4.2", 1883)
    assert made.kafka.bootstrap_servers == "kafka:9092"
    assert capsys.readouterr().err.count("Kafka's bootstrap servers") == 2  # the blank one is no answer


def test_a_person_who_gives_a_wrong_answer_is_told_and_asked_again(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, "mqtt://emq", "127.47.4.2:99999", "127.47.4.2", "k1 k2", "k1")
    assert cli.main(["init"]) == 0
    made = settings(here / "bridge.toml")
    assert (made.mqtt.host, made.kafka.bootstrap_servers) == ("127.47.4.2", "k1:9092")
    asked = capsys.readouterr().err
    assert "must be a name or an address alone" in asked
    assert "mqtt.port = 99999: must be" in asked
    assert "must be host:port, separated by commas" in asked
    assert asked.count("MQTT broker, or the HAProxy") == 3


def test_a_person_who_goes_on_to_give_wrong_answers_gets_no_file(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "mqtt://emq", "mqtt://emq", "mqtt://emq", "emq")
    assert cli.main(["init"]) == 2
    assert not list(here.iterdir())


def test_each_bridge_gets_a_client_id_of_its_own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init.socket, "gethostname", lambda: "garden_pi-with-a-long-name.example.org")
    made = set()
    for name in "abcd":
        assert cli.main(["init", "--config", f"{name}.toml", *ANSWERS]) == 0
        made.add(settings(here / f"{name}.toml").mqtt.client_id)
    assert len(made) > 1  # of 65,536
    assert all(re.fullmatch("bridge-garden-pi-w-[0-9a-f]{4}", each) for each in made)
    assert all(len(each) <= 23 for each in made)  # what each broker takes
    assert re.fullmatch("bridge-[0-9a-f]{4}", init.client_id("___"))


def test_where_haproxys_port_is_open_the_bridge_uses_it(here: Path) -> None:
    with socket.create_server(("127.47.4.3", 1884)):
        assert cli.main(["init", "--mqtt.host", "127.47.4.3", *ANSWERS[2:]]) == 0
    assert settings(here / "bridge.toml").mqtt.port == 1884


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        (["--mqtt.host", "::1"], "::1", 1883),
        (["--mqtt.host", "[::1]:1885"], "::1", 1885),
        (["--mqtt.host", "emq.invalid", "--mqtt.port", "8883"], "emq.invalid", 8883),
    ],
)
def test_an_address_keeps_its_colons_and_loses_its_port(
    given: list[str], host: str, port: int, here: Path
) -> None:
    assert cli.main(["init", *given, *ANSWERS[2:]]) == 0
    mqtt = settings(here / "bridge.toml").mqtt
    assert (mqtt.host, mqtt.port) == (host, port)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "init: nobody is there to be asked; give --mqtt.host and --kafka.bootstrap_servers"),
        (ANSWERS[:2], "init: nobody is there to be asked; give --kafka.bootstrap_servers"),
        (["--mqtt.host", "mqtt://emq", *ANSWERS[2:]], "must be a name or an address alone"),
        ([*ANSWERS[:2], "--kafka.bootstrap_servers", "k1 k2"], "must be host:port, separated by commas"),
        (
            [*ANSWERS, "--mqtt.username", "u"],
            "--mqtt.username: not with init; write mqtt.username into the file",
        ),
        ([*ANSWERS, "--json"], "--json: only with"),
        (["garden.toml", *ANSWERS], '"init garden.toml": no such command'),
    ],
)
def test_what_it_can_not_write_is_told_and_nothing_is_written(
    words: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["init", *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(here.iterdir())


def test_a_person_who_gives_no_answer_gets_no_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch)
    assert cli.main(["init"]) == 2
    assert not list(here.iterdir())


def test_a_file_that_exists_stays_as_it_is(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "bridge.toml").write_text("mine")
    answer(monkeypatch, "emq", "kafka")
    assert cli.main(["init"]) == 2
    output = capsys.readouterr()
    assert "init: bridge.toml exists, and stays as it is; name another file with --config" in output.err
    assert "MQTT broker" not in output.err  # nobody is asked in vain
    assert (here / "bridge.toml").read_text() == "mine"


def test_a_file_that_appears_meanwhile_stays_as_it_is(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def appears(*_: object) -> str:
        (here / "bridge.toml").write_text("mine")
        return "x"

    monkeypatch.setattr(init, "text", appears)
    assert cli.main(["init", *ANSWERS]) == 2
    assert (here / "bridge.toml").read_text() == "mine"


def test_a_directory_that_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", "--config", "no/such.toml", *ANSWERS]) == 1
    assert "init: cannot write no/such.toml: no such file or directory" in capsys.readouterr().err


def test_the_services_own_file_has_the_services_own_directory(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (init, invocation):
        monkeypatch.setattr(module, "DEFAULT_FILE", here / "etc.toml")
    assert cli.main(["init", "--config", "etc.toml", *ANSWERS]) == 0
    assert settings(here / "etc.toml").state_directory == Path("/var/lib/mqtt-kafka-bridge")
    assert "--config" not in capsys.readouterr().out


def test_what_is_commented_out_works_too(here: Path) -> None:
    """Each example in the file is valid once its # is taken away; only its text is for people."""
    cli.main(["init", *ANSWERS])
    file = here / "bridge.toml"
    text = re.sub(r"(?m)^# (?=\w[\w.]* = |\[)", "", file.read_text())
    (here / "password").write_text("secret")
    file.write_text(text.replace("/etc/mqtt-kafka-bridge/mqtt-password", str(here / "password")))
    made = settings(file)
    assert made.mqtt.username == "bridge"
    assert made.kafka.options["sasl.mechanism"] == "SCRAM-SHA-512"
    assert [route.name for route in made.routes] == ["temperatures", "everything"]


def test_each_line_fits_a_terminal_of_110_columns(here: Path) -> None:
    cli.main(["init", *ANSWERS])
    lines = (here / "bridge.toml").read_text().replace(str(here), "/home/me").splitlines()
    assert max(map(len, lines)) <= 110
