"""Decides a message's Kafka topic, key, headers and value, and which subscriptions the routes need.

Pure. The first route whose filter matches takes a message. A `Router` decides for MQTT topics. A `Plan`
(plan.py) is the decision for all messages of one MQTT topic.

If filters overlap, a broker may send one copy of a message for each subscription (MQTT 5, 3.3.4). If the
bridge produced all copies, the message would be duplicated. So:

* If another filter of the same $share group covers a filter, the bridge does not subscribe the narrower one.
  The wider filter brings its messages, with the highest QoS of all filters that the wider one covers.
* Filters that overlap without one covering the other, or that are in different groups, get Subscription
  Identifiers. Of the copies, the bridge takes only the copy of the first matching route. MQTT 3.1.1 has no
  identifiers: see `Router.needs_mqtt5`.
* A route with action "drop" subscribes nothing.

All routes together decide which copy is taken, so each identifier is computed from all routes. Copies that
the broker queued in the session under other routes carry identifiers that are now unknown, and the bridge
takes copies with unknown identifiers. So a change of routes may duplicate queued messages, but loses none.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from zlib import crc32

from bridge.errors import ConfigurationError, NoRoute, Unroutable, WrongRoutes
from bridge.routing.filter_tree import FilterTree, OverlapTree
from bridge.routing.plan import KafkaTopics, Plan, Rule
from bridge.routing.routes import Route, RouteEntry, Source, check
from bridge.routing.topics import Subscription, levels_of, why_bad_topic

# The version of what routes mean. Increase it in a release in which the same routes lead a message to another
# Kafka topic: the next start then moves the messages on disk, which may take long.
MEANING = 2  # 2: no placeholder makes a topic that begins with __

MAX_IDENTIFIER = 268_435_455  # MQTT 5, 3.8.2.1.2


class Router:
    """All routes, and the subscriptions they need. What a Router decides never changes.

    `refused`: filters of an earlier Router's subscriptions that the broker did not grant (SUBACK 0x80 and
    above). The filters that a refused one covered are then subscribed themselves, and the refused one is
    expected to bring no copies. `shared`: False for a caller that must not take messages away from the
    members of a $share group.
    """

    subscriptions: tuple[Subscription, ...]
    needs_mqtt5: tuple[str, str] | None  # two routes whose overlapping filters need identifiers

    def __init__(
        self, routes: Sequence[RouteEntry], *, refused: Collection[str] = (), shared: bool = True
    ) -> None:
        """Raises ConfigurationError with one line for each error."""
        self._routes, self._tree = _check_all(routes)
        if not shared:
            self._routes = tuple(replace(route, source=route.source.unshared()) for route in self._routes)
        self._variants: dict[frozenset[str], Router] = {}  # with no filter refused, and the last one besides
        self._subscribe(frozenset(refused))

    def without(self, refused: Collection[str]) -> "Router":
        """A Router of the same routes while the broker refuses these filters."""
        wanted = frozenset(refused)
        if wanted == self._refused:
            return self
        if (known := self._variants.get(wanted)) is not None:
            return known
        made = Router.__new__(Router)
        made._routes, made._tree, made._variants = self._routes, self._tree, self._variants
        made._subscribe(wanted)
        return made

    def _subscribe(self, refused: frozenset[str]) -> None:
        self._refused = refused
        bare = self._variants.get(frozenset())
        self._variants.clear()
        if bare is not None:
            self._variants[frozenset()] = bare
        self._variants[refused] = self
        subscribing = [
            number
            for number, route in enumerate(self._routes)
            if route.topic is not None and route.source.subscription not in refused
        ]
        sources = [route.source for route in self._routes]
        self._widest = _widest(sources, subscribing)
        qos = dict.fromkeys(self._widest, 0)
        bringing = _by_group(sources, self._widest)
        for number in subscribing:
            source = sources[number]
            for wide in bringing[source.group].covering(levels_of(source.pattern)):
                qos[wide] = max(qos[wide], self._routes[number].qos)
        clashes = _clashes(sources, self._widest)
        self.needs_mqtt5 = None
        if clashes:
            first = min(clashes)
            self.needs_mqtt5 = (self._routes[first].name, self._routes[clashes[first]].name)
        # The order in which pairs of overlapping filters would name the filters: it decides which of two
        # filters has the next identifier where both would get the same one.
        in_order = sorted(clashes, key=lambda number: (min(number, clashes[number]), number))
        routing = [(route.source.subscription, route.topic is None) for route in self._routes]
        self._identifiers = _identifiers(
            (sources[number].subscription for number in in_order),
            made_of=repr((routing, sorted(refused))),
        )
        self.subscriptions = tuple(
            Subscription(
                filter=sources[number].subscription,
                qos=qos[number],
                identifier=self._identifiers.get(sources[number].subscription),
            )
            for number in self._widest
        )
        self._all_identifiers = frozenset(self._identifiers.values())
        self._bringing = bringing
        self._arriving: FilterTree | None = None  # of the subscriptions; few routes need it
        self._kafka_topics: KafkaTopics = {}
        self._rules: list[Rule | None] = [None] * len(self._routes)  # of routes that one subscription brings
        self._rules_by_copy: dict[tuple[int, int | None], Rule] = {}  # of the other routes

    @property
    def names(self) -> tuple[str, ...]:
        """The routes' names, in their order."""
        return tuple(route.name for route in self._routes)

    @property
    def routes(self) -> tuple[Route, ...]:
        return self._routes

    def why_restart(self, before: "Router") -> str:
        """Why a connection with `before`'s subscriptions can't get these without a restart; empty: it can.

        Until the broker has unsubscribed the old filters, it has old and new ones. If two of them overlap, it
        may send a message once for each. Nothing tells those copies apart: a copy that was queued under
        `before` has an identifier that was made of the routes of `before`.
        """
        if self.subscriptions == before.subscriptions:
            return ""
        for router in (before, self):
            if router.needs_mqtt5:
                first, second = router.needs_mqtt5
                return (
                    f'routes "{first}" and "{second}" overlap, so identifiers made of all routes tell'
                    " copies apart"
                )
        old = {source.subscription: source.pattern for source in before._arrivals}
        new = {source.subscription: source.pattern for source in self._arrivals}
        removed = [name for name in old if name not in new]
        tree = OverlapTree()
        for number, name in enumerate(removed):
            tree.add(levels_of(old[name]), number)
        for added, pattern in new.items():
            if added not in old and (found := tree.first_beside(levels_of(pattern))) is not None:
                return (
                    f"the new filter {added} overlaps {removed[found]}, which is removed: while the broker"
                    " has both, it may send a message once for each"
                )
        return ""

    def require_protocol(self, protocol: str) -> None:
        """Raises ConfigurationError if `mqtt.protocol` allows an MQTT that can't serve these routes."""
        if self.needs_mqtt5 and protocol != "5":
            raise ConfigurationError(
                'routes "{}" and "{}": their filters overlap and neither covers the other, so a broker of'
                " MQTT 3.1.1 may send a message once for each of them; change a filter, or set"
                ' mqtt.protocol = "5", which can tell the copies apart'.format(*self.needs_mqtt5)
            )

    def plan(self, topic: bytes) -> Plan:
        """The plan for messages of this MQTT topic. Raises Unroutable if no route can take them."""
        try:
            text = topic.decode()
        except UnicodeDecodeError:
            raise Unroutable("the MQTT topic is not valid UTF-8") from None
        if "+" in text or "#" in text or "\0" in text:
            raise Unroutable(f"MQTT does not allow this topic: {why_bad_topic(text)}")
        number = self._tree.first_taking(text)
        if number is None:
            raise NoRoute("no route has a filter that matches")
        rule = self._rules[number] or self._rule(number, text)
        return rule.plan(topic, text)

    def destination(self, topic: bytes) -> tuple[str, str]:
        """The Kafka topic for messages of this MQTT topic; or an empty one, and why there is none."""
        try:
            plan = self.plan(topic)
        except Unroutable as error:
            return "", error.reason
        return plan.kafka_topic, "" if plan.kafka_topic else f'route "{plan.route}" now drops this topic'

    @property
    def _arrivals(self) -> Iterator[Source]:
        return (self._routes[number].source for number in self._widest)

    def _rule(self, number: int, topic: str) -> Rule:
        """The rule of this route, made when its first message comes."""
        source = self._routes[number].source
        tree = self._bringing.get(source.group)
        bringing = tree.covering(levels_of(source.pattern)) if tree else ()
        if bringing:
            rule = self._rules[number] = self._rule_for(number, min(bringing))
            return rule
        # No subscription brings all messages of the route, because it drops them or the broker refuses its
        # filter. So the topic decides.
        if self._arriving is None:
            self._arriving = FilterTree()
            for arriving in self._widest:
                self._arriving.add(levels_of(self._routes[arriving].source.pattern), arriving)
        key = number, self._arriving.first_taking(topic)
        if key not in self._rules_by_copy:
            self._rules_by_copy[key] = self._rule_for(*key)
        return self._rules_by_copy[key]

    def _rule_for(self, number: int, arriving: int | None) -> Rule:
        """`arriving` is the route whose subscription's copy is taken; None: no subscription brings a copy."""
        if arriving is None:
            return Rule(self._routes[number], "", kafka_topics=self._kafka_topics)
        subscription = self._routes[arriving].source.subscription
        identifier = self._identifiers.get(subscription)
        return Rule(self._routes[number], subscription, identifier, self._all_identifiers, self._kafka_topics)


