"""Writes settings.md, events.md and command-line.md from the code: python docs/reference/generate.py

tests/artefacts/test_reference_in_step.py fails where a page no longer says what the code says.
"""

import ast
import logging
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from bridge.commands import cli  # noqa: E402
from bridge.observe.events import Event  # noqa: E402
from bridge.settings import describe  # noqa: E402
from bridge.settings.kafka_options import REFUSALS  # noqa: E402
from bridge.settings.load import DEFAULT_FILE  # noqa: E402

_MADE = "<!-- Made by docs/reference/generate.py; change the code, not this page. -->\n"


def pages() -> dict[Path, str]:
    """The text of each page, by its path."""
    here = Path(__file__).parent
    made = {"settings.md": _settings(), "events.md": _events(), "command-line.md": _command_line()}
    return {here / name: "\n".join([_MADE, *lines, ""]) for name, lines in made.items()}


# -- settings ------------------------------------------------------------------------------------------


def _settings() -> Iterator[str]:
    yield f"""# Settings

The file is {DEFAULT_FILE}, or what `--config` names. Each setting can also be a variable of the
environment, such as `BRIDGE_MQTT__HOST`, or a flag, such as `--mqtt.host`. Flags outrank the environment,
the environment outranks the file. `bridge config` shows what is in force, and where each value comes
from. Lists and tables are written as JSON in the environment:
`BRIDGE_KAFKA__OPTIONS='{{"linger.ms": 20}}'`.

Durations are written `200ms`, `60s`, `5min`, `3h`, `7d`; sizes `64KiB`, `16MB`, `1GB`. A bare number is
seconds or bytes. What is unknown, of a wrong type, out of range or without effect is an error: the bridge
does not start, and says where it stands and what is allowed (exit status 2).

The smallest file that works:

```toml
[mqtt]
host = "emq.example"

[kafka]
bootstrap_servers = "kafka1:9092,kafka2:9092"

[[routes]]
name = "temperatures"
filter = "sensors/{{site}}/{{device}}/temp"
topic = "iot.{{site}}"
```

## At the top of the file
"""
    tables = {key: field for key, field in describe.walk() if describe.table(field.annotation)}
    yield from _table(())
    for key, field in tables.items():
        brackets = "[[{}]]" if key == ("routes",) else "[{}]"
        yield f"\n## {brackets.format(describe.dotted(key))}\n\n{(field.description or '').rstrip('.')}.\n"
        yield from _table(key)
        if key == ("kafka",):
            yield from _refusals()


def _table(table: tuple[str | int, ...]) -> Iterator[str]:
    yield "| name | allowed | default | meaning |\n|---|---|---|---|"
    for key, field in describe.fields():
        if key[:-1] != table:
            continue
        default = describe.default(field)
        shown = "required" if field.is_required() else f"`{default}`" if default else ""
        cells = (f"`{key[-1]}`", _cell(describe.allowed(field)), shown, _cell(field.description or ""))
        yield f"| {' | '.join(cells)} |"


def _refusals() -> Iterator[str]:
    yield """
### [kafka.options]

Any setting that librdkafka has for producers, by its own name; the list is librdkafka's
[CONFIGURATION.md](https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md). The dots may stay
bare: `linger.ms = 20`. Settings for consumers and callbacks are refused, and so are these:

| name | allowed | why |
|---|---|---|"""
    for refusal in REFUSALS:
        names = ", ".join(f"`{name}`" for name in refusal.names)
        yield f"| {names} | {refusal.only or 'not at all'} | {_cell(refusal.reason)} |"


# -- events --------------------------------------------------------------------------------------------


def _events() -> Iterator[str]:
    yield """# Events in the log

The names are an interface: alerts and filters may rely on them. A line of JSON has `timestamp`, `level` and
`event`, and the fields below. Under systemd:

    journalctl -u mqtt-kafka-bridge -o cat | jq 'select(.event == "mqtt.closed")'
    journalctl -u mqtt-kafka-bridge -p warning

| level | means |
|---|---|
| error | a person must act; the message names the way out |
| warning | it heals itself, but a person may want to know |
| info | the life of the service; nothing here happens once for each message |
| debug | all the rest |

| event | level | meaning | fields |
|---|---|---|---|"""
    fields = logged_fields()
    for event in Event:
        level = logging.getLevelName(event.level).lower()
        names = ", ".join(f"`{name}`" for name in fields[event.name])
        yield f"| `{event}` | {level} | {_cell(event.meaning)} | {names} |"


