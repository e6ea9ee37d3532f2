"""Writes the pages that are made from the code, the schema of /status.json, and the page's copy of the
runbook from docs/runbook.md: python docs/reference/generate.py

tests/artefacts/test_reference_in_step.py fails if a page differs from the code.
"""

import ast
import json
import logging
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from markdown_it import MarkdownIt
from markdown_it.token import Token
from pydantic import TypeAdapter

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from bridge.commands import cli  # noqa: E402
from bridge.commands.check.outcome import Group  # noqa: E402
from bridge.commands.check.table import CHECKS  # noqa: E402
from bridge.observe.events import Event  # noqa: E402
from bridge.settings import describe  # noqa: E402
from bridge.settings.kafka_options import REFUSALS  # noqa: E402
from bridge.settings.load import DEFAULT_FILE  # noqa: E402
from bridge.status.document import Status  # noqa: E402
from bridge.status.metrics import METRICS, PREFIX  # noqa: E402

_MADE = "<!-- Made by docs/reference/generate.py; change the code, not this page. -->\n"


def pages() -> dict[Path, str]:
    """The text of each page, by its path."""
    here = Path(__file__).parent
    made = {
        "settings.md": _settings(),
        "events.md": _events(),
        "metrics.md": _metrics(),
        "command-line.md": _command_line(),
        "checks.md": _checks(),
    }
    return {
        **{here / name: "\n".join([_MADE, *lines, ""]) for name, lines in made.items()},
        here / "status.schema.json": _schema(),
        ROOT / "bridge" / "http" / "page" / "runbook.html": _runbook(),
    }


# -- settings ------------------------------------------------------------------------------------------


def _settings() -> Iterator[str]:
    yield f"""# Settings

The file is {DEFAULT_FILE}, or the file given by `--config`. Each setting can also be an environment
variable, such as `BRIDGE_MQTT__HOST`, or a flag, such as `--mqtt.host`. Flags win over the environment,
and the environment wins over the file. `bridge config` shows the value in force of each setting and its
source. In the environment, write lists and tables as JSON: `BRIDGE_KAFKA__OPTIONS='{{"linger.ms": 20}}'`.

Write durations as `200ms`, `60s`, `5min`, `3h`, `7d`, and sizes as `64KiB`, `16MB`, `1GB`. A number without
a unit means seconds or bytes. A setting that is unknown, of a wrong type, out of range or without effect is
an error: the bridge does not start, and prints the setting, its source and what is allowed (exit status 2).

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

Any librdkafka setting for producers, under its librdkafka name. librdkafka's
[CONFIGURATION.md](https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md) lists them. Names
with dots need no quotes: `linger.ms = 20`. The bridge refuses settings for consumers, callbacks, and these:

| name | allowed | why |
|---|---|---|"""
    for refusal in REFUSALS:
        names = ", ".join(f"`{name}`" for name in refusal.names)
        yield f"| {names} | {refusal.only or 'nothing'} | {_cell(refusal.reason)} |"


# -- events --------------------------------------------------------------------------------------------


def _events() -> Iterator[str]:
    yield """# Events in the log

The names of events are an interface: alerts and filters may rely on them. A line of JSON has `timestamp`,
`level`, `event`, and the fields below. Under systemd:

    journalctl -u mqtt-kafka-bridge -o cat | jq 'select(.event == "mqtt.closed")'
    journalctl -u mqtt-kafka-bridge -p warning

| level | means |
|---|---|
| error | a person must act; the line says how |
| warning | the problem heals itself, but a person may want to know |
| info | the life of the service; no info event happens once for each message |
| debug | everything else |

A lane is one Kafka topic as the bridge sees it. What happens to many Kafka topics within a minute is logged
for the first five, and then once for all others: instead of `topic` the line has `topics`, their number, and
`examples`, the names of a few. Its other fields are of the last one.

| event | level | meaning | fields |
|---|---|---|---|"""
    fields = logged_fields()
    for event in Event:
        level = logging.getLevelName(event.level).lower()
        names = ", ".join(f"`{name}`" for name in fields[event.name])
        yield f"| `{event}` | {level} | {_cell(event.meaning)} | {names} |"


_OF_MANY = ("topics", "examples")


def logged_fields() -> dict[str, list[str]]:
    """The fields that calls of log() give each event, by its name. Omits events that no call logs."""
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
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if name in ("log", "log_at", "say") and call.args:
                # The event itself, or a table of this module in which the call looks up the event.
                chosen = [*call.args, *(tables[name] for name in _names(call.args) if name in tables)]
                for event in _events_in(chosen):
                    found[event] += [name for k in call.keywords if (name := _field(k)) not in found[event]]
                    if "_many_topics" in ast.dump(call.func):  # one line may stand for many topics
                        found[event] += [name for name in _OF_MANY if name not in found[event]]
    return found


