"""What deploy/lab answers to kill, start, hang and resume, on a chain of simulated hosts."""

import threading
from pathlib import Path
from typing import Any, cast

import pytest

from tests.harness.conditions import NotInTime, wait_until
from tests.harness.lab import verbs as verbs_module
from tests.harness.lab.chain import Chain
from tests.harness.lab.verbs import Deed, LabError, Verbs
from tests.harness.lab.words import HOSTS, KINDS
from tests.harness.process import Process


class FakeHost(Process):
    """A host without a program. `serves` says whether it is ready."""

    def __init__(self, name: str) -> None:
        super().__init__(name, ["true"], log=Path("/nonexistent/log"), deadline=20.0)
        self.is_dead = self.is_hung = False
        self.serves = True
        self.failure = ""

    def spawn(self) -> None:
        if self.failure:
            raise RuntimeError(self.failure)
        self.is_dead = False

    def kill9(self) -> None:
        self.is_dead, self.is_hung = True, False

    def hang(self) -> None:
        self.is_hung = True

    def resume(self) -> None:
        self.is_hung = False

    def is_ready(self) -> bool:
        if self.is_dead:
            raise RuntimeError(f"{self.name} ended with 1 instead of starting")
        return self.serves


class FakeChain:
    """A chain whose messages flow if its hosts let them, and whose HAProxy knows everything at once."""

    class emq:  # noqa: N801 - an attribute of Chain
        family = "mosquitto"

    def __init__(self) -> None:
        self.nodes = {name: FakeHost(name) for name in HOSTS}
        self.starting: set[str] = set()
        self.haproxy: Any = self
        self.kafka: Any = self
        self.scoreboard: Any = self
        self.without_leader = 0
        self._published = 0

    def condition(self, name: str) -> str:
        node = self.nodes[name]
        if node.is_dead:
            return "down"
        return "hung" if node.is_hung else "starts" if name in self.starting else "up"

    def state(self, number: int) -> str:
        return "UP" if self.condition(f"emq{number}") == "up" else "DOWN"

    def is_bridge_at(self, number: int) -> bool:
        return False

    def leaderless(self) -> int:
        return self.without_leader

    def _up(self, *names: str) -> int:
        return sum(self.condition(name) == "up" for name in names)

    def promised(self) -> set[str]:
        self._published += self._up("haproxy") and self._up(*KINDS["emq"]) > 0
        return {f"d01-{number}" for number in range(self._published)}

    def missing(self, ids: set[str]) -> set[str]:
        flows = self._up("bridge") and self._up(*KINDS["kafka"]) >= 2 and not self.without_leader
        return set() if flows else ids


@pytest.fixture
def chain() -> FakeChain:
    return FakeChain()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def verbs(chain: FakeChain, told: list[str]) -> Verbs:
    verbs = Verbs(cast(Chain, chain))
    verbs.news = told.append
    return verbs


def do(verbs: Verbs, verb: str, word: str) -> str:
    return verbs.follow(verbs.begin(verb, word))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("there", "back", "is_now"), [("kill", "start", "down"), ("hang", "resume", "hung")])
def test_one_word_fails_and_restores_all_hosts_of_a_kind(
    kind: str, there: str, back: str, is_now: str, verbs: Verbs, chain: FakeChain
) -> None:
    assert do(verbs, there, kind).startswith(f"{', '.join(KINDS[kind])} {there}")
    assert {chain.condition(name) for name in KINDS[kind]} == {is_now}

    assert "messages flow after" in do(verbs, back, kind)
    assert {chain.condition(name) for name in HOSTS} == {"up"}


def test_a_word_for_a_kind_takes_the_hosts_that_the_verb_fits(verbs: Verbs, chain: FakeChain) -> None:
    do(verbs, "kill", "kafka2")
    do(verbs, "hang", "kafka3")

    assert do(verbs, "start", "kafka").startswith("kafka2 started in")
    assert do(verbs, "resume", "kafka").startswith("kafka3 goes on")


def test_a_word_for_a_kind_that_the_verb_fits_nowhere_names_each_host_and_the_way(verbs: Verbs) -> None:
    do(verbs, "hang", "emq2")
    wrong = r"^emq1 is up, emq2 is hung: deploy/lab resume emq is what can be done$"
    with pytest.raises(LabError, match=wrong):
        verbs.begin("start", "emq")


@pytest.mark.parametrize("verb", ["start", "resume"])
def test_a_host_that_is_up_needs_no_start_and_no_resume_and_no_failure_is_advised(
    verb: str, verbs: Verbs
) -> None:
    with pytest.raises(LabError, match=rf"^emq1 is up: there is nothing to {verb}$"):
        verbs.begin(verb, "emq1")