def _check_all(entries: Sequence[RouteEntry]) -> tuple[tuple[Route, ...], FilterTree]:
    problems: list[tuple[str, str, str]] = []
    routes: list[Route] = []
    tree = FilterTree()
    for entry in entries:
        try:
            route = check(entry)
        except WrongRoutes as error:
            problems += error.wrong
            continue
        levels = route.source.levels
        if earlier := tree.covering(levels):
            line = (
                f'route "{route.name}": filter = "{entry.filter}": gets nothing, because route '
                f'"{routes[min(earlier)].name}" before it takes all its messages; move this route up or'
                " remove it"
            )
            problems.append((route.name, "filter", line))
        tree.add(levels, len(routes))
        routes.append(route)
    if not problems and all(route.topic is None for route in routes):
        problems.append(("", "", "routes: none of them produces; add a route with a filter and a topic"))
    if problems:
        raise WrongRoutes(problems)
    return tuple(routes), tree


def _by_group(sources: Sequence[Source], numbers: Iterable[int]) -> dict[str | None, FilterTree]:
    """The subscriptions of each $share group. One brings the messages of another if it covers it there."""
    trees: dict[str | None, FilterTree] = {}
    for number in numbers:
        source = sources[number]
        trees.setdefault(source.group, FilterTree()).add(levels_of(source.pattern), number)
    return trees