def logged_fields() -> dict[str, list[str]]:
    """By the name of the event: the fields that calls of log() give it. Absent: events that nobody logs."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in sorted((ROOT / "bridge").rglob("*.py")):
        tree = ast.parse(file.read_text())
        tables = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Name) and call.func.id in ("log", "log_at"):
                # The event itself, or a table of this module that it is looked up in.
                chosen = [*call.args, *(tables[name] for name in _names(call.args) if name in tables)]
                for event in _events_in(chosen):
                    found[event] += [name for k in call.keywords if (name := _field(k)) not in found[event]]
    return found


def _field(keyword: ast.keyword) -> str:
    """What the log shows: a traceback is logged as exc_info, and only counts are logged as `**counts`."""
    return {"exc_info": "exception", None: "counts"}.get(keyword.arg, keyword.arg or "")


def _names(nodes: list[ast.expr]) -> set[str]:
    return {node.id for root in nodes for node in ast.walk(root) if isinstance(node, ast.Name)}


def _events_in(nodes: list[ast.expr]) -> Iterator[str]:
    for root in nodes:
        for node in ast.walk(root):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "Event"
            ):
                yield node.attr


# -- the command line ----------------------------------------------------------------------------------


def _command_line() -> Iterator[str]:
    yield """# Command line

    mqtt-kafka-bridge [--config FILE] [--mqtt.host HOST ...]
    mqtt-kafka-bridge --dry-run [--count N] [--json] [--client-id ID]
    mqtt-kafka-bridge config
    mqtt-kafka-bridge check [--client-id ID]
    mqtt-kafka-bridge spool status [--json] [--watch]
    mqtt-kafka-bridge dead-letters list|show|export|replay|purge [ID ...]
    mqtt-kafka-bridge --version

`bridge` is the same program under a shorter name. Debian's iproute2 has a command of that name too, so
scripts and services say `mqtt-kafka-bridge`.

| exit status | means |
|---|---|
| 0 | done, or stopped as it was told to (SIGTERM, SIGINT, `--count`) |
| 1 | failed; of `check`: the chain is broken; of `dead-letters replay`: some stay |
| 2 | the command line or the settings are wrong; each line on standard error names one thing |

Passwords are no flags: everybody on a machine can read the flags of a process. They are read from a file
(`mqtt.password_file`, `kafka.password_file`), from systemd's credentials `mqtt-password` and
`kafka-password`, or from the environment.

## spool status

It can be run beside the service, and while that is stopped, by everybody who may read the database; it
changes nothing. `--json` prints one object on one line:

| key | means |
|---|---|
| `rows` | messages that wait for Kafka, in all; 0 too where there is no database yet (`exists`) |
| `topics` | each Kafka topic that has some: `topic`, `rows`, `bytes`, `oldest`, `oldest_age_seconds` |
| `dead_letters`, `dead_letters_bytes` | what is kept since it can't be delivered |
| `used_bytes`, `file_bytes` | what of the database holds something; what it takes of the disk |
| `max_bytes`, `keep_free`, `free_bytes` | the limits in force, and the disk's free space |
| `full` | why nothing more would be written; null: it would |
| `set_aside` | damaged databases that were kept under other names |

`oldest` is null where the clock was wrong when the message came. `--watch` shows all of it each second,
on a terminal as a bar, and ends when nothing waits any more.

## dead-letters

[Dead letters](../how-to/dead-letters.md) says when to use which. IDs and flags choose; without them it is
all of them.

| command | does |
|---|---|
| `list` | a line for each; `--json` as objects |
| `show ID` | all about one; `--json` with the payload |
| `export` | all about each with the payload, an object a line |
| `replay` | produces them by the present settings; each is removed once Kafka holds it, others stay |
| `purge` | removes them; asks at a terminal, and elsewhere wants `--yes` |

The objects have `id`, `time` (when it became a dead letter), `reason`, `route`, `kafka_topic` (both null
where no route took it), `topic` (`topic_base64` where it is not UTF-8), `qos`, `retained`, `duplicate`,
`received` (null where the clock was wrong), `properties` of MQTT 5, `bytes`; those of `show` and `export`
also `payload_base64`. `replay --json` prints `id`, `delivered`, `kafka_topic` and `reason` for each.

## --help

```text"""
    with patch.dict(os.environ, COLUMNS="80"):
        yield cli.command_line()[0].format_help().rstrip()
    yield "```"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    for path, text in pages().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
