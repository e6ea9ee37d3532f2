"""The EMQ nodes as HAProxy's checks see them, from either form of its statistics. Pure.

HAProxy's management guide, 9.1 (CSV), and its addons/promex/README (Prometheus).
"""

import csv
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from bridge.status.snapshot import BrokerNode

# First words of HAProxy's status. A node in DRAIN or NOLB gets no new sessions, but keeps its old ones.
_SERVES = {"UP", "DRAIN", "NOLB", "no"}  # "no check"

_MOST_NODES = 64  # each costs the loop some microseconds a second; a cluster has a few
_MOST_CHARACTERS = 100  # of a name or a word

_SAMPLE = re.compile(r'server="([^"]*)"(?:,state="([^"]*)")?\} (\S+)')
_METRICS = {
    "status": "status",
    "current_sessions": "scur",
    "check_last_change_seconds": "lastchg",
    "check_status": "check_status",
}


def nodes(text: str, backend: str) -> tuple[BrokerNode, ...] | None:
    """The servers of `backend`, in the order of haproxy.cfg. None: this is no statistics of HAProxy.

    `state_age` is HAProxy's own figure. The Prometheus endpoint tells no addresses, and the console only
    with `stats show-legends`: elsewhere `address` is empty.
    """
    if text.startswith("# pxname,svname,"):
        return tuple(map(_node, islice(_from_csv(text, backend), _MOST_NODES)))
    if "haproxy_server_status{" in text:
        return tuple(map(_node, islice(_from_prometheus(text, backend), _MOST_NODES)))
    return None


def _from_csv(text: str, backend: str) -> Iterator[dict[str, str]]:
    with suppress(csv.Error):  # a field without an end: what stands before it counts
        for row in csv.DictReader(text.removeprefix("# ").splitlines()):
            if row["pxname"] == backend and row["svname"] not in (None, "FRONTEND", "BACKEND"):
                yield row


def _from_prometheus(text: str, backend: str) -> Iterator[dict[str, str]]:
    """Looks for the few lines of `backend` alone: to read all lines took 1 ms, 0.02 % of a core."""
    rows: dict[str, dict[str, str]] = {}
    for name, column in _METRICS.items():
        beginning = f'haproxy_server_{name}{{proxy="{backend}",'
        position = text.find(beginning)
        while position >= 0:
            end = text.find("\n", position)
            sample = _SAMPLE.match(text[position + len(beginning) : end])
            if sample and (sample[1] in rows or len(rows) < _MOST_NODES):
                server, state, value = sample.groups()
                row = rows.setdefault(server, {"svname": server})
                if state is None:
                    row[column] = value
                elif value == "1":
                    row[column] = state
            position = text.find(beginning, position + 1)
    yield from rows.values()


def _node(row: dict[str, str]) -> BrokerNode:
    status = (row.get("status") or "").strip()[:_MOST_CHARACTERS] or "unknown"
    word = status.split()[0]
    return BrokerNode(
        name=row["svname"][:_MOST_CHARACTERS],
        address=(row.get("addr") or "")[:_MOST_CHARACTERS],
        is_up=word in _SERVES,
        status=status if word == "no" else word,  # "UP 2/3" fails its checks, and is not DOWN yet
        state_age=_number(row.get("lastchg")),
        sessions=int(_number(row.get("scur"))),
        # "* ": the next check is under way
        check=(row.get("check_status") or "").removeprefix("* ")[:_MOST_CHARACTERS],
    )


def _number(text: str | None) -> float:
    return float(text) if text and re.fullmatch(r"\d{1,15}(\.\d+)?", text) else 0.0