def _field(keyword: ast.keyword) -> str:
    """The field's name in the log. exc_info becomes `exception`; only counts are passed as `**counts`."""
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


# -- checks -----------------------------------------------------------------------------------------------


def _checks() -> Iterator[str]:
    yield """# Checks

`bridge check` makes these checks, in this order within each group. The ids are an interface. A check that
can't be made is skipped, and says why. `--offline` makes only the checks that ask no other machine. Each
check ends after its time-out at the latest."""
    for group in Group:
        yield f"\n## {group.capitalize() if group.islower() else group[0].upper() + group[1:]}\n"
        yield "| id | what it checks | remedy | offline | time-out |\n|---|---|---|---|---|"
        for each in CHECKS:
            if each.group is group:
                entry = f"[`{each.id}`](../runbook.md#{each.runbook})"
                offline = "yes" if each.offline else "no"
                cells = (entry, _cell(each.what), _cell(each.remedy), offline, f"{each.seconds:.0f} s")
                yield f"| {' | '.join(cells)} |"


# -- metrics -------------------------------------------------------------------------------------------


def _metrics() -> Iterator[str]:
    yield f"""# Metrics

The bridge answers at `/metrics` of `http.listen` in the text format of OpenMetrics, from a snapshot. The
loop makes one each second; where no message comes and nobody has asked for 20 s, every five seconds. The
names are an interface: they begin with `{PREFIX}`. A histogram `x` has `x_bucket`, `x_sum` and `x_count`. A
label with a closed list of values has a series for each value from the start, at 0. A series is missing only
if its meaning says so, or if its host is not known: a Kafka broker before the first connection, an EMQ node
without `[haproxy]`, the session's queue without `[emqx]`.

No label holds an MQTT topic, a client id or a device.
[Prometheus and Grafana](../how-to/prometheus.md) tells how to use the metrics, alerts and dashboard. The last
column names the alerts, without `{_ALERT}`, and the panels of the dashboard in which a metric is used.

| metric | type | unit | labels | meaning | alerts; *panels* |
|---|---|---|---|---|---|"""
    alerts, panels = _alerts(), _panels()
    for metric in METRICS:
        name = re.compile(rf"\b{PREFIX}{metric.name}(?:_bucket)?\b")
        used = [alert for alert, text in alerts.items() if name.search(text)]
        shown = [f"*{panel}*" for panel, text in panels.items() if name.search(text)]
        unit = "seconds since 1970" if "timestamp" in metric.name else metric.unit
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        where = "; ".join(", ".join(names) for names in (used, shown) if names)
        yield f"| `{metric.name}` | {metric.type} | {unit} | {labels} | {_cell(metric.meaning)} | {where} |"


_ALERT = "MqttKafkaBridge"


def _alerts() -> dict[str, str]:
    """The text of each alert, by its name without the prefix."""
    parts = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text().split("- alert: ")[1:]
    found: dict[str, str] = defaultdict(str)
    for part in parts:
        found[part.split()[0].removeprefix(_ALERT)] += part
    return found


def _panels() -> dict[str, str]:
    """The expressions of each panel, by its title."""
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "mqtt-kafka-bridge.json").read_text())
    found: dict[str, str] = defaultdict(str)
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            found[panel["title"]] += f"{target['expr']}\n"
    return found


# -- the command line ----------------------------------------------------------------------------------


