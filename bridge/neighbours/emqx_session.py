"""The queue of the bridge's session, from EMQX's API. Pure.

EMQX 4.x: {"code": 0, "data": [{"mqueue_len", "max_mqueue", "mqueue_dropped", "inflight", "max_inflight"}]},
and an empty list for an unknown client (emqx-docs 4.4, advanced/http-api.md). EMQX 5.x: one object with
"mqueue_len", "mqueue_max", "mqueue_dropped", "inflight_cnt", "inflight_max", and 404 with the code
CLIENTID_NOT_FOUND (emqx 5.8, emqx_mgmt_api_clients.erl). A limit may be missing or "infinity".
"""

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from bridge.status.snapshot import SessionQueue

_RATE_OVER = 60.0  # seconds
_MOST = 2**53  # a number above is none that a program counted; and no float holds each one
_RATE_NEEDS = 10.0  # seconds between the first and the last length


@dataclass(frozen=True, slots=True)
class Queue:
    """What one answer says. `dropped` counts since the session was created."""

    length: int
    limit: int  # 0: no limit
    dropped: int
    window: int
    window_limit: int


class NoSession(Exception):
    """EMQX has no session of this client id."""


class NotEmqx(Exception):
    """This is no answer of EMQX's API."""


def read(status: int, body: bytes) -> Queue:
    """The queue that an answer of either version describes. Raises NoSession and NotEmqx."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise NotEmqx from None
    if not isinstance(answer, dict):
        raise NotEmqx
    if status == 404 and answer.get("code") == "CLIENTID_NOT_FOUND":
        raise NoSession
    if status != 200:
        raise NotEmqx
    client = answer
    if isinstance(answer.get("data"), list):
        if not answer["data"] and answer.get("code") == 0:
            raise NoSession
        client = answer["data"][0] if answer["data"] else {}
    if not isinstance(client, dict) or "mqueue_len" not in client:
        raise NotEmqx
    return Queue(
        length=_count(client, "mqueue_len"),
        limit=_count(client, "mqueue_max", "max_mqueue"),
        dropped=_count(client, "mqueue_dropped"),
        window=_count(client, "inflight_cnt", "inflight"),
        window_limit=_count(client, "inflight_max", "max_inflight"),
    )


def _count(client: dict[str, Any], *names: str) -> int:
    value = next((client[name] for name in names if name in client), 0)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST else 0


@dataclass
class History:
    """What the answers say together: a drop counter that never falls, and how fast the queue fills.

    A new session begins to count at 0 again. `dropped` of the first answer is counted too: the session has
    lost these messages, and the bridge may have been away meanwhile.
    """

    _dropped_before: int = 0  # by earlier sessions
    _dropped: int = 0  # by this one
    _dropped_at: float | None = None
    _lengths: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, queue: Queue, now: float) -> SessionQueue:
        """`now` in monotonic seconds."""
        if queue.dropped < self._dropped:
            self._dropped_before += self._dropped
            self._dropped = 0
        if queue.dropped > self._dropped:
            self._dropped_at = now
        self._dropped = queue.dropped
        self._lengths.append((now, queue.length))
        while self._lengths[0][0] < now - _RATE_OVER:
            self._lengths.popleft()
        return SessionQueue(
            length=queue.length,
            limit=queue.limit,
            dropped=self._dropped_before + self._dropped,
            window=queue.window,
            window_limit=queue.window_limit,
            full_in=self._full_in(queue),
            dropped_age=None if self._dropped_at is None else now - self._dropped_at,
        )

    def _full_in(self, queue: Queue) -> float | None:
        if not queue.limit:
            return None
        if queue.length >= queue.limit:
            return 0.0
        (began, first), (ended, last) = self._lengths[0], self._lengths[-1]
        if ended - began < _RATE_NEEDS or last <= first:
            return None
        return (queue.limit - queue.length) * (ended - began) / (last - first)
