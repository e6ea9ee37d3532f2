"""`bridge top`: shows the running service's state in the terminal, from its /status.json."""

import json
import shutil
import sys
import textwrap
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TextIO

from rich.console import Group
from rich.live import Live
from rich.text import Text

from bridge.commands.running import NoAnswer, Running, read
from bridge.commands.terminal import console
from bridge.observe.printable import printable, printable_json
from bridge.status.document import Status
from bridge.status.kafka_faults import stopped_topics
from bridge.status.mqtt_faults import node_state
from bridge.status.snapshot import KafkaBroker, Snapshot, Spool
from bridge.status.spoken import count, duration, listed, rate
from bridge.status.whereabouts import has_haproxy
from bridge.units import size

_EVERY = 1.0  # seconds between two questions
_LEVELS = {
    "good": ("", "green"),
    "warning": ("WARNING. ", "yellow"),
    "broken": ("BROKEN. ", "red"),
}  # in front
_LABEL = 9  # characters of the left column
_AGO = 15  # characters in front of an event's text


def top(where: Running, as_json: bool, once: bool) -> int:
    """Show the state, on a terminal again each second. Returns the exit status: 1 if something is broken."""
    if as_json:
        return _print_json(where, sys.stdout)
    if once or not sys.stdout.isatty():
        status = read(where.ask(), where)
        width = shutil.get_terminal_size().columns
        console(sys.stdout).print(Group(*lines(status, width)), soft_wrap=True)
        return _exit_status(status)
    with suppress(KeyboardInterrupt):
        _watch(where)
    return 0


def _print_json(where: Running, stream: TextIO) -> int:
    body = where.ask()
    status = read(body, where)
    document = json.loads(body)  # with the fields that this version does not know
    document["diagnosis"] = asdict(status.diagnosis)
    stream.write(printable_json(json.dumps(document, ensure_ascii=False)) + "\n")
    stream.flush()
    return _exit_status(status)


def _exit_status(status: Status) -> int:
    return 1 if status.diagnosis.level == "broken" else 0


def _watch(where: Running) -> None:
    out = console(sys.stdout)
    last: Status | None = None
    with Live(console=out, screen=True, auto_refresh=False, vertical_overflow="crop") as screen:
        while True:
            try:
                last = read(where.ask(), where)
                shown = lines(last, out.width)
            except NoAnswer as error:
                shown = [*_wrapped(f"NO ANSWER. {str(error)[0].upper()}{str(error)[1:]}.", out.width, "red")]
                if last:
                    shown += [Text(), Text("The last answer was:", style="dim"), *lines(last, out.width)]
            screen.update(Group(*shown[: out.height - 1]), refresh=True)
            time.sleep(_EVERY)


def lines(status: Status, width: int) -> list[Text]:
    """The state in lines of at most `width` characters, the most important first."""
    s, diagnosis = status.snapshot, status.diagnosis
    word, colour = _LEVELS[diagnosis.level]
    made: list[Text] = [
        *_wrapped(f"mqtt-kafka-bridge {s.version}, up {duration(s.uptime)}, {s.made_at}", width, "dim"),
        *_settings(s, width),
        *_wrapped(f"{word}{diagnosis.sentence}", width, colour),
        Text(),
    ]
    for label, text in _rows(s):
        first, *rest = _broken(text, width - _LABEL)
        made += [Text(f"{label:{_LABEL}}{first}"), *(Text(f"{'':{_LABEL}}{line}") for line in rest)]
    for finding in diagnosis.findings[1:]:
        made.append(Text())
        made += _wrapped(f"{_LEVELS[finding.level][0]}{finding.what} {finding.remedy}", width, "yellow")
    if s.happened:
        made.append(Text())
    for each in s.happened:
        first, *rest = _broken(each.text or each.event, width - _AGO)
        made += [
            Text(f"{duration(each.age):>{_AGO - 6}} ago  {first}"),
            *(Text(f"{'':{_AGO}}{line}") for line in rest),
        ]
    return made


def _settings(s: Snapshot, width: int) -> list[Text]:
    """Two bridges of one machine may have the same client id and the same http.listen; their files differ."""
    file = s.program.settings_file
    return _wrapped(f"settings: {file}", width, "dim") if file else []


def _broker(broker: KafkaBroker) -> str:
    return f"{broker.address or f'broker {broker.number}'}{' (hangs)' if broker.hangs else ''}"


