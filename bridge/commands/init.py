"""`bridge init`: writes a commented starter file from two answers, and never over a file that exists."""

import re
import secrets
import socket
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bridge.commands import invocation
from bridge.errors import BridgeError, ConfigurationError
from bridge.mqtt.connector import is_open
from bridge.observe.printable import printable
from bridge.settings import Settings, problems
from bridge.settings.describe import dotted, written
from bridge.settings.layers import Layer, Layers
from bridge.settings.load import DEFAULT_FILE
from bridge.settings.mqtt import BALANCERS_PORTS

FILE = Path("bridge.toml")  # without --config
_TAKEN = (("mqtt", "host"), ("mqtt", "port"), ("kafka", "bootstrap_servers"), ("state_directory",))
_BROKERS_PORT, _KAFKAS_PORT = 1883, 9092
_TIMEOUT = 1.0  # seconds
_MACHINE = 11  # characters of the machine's name in the client id
_QUESTIONS = (
    ("mqtt", "host", "MQTT broker, or the HAProxy in front of it (host or host:port): "),
    ("kafka", "bootstrap_servers", "Kafka's bootstrap servers (host:port, separated by commas): "),
)

_TEXT = """\
# Settings of mqtt-kafka-bridge, begun by "bridge init". A setting that is not here has its default.
# docs/reference/settings.md has all settings, with what each allows. This shows the ones in force:
# {command} config{config}

# Messages that wait for Kafka, dead letters and the record of subscriptions are below this directory.
# Best on an SSD. If it is lost, the messages that wait there are lost.
state_directory = {state_directory}

[mqtt]
host = {host}
port = {port}  # a broker: 1883, with TLS 8883. The shipped HAProxy: 1884, with TLS 8884
# The client id names the bridge's session at the broker. Each bridge needs its own. Never change it later:
# messages that the broker keeps for the old one would not come.
client_id = {client_id}
# username = "bridge"
# password_file = "/etc/mqtt-kafka-bridge/mqtt-password"

[kafka]
bootstrap_servers = {bootstrap_servers}

# [kafka.options]  # librdkafka's, where Kafka wants TLS or a login
# security.protocol = "SASL_SSL"
# sasl.mechanism = "SCRAM-SHA-512"
# sasl.username = "bridge"

# The first route whose filter matches takes a message, so routes of a few topics come first.
# [[routes]]
# name = "temperatures"
# filter = "sensors/{{site}}/{{device}}/temp"  # a level with a name subscribes +
# topic = "iot.{{site}}"  # and can be used in the names of Kafka's topics and keys
# key = "{{device}}"  # records with one key keep their order; the default is the MQTT topic

[[routes]]
name = "everything"
filter = "+/#"  # every MQTT topic except those that begin with $
topic = "mqtt"  # the Kafka topic. It must exist; this creates it:
# {command} topics --create{config}
"""


def init(flags: Layer, explicit: Path | None) -> int:
    """Write the file, and print what to do next. `flags`: the settings among the command line's flags.

    Raises ConfigurationError for a wrong answer, BridgeError where the file can't be written.
    """
    file = explicit or FILE
    if file.exists():
        raise ConfigurationError(f"init: {file} exists, and stays as it is; name another file with --config")
    answers = _asked(_given(flags))
    answers["client_id"] = client_id(socket.gethostname())
    if file.resolve() != DEFAULT_FILE:  # there the service has a directory of its own
        beside = file.resolve().with_name(f"{file.name.removesuffix('.toml')}.state")
        answers.setdefault("state_directory", str(beside))
    called = invocation.program(file)
    command, config = called.command, called.config
    _write(file, text(answers, command, config))
    sys.stdout.write(
        f"wrote {printable(str(file))}; now:\n"
        f"    {command} check{config}\n"
        f"    {command} topics --create{config}\n"
        f"    {command} --dry-run{config}\n"
        f"    {command}{config}\n"
    )
    return 0


