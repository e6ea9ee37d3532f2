"""bridge check: the table of checks, how they are run, the verdict and the exit status."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event as Signal
from typing import Any
from urllib.parse import urlsplit

import pytest

from bridge.commands import cli
from bridge.commands.check import doctor, service
from bridge.commands.check.doctor import Result, examine, parted, verdict
from bridge.commands.check.outcome import Check, Group, Level, Outcome, Site, failed, good, skipped, warning
from bridge.commands.check.table import CHECKS
from bridge.delivery.results import NoTopicAnswer, TopicAnswer
from bridge.errors import BridgeError
from bridge.kafka.topic_lookup import look_up
from bridge.settings import Settings
from tests.harness.kit import ROOT
from tests.unit.kafka.test_topic_lookup import Admin

Run = Callable[[Site], Iterator[Outcome]]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(service, "read_status", lambda _site: None)
    settings = Settings.model_validate(
        {
            "mqtt": {"host": "127.0.0.1"},
            "kafka": {"bootstrap_servers": "127.0.0.1:1"},
            "routes": [{"name": "a", "filter": "a/#", "topic": "a"}],
        }
    )
    return Site(settings, "looks", Path("/nowhere/bridge.toml"))


def one(run: Run, id_: str = "x.one", **more: Any) -> Check:
    group = more.pop("group", Group.SPOOL)
    return Check(id_, group, "It is tried.", "the table's remedy", "here", run, **more)


def says(*outcomes: Outcome) -> Run:
    return lambda _site: iter(outcomes)


# -- the table ---------------------------------------------------------------------------------------------


def test_ids_are_unique_and_each_check_needs_only_checks_of_the_table() -> None:
    ids = [each.id for each in CHECKS]
    assert len(ids) == len(set(ids))
    assert {needed for each in CHECKS for needed in each.needs} <= set(ids)


def test_a_check_runs_after_the_checks_that_it_needs() -> None:
    order = [each.id for each in sorted(CHECKS, key=lambda each: list(Group).index(each.group))]
    for each in CHECKS:
        assert all(order.index(needed) < order.index(each.id) for needed in each.needs)


@pytest.mark.parametrize("each", CHECKS, ids=lambda each: each.id)
def test_the_runbook_has_the_entry_that_a_check_names(each: Check) -> None:
    headings = re.findall(r"^#+ (.+)$", (ROOT / doctor.RUNBOOK).read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert each.runbook in anchors


def test_the_runbook_has_no_entry_of_a_check_that_does_not_exist() -> None:
    entries = re.findall(r"^#### check (\S+)$", (ROOT / doctor.RUNBOOK).read_text(), re.MULTILINE)
    assert entries
    assert set(entries) <= {each.id for each in CHECKS}


# -- how checks are run ------------------------------------------------------------------------------------


def test_a_check_without_an_answer_ends_at_its_time_out(site: Site) -> None:
    ends = Signal()

    def hangs(_site: Site) -> Iterator[Outcome]:
        ends.wait(60)
        yield good("late")

    (result,) = examine(site, [one(hangs, seconds=0.05)])
    ends.set()
    assert result.outcomes == [failed("no answer within 0 s")]


def test_an_error_of_the_bridge_is_a_failure_with_its_way_out(site: Site) -> None:
    def breaks(_site: Site) -> Iterator[Outcome]:
        yield good("the first half")
        raise BridgeError("it is closed (open it (by hand))")

    (result,) = examine(site, [one(breaks)])
    assert result.outcomes == [good("the first half"), failed("it is closed", "open it (by hand)")]


def test_a_defect_of_one_check_does_not_end_the_others(site: Site) -> None:
    def breaks(_site: Site) -> Iterator[Outcome]:
        raise ZeroDivisionError
        yield

    first, second = examine(site, [one(breaks), one(says(good("fine")), "x.two")])
    assert "defect: ZeroDivisionError" in first.outcomes[0].found
    assert second.outcomes == [good("fine")]


def test_a_check_is_skipped_when_one_that_it_needs_failed_or_was_skipped(site: Site) -> None:
    checks = [
        one(says(failed("broken")), "x.one"),
        one(says(good("never")), "x.two", needs=("x.one",)),
        one(says(good("never")), "x.three", needs=("x.two",)),
    ]
    outcomes = [result.outcomes for result in examine(site, checks)][1:]
    assert outcomes == [[skipped("needs x.one")], [skipped("needs x.two")]]


def test_one_good_outcome_is_enough_for_the_checks_that_follow(site: Site) -> None:
    checks = [
        one(says(failed("topic a"), good("topic b")), "x.one"),
        one(says(good("tried")), "x.two", needs=("x.one",)),
    ]
    assert list(examine(site, checks))[1].outcomes == [good("tried")]


def test_offline_asks_no_other_machine(site: Site) -> None:
    site.offline = True
    results = examine(site, [one(says(good("asked"))), one(says(good("read")), "x.two", offline=True)])
    assert [result.outcomes for result in results] == [[skipped("--offline")], [good("read")]]


def test_nothing_is_sent_unless_the_user_asks_for_it(site: Site) -> None:
    checks = [one(says(good("sent")), group=Group.SEND)]
    assert list(examine(site, checks)) == []
    site.send = "a/test"
    assert len(list(examine(site, checks))) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no way out", ("no way out", "")),
        ("closed (see (a) and (b))", ("closed", "see (a) and (b)")),
        ("(all of it)", ("(all of it)", "")),
        ("odd)", ("odd)", "")),
    ],
)
def test_reason_and_way_out_are_parted(text: str, expected: tuple[str, str]) -> None:
    assert parted(text) == expected


# -- the verdict -------------------------------------------------------------------------------------------

CASES = [
    pytest.param([good("a"), skipped("b")], 0, 0, "All is well: 1 good, 1 skipped", id="good"),
    pytest.param([good("a"), warning("b")], 0, 1, "The chain works, with warnings: x.one", id="warning"),
    pytest.param([warning("a"), failed("b")], 1, 1, "FAILED: x.one; warnings: x.one", id="failed"),
]


@pytest.mark.parametrize(("outcomes", "status", "strict", "sentence"), CASES)
def test_the_last_line_is_the_verdict_and_the_exit_status_follows_it(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    outcomes: list[Outcome],
    status: int,
    strict: int,
    sentence: str,
) -> None:
    result = Result(one(says()), outcomes, 0.0)
    monkeypatch.setattr(doctor, "examine", lambda _site: iter([result]))
    lines: list[str] = []
    assert doctor.check(site, lines.append) == status
    assert doctor.check(site, lambda _line: None, strict=True) == strict
    assert lines[-1].strip() == sentence == verdict([result])[1]


def test_a_failed_line_is_followed_by_its_remedy_and_the_runbooks_entry(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = Result(one(says()), [failed("broken \x1b[2J"), warning("odd", "its own remedy")], 0.0)
    monkeypatch.setattr(doctor, "examine", lambda _site: iter([result]))
    lines: list[str] = []
    doctor.check(site, lines.append)
    assert lines[0] == "the spool:"
    assert lines[1].split(maxsplit=2) == ["FAILED", "x.one", "broken \\x1b[2J"]
    assert lines[2].strip() == "-> the table's remedy (docs/runbook.md#here)"
    assert lines[4].strip() == "-> its own remedy (docs/runbook.md#here)"


def test_the_entry_is_named_where_this_machine_has_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = [Outcome(Level.FAILED, "broken", "act", "kafka-gone")]
    monkeypatch.setattr(doctor, "examine", lambda _site: iter([Result(one(says()), outcomes, 0.0)]))
    lines: list[str] = []
    doctor.check(site, lines.append)
    site.page = "http://127.0.0.1:9464/runbook"  # an installed bridge has no docs/, but serves its runbook
    doctor.check(site, lines.append)
    assert [line.strip() for line in lines if "->" in line] == [
        "-> act (docs/runbook.md#kafka-gone)",
        "-> act (http://127.0.0.1:9464/runbook#kafka-gone)",
    ]


def test_an_installed_bridge_without_a_service_names_the_runbook_of_its_own_package(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After pip install there is no docs/, and the first checks come before the service runs."""
    monkeypatch.setattr(doctor, "PACKAGE", shutil.copytree(doctor.PACKAGE, tmp_path / "bridge"))
    outcomes = [Outcome(Level.FAILED, "broken", "act", "emq-gone")]
    monkeypatch.setattr(doctor, "examine", lambda _site: iter([Result(one(says()), outcomes, 0.0)]))
    lines: list[str] = []
    doctor.check(site, lines.append)
    (named,) = (re.search(r"\((file:.*)#emq-gone\)", line)[1] for line in lines if "->" in line)  # type: ignore[index]
    assert 'id="emq-gone"' in Path(urlsplit(named).path).read_text()