def _command_line() -> Iterator[str]:
    yield """# Command line

    mqtt-kafka-bridge [--config FILE] [--mqtt.host HOST ...]
    mqtt-kafka-bridge --dry-run [--count N] [--json] [--client-id ID]
    mqtt-kafka-bridge init [--mqtt.host HOST[:PORT] --kafka.bootstrap_servers LIST] [--config FILE]
    mqtt-kafka-bridge config
    mqtt-kafka-bridge check [--offline] [--json] [--strict] [--haproxy-cfg FILE] [--send [TOPIC]]
    mqtt-kafka-bridge top [--once] [--json] [--url URL]
    mqtt-kafka-bridge topics [--json]
    mqtt-kafka-bridge topics --create [--partitions N] [--replicas N] [--min-insync N] [--yes] [--json]
    mqtt-kafka-bridge consume [TOPIC] [--from-beginning] [--count N] [--json]
    mqtt-kafka-bridge spool status [--json] [--watch]
    mqtt-kafka-bridge dead-letters list|show|export|replay|purge [ID ...]
    mqtt-kafka-bridge --version

`bridge` is the same program under a shorter name. Debian's iproute2 also has a command `bridge`, so use
`mqtt-kafka-bridge` in scripts and services, and after `sudo`. `mqtt-kafka-bridge COMMAND --help` shows the
flags of one command alone.

| exit status | means |
|---|---|
| 0 | done, or stopped on request (SIGTERM, SIGINT, `--count`) |
| 1 | failed; `check` or `top --once` found a fault; `topics`: one is missing; a replay left dead letters |
| 2 | the command line or the settings are wrong; each line on standard error names one problem |

The bridge refuses passwords as flags, because everybody on a machine can read the flags of a process. It
reads passwords from a file (`mqtt.password_file`, `kafka.password_file`), from systemd's credentials
`mqtt-password`, `kafka-password` and `emqx-key`, or from the environment.

## check

`check` examines settings, this machine, both sides of the chain, the spool and the running service, and
changes nothing: [Checks](checks.md) lists what it looks at. It connects with a client id of its own
(`--client-id`), so it can run beside the service. `--offline` asks no other machine. `--haproxy-cfg`
names a copy of HAProxy's file; without it the check reads /etc/haproxy/haproxy.cfg if it can.

`--send TOPIC` publishes one marked message to this MQTT topic and waits until it is in Kafka. It needs a
running service, a route that takes the topic, and the right to read the route's Kafka topic, which must
exist. One record stays in Kafka. If no route takes the topic, nothing is sent.

`--json` prints one object for each outcome, and the verdict as the last one:

| key | means |
|---|---|
| `id`, `group` | the check |
| `level` | `good`, `warning`, `failed` or `skipped` |
| `found` | what the check found, or why it was skipped |
| `remedy` | what to do; null if the check is good or skipped |
| `runbook` | a URL if the service answers, otherwise where this machine has the file; null as above |
| `seconds` | how long the check took |
| `verdict`, `sentence` | only in the last object: the worst level, and one sentence |

## top

This command asks the running service for `/status.json` and shows the answer: one sentence that says whether
all is well or what to do, the links of the chain, the sums, and the last events. A terminal shows it again
each second until Ctrl-C. `--once`, or an output that is no terminal, shows it once. `--json` prints the
document, with `snapshot` and `diagnosis`, once, on one line. `--url` asks the bridge of another machine,
and then needs no settings file here. If no service answers, the command says so and exits with 1. [See the
state](../how-to/see-the-state.md#in-the-terminal) explains the lines.

## topics

This command shows each Kafka topic that a route or `dead_letters.topic` names, and what Kafka tells of it.
For a route such as `topic = "iot.{site}"` it shows the topics for which messages wait on this machine's
disk. Without `--create` it changes nothing. A topic has one of these states:

| state | means |
|---|---|
| `exists` | Kafka has it; the line shows partitions, replicas, the limit of a record batch, retention |
| `missing` | Kafka has no such topic; the line says why, if Kafka refuses to create it |
| `created` | this command has just created it |
| `unknown` | Kafka does not answer, or does not allow the bridge's user to look |
| `template` | a route's topic with names in braces |

`--create` creates the missing topics. The command first says which topics it creates, and with what. Then it
asks for confirmation at a terminal, and elsewhere needs `--yes`. A new topic has 3 partitions, 3 replicas (or
as many as there are brokers, if there are fewer), and a `min.insync.replicas` of one less, but at least 1.
Existing topics stay as they are. The exit status is 0 if all topics exist at the end. [What the bridge needs
from Kafka](../how-to/prepare-kafka.md) gives the reasons.

`--json` prints one object for each topic, with `--create` after the creation:

| key | means |
|---|---|
| `topic`, `state`, `named_by` | the topic, one of the states above, the routes and settings that name it |
| `waiting` | number of messages on disk for it; null if the spool can't be read |
| `reason` | why the topic is missing or unknown, or why the spool can't be read; otherwise null |
| `partitions`, `replicas`, `in_sync` | of a topic that exists; of the partition with the fewest replicas |
| `min_insync_replicas`, `max_message_bytes` | its settings; null if Kafka does not tell |
| `retention_ms`, `retention_bytes`, `cleanup_policy` | the same |
| `seen` | only of a template: its topics with messages on disk |

## consume

This command prints what Kafka has in a topic, one record a line: topic, partition and offset; key; headers;
value. Without TOPIC it reads all topics of the routes, and the one of `dead_letters.topic`, as far as they
exist. It connects to Kafka as the service does, with the same TLS and login.

    mqtt/0@7 | sensors/kitchen/temp | mqtt.topic=sensors/kitchen/temp mqtt.qos=1 | 21.5

It prints the records that Kafka stores from now on; `--from-beginning` prints those that Kafka has already,
too. The command ends after `--count` records, at Ctrl-C, or when `head` has seen enough. It joins no consumer
group and commits nothing, so it takes no record away from other consumers, and may run beside all of them. If
Kafka has ACLs, the bridge's user needs the operation `READ` on the topic, which the service does not need.

Control characters are escaped, so that a record can't break its line or move the cursor. Of a key or value
that is not UTF-8 the line has the first 16 bytes as hexadecimal digits, and the length. `(null)` is a key or
value that the record does not have. `--json` prints one object for each record:

| key | means |
|---|---|
| `topic`, `partition`, `offset` | where the record is |
| `timestamp` | ms since 1970; null if the record has none |
| `key` or `key_base64` | the key: the text if it is UTF-8, otherwise base64; null if there is none |
| `headers` | a list of objects with `name`, and `value` or `value_base64` |
| `value` or `value_base64` | the value, likewise; null for a tombstone |

## spool status

This command reads the spool's database and changes nothing. It can run beside the service and while it is
stopped, as any user who may read the database. `--json` prints one object on one line:

| key | means |
|---|---|
| `rows` | number of messages that wait for Kafka; also 0 if there is no database yet (`exists`) |
| `topics` | Kafka topics with waiting messages: `topic`, `rows`, `bytes`, `oldest`, `oldest_age_seconds` |
| `dead_letters`, `dead_letters_bytes` | undeliverable messages that the bridge keeps |
| `used_bytes`, `file_bytes` | the used part of the database; its size on disk |
| `max_bytes`, `keep_free`, `free_bytes` | the limits in force, and the disk's free space |
| `full` | why the bridge would write no more messages; null if it would |
| `set_aside` | damaged databases that the bridge has renamed |

`oldest` is null if the clock was wrong when the message came. `--watch` shows the state every second, on a
terminal as a bar, and ends when no message waits.

## dead-letters

[Dead letters](../how-to/dead-letters.md) explains when to use which command. IDs and flags select dead
letters; without them a command selects all.

| command | does |
|---|---|
| `list` | prints one line for each letter; with `--json` one object |
| `show ID` | prints everything about one letter; with `--json` also the payload |
| `export` | prints each letter with its payload, as one object a line |
| `replay` | produces letters by the present settings; removes each once Kafka has confirmed it |
| `purge` | removes letters; asks for confirmation at a terminal, and elsewhere needs `--yes` |

The objects have `id`, `time` (when the message became a dead letter), `reason`, `route`, `kafka_topic`
(both null if no route took the message), `topic` (`topic_base64` if it is not UTF-8), `qos`, `retained`,
`duplicate`, `received` (null if the clock was wrong), `properties` of MQTT 5 and `bytes`. The objects of
`show` and `export` also have `payload_base64`. `replay --json` prints `id`, `delivered`, `kafka_topic` and
`reason` for each letter.

## --help

```text"""
    with patch.dict(os.environ, COLUMNS="80"):
        yield cli.command_line()[0].format_help().rstrip()
    yield "```"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


