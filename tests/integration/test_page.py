"""The page in a real Chromium, in the states that an operator meets. It is looked at as a picture too."""

import contextlib
import dataclasses
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from bridge.http.server import Server
from bridge.settings import HttpSettings
from bridge.status.diagnosis import diagnose
from bridge.status.snapshot import Snapshot
from tests.harness.browser import Scheme, chromium, screen
from tests.harness.conditions import wait_until
from tests.harness.erlang import free_port
from tests.harness.snapshots import STATES, healthy

SHOWN = (
    "healthy",
    "one_emq_down",
    "emq_down",
    "kafka_down",
    "spool_filling",
    "dead_letters",
    "topic_missing",
)
WIDTHS = (390, 768, 1440)
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


class Shown:
    """A server that shows `state`, a name of tests.harness.snapshots, as of now."""

    def __init__(self) -> None:
        self.settings = HttpSettings(listen=f"127.0.0.1:{free_port()}")
        self.url = f"http://{self.settings.listen}/"
        self.state = "healthy"
        self.made: float | None = None  # monotonic; None: now
        self.server = self._started()

    def latest(self) -> Snapshot:
        snapshot = STATES[self.state]()
        return dataclasses.replace(snapshot, made=self.made) if self.made is not None else snapshot

    def restart(self) -> None:
        self.server = self._started()

    def _started(self) -> Server:
        server = Server(self.settings, self.latest, share=1.0, saved=60.0)
        server.start()
        return server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def shown() -> Iterator[Shown]:
    made = Shown()
    yield made
    made.server.close()


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    directory = Path(request.config.getoption("--screenshots") or tmp_path)
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def shown_as(sentence: str) -> str:
    """The text of a sentence on the page, which shows the commands in it as code."""
    return sentence.replace("`", "")


@pytest.mark.parametrize("state", SHOWN)
def test_a_person_sees_the_state_on_phone_tablet_and_desk(
    browser: Browser, shown: Shown, pictures: Path, state: str
) -> None:
    shown.state = state
    with screen(browser, shown.url) as page:
        assert page.sentence == shown_as(diagnose(STATES[state]()).sentence)
        for scheme, width in itertools.product(SCHEMES, WIDTHS):
            page.look(width, scheme)
            page.picture(pictures / f"{state}-{width}-{scheme}.png")
            assert not page.is_wider_than_the_window()
            assert page.axe() == []
        assert page.complaints == []
        assert {urlsplit(url).netloc for url in page.asked} == {shown.settings.listen}


def test_the_bridge_is_gone_while_somebody_looks(browser: Browser, shown: Shown, pictures: Path) -> None:
    with screen(browser, shown.url) as page:
        shown.server.close()
        wait_until(lambda: "has not answered" in page.sentence, 15, "the page says that the bridge is gone")
        assert page.sentence.startswith("The bridge has not answered for ")
        assert "systemctl status mqtt-kafka-bridge" in page.text
        assert "Old: this is the state of " in page.text
        assert page.page.title().startswith("✕")
        for scheme, width in itertools.product(SCHEMES, WIDTHS):
            page.look(width, scheme)
            page.picture(pictures / f"bridge_gone-{width}-{scheme}.png")
            assert page.axe() == []
        shown.restart()
        wait_until(
            lambda: page.sentence == diagnose(healthy()).sentence, 15, "the page shows the bridge again"
        )


def test_the_loop_hangs_while_the_thread_of_the_page_answers(browser: Browser, shown: Shown) -> None:
    shown.made = time.monotonic() - 25
    with screen(browser, shown.url) as page:
        assert page.sentence.startswith("The bridge has stopped working: its loop has not turned")
        age = re.search(r"Old: this is the state of (\d+) s ago", page.text)
        assert age
        assert int(age[1]) >= 25


def test_what_is_shown_follows_without_a_reload_and_keeps_the_focus(browser: Browser, shown: Shown) -> None:
    with screen(browser, shown.url) as page:
        page.page.focus("#events a")
        marked = page.page.evaluate_handle("document.activeElement")
        shown.state = "kafka_down"
        wait_until(lambda: "64,290" in page.text, 10, "the page shows the next state")
        assert "no broker reachable for 5 min 2 s" in page.text
        assert page.page.evaluate("(marked) => marked === document.activeElement", marked)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            "healthy",
            [
                "emq1\nup",
                "Kafka 3\nup",
                "The sums add up.",
                "nothing waits",
                "full in about 1 d 2 h",
                "214/s",
            ],
        ),
        ("one_emq_down", ["emq2\ndown\nfor 1 min 35 s"]),
        ("emq_down", ["no node up", "not connected, retries for 2 min 8 s", "Devices\nnot known"]),
        (
            "kafka_down",
            ["Kafka 1\ndown\nfor 5 min 2 s", "64,290 messages", "at this rate full in about 22 h 30 min"],
        ),
        ("spool_full", ["full: EMQ must queue now for 44 s", "spool.max_bytes is reached", "812 messages"]),
        ("queue_filling", ["EMQ has dropped 118 messages: lost", "full in 4 s at this rate"]),
        ("dead_letters", ["mqtt-kafka-bridge dead-letters list", "4 removed for good"]),
        (
            "topic_missing",
            ["the topic does not exist, for 10 min 11 s.", "sudo mqtt-kafka-bridge topics --create"],
        ),
        ("without_neighbours", ["The bridge does not ask HAProxy.", "emqx.api"]),
        ("starting", ["connecting", "no message yet", "none waits"]),
    ],
)
def test_a_state_is_told_in_words_alone(browser: Browser, shown: Shown, state: str, words: list[str]) -> None:
    shown.state = state
    with screen(browser, shown.url) as page:
        text = page.text.replace("\n\n", "\n")
        assert [each for each in words if each not in text] == []


def test_names_from_elsewhere_are_text_and_never_markup(browser: Browser, shown: Shown) -> None:
    evil = "<img src=x onerror=document.title='bad'>"
    plain = shown.latest

    def latest() -> Snapshot:
        snapshot = plain()
        node = dataclasses.replace(snapshot.nodes[0], name=evil)
        return dataclasses.replace(snapshot, nodes=(node,))

    with contextlib.closing(
        Server(HttpSettings(listen=f"127.0.0.1:{(port := free_port())}"), latest)
    ) as server:
        server.start()
        with screen(browser, f"http://127.0.0.1:{port}/") as page:
            assert evil in page.text
            assert page.complaints == []