def test_on_a_terminal_lines_are_broken_between_words(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    result = Result(one(says()), [failed("word " * 40, "a way out " * 20)], 0.0)
    monkeypatch.setattr(doctor, "examine", lambda _site: iter([result]))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    lines: list[str] = []
    doctor.check(site, lines.append)
    shown = [line for text in lines for line in text.splitlines()]
    assert len(shown) > len(lines)
    assert max(map(len, shown)) <= 80
    assert {each.strip() for line in shown[1:3] for each in line.split()} <= {"FAILED", "x.one", "word"}


def test_a_marked_message_needs_no_topic_that_the_settings_write_out() -> None:
    """With routes such as iot.{site} alone kafka.topic is skipped."""
    (send,) = (each for each in CHECKS if each.group is Group.SEND)
    assert "kafka.topic" not in send.needs


class Cluster:
    """A Kafka whose only topic, a, has this configuration."""

    def __init__(self, **config: str) -> None:
        self._admin = Admin(a=config)

    def topic(self, name: str) -> TopicAnswer | NoTopicAnswer:
        return look_up(self._admin, name)  # type: ignore[arg-type]

    def describe(self, _name: str) -> None:
        return None

    def close(self) -> None:
        pass


def test_a_topic_that_refuses_timestamps_is_a_warning_with_the_way_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (topic,) = (each for each in CHECKS if each.id == "kafka.topic")
    checks = [dataclasses.replace(topic, needs=())]
    monkeypatch.setattr(doctor, "examine", lambda site: examine(site, checks))

    def printed(**config: str) -> list[str]:
        site.cluster = Cluster(**config)  # type: ignore[assignment]
        lines: list[str] = []
        assert doctor.check(site, lines.append) == 0
        return [line.strip() for line in lines]

    assert "good    kafka.topic            a exists" in printed()
    _, found, remedy, sentence = printed(**{"message.timestamp.before.max.ms": "86400000"})
    assert found.split(maxsplit=2) == [
        "warning",
        "kafka.topic",
        "a; it refuses timestamps older than 1d (message.timestamp.before.max.ms): the bridge leaves"
        " those out",
    ]
    assert remedy.startswith("-> keep this machine's clock right, or widen the topic's limit (")
    assert sentence == "The chain works, with warnings: kafka.topic"


def test_json_has_one_object_for_each_outcome_and_the_verdict_last(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = Result(one(says()), [good("a"), failed("b")], 0.25)
    monkeypatch.setattr(doctor, "examine", lambda _site: iter([result]))
    lines: list[str] = []
    doctor.check(site, lines.append, as_json=True)
    first, second, last = map(json.loads, lines)
    assert first == {
        "id": "x.one",
        "group": "the spool",
        "level": "good",
        "found": "a",
        "remedy": None,
        "runbook": None,
        "seconds": 0.25,
    }
    assert (second["level"], second["remedy"]) == ("failed", "the table's remedy")
    assert last == {"verdict": "failed", "sentence": "FAILED: x.one"}


def test_wrong_settings_are_exit_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bridge.toml"
    file.write_text("[mqtt]\nport = 0\n")
    assert cli.main(["--config", str(file), "check"]) == 2
    assert "mqtt.port" in capsys.readouterr().err
