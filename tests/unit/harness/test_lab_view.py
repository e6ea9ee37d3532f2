"""The view of deploy/lab in five states, and the requests of its keys."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from tests.harness.lab import keys
from tests.harness.lab.draw import draw
from tests.harness.lab.picture import as_svg
from tests.harness.lab.score import Score
from tests.harness.lab.snapshot import Seat, Snapshot

UP = dict.fromkeys(keys.HOSTS.values(), "up")
ALL_UP = Snapshot(
    elapsed=41,
    ends_in=None,
    stand_in="emq1 and emq2 are not EMQ: one mosquitto behind two doors stands in for them.",
    devices=20,
    conditions=UP,
    beyond_reach=frozenset(),
    seats={"emq1": Seat("UP", 10, 1), "emq2": Seat("UP", 10, 0)},
    score=Score(published=2041, delivered=2040, in_flight=1, on_disk=0, lost=0, duplicated=0),
    published_rate=50.0,
    delivered_rate=49.9,
    page="http://127.30.1.40:9464/",
    dashboards="http://127.30.1.10:8080/",
    console="http://127.30.1.10:8081/haproxy?stats   (admin, lab)",
    told=("00:07 20 devices: 50 messages a second at QoS 1 (0.0 s)",),
    warning="",
    keys="",
)
EMQ1_DEAD = replace(
    ALL_UP,
    conditions=UP | {"emq1": "down"},
    seats={"emq1": Seat("DOWN", 0, 0), "emq2": Seat("UP", 20, 1)},
    told=(
        "00:41 emq1 killed; the bridge went over to emq2 after 0.2 s, messages flow after 0.3 s, "
        "HAProxy calls it DOWN after 2.3 s",
    ),
)
KAFKA2_HUNG = replace(ALL_UP, conditions=UP | {"kafka2": "hung"}, told=("00:41 kafka2 hangs ...",))
BRIDGE_STOPPED = replace(
    ALL_UP,
    conditions=UP | {"bridge": "down"},
    seats={"emq1": Seat("UP", 10, 0), "emq2": Seat("UP", 10, 0)},
    delivered_rate=0.0,
    score=Score(published=2541, delivered=2041, in_flight=500, on_disk=0, lost=0, duplicated=0),
)
QUEUE_FULL = replace(
    ALL_UP,
    conditions=UP | dict.fromkeys(("kafka1", "kafka2", "kafka3"), "down"),
    delivered_rate=0.0,
    score=Score(published=103041, delivered=100000, in_flight=1032, on_disk=0, lost=2009, duplicated=0),
    warning="EMQ's queue for the bridge (1000 messages) was full, so EMQ dropped messages",
    told=tuple(f"01:0{n} kafka{n} killed; not seen within 30 s: messages flow" for n in (1, 2, 3)),
)
SHARED = replace(
    ALL_UP,
    seats={"emq1": Seat("UP", 10, 1, 1), "emq2": Seat("UP", 10, 0)},
    score=replace(ALL_UP.score, delivered=1990, lost=50, duplicated=22830, is_shared=True),
    warning='Another client has used the client id "lab" (deploy/lab status tells more)',
)
KAFKA_GONE = replace(
    QUEUE_FULL,
    score=Score(published=1014390, delivered=1000000, in_flight=90, on_disk=14300, lost=0, duplicated=0),
    warning="",
)
STATES = [ALL_UP, EMQ1_DEAD, KAFKA2_HUNG, BRIDGE_STOPPED, QUEUE_FULL, KAFKA_GONE, SHARED]


def shown(now: Snapshot, width: int = 80, height: int = 24) -> list[str]:
    """The lines of the view on a terminal without colours."""
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None, record=True)
    console.print(draw(now, width, height))
    return console.export_text().splitlines()


def states(lines: list[str]) -> dict[str, str]:
    """The text below each host's name."""
    found = {}
    for key, host in keys.HOSTS.items():
        (row,) = [row for row, line in enumerate(lines) if f"{key} {host}" in line]
        column = lines[row].index(f"{key} {host}")
        found[host] = lines[row + 1][column : column + 8].strip()
    return found


@pytest.mark.parametrize("now", STATES)
def test_it_fits_80x24_without_wrapping_or_cutting(now: Snapshot) -> None:
    lines = shown(now)

    assert len(lines) == 24
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]
    assert lines[-1].endswith("q quit")


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (ALL_UP, {}),
        (EMQ1_DEAD, {"emq1": "○ down"}),
        (KAFKA2_HUNG, {"kafka2": "■ hung"}),
        (BRIDGE_STOPPED, {"bridge": "○ down"}),
        (KAFKA_GONE, dict.fromkeys(("kafka1", "kafka2", "kafka3"), "○ down")),
    ],
)
def test_the_state_of_each_host_is_said_without_colour(now: Snapshot, words: dict[str, str]) -> None:
    assert states(shown(now)) == dict.fromkeys(UP, "● up") | words