def _widest(sources: Sequence[Source], numbers: Sequence[int]) -> list[int]:
    """The fewest routes whose filters together bring the messages of all these routes."""
    trees = _by_group(sources, numbers)
    return [
        number
        for number in numbers
        if trees[sources[number].group].covering(levels_of(sources[number].pattern)) == [number]
    ]


def _clashes(sources: Sequence[Source], numbers: Sequence[int]) -> dict[int, int]:
    """Each of these routes whose filter overlaps that of another one, and the first other one."""
    tree = OverlapTree()
    for number in numbers:
        tree.add(levels_of(sources[number].pattern), number)
    found = {number: tree.first_beside(levels_of(sources[number].pattern), number) for number in numbers}
    return {number: other for number, other in found.items() if other is not None}


def _identifiers(subscriptions: Iterable[str], made_of: str) -> dict[str, int]:
    """A Subscription Identifier for each subscription, the same at every start with the same routes."""
    found: dict[str, int] = {}
    taken: set[int] = set()
    checksum = _ending_with(f"\n{made_of}".encode())
    for subscription in subscriptions:
        identifier = checksum(subscription.encode()) % MAX_IDENTIFIER + 1
        while identifier in taken:
            identifier = identifier % MAX_IDENTIFIER + 1
        found[subscription] = identifier
        taken.add(identifier)
    return found


def _ending_with(end: bytes) -> Callable[[bytes], int]:
    """A function that returns crc32(beginning + end), and reads `end` only now.

    A CRC is linear: what `end` does to the checksum of the beginning is known from what it does to each bit.
    """
    constant = crc32(end, 0)
    by_bit = [crc32(end, 1 << bit) ^ constant for bit in range(32)]

    def checksum(beginning: bytes) -> int:
        before, after = crc32(beginning), constant
        for bit in range(32):
            if before >> bit & 1:
                after ^= by_bit[bit]
        return after

    return checksum
