"""Prints the output of --dry-run: what would happen to each message, and finally a table by route.

A payload may contain anything, so text from MQTT is escaped where it could move the cursor or rewrite a
line, and bytes that are not text are printed as hexadecimal digits.
"""

import json
import sys
from collections import Counter
from typing import Any, TextIO

from rich.table import Table
from rich.text import Text

from bridge.commands.terminal import console, preview
from bridge.errors import Unroutable
from bridge.message import Message
from bridge.observe.printable import printable
from bridge.routing.envelope import text_or_base64
from bridge.routing.plan import Plan
from bridge.routing.router import Router

TOPICS_SHOWN = 3  # at most, for each route of the table

_NO_ROUTE = ""  # the row of unroutable messages; no route can have this name


class Preview:
    """Prints what the router would make of each message. It acknowledges and produces nothing.

    With `json` each message is one JSON object on a line of `stream`, for jq. The table then goes to
    `table_stream` (standard error), so that it does not mix with the objects.
    """

    def __init__(
        self, router: Router, json: bool, stream: TextIO, table_stream: TextIO | None = None
    ) -> None:
        self._router = router
        self._json = json
        self._stream = stream
        self._lines = console(stream)
        self._tables = console(table_stream or sys.stderr) if json else self._lines
        self._messages: Counter[tuple[str, str]] = Counter()  # by route and action
        self._bytes: Counter[str] = Counter()
        self._kafka_topics: dict[str, set[str]] = {}

    def message(self, message: Message) -> None:
        """Print what would happen to a message. Copies that the bridge would not produce are not shown.

        Raises OSError (BrokenPipeError) when the reader has closed the pipe.
        """
        try:
            plan = self._router.plan(message.topic)
        except Unroutable as error:
            self._count(message, _NO_ROUTE, "unroutable")
            if self._json:
                self._print_json(message, "unroutable", reason=error.reason)
            else:
                self._print_line(message, Text(f"not routed: {printable(error.reason)}", "red"))
            return
        if not plan.takes(message):
            return
        if plan.action == "drop":
            self._print_left(message, plan, "drop", "dropped")
        elif plan.skips(message):
            why = "retained" if plan.skip_retained and message.retain else "empty"
            self._print_left(message, plan, "skip", f"{why}, skipped")
        else:
            self._print_produced(message, plan)

    def summary(self) -> None:
        """Print the table: the counts of each route in order, then those of unroutable messages."""
        table = Table(title="What would be produced", title_justify="left")
        table.add_column("route", overflow="fold")
        for column in ("produced", "bytes", "not produced"):
            table.add_column(column, justify="right")
        table.add_column("Kafka topics", overflow="fold")
        for name in self._router.names:
            table.add_row(*self._row(name, printable(name)))
        if self._messages[_NO_ROUTE, "unroutable"]:
            table.add_row(*self._row(_NO_ROUTE, "(not routed)"), style="red")
        self._tables.print(table)

    def _row(self, route: str, shown: str) -> list[str]:
        produced = self._messages[route, "produce"]
        left = sum(self._messages[route, why] for why in ("drop", "skip", "unroutable"))
        topics = sorted(self._kafka_topics.get(route, ()))
        more = [f"and {len(topics) - TOPICS_SHOWN} more"] if len(topics) > TOPICS_SHOWN else []
        return [
            shown,
            str(produced),
            str(self._bytes[route]),
            str(left),
            ", ".join(topics[:TOPICS_SHOWN] + more),
        ]

    def _count(self, message: Message, route: str, action: str) -> None:
        self._messages[route, action] += 1
        if action == "produce":
            self._bytes[route] += len(message.payload)

    def _print_produced(self, message: Message, plan: Plan) -> None:
        self._count(message, plan.route, "produce")
        self._kafka_topics.setdefault(plan.route, set()).add(plan.kafka_topic)
        value = plan.value(message)
        headers = plan.headers(message)
        if self._json:
            self._print_json(
                message,
                "produce",
                route=plan.route,
                kafka_topic=plan.kafka_topic,
                **text_or_base64("key", plan.key),
                headers=[{"name": name, **text_or_base64("value", data)} for name, data in headers],
                **({"value": None} if value is None else text_or_base64("value", value)),
            )
            return
        shown = " ".join(f"{printable(name)}={preview(data)}" for name, data in headers)
        what = "(null, a tombstone)" if value is None else preview(value)
        self._print_line(message, Text(f"{plan.kafka_topic} | {preview(plan.key)} | {shown} | {what}"))

    def _print_left(self, message: Message, plan: Plan, action: str, shown: str) -> None:
        self._count(message, plan.route, action)
        if self._json:
            self._print_json(message, action, route=plan.route)
        else:
            self._print_line(message, Text(f'{shown} by route "{printable(plan.route)}"', "yellow"))

    def _print_line(self, message: Message, outcome: Text) -> None:
        line = Text.assemble(preview(message.topic, whole=True), (" -> ", "bold"), outcome)
        self._lines.print(line, soft_wrap=True)

    def _print_json(self, message: Message, action: str, **facts: Any) -> None:
        json.dump(
            {
                "action": action,
                **text_or_base64("topic", message.topic),
                "qos": message.qos,
                "retained": message.retain,
                "duplicate": message.dup,
                "bytes": len(message.payload),
                **facts,
            },
            self._stream,
        )
        self._stream.write("\n")
        self._stream.flush()