def test_only_what_carries_the_bridges_session_is_drawn_through() -> None:
    text = "\n".join(shown(ALL_UP))
    assert "● up       ──┐" in text  # emq1
    assert "● up       ┄┄┘" in text  # emq2
    assert "├─────►" in text

    text = "\n".join(shown(BRIDGE_STOPPED))
    assert "● up       ┄┄┐" in text
    assert "├┄┄┄┄┄┄" in text


def test_each_page_of_the_lab_is_named() -> None:
    text = "\n".join(shown(ALL_UP))
    assert " bridge     http://127.30.1.40:9464/   dashboards http://127.30.1.10:8080/\n" in text
    assert " console    http://127.30.1.10:8081/haproxy?stats   (admin, lab)\n" in text


def test_what_haproxy_does_not_say_is_no_number() -> None:
    text = "\n".join(shown(replace(ALL_UP, conditions=UP | {"haproxy": "hung"}, seats=None)))

    assert "sessions ?" in text
    assert "10 devices" not in text


def test_what_was_told_is_broken_below_its_first_word_and_the_last_is_whole() -> None:
    long = replace(ALL_UP, told=("00:01 first " * 4, *EMQ1_DEAD.told * 4))
    lines = shown(long)

    assert " 00:41 emq1 killed; the bridge went over to emq2 after 0.2 s, messages flow" in lines
    assert "       after 0.3 s, HAProxy calls it DOWN after 2.3 s" in lines
    assert not any("first" in line for line in lines)


def test_a_larger_terminal_shows_more_of_what_was_told() -> None:
    many = replace(ALL_UP, told=tuple(f"00:{n:02} entry {n}" for n in range(30)))

    assert " 00:10 entry 10" not in shown(many)
    lines = shown(many, 132, 43)
    assert len(lines) == 43
    assert " 00:10 entry 10" in lines


def test_a_terminal_that_is_too_small_says_so() -> None:
    lines = shown(ALL_UP, 60, 20)

    assert len(lines) <= 20
    assert "60x20: the view needs 80x24" in " ".join(lines)


def test_nothing_that_is_told_reaches_the_terminal_as_a_control_sequence() -> None:
    assert " 00:41 ?[2J was sent" in shown(replace(ALL_UP, told=("00:41 \x1b[2J was sent\nmore",)))


def test_messages_on_the_bridges_disk_are_shown_apart_and_no_loss_is_claimed() -> None:
    lines = shown(KAFKA_GONE)

    (score,) = [line for line in lines if "published 1014390" in line]
    assert score.endswith("= delivered 1000000 + in flight 90 + on disk 14300 + lost 0")
    assert " duplicated 0     on disk: at the bridge, which delivers it once Kafka is back" in lines
    assert "drop" not in "".join(lines)


def test_messages_that_another_client_took_are_not_lost() -> None:
    text = "\n".join(shown(SHARED))
    assert "+ taken 50" in text
    assert "lost" not in text
    assert ' Another client has used the client id "lab" (deploy/lab status tells more)' in text


def test_hosts_out_of_reach_have_no_key() -> None:
    lines = shown(replace(ALL_UP, beyond_reach=frozenset(("emq1", "emq2"))))

    assert not any("b emq1" in line or "c emq2" in line for line in lines)
    assert any("a haproxy" in line for line in lines)


def test_the_picture_refers_to_nothing_outside_of_it() -> None:
    svg = as_svg(EMQ1_DEAD)

    assert ">○&#160;down<" in svg
    assert svg.count("http") - svg.count("http://127.30.1.") == 1  # the name space
    assert "url(http" not in svg
    assert "@font-face" not in svg


# -- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "condition", "verb"),
    [
        ("b", "up", "kill"),
        ("b", "hung", "kill"),
        ("b", "starts", "kill"),
        ("b", "down", "start"),
        ("B", "up", "hang"),
        ("B", "hung", "resume"),
    ],
)
def test_a_small_letter_kills_or_starts_and_a_capital_hangs_or_resumes(
    key: str, condition: str, verb: str
) -> None:
    assert keys.words(key, UP | {"emq1": condition}) == [verb, "emq1"]


@pytest.mark.parametrize("verb", ["kill", "start", "hang", "resume"])
@pytest.mark.parametrize("host", UP)
def test_the_key_of_a_request_makes_this_request(verb: str, host: str) -> None:
    before = {"kill": "up", "start": "down", "hang": "up", "resume": "hung"}
    assert keys.words(keys.key(verb, host), UP | {host: before[verb]}) == [verb, host]
    assert keys.key(verb, "kafka") == ""


def test_every_host_has_a_key_and_no_other_key_has_a_host() -> None:
    assert set(keys.HOSTS.values()) == {"emq1", "emq2", "haproxy", "kafka1", "kafka2", "kafka3", "bridge"}
    assert [keys.words(key, UP) for key in (keys.QUIT, keys.SEND, "x", "1", " ")] == [None] * 5