@pytest.mark.parametrize(
    ("before", "verb", "said"),
    [
        ("kill", "kill", r"emq1 is down: deploy/lab start emq1 \(key b of the view\) is what can be done"),
        ("kill", "resume", r"emq1 is down: deploy/lab start emq1 \(key b of the view\) is what can be done"),
        ("hang", "hang", r"emq1 is hung: deploy/lab resume emq1 \(key B of the view\) is what can be done"),
        ("hang", "start", r"emq1 is hung: deploy/lab resume emq1 \(key B of the view\) is what can be done"),
    ],
)
def test_a_verb_that_does_not_fit_names_the_one_that_does(
    before: str, verb: str, said: str, verbs: Verbs
) -> None:
    do(verbs, before, "emq1")
    with pytest.raises(LabError, match=f"^{said}$"):
        verbs.begin(verb, "emq1")


def test_an_unknown_host_is_answered_with_those_that_exist(verbs: Verbs) -> None:
    with pytest.raises(LabError, match=r"^there is no kafka4: emq1, .*, bridge, emq, kafka$"):
        verbs.begin("kill", "kafka4")


def test_a_kafka_broker_without_peers_is_left_waiting_and_is_up_once_a_peer_is_back(
    verbs: Verbs, chain: FakeChain, told: list[str]
) -> None:
    do(verbs, "kill", "kafka")
    chain.nodes["kafka1"].serves = False

    said = do(verbs, "start", "kafka1")

    assert said.startswith("kafka1 started; waits for its peers, because Kafka does not answer before 2 of")
    assert said.endswith("deploy/lab start kafka")
    assert chain.condition("kafka1") == "starts"
    assert not told

    chain.nodes["kafka1"].serves = True
    assert do(verbs, "start", "kafka2").startswith("kafka2 started in")
    wait_until(lambda: chain.condition("kafka1") == "up", 5.0, "kafka1 is up")
    wait_until(
        lambda: told == ["kafka1 is up: the brokers that it needs are there"], 5.0, lambda: f"not {told}"
    )
    assert not verbs.put_out & {"kafka1", "kafka2"}


@pytest.fixture
def quick_elections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs_module, "_ELECTION", 0.01)
    monkeypatch.setattr(verbs_module, "_STUCK", 0.05)


@pytest.mark.usefixtures("quick_elections")
def test_a_start_ends_with_the_broker_that_the_partitions_wait_for(
    verbs: Verbs, chain: FakeChain, told: list[str]
) -> None:
    do(verbs, "kill", "kafka")
    chain.nodes["kafka1"].serves = chain.nodes["kafka2"].serves = False
    do(verbs, "start", "kafka1")
    chain.without_leader = 6  # kafka1 and kafka2 answer, but kafka3 alone has all messages

    assert do(verbs, "start", "kafka2") == (
        "kafka2 started; 6 partitions cannot have a leader before kafka3 is back, which was in sync last: "
        "deploy/lab start kafka3"
    )
    assert chain.condition("kafka2") == "starts"
    assert "messages wait on the bridge's disk: 6 partitions cannot have" in do(verbs, "kill", "emq1")
    assert verbs.unseen == []

    chain.without_leader = 0
    for host in chain.nodes.values():
        host.serves = True
    assert do(verbs, "start", "kafka3").startswith("kafka3 started in")
    wait_until(lambda: len(told) == 2, 5.0, lambda: f"kafka1 and kafka2 are up, not {told}")


@pytest.mark.usefixtures("quick_elections")
def test_partitions_without_a_leader_during_an_election_are_no_reason_to_give_up(
    verbs: Verbs, chain: FakeChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs_module, "_STUCK", 60.0)
    deed = verbs.begin("kill", "kafka1")
    chain.without_leader = 2
    answers: list[str] = []
    following = threading.Thread(target=lambda: answers.append(verbs.follow(deed)))
    following.start()
    wait_until(lambda: verbs._leaderless == 2, 5.0, "the lab has asked Kafka")
    chain.without_leader = 0
    following.join(timeout=10.0)
    assert answers[0].startswith("kafka1 killed; messages flow after")