# -- the page ------------------------------------------------------------------------------------------


def _schema() -> str:
    """The JSON Schema of /status.json."""
    made = TypeAdapter(Status).json_schema(mode="serialization")
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


def _runbook() -> str:
    """docs/runbook.md as the bridge itself serves it: in an outage the Internet may be away too.

    Links to other pages of the documentation become plain text, because the bridge does not serve these.
    """
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse((ROOT / "docs" / "runbook.md").read_text())
    for token, after in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and after:
            token.attrSet("id", re.sub(r"[^a-z0-9_ -]", "", after.content.lower()).replace(" ", "-"))
        if token.children:
            token.children = list(_without_other_pages(token.children))
    body = markdown.renderer.render(tokens, markdown.options, {})
    return f"""<!doctype html>
<!-- Made by docs/reference/generate.py from docs/runbook.md; change that. -->
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Runbook of the MQTT to Kafka bridge</title>
<link rel="icon" href="icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="page.css">
</head>
<body class="text">
<header><p><a href="./">Back to the page</a></p></header>
<main>
{body}</main>
</body>
</html>
"""


def _without_other_pages(tokens: list[Token]) -> Iterator[Token]:
    kept: list[bool] = []
    for token in tokens:
        if token.type == "link_open":
            kept.append(str(token.attrs["href"]).startswith("#"))
        keep = kept[-1] if token.type in ("link_open", "link_close") else True
        if token.type == "link_close":
            kept.pop()
        if keep:
            yield token


def main() -> None:
    for path, text in pages().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