def client_id(machine: str) -> str:
    """A client id that no other bridge has, of at most 23 characters, which each broker takes (MQTT 3.1.3.1).

    Two bridges with one client id take the session from each other. Its name helps on the broker's dashboard.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "-", machine.partition(".")[0])[:_MACHINE].strip("-")
    return "-".join(filter(None, ("bridge", name, secrets.token_hex(2))))


def text(answers: dict[str, Any], command: str, config: str) -> str:
    """The file. Pure. Raises ConfigurationError where it would not be valid."""
    default = Settings.model_fields["state_directory"].default
    filled = _TEXT.format(
        command=command,
        config=config,
        state_directory=written(None, str(answers.get("state_directory", default))),
        host=written(None, answers["mqtt"]["host"]),
        client_id=written(None, answers.get("client_id", "bridge")),
        port=answers["mqtt"]["port"],
        bootstrap_servers=written(None, answers["kafka"]["bootstrap_servers"]),
    )
    values = tomllib.loads(filled)
    try:
        Settings(**values)
    except ValidationError as error:
        layers = Layers([Layer(values, lambda _: "bridge init")])
        raise ConfigurationError(problems.sentences(error, layers, "bridge init")) from None
    return filled


def _given(flags: Layer) -> dict[str, Any]:
    """The answers among the flags. Raises ConfigurationError for a setting that init does not write."""

    def leaves(values: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        return [
            key
            for name, value in values.items()
            for key in (leaves(value, (*above, name)) if isinstance(value, dict) else [(*above, name)])
        ]

    if others := [dotted(key) for key in leaves(flags.values) if key not in _TAKEN]:
        raise ConfigurationError(
            [f"--{other}: not with init; write {other} into the file afterwards" for other in others]
        )
    return {"mqtt": {}, "kafka": {}, **flags.values}


def _asked(answers: dict[str, Any]) -> dict[str, Any]:
    """The same with what is missing: a person is asked, or ConfigurationError raised."""
    missing = [question for question in _QUESTIONS if question[1] not in answers[question[0]]]
    if missing and not sys.stdin.isatty():
        wanted = " and ".join(f"--{table}.{name}" for table, name, _ in missing)
        raise ConfigurationError(f"init: nobody is there to be asked; give {wanted}")
    found = {name: dict(value) if isinstance(value, dict) else value for name, value in answers.items()}
    for table, name, question in missing:
        found[table][name] = _answer(question, (table, name))
    found["mqtt"] = _with_port(found["mqtt"])
    found["kafka"]["bootstrap_servers"] = _with_ports(found["kafka"]["bootstrap_servers"])
    return found


def _answer(question: str, key: tuple[str, str], most: int = 3) -> str:
    """Ask, and ask again after an empty or a wrong answer. Raises ConfigurationError after `most`."""
    wrong: Sequence[str] = ()
    for _ in range(most):
        sys.stderr.write(question)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            break
        if answer := line.strip():
            wrong = _wrong(key, answer)
            if not wrong:
                return answer
            sys.stderr.writelines(f"  {printable(each)}\n" for each in wrong)
    raise ConfigurationError("init: no answer that can be used, so nothing was written")


def _wrong(key: tuple[str, str], answer: str) -> Sequence[str]:
    """What is wrong with an answer; empty: nothing is."""
    filled: dict[str, Any] = {
        "mqtt": {"host": "unused", "port": _BROKERS_PORT},
        "kafka": {"bootstrap_servers": "unused:9092"},
    }
    if key[0] == "mqtt":
        host, port = _parted(answer)
        filled["mqtt"] = {"host": host, "port": _BROKERS_PORT if port is None else port}
    else:
        filled["kafka"] = {"bootstrap_servers": _with_ports(answer)}
    try:
        text(filled, "", "")
    except ConfigurationError as error:
        return [each.replace(" (bridge init)", "") for each in error.problems]
    return ()


def _with_ports(servers: str) -> str:
    return ",".join(
        server if re.search(r":\d+$", server) else f"{server}:{_KAFKAS_PORT}"
        for server in map(str.strip, servers.split(","))
    )


def _parted(host: str) -> tuple[str, int | None]:
    """Host and port of what a person wrote; None: no port."""
    port = None
    if found := re.fullmatch(r"(\[[^\]]+\]|[^:]+):(\d+)", host):
        host, port = found[1], int(found[2])
    return host.strip("[]"), port


def _with_port(mqtt: dict[str, Any]) -> dict[str, Any]:
    """Take a port off the host. Without any port, look whether the balancer's is open there."""
    host, port = _parted(str(mqtt["host"]))
    port = mqtt.get("port") or port
    if port is None:
        there = is_open(host, BALANCERS_PORTS[0], _TIMEOUT)
        port = BALANCERS_PORTS[0] if there else _BROKERS_PORT
    return {"host": host, "port": port}


def _write(file: Path, filled: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(filled)
    except FileExistsError:
        raise ConfigurationError(f"init: {file} exists, and stays as it is") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BridgeError(f"init: cannot write {file}: {reason}; name another file with --config") from None