def test_what_a_verb_still_waits_for_can_be_told(verbs: Verbs, chain: FakeChain) -> None:
    do(verbs, "kill", "kafka1")
    chain.nodes["kafka1"].serves = False
    deed = verbs.begin("start", "kafka1")
    assert verbs.waits_for(deed) == "kafka1 started; not ready yet: kafka1"

    chain.nodes["kafka1"].serves = True
    verbs.follow(deed)
    flowing = verbs.begin("kill", "emq1")
    assert verbs.waits_for(flowing) == "emq1 killed; not seen yet: HAProxy calls it DOWN, messages flow"


def test_a_bridge_of_the_user_at_a_node_is_not_the_labs(
    verbs: Verbs, chain: FakeChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "sessions", lambda number: 1, raising=False)  # the user's bridge
    assert "went over" not in do(verbs, "kill", "emq1")


def test_seconds_are_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    deed = Deed("kill", ("emq1",), {}, 0.0, in_vain=["messages flow"], patience=76.493621)
    assert str(deed) == "emq1 killed; not seen within 76.5 s: messages flow"
    with pytest.raises(NotInTime, match=r"^not within 0\.012 s: it is"):
        wait_until(lambda: False, 0.0123456, "it is")


def test_a_waiting_broker_can_be_killed(verbs: Verbs, chain: FakeChain, told: list[str]) -> None:
    do(verbs, "kill", "kafka")
    chain.nodes["kafka1"].serves = False
    do(verbs, "start", "kafka1")

    do(verbs, "kill", "kafka1")

    assert chain.condition("kafka1") == "down"
    wait_until(
        lambda: not any(each.name.endswith("waits") for each in threading.enumerate()), 5.0, "no thread waits"
    )
    assert told == []


def test_a_broker_that_ends_while_it_waits_is_told_and_ends_nothing_else(
    verbs: Verbs, chain: FakeChain, told: list[str]
) -> None:
    do(verbs, "kill", "kafka")
    chain.nodes["kafka1"].serves = False
    do(verbs, "start", "kafka1")

    chain.nodes["kafka1"].is_dead = True

    wait_until(lambda: told, 5.0, "it is told")
    assert told[0].startswith("kafka1 waited for its peers, and has ended: kafka1 ended with 1")
    assert "kafka1" in verbs.put_out  # so the lab goes on


@pytest.mark.parametrize(
    ("verb", "word", "why"),
    [
        ("kill", "kafka", "fewer than 2 Kafka brokers are up, so messages wait on the bridge's disk"),
        ("hang", "kafka", "fewer than 2 Kafka brokers are up, so messages wait on the bridge's disk"),
        ("kill", "emq", "no EMQ node is up, so the devices cannot publish"),
    ],
)
def test_what_cannot_follow_is_said_at_once_and_counts_as_no_failure(
    verb: str, word: str, why: str, verbs: Verbs
) -> None:
    assert why in do(verbs, verb, word)
    assert verbs.unseen == []


def test_the_second_dead_broker_says_that_kafka_takes_nothing(verbs: Verbs) -> None:
    assert "messages flow after" in do(verbs, "kill", "kafka1")
    assert "fewer than 2 Kafka brokers are up" in do(verbs, "kill", "kafka2")


def test_a_start_that_fails_half_way_leaves_no_host_behind(verbs: Verbs, chain: FakeChain) -> None:
    do(verbs, "kill", "kafka")
    chain.nodes["kafka2"].failure = "the port is in use"

    with pytest.raises(LabError, match=r"start kafka1, kafka2, kafka3 failed: the port is in use"):
        verbs.begin("start", "kafka")
    assert {chain.condition(name) for name in KINDS["kafka"]} == {"down"}
    assert chain.starting == set()


def test_a_verb_for_one_host_of_a_kind_does_not_leave_the_others_starting(
    verbs: Verbs, chain: FakeChain
) -> None:
    do(verbs, "kill", "kafka")
    for host in chain.nodes.values():
        host.serves = False
    deed = verbs.begin("start", "kafka")
    answers: list[str] = []
    following = threading.Thread(target=lambda: answers.append(verbs.follow(deed)))
    following.start()

    verbs.begin("kill", "kafka1")
    for host in chain.nodes.values():
        host.serves = True
    following.join(timeout=10.0)

    assert answers
    assert [chain.condition(name) for name in KINDS["kafka"]] == ["down", "up", "up"]


def test_many_hosts_are_told_in_the_plural() -> None:
    assert str(Deed("hang", ("emq1", "emq2"), {}, 0.0)) == "emq1, emq2 hang"
    assert str(Deed("hang", ("emq1",), {}, 0.0)) == "emq1 hangs"
    assert str(Deed("kill", ("bridge",), {}, 0.0)) == "bridge killed; what it had in flight may come twice"
