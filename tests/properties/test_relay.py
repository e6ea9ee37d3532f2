"""Passing messages on between two turns gives what turns alone give: `Pipeline.relay` and `Pipeline.turn`."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from bridge.delivery.results import Verdict
from tests.unit.delivery.world import World

TOPICS = (b"s/1", b"s/2", b"s/debug", b"full/1", b"site/a", b"nowhere")
VERDICTS = (Verdict.NOT_NOW, Verdict.TOO_LARGE, Verdict.INVALID, Verdict.PRODUCER_LOST)

Step = Callable[[World], object]


def receive(topic: bytes, payload: bytes, qos: int) -> Step:
    return lambda world: world.receive(topic, payload, qos=qos)


def deliver(number: int) -> Step:
    return lambda world: world.kafka.deliver(number)


def fail(verdict: Verdict) -> Step:
    return lambda world: world.kafka.fail(verdict)


def refuse(verdict: Verdict | None) -> Step:
    return lambda world: setattr(world.kafka, "refuses", verdict)


def answer(world: World) -> None:
    for topic in world.kafka.asked:
        world.answer(topic)
    world.kafka.asked.clear()


def lose_the_producer(world: World) -> None:
    world.kafka.is_broken = True


def replace_the_producer(world: World) -> None:
    world.kafka.wants_successor = True


steps = st.one_of(
    st.builds(
        receive,
        st.sampled_from(TOPICS),
        st.sampled_from([b"", b"v", b"x" * 2000]),
        st.sampled_from([0, 1, 1, 1, 2]),
    ),
    st.builds(deliver, st.integers(1, 20)),
    st.just(lambda world: world.kafka.deliver()),
    st.builds(fail, st.sampled_from(VERDICTS)),
    st.builds(refuse, st.sampled_from([None, None, Verdict.NOT_NOW])),
    st.just(answer),
    st.just(lose_the_producer),
    st.just(replace_the_producer),
)


def go_on(world: World) -> None:
    """As the loop does: a turn, and further ones while there is work."""
    world.turn()
    while world.pipeline.has_work:
        world.turn()


def relay(world: World) -> None:
    """As the loop does where it was woken: a pass, then a turn if anything else is to be done."""
    if not world.pipeline.is_calm or world.pipeline.has_work or not world.pipeline.relay(0.0):
        go_on(world)
    world.add_up()


@given(st.lists(steps, max_size=40))
def test_a_pass_and_a_turn_acknowledge_and_produce_the_same(done: list[Step]) -> None:
    with_turns, with_passes = World(), World()
    for world in (with_turns, with_passes):
        world.receive(b"s/1")
        go_on(world)
        answer(world)
        go_on(world)
        world.kafka.deliver()
        go_on(world)
        assert world.pipeline.is_calm
    for step in done:
        for world, pass_on in ((with_turns, go_on), (with_passes, relay)):
            step(world)
            pass_on(world)
        assert with_turns.session.acknowledged == with_passes.session.acknowledged
        assert with_turns.produced == with_passes.produced
        assert with_turns.counts.as_fields() == with_passes.counts.as_fields()
        assert with_turns.disk.letters == with_passes.disk.letters
        assert with_turns.kafka.rebuilt == with_passes.kafka.rebuilt
        assert with_turns.kafka.retired == with_passes.kafka.retired
