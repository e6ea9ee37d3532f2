"""The growth bench sends what it says, counts what it finds, and puts its figures where they belong."""

import json
import re
import socket
import threading
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from bridge.settings import Settings
from tests.bench import quarter
from tests.bench.backlog import number_of
from tests.bench.drain import Incomplete
from tests.bench.growth import drained, feeder, figures, load, page, run
from tests.bench.growth.curves import CURVES, Curve
from tests.bench.growth.drained import CPU, RATE, Figures
from tests.bench.growth.figures import Measured
from tests.bench.growth.load import Load, digits, mqtt_topic
from tests.bench.growth.missing import most_in_a_minute
from tests.bench.growth.records import Found, Tally
from tests.bench.growth.window_broker import WindowBroker
from tests.bench.peers import Place
from tests.bench.rig import Rig
from tests.harness.cgroup import CannotCap
from tests.harness.conditions import wait_until
from tests.harness.packets import Ack, Connack, Connect, Frames, Kind, Publish

POWERS = (1, 10, 100, 1_000, 10_000)
NO_RIG: Rig = None  # type: ignore[assignment]


def place(directory: Path) -> Place:
    return Place("127.0.0.1", 1883, "127.0.0.1:9092", "house", "bench", True, directory)


def pattern(topic_filter: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", topic_filter))


# -- what is sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", POWERS)
def test_every_topic_has_exactly_one_route(tmp_path: Path, count: int) -> None:
    settings = Load(1, devices=10_000, routes=count).settings(place(tmp_path))
    filters = [route["filter"] for route in settings["routes"]]
    assert len(set(filters)) == count
    literal = {name for name in filters if "{" not in name}
    patterns = [pattern(name) for name in filters if "{" in name] if count <= 100 else []
    for device in range(0, 10_000, 97):
        topic = mqtt_topic("sensors", "house", device)
        if patterns or literal:
            assert (topic in literal) + sum(bool(each.fullmatch(topic)) for each in patterns) == 1


@pytest.mark.parametrize("count", POWERS)
def test_the_kafka_topics_are_those_that_the_route_leads_to(tmp_path: Path, count: int) -> None:
    what = Load(1, devices=10_000, kafka_topics=count)
    (route,) = what.settings(place(tmp_path))["routes"]
    found = set()
    for device in range(10_000):
        levels = dict(zip(load.LEVELS, digits(device), strict=True))
        found.add(re.sub(r"\{\w+\}", lambda name, levels=levels: levels[name[0]], route["topic"]))
    assert found == set(what.topics(place(tmp_path)))
    assert len(found) == count


@pytest.mark.parametrize("curve", [Load(1), Load(1, routes=100), Load(1, kafka_topics=1_000), Load(1, qos=2)])
def test_the_bridge_takes_the_settings(tmp_path: Path, curve: Load) -> None:
    settings = Settings.model_validate(curve.settings(place(tmp_path)))
    assert settings.mqtt.receive_maximum == curve.window
    assert {route.qos for route in settings.routes} == {curve.qos}
    assert not settings.kafka.options, "the settings are as shipped"


@pytest.mark.parametrize("number", [2, 50, 20_000, 100_000])
def test_only_powers_of_ten_can_be_made_of_digits(tmp_path: Path, number: int) -> None:
    with pytest.raises(ValueError, match="is not 1, 10"):
        Load(1, routes=number).settings(place(tmp_path))


def test_a_million_devices_have_a_topic_each() -> None:
    assert len({mqtt_topic("a", "b", device) for device in range(0, 1_000_000, 7)}) == 142_858


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("size", [10, 100, 20_000, 3_000_000])
def test_a_packet_is_what_the_harness_would_send(qos: int, size: int) -> None:
    what = Load(1, size=size, qos=qos)
    identifier = (7).to_bytes(2) if qos else b""
    sent = load._prefix(b"a/b", what) + identifier + what.payload(42)
    wanted = Publish(b"a/b", what.payload(42), qos, 7 if qos else 0)
    assert sent == wanted.encode(4)
    assert number_of(what.payload(42)[:100]) == 42


# -- what is counted -------------------------------------------------------------------------------


def test_all_messages_once_and_in_order() -> None:
    tally = Tally(4, devices=2)
    for number in (1, 0, 2, 3):  # 0 and 2 are of one device, 1 and 3 of the other
        tally.add(number)
    assert tally.found() == Found(4, 0, 0)


def test_a_copy_a_gap_and_a_wrong_order_are_seen() -> None:
    tally = Tally(6, devices=2)
    for number in (0, 4, 2, 1, 1):
        tally.add(number)
    assert tally.found() == Found(different=4, copies=1, misplaced=1)


def test_the_minute_with_most_lines_about_topics() -> None:
    def line(minute: int, event: str) -> str:
        return json.dumps({"timestamp": f"2026-11-30T04:{minute:02}:59.1Z", "event": event})

    of_others = [line(1, "service.starting"), line(1, "mqtt.live"), line(1, "flow.minute"), "not JSON"]
    log = "\n".join(
        [*of_others, line(1, "spool.late"), line(2, "kafka.topic_missing"), line(2, "spool.late")]
    )
    assert most_in_a_minute(log) == 2
    assert most_in_a_minute("") == 0


# -- rounds ----------------------------------------------------------------------------------------


def curve(measured: list[int], *, bad: int | None = None) -> Curve:
    def measure(_here: Rig, point: int, _messages: int) -> Figures:
        measured.append(point)
        if point == bad:
            raise Incomplete("one is missing")
        return {CPU: float(point), RATE: 1.0}

    return Curve("routes", "Title", "routes", "about", (1, 2, 3), measure)


def test_every_round_begins_with_another_point() -> None:
    order: list[int] = []
    found = run.measure(NO_RIG, curve(order), (1, 2, 3), 3, 10)
    assert order == [1, 2, 3, 2, 3, 1, 3, 1, 2]
    assert [len(each) for each in found.rounds.values()] == [3, 3, 3]


def test_a_point_that_fails_once_is_not_in_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    order: list[int] = []
    found = run.measure(NO_RIG, curve(order, bad=2), (1, 2, 3), 3, 10)
    assert order.count(2) == 1
    assert found.points == [1, 3]
    assert "2 routes: failed: one is missing" in capsys.readouterr().err


# -- figures ---------------------------------------------------------------------------------------

MEASURED = Measured(
    "heading", {1: [{CPU: 2.0}, {CPU: 4.0}, {CPU: 3.0}], 10: [{CPU: 4.0}, {CPU: 4.0}, {CPU: 9.0}]}
)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    last = figures.table("routes", MEASURED).splitlines()[-1]
    assert last == "| 10 | 4.00 (4.00-9.00) | 2.00 (1.00-3.00) |"


def test_a_point_that_could_not_be_measured_has_a_row() -> None:
    table = figures.table("routes", Measured("", {**MEASURED.rounds, 100: []}))
    assert table.splitlines()[-1] == "| 100 | - | - |"
    assert figures.table("routes", Measured("", {1: []})) == "No point could be measured."


def test_a_file_keeps_the_curves_that_a_run_did_not_measure(tmp_path: Path) -> None:
    file = tmp_path / "growth.json"
    figures.save(file, {"routes": MEASURED, "qos": MEASURED})
    other = Measured("later", {1: [{CPU: 1.0}]})
    figures.save(file, {"qos": other})
    assert figures.load(file) == {"routes": MEASURED, "qos": other}


# -- the page --------------------------------------------------------------------------------------


def test_a_table_replaces_the_one_before_and_nothing_else() -> None:
    before = "# Title\n\nWords.\n\n<!-- growth: routes -->\nold\n<!-- end -->\n\nMore words.\n"
    after = page.with_table(before, curve([]), {"routes": MEASURED})
    assert after.startswith("# Title\n\nWords.\n\n<!-- growth: routes -->\n\n![Title](../images/growth-")
    assert "routes.svg)\n\nheading\n\n| routes |" in after
    assert after.endswith("|\n\n<!-- end -->\n\nMore words.\n")
    assert page.with_table(after, curve([]), {"routes": MEASURED}) == after


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(RuntimeError, match="0 places for routes"):
        page.with_table("# Title\n", curve([]), {"routes": MEASURED})


@pytest.mark.parametrize("each", CURVES, ids=lambda each: each.name)
def test_the_documentation_shows_each_curve(each: Curve) -> None:
    text = page.PAGE.read_text()
    assert text.count(f"<!-- growth: {each.name} -->") == 1
    assert f"![{each.title}](../images/{page.picture(each.name)})" in page.with_table(
        text, each, {each.name: MEASURED}
    )


@pytest.mark.parametrize(("point", "messages"), [(1, 200_000), (1000, 200_000), (10_000, 50_000)])
def test_the_point_of_most_kafka_topics_has_fewer_messages_because_each_costs_more(
    monkeypatch: pytest.MonkeyPatch, point: int, messages: int
) -> None:
    loads: list[Load] = []
    monkeypatch.setattr(drained, "measure", lambda _here, load: loads.append(load))
    (topics,) = [each for each in CURVES if each.name == "kafka-topics"]
    topics.measure(NO_RIG, point, topics.messages)
    assert [(load.kafka_topics, load.count) for load in loads] == [(point, messages)]


@pytest.mark.parametrize("each", CURVES, ids=lambda each: each.name)
def test_a_curve_grows(each: Curve) -> None:
    assert all(low < high for low, high in pairwise(each.points))


# -- a quarter of a core ---------------------------------------------------------------------------


def test_a_plain_directory_is_not_taken_for_a_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarter, "_user_may", lambda: False)
    monkeypatch.setattr(quarter, "_VERSION_2", {tmp_path: {"cpu.max": "25000 100000"}})
    monkeypatch.setattr(quarter, "_VERSION_1", {tmp_path / "none": {"cpu.cfs_quota_us": "25000"}})
    with pytest.raises(CannotCap, match="neither systemd's scopes nor control groups"), quarter.quarter():
        pass
    assert not list(tmp_path.iterdir())


