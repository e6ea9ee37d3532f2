"""The answers of EMQX 4.x and 5.x, and what follows from several of them.

The shapes are those of emqx-docs v4.4, advanced/http-api.md ("GET /api/v4/clients/{clientid}"), and of
emqx 5.8, apps/emqx_management/src/emqx_mgmt_api_clients.erl (`client_example/0`, CLIENTID_NOT_FOUND); durable
sessions have no mqueue_max (emqx_persistent_session_ds.erl, STATS_KEYS).
"""

import json

import pytest

from bridge.neighbours.emqx_session import History, NoSession, NotEmqx, Queue, read

FOUR = {
    "code": 0,
    "data": [
        {
            "clientid": "b",
            "connected": True,
            "inflight": 32,
            "max_inflight": 33,
            "mqueue_len": 250,
            "max_mqueue": 1000,
            "mqueue_dropped": 7,
        }
    ],
}
FIVE = {
    "clientid": "b",
    "connected": True,
    "inflight_cnt": 32,
    "inflight_max": 33,
    "mqueue_len": 250,
    "mqueue_max": 1000,
    "mqueue_dropped": 7,
}


def _read(answer: object, status: int = 200) -> Queue:
    return read(status, json.dumps(answer).encode())


@pytest.mark.parametrize("answer", [FOUR, FIVE])
def test_both_versions_tell_the_same(answer: object) -> None:
    assert _read(answer) == Queue(length=250, limit=1000, dropped=7, window=32, window_limit=33)


def test_a_missing_or_infinite_limit_is_none() -> None:
    durable = {name: value for name, value in FIVE.items() if name != "mqueue_max"}
    assert _read(durable).limit == 0
    assert _read(FIVE | {"mqueue_max": "infinity"}).limit == 0


def test_an_unknown_client_has_no_session() -> None:
    with pytest.raises(NoSession):
        _read({"code": 0, "data": []})
    with pytest.raises(NoSession):
        _read({"code": "CLIENTID_NOT_FOUND", "message": "Client ID not found"}, 404)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"data": [7]}'),
        (200, b"[" * 100_000),
        (404, b'{"code": "NOT_FOUND"}'),
        (500, json.dumps(FIVE).encode()),
    ],
)
def test_another_answer_is_none_of_emqx(status: int, body: bytes) -> None:
    with pytest.raises(NotEmqx):
        read(status, body)


def _queue(length: int, dropped: int = 0, limit: int = 1000) -> Queue:
    return Queue(length=length, limit=limit, dropped=dropped, window=0, window_limit=32)


def test_a_new_session_does_not_set_the_drop_counter_back() -> None:
    history = History()
    assert [
        history.add(_queue(0, dropped), 5.0 * n).dropped for n, dropped in enumerate([7, 9, 2, 2, 3])
    ] == [
        7,
        9,
        11,
        11,
        12,
    ]


def test_it_is_known_when_the_drop_counter_last_grew() -> None:
    history = History()
    answers = enumerate([0, 3, 3, 0, 0, 1])  # the fourth is of a new session
    assert [history.add(_queue(0, dropped), 5.0 * n).dropped_age for n, dropped in answers] == [
        None,
        0.0,
        5.0,
        10.0,
        15.0,
        0.0,
    ]


@pytest.mark.parametrize("value", [10**400, 2**53, -1, True, "many", 1.5])
def test_a_number_that_nobody_counted_is_none(value: object) -> None:
    queue = _read(FIVE | {"mqueue_len": value})
    assert queue.length == 0
    assert History().add(queue, 0.0).length == 0


def test_a_queue_that_grows_is_full_in_what_is_left_at_that_rate() -> None:
    history = History()
    assert history.add(_queue(100), 0.0).full_in is None
    assert history.add(_queue(150), 5.0).full_in is None  # too short a time for a rate
    assert history.add(_queue(200), 10.0).full_in == 80.0  # 10 a second, 800 left


def test_only_the_last_minute_counts() -> None:
    history = History()
    history.add(_queue(0), 0.0)
    for second in range(60, 121, 5):
        last = history.add(_queue(500), float(second))
    assert last.full_in is None


def test_a_queue_that_is_full_is_full_now_and_one_without_a_limit_never() -> None:
    assert History().add(_queue(1000), 0.0).full_in == 0.0
    endless = History()
    endless.add(_queue(1, limit=0), 0.0)
    assert endless.add(_queue(999, limit=0), 20.0).full_in is None
