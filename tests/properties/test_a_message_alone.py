"""A message that comes alone takes a shorter way: it ends where the way of a batch would have led it."""

from itertools import count
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bridge.delivery.results import TopicAnswer, Verdict
from bridge.message import DUP, RETAIN, Message, Packet, Properties, Release
from bridge.routing.router import Router
from bridge.settings import RouteSettings
from tests.unit.delivery.world import ROUTES, Session, World

WINDOW = 6
TOPICS = [b"s/1", b"s/2", b"s/debug", b"fresh/1", b"full/1", b"site/a", b"o/b/a", b"o/b/a", b"nowhere"]
# Two filters of which neither covers the other: a message of o/b/a comes once for each.
OVERLAP = [
    RouteSettings(name="one", filter="o/+/a", topic="sensors"),
    RouteSettings(name="two", filter="o/b/+", topic="sensors"),
]
IDENTIFIERS = [1, *(each.identifier for each in Router([*ROUTES, *OVERLAP]).subscriptions if each.identifier)]


class Kernel(Session):
    """A session whose acknowledgements the kernel takes at once, or all together later."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.waits = False
        self._not_taken = 0

    def acknowledge(self, messages: list[Message]) -> bool:
        super().acknowledge(messages)
        self._not_taken += len(messages)
        self.take()
        return not self.waits

    def take(self) -> None:
        if not self.waits and self._not_taken:
            count, self._not_taken = self._not_taken, 0
            self._world.pipeline.handed_over(count)

    def ends(self) -> None:
        self._not_taken = 0


class Bridge:
    """One of two bridges that get the same. `short`: it may take the shorter way."""

    def __init__(self, short: bool) -> None:
        self.world = World(routes=[*ROUTES, *OVERLAP], receive_maximum=WINDOW)
        self.kernel = self.world.session = self.world.pipeline.session = Kernel(self.world)
        if not short:
            setattr(self.world.pipeline, "_passes_on", lambda _: False)  # noqa: B010 - mypy refuses the assignment

    def receive(self, packet: Packet) -> None:
        self.world.pipeline.receive([packet])

    def seen(self) -> tuple[object, ...]:
        ledger = self.world.pipeline._ledger
        return (
            self.world.produced,
            self.kernel.acknowledged,
            self.kernel.completed,
            self.world.counts.as_fields(),
            self.world.counts.received_by_qos,
            self.world.pipeline.sequence,
            [(number, each.state, each.epoch) for number, each in ledger._known.items()],
            (ledger._last_id, ledger.unacknowledged, ledger.counts_upward, ledger.keeps_identifiers),
            [(lane.topic, lane.state, len(lane.in_flight)) for lane in self.world.pipeline.lanes],
        )


def packet(random: Random, number: int) -> tuple[bytes, int, int, Properties | None, bytes]:
    qos = random.choice([0, 2, *[1] * 8])
    flags = random.choice([RETAIN, DUP if qos else 0, *[0] * 10])
    if random.random() < 0.06:
        number = random.randrange(1, WINDOW + 2)
    properties = random.choice(
        [
            None,
            None,
            Properties(user=(("a", "b"),)),
            Properties(subscription_ids=(random.choice(IDENTIFIERS),)),
        ]
    )
    payload = random.choice([b"", b"x" * 1100, b"w", *[b"v"] * 7])
    return (
        random.choice([TOPICS[0], random.choice(TOPICS)]),
        qos << 1 | flags,
        number * bool(qos),
        properties,
        payload,
    )


@given(seed=st.integers(0, 2**32))
def test_it_ends_where_the_way_of_a_batch_would_have_led_it(seed: int) -> None:
    random = Random(seed)
    both = Bridge(short=True), Bridge(short=False)
    numbers = count(1)
    number = 1
    for _ in range(80):
        kind = random.random()
        if kind < 0.55:
            number = next(numbers)
        given_ = packet(random, number)
        first, reports, refused = (
            random.randrange(1, number + 1),
            random.random() < 0.6,
            random.random() < 0.02,
        )
        for bridge in both:
            world = bridge.world
            world.kafka.refuses = Verdict.NOT_NOW if refused else None
            if kind < 0.55:
                bridge.receive(Message.of(*given_))
            elif kind < 0.57:
                bridge.receive(Release(first))
            elif kind < 0.8:
                oldest = [each.packet_id for each in world.kafka.in_flight][:1]
                world.kafka.deliver(*(() if reports else oldest or (first,)))
                assert world.pipeline.relay(0.0) or not world.pipeline.is_calm or bridge.kernel.waits
            elif kind < 0.9:
                world.kafka.answers += [TopicAnswer(lane.topic, True, 1000) for lane in world.pipeline.lanes]
                world.turn()
            elif kind < 0.94:
                bridge.kernel.waits = not bridge.kernel.waits
                bridge.kernel.take()
            elif kind < 0.96:
                bridge.kernel.ends()
                world.pipeline.disconnected()
                world.pipeline.connected(session_present=reports, mqtt5=True)
                world.pipeline.subscribed()
            else:
                world.turn()
            world.add_up()
        assert both[0].seen() == both[1].seen()
