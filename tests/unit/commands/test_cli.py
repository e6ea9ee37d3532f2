"""The command line as a shell sees it: standard output, standard error and exit status."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import bridge.app
from bridge import __version__
from bridge.commands import cli, dry_run
from bridge.commands.consume import Wish
from bridge.errors import BridgeError, ConfigurationError
from bridge.routing.router import Router
from bridge.settings import Settings
from tests.unit.settings.configurations import ROUTE, WORKS, Machine

ROOT = Path(__file__).parents[3]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m bridge ARGUMENTS` with no variables of ours except the given ones."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")}
    return subprocess.run(
        [sys.executable, "-m", "bridge", *arguments],
        cwd=ROOT,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


# -- as a process --------------------------------------------------------------------------------------


def test_version() -> None:
    done = run("--version")

    assert (done.returncode, done.stdout, done.stderr) == (0, f"mqtt-kafka-bridge {__version__}\n", "")


def test_help_is_readable_at_80_columns_and_says_what_the_exit_status_means() -> None:
    done = run("--help", COLUMNS="80")

    assert done.returncode == 0
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []
    for form in ("bridge [--config FILE]", "bridge --dry-run", "bridge config", "bridge --version"):
        assert form in done.stdout
    assert "  2  the command line or the settings are wrong" in done.stdout


@pytest.mark.parametrize(
    ("words", "own"),
    [
        (["top"], ["bridge top [--once]", "--once", "--url URL", "--json", "--config FILE"]),
        (["check"], ["bridge check [--offline]", "--haproxy-cfg FILE", "--send [TOPIC]", "Changes nothing"]),
        (["topics"], ["bridge topics [--create]", "--min-insync N", "--yes"]),
        (["config"], ["bridge config", "--config FILE"]),
        (
            ["init"],
            ["bridge init [--mqtt.host HOST[:PORT]", "write a starter file", "--config FILE", "none"],
        ),
        (["spool", "status"], ["bridge spool status", "--watch"]),
        (
            ["dead-letters", "replay"],
            ["bridge dead-letters list|show", "--to TOPIC", "--older-than DURATION"],
        ),
    ],
)
def test_the_help_of_a_command_has_its_own_flags_alone(
    words: list[str], own: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert [text for text in own if text not in shown] == []
    assert "--mqtt.keepalive" not in shown  # a setting
    assert "--count" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert len(shown.splitlines()) <= 35


def test_config_shows_every_setting_its_value_and_its_origin(tmp_path: Path) -> None:
    file = tmp_path / "bridge.toml"
    file.write_text(WORKS.replace("[kafka]", 'username = "u"\npassword = "geheim"\n[kafka]'))

    done = run("config", "--config", str(file), "--mqtt.port", "1885", BRIDGE_LOG__LEVEL="debug")

    assert (done.returncode, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert f'host = "emq" # {file}:2' in lines
    assert "port = 1885 # --mqtt.port" in lines
    assert 'keepalive = "60s" # default' in lines
    assert f'password = "***" # {file}:4' in lines
    assert 'level = "debug" # BRIDGE_LOG__LEVEL' in lines
    assert "geheim" not in done.stdout
    assert tomllib.loads(done.stdout)["routes"][0]["filter"] == "#"


def test_config_says_where_the_spool_and_the_dead_letters_are(tmp_path: Path) -> None:
    file = tmp_path / "bridge.toml"
    file.write_text(WORKS)
    for directory, flags in (
        ("/var/lib/mqtt-kafka-bridge", []),
        ("/state", ["--state_directory", "/state"]),
        ("/ssd/spool", ["--state_directory", "/state", "--spool.directory", "/ssd/spool"]),
    ):
        lines = run("config", "--config", str(file), *flags).stdout.splitlines()
        spool = lines[lines.index("[spool]") : lines.index("[dead_letters]")]
        letters = lines[lines.index("[dead_letters]") : lines.index("[haproxy]")]
        assert f"# messages that wait for Kafka are in {directory}/spool.db" in spool
        assert any(line.startswith(f"# dead letters are in {directory}/spool.db") for line in letters)


def test_config_shows_a_table_of_long_lines_only(tmp_path: Path) -> None:
    file = tmp_path / "bridge.toml"
    file.write_text(WORKS)
    certificates = "/etc/mqtt-kafka-bridge/certificates/of-all-brokers.pem"

    done = run(
        *("config", "--config", str(file), "--kafka.options", f"ssl.ca.location={certificates}"),
        *("--kafka.options", "security.protocol=SSL"),
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert tomllib.loads(done.stdout)["kafka"]["options"]["ssl.ca.location"] == certificates


def test_wrong_settings_end_with_2_and_a_line_for_each(tmp_path: Path) -> None:
    file = tmp_path / "bridge.toml"
    file.write_text(WORKS.replace('host = "emq"', "port = 0\nkeepalve = 1"))

    done = run("--config", str(file))

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"bridge: mqtt.host: required; write it into {file}, set BRIDGE_MQTT__HOST or pass --mqtt.host",
        f"bridge: mqtt.port = 0 ({file}:2): must be a whole number of 1 to 65535",
        f"bridge: mqtt.keepalve ({file}:3): no such setting; did you mean mqtt.keepalive?",
    ]


def test_the_reader_of_the_output_may_leave_early(tmp_path: Path) -> None:
    file = tmp_path / "bridge.toml"
    routes = "".join(ROUTE.replace("all", f"r{n}").replace("#", f"a{n}") for n in range(500))
    file.write_text(WORKS.replace(ROUTE, routes))
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        [sys.executable, "-m", "bridge", "config", "--config", str(file)],
        cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=30, check=False,
    )  # fmt: skip
    os.close(writer)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_example_of_a_route_can_be_pasted_into_the_file(tmp_path: Path) -> None:
    file = tmp_path / "bridge.toml"
    file.write_text(WORKS.replace(ROUTE, ""))

    done = run("config", "--config", str(file))
    assert done.returncode == 2
    assert "\\n" not in done.stderr
    file.write_text(file.read_text() + done.stderr.partition("for example:\n")[2])

    assert run("config", "--config", str(file)).returncode == 0


def test_a_line_break_of_the_users_begins_no_line(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.write(WORKS)
    assert cli.main(["con\nbridge: fig"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


# -- errors for a wrong command line ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mqtt.hosst", "x"], "--mqtt.hosst: no such flag; did you mean --mqtt.host? (see bridge --help)"),
        (["--mqtt.hosst=x"], "--mqtt.hosst: no such flag; did you mean --mqtt.host? (see bridge --help)"),
        (["-v"], "-v: no such flag (see bridge --help)"),
        (["cofnig"], '"cofnig": no such command; did you mean config? (see bridge --help)'),
        (["--mqtt.host"], "argument --mqtt.host: expected one argument (see bridge --help)"),
        (["--count", "3"], "--count: only with --dry-run and consume"),
        (["--client-id", "x"], "--client-id: only with --dry-run and check"),
        (["config", "check"], '"config check": no such command; did you mean config? (see bridge --help)'),
        (["check", "--watch"], "--watch: only with spool status"),
        (["check", "--create"], "--create: only with topics"),
        (["topics", "--from-beginning"], "--from-beginning: only with consume"),
        (["consume", "a", "b"], "consume: wants one Kafka topic, or none for those of the routes"),
        (
            ["consume", "a b"],
            """consume "a b": Kafka does not allow ' ', only letters a-z and A-Z, digits, '.', '_' and '-'""",
        ),
        (["consume", "--count", "0"], "--count 0: must be 1 or more"),
        (["topics", "--partitions", "6"], "--partitions: only with topics --create"),
        (["topics", "--yes"], "--yes: only with topics --create"),
        (["topics", "--create", "--replicas", "0"], "--replicas 0: must be 1 or more"),
        (["spool"], '"spool": no such command; it goes on with status (see bridge --help)'),
        (["spool", "stat"], '"spool stat": no such command; did you mean spool status? (see bridge --help)'),
        (
            ["x"],
            '"x": no such command; there are init, config, check, top, topics, consume, spool and'
            " dead-letters (see bridge --help)",
        ),
        (["config", "--watch"], "--watch: only with spool status"),
        (["config", "--client-id", "x"], "--client-id: only with --dry-run and check"),
        (["--dry-run", "--count", "0"], "--count 0: must be 1 or more"),
        (["--dry-run", "--count", "x"], "argument --count: invalid int value: 'x' (see bridge --help)"),
        (["--kafka.options", "x"], "argument --kafka.options: must be NAME=VALUE (see bridge --help)"),
        (
            ["--routes", "{"],
            "argument --routes: must be a list of tables in JSON: Expecting property name enclosed in double"
            " quotes: line 1 column 2 (char 1) (see bridge --help)",
        ),
        (["config", "--dry-run"], "config: not with --dry-run"),
    ],
)
def test_a_wrong_command_line_ends_with_2(
    machine: Machine, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    machine.write(WORKS)

    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == f"bridge: {said}\n"


def test_config_knows_whether_routes_can_work(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.write(WORKS.replace('topic = "mqtt"', 'topic = "{sit}"'))

    assert cli.main(["config"]) == 2
    assert "{sit}" in capsys.readouterr().err


def test_config_knows_whether_a_password_for_kafka_can_come(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = 'security.protocol = "SASL_SSL"\nsasl.mechanism = "PLAIN"\nsasl.username = "u"\n'
    machine.write(f"{WORKS}[kafka.options]\n{options}")
    monkeypatch.setattr(cli, "CREDENTIAL_STORES", (str(tmp_path / "store"),))
    assert cli.main(["config"]) == 2, "as the service"
    assert "name its file in kafka.password_file" in capsys.readouterr().err
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mqtt-kafka-bridge.kafka-password").touch()
    assert cli.main(["config"]) == 0


@pytest.mark.parametrize(("protocol", "status"), [("auto", 2), ("5", 0)])
def test_config_knows_whether_mqtt_can_carry_the_routes(
    machine: Machine, capsys: pytest.CaptureFixture[str], protocol: str, status: int
) -> None:
    machine.write(f'''
mqtt = {{ host = "emq", protocol = "{protocol}" }}
kafka.bootstrap_servers = "kafka:9092"
routes = [
    {{ name = "kitchen", filter = "kitchen/#", topic = "a" }},
    {{ name = "temperature", filter = "+/temperature", topic = "b" }},
]
''')

    assert cli.main(["config"]) == status
    assert ('"kitchen" and "temperature"' in capsys.readouterr().err) is (status == 2)


# -- the arguments of app.run --------------------------------------------------------------------------


def test_without_arguments_it_is_the_service(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.write(WORKS)
    started: list[Settings] = []

    def service(settings: Settings, _: object) -> int:
        started.append(settings)
        return 0

    monkeypatch.setattr(bridge.app, "run", service)

    assert cli.main([]) == 0
    assert started[0].mqtt.host == "emq"


def test_the_service_reads_file_and_flags_again_for_a_reload(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.write(WORKS)
    again: list[Settings] = []

    def service(settings: Settings, read_again: Callable[[], tuple[Settings, Router]]) -> int:
        machine.write(WORKS.replace('"emq"', '"other"'))
        again.append(read_again()[0])
        machine.write("nonsense")
        with pytest.raises(ConfigurationError):
            read_again()
        return 0

    monkeypatch.setattr(bridge.app, "run", service)

    assert cli.main(["--mqtt.port", "1885"]) == 0
    assert (again[0].mqtt.host, again[0].mqtt.port) == ("other", 1885)


def test_dry_run_hands_on_its_flags(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.write(WORKS)
    shown: list[tuple[object, ...]] = []

    def preview(settings: Settings, count: int | None, json: bool, client_id: str | None) -> int:
        shown.append((settings.mqtt.port, count, json, client_id))
        return 0

    monkeypatch.setattr(dry_run, "dry_run", preview)

    assert cli.main(["--dry-run", "--count", "3", "--json", "--client-id", "me", "--mqtt.port", "1885"]) == 0
    assert cli.main(["--dry-run"]) == 0
    assert shown == [(1885, 3, True, "me"), (1884, None, False, None)]


def test_consume_hands_on_its_topic_and_flags(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.write(WORKS)
    wishes: list[Wish] = []

    def consume(settings: Settings, wish: Wish) -> int:
        wishes.append(wish)
        return 0

    monkeypatch.setattr("bridge.commands.consume.consume", consume)

    assert cli.main(["consume", "garden", "--from-beginning", "--count", "3", "--json"]) == 0
    assert cli.main(["consume"]) == 0
    assert wishes == [Wish("garden", from_beginning=True, count=3, as_json=True), Wish()]


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (BridgeError("the disk is gone"), 1, "bridge: the disk is gone\n"),
        (ConfigurationError(["one", "two"]), 2, "bridge: one\nbridge: two\n"),
        (KeyboardInterrupt(), 1, ""),
    ],
)
def test_an_error_of_the_app_becomes_the_exit_status(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    said: str,
) -> None:
    def fails(*_: object) -> int:
        raise error

    machine.write(WORKS)
    monkeypatch.setattr(bridge.app, "run", fails)

    assert cli.main([]) == status
    assert capsys.readouterr().err == said


ROUTES_FILE = """\
[mqtt]
host = "emq"
[kafka]
bootstrap_servers = "k:9092"
[[routes]]
name = "a"
filter = "{filter}"
topic = "{topic}"
[[routes]]
name = "b"
filter = "b/#"
topic = "b"
"""


@pytest.mark.parametrize(
    ("filter_", "topic", "said"),
    [
        ("a/#/b", "a", """:7: route "a": filter = "a/#/b": '#' is allowed only at the end"""),
        ("a/{x}", "t.{y}", ':8: route "a": topic = "t.{y}": unknown {y}; known: {x}, {topic}'),
        ("#", "a", ':11: route "b": filter = "b/#": gets nothing, because route "a" before it'),
    ],
)
@pytest.mark.parametrize("words", [["config"], ["--dry-run"], ["check", "--offline"]])
@pytest.mark.usefixtures("logging_as_before")
def test_a_route_that_can_not_be_used_is_named_with_file_and_line(
    words: list[str], filter_: str, topic: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bridge.toml"
    file.write_text(ROUTES_FILE.replace("{filter}", filter_).replace("{topic}", topic))
    assert cli.main([*words, "--config", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"bridge: {file}{said}")


def test_a_settings_file_that_is_missing_comes_with_the_command_that_writes_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/bridge"])
    assert cli.main(["config", "--config", f"{tmp_path}/none.toml"]) == 2
    assert f"`.venv/bin/bridge init --config {tmp_path}/none.toml` writes one" in capsys.readouterr().err
    monkeypatch.setattr("bridge.settings.load.DEFAULT_FILE", tmp_path / "bridge.toml")
    assert cli.main(["config"]) == 2
    assert f"there is no {tmp_path}/bridge.toml: name your settings with --config" in capsys.readouterr().err