# -- the brokers -----------------------------------------------------------------------------------


def test_the_feeder_keeps_its_window() -> None:
    what = Load(10, devices=2, window=3)
    heads = [Publish(b"t/%d" % device, b"", 1, 1).encode(5)[:-3] for device in range(2)]
    ours, theirs = socket.socketpair()
    ours.settimeout(10.0)
    session = feeder.Session(theirs, what, heads, has_session=True)
    thread = threading.Thread(target=session.serve, daemon=True)
    thread.start()
    with ours, theirs:
        ours.sendall(Connect("c", version=5, clean_start=False).encode())
        size = len(heads[0]) + 3 + what.size
        received = len(Connack(session_present=True).encode(5))
        taken = ours.recv(received, socket.MSG_WAITALL)
        assert taken == Connack(session_present=True).encode(5)
        waiting, got = 0, 0
        while got < what.count:
            batch = min(what.window - waiting, what.count - got)
            assert len(ours.recv(batch * size, socket.MSG_WAITALL)) == batch * size
            got += batch
            ours.setblocking(False)
            with pytest.raises(BlockingIOError):
                ours.recv(1)
            ours.settimeout(10.0)
            ours.sendall(Ack(Kind.PUBACK, got - waiting).encode(5))  # one of them, so one more may come
            waiting = what.window - 1
        ours.shutdown(socket.SHUT_WR)
        thread.join(10.0)
    assert not thread.is_alive()