def _room(spool: Spool) -> str:
    if spool.full_in is not None:
        return f"; at this rate full in about {duration(spool.full_in)}"
    if spool.lasts is not None and spool.state == "usable":
        return f"; without Kafka full in about {duration(spool.lasts)}"
    return ""


def _why_no_nodes(s: Snapshot) -> str:
    if s.haproxy is None:
        return "are not asked"
    return f"give no useful answer ({s.haproxy.trouble})" if s.haproxy.trouble else "have not answered yet"


def _rows(s: Snapshot) -> list[tuple[str, str]]:
    flow, spool, mqtt = s.flow, s.spool, s.mqtt
    nodes = ", ".join(
        f"{node.name} {node_state(node).removeprefix('is ')} {duration(node.state_age)}" for node in s.nodes
    )
    known = s.kafka.brokers
    down = ", ".join(_broker(each) for each in known if not each.is_up)
    brokers = f"{sum(each.is_up for each in known)} of {len(known)} up{f', DOWN: {down}' if down else ''}"
    if not known or (s.kafka.state == "away" and not down):  # what was known of them is out of date
        brokers = s.kafka.bootstrap_servers
    dropped, letters = sum(flow.dropped.values()), sum(flow.dead_lettered.values())
    rows = [
        *(
            [
                ("HAProxy", f"{mqtt.host}:{mqtt.port}"),
                ("EMQ", nodes or f"nodes not known: HAProxy's statistics {_why_no_nodes(s)}"),
            ]
            if has_haproxy(s)
            else [("broker", f"{mqtt.host}:{mqtt.port}")]
        ),
        (
            "session",
            f"{mqtt.state.replace('_', ' ')} for {duration(mqtt.state_age)}, client id {mqtt.client_id}",
        ),
        (
            "Kafka",
            f"{s.kafka.state} for {duration(s.kafka.state_age)}: {brokers}",
        ),
        ("rates", f"received {rate(flow.received_rate)}, delivered {rate(flow.delivered_rate)}"),
        ("oldest", f"waits for {duration(flow.oldest_undelivered_age)}, {flow.in_flight:,} in flight"),
        ("received", f"{flow.received:,} and {flow.restored:,} from disk = {flow.delivered:,} delivered"),
        (
            "",
            f"+ {flow.in_flight:,} in flight + {flow.spooled:,} on disk + {letters:,} dead letters"
            f" + {sum(flow.skipped.values()):,} skipped",
        ),
        ("", f"+ {dropped:,} dropped + {flow.unreadable:,} unreadable; unaccounted: {flow.unaccounted:,}"),
        (
            "disk",
            f"{spool.state}: {count(spool.messages, 'message')}, {size(spool.bytes_used)} of"
            f" {size(spool.bytes_limit)}, {size(spool.disk_free)} free" + _room(spool),
        ),
    ]
    if done := s.kafka.transactions:
        rows.append(
            (
                "commits",
                f"{done.committed:,} transactions committed, {done.failed:,} failed, {done.fenced:,} fenced;"
                f" {flow.spooled:,} on disk that none has committed",
            )
        )
    if s.queue:
        lasts = f", full in {duration(s.queue.full_in)}" if s.queue.full_in is not None else ""
        rows.append(
            (
                "queue",
                f"EMQ holds {s.queue.length:,} of {s.queue.limit:,}, dropped {s.queue.dropped:,}{lasts}",
            )
        )
    rows += [
        (
            "stopped",
            f"{each.topic}: {each.partitions} of {count(each.of, 'partition')}"
            f" {'alone' if each.has_leader else 'without a leader'}, waits for Kafka broker"
            f" {listed([str(number) for number in each.awaits])}",
        )
        for each in stopped_topics(s)[:5]
    ]
    rows += [
        (
            "held",
            f"{each.topic}: {each.state}, {count(each.messages, 'message')}"
            + (f", {each.reason}" if each.reason else ""),
        )
        for each in s.held[:5]
    ]
    return rows


def _wrapped(text: str, width: int, colour: str) -> list[Text]:
    return [Text(line, style=colour) for line in _broken(text, width)]


def _broken(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` characters. Nothing is left out."""
    return textwrap.wrap(printable(text), max(1, width), break_on_hyphens=False) or [""]