def test_the_window_broker_keeps_its_window_and_the_order() -> None:
    sent = [Publish(b"t", b"%d" % number, 1, number) for number in range(1, 11)]
    got: list[Publish] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as server, ExitStack() as connections:
        broker = WindowBroker(server, window=3)
        session, publisher = (
            connections.enter_context(socket.create_connection(server.getsockname(), 10.0)) for _ in range(2)
        )
        connections.callback(broker.close)
        session.sendall(Connect("c", version=5, clean_start=False).encode())
        session.setblocking(False)
        frames = Frames(5)

        def has(count: int) -> bool:
            broker.turn(0.01)
            with suppress(BlockingIOError):
                got.extend(each for each in frames.feed(session.recv(9999)) if isinstance(each, Publish))
            return len(got) >= count

        publisher.sendall(Connect("p", version=4).encode() + b"".join(each.encode(4) for each in sent))
        for acknowledged, count in ((0, 3), (3, 6), (6, 9), (9, 10)):
            wait_until(partial(has, count), 10.0, f"{count} have come")
            has(count)
            assert len(got) == count, "more than the window"
            acks = [Ack(Kind.PUBACK, each.identifier) for each in got[acknowledged:]]
            session.sendall(b"".join(each.encode(5) for each in acks))
    assert [each.payload for each in got] == [each.payload for each in sent]
