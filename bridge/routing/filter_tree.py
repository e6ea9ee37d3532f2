"""Trees of MQTT filters: which filters take a topic, cover a filter, or overlap a filter. Pure.

A node of a tree stands for the levels on the way to it. A search goes down one level of the topic at a time,
so its time depends on the topic's levels, and not on the number of filters. topics.py defines the same
relations for one pair of filters, and the tests compare the two.

A filter is given as a list of levels (`levels_of`). A level is a text, `+`, `#` at the end, or the literals
of a level with names in it, as routes.SplitLevel has them: ("", "@", "") for `{app}@{tenant}`. A topic is a
list of texts. Filters are known by numbers: the number of a route in its list.
"""

from collections.abc import Iterable, Iterator, Sequence

from bridge.routing.topics import parts_of

Literals = tuple[str, ...]
Level = str | Literals

_NONE = 1 << 62  # the number of no filter
_FEW = 16  # up to so many filters are compared one by one
_MANY = 32  # a search through a text takes as long as so many cuts of it


def is_reserved(levels: Sequence[Level]) -> bool:
    """Whether it is one of the broker's own, as $SYS/#: no wildcard at the front matches such a topic."""
    first = levels[0]
    return type(first) is str and first.startswith("$")


class FilterTree:
    """Finds the filters that take all that a topic or a filter takes."""

    def __init__(self) -> None:
        self._root = _Node()
        self._depth = 0

    def add(self, levels: Sequence[Level], number: int) -> None:
        """Add a filter. If the same filter was added before, the lower number stays."""
        node = self._root
        for level in levels:
            if level == "#":
                node.rest = min(node.rest, number)
                break
            node = node.child(level)
        else:
            node.ends = min(node.ends, number)
        self._depth = max(self._depth, len(levels))

    def first_taking(self, topic: str) -> int | None:
        """The lowest number of the filters that match the topic; None if there is none."""
        # The levels below the deepest filter are not parted: a topic may have 65,535 of them.
        levels = topic.split("/", self._depth)
        found = _NONE
        node = self._root
        wildcards = not topic.startswith("$")
        for level in levels:  # as in `covering`, while there is one way down
            if node.rest < found:
                found = node.rest
            child = node.texts.get(level) if node.texts else None
            if wildcards and (node.plus or node.split):
                if child or node.split:
                    return min(self.covering(levels), default=None)
                child = node.plus
            if child is None:
                break
            node = child
            wildcards = True
        else:
            found = min(found, node.ends, node.rest)
        return None if found == _NONE else found

    def covering(self, levels: Sequence[Level]) -> list[int]:
        """The number of each filter that takes every topic that this filter (or topic) takes."""
        found: list[int] = []
        nodes = [self._root]
        wildcards = not is_reserved(levels)  # whether a wildcard may stand for the level
        for level in levels:
            below: list[_Node] = []
            for node in nodes:
                if node.rest != _NONE:
                    found.append(node.rest)
                if level == "#":
                    continue
                if (texts := node.texts) and (child := texts.get(level)):  # type: ignore[arg-type]
                    below.append(child)
                if wildcards:
                    if node.plus:
                        below.append(node.plus)
                    if node.split:
                        below += node.split.taking(level)
            if not below:
                return found
            nodes = below
            wildcards = True
        for node in nodes:
            if node.ends != _NONE:
                found.append(node.ends)
            if node.rest != _NONE:
                found.append(node.rest)
        return found


class _Node:
    __slots__ = ("ends", "plus", "rest", "split", "texts")

    def __init__(self) -> None:
        self.texts: dict[str, _Node] | None = None
        self.plus: _Node | None = None
        self.split: _SplitLevels | None = None
        self.ends = _NONE  # the lowest number of the filters that end here
        self.rest = _NONE  # the same of those that end with one more level, `#`

    def child(self, level: Level) -> "_Node":
        """The node one level down, made if there is none."""
        if isinstance(level, tuple):
            if self.split is None:
                self.split = _SplitLevels()
            return self.split.child(level)
        if level == "+":
            if self.plus is None:
                self.plus = _Node()
            return self.plus
        if self.texts is None:
            self.texts = {}
        child = self.texts.get(level)
        if child is None:
            child = self.texts[level] = _Node()
        return child


class _SplitLevels:
    """The nodes below one node for levels with names in them, found by the literals of the levels.

    The first and the last literal are looked up by the beginning and the end of a text. There are few lengths
    of them, so few look-ups, however many literals there are.
    """

    def __init__(self) -> None:
        self._nodes: dict[Literals, _Node] = {}
        self._by_ends: dict[tuple[int, int], dict[tuple[str, str], _BetweenEnds]] = {}

    def child(self, literals: Literals) -> _Node:
        node = self._nodes.get(literals)
        if node is None:
            node = self._nodes[literals] = _Node()
            first, *between, last = literals
            by_text = self._by_ends.setdefault((len(first), len(last)), {})
            group = by_text.setdefault((first, last), _BetweenEnds())
            if between:
                group.add(max(between, key=len), literals, node)
            else:
                group.node = node
        return node

    def taking(self, level: Level) -> Iterator[_Node]:
        if isinstance(level, tuple):
            if node := self._nodes.get(level):
                yield node
            return
        if level == "+":
            return
        for (first, last), by_text in self._by_ends.items():
            end = len(level) - last
            # A name takes at least one character.
            if end > first and (group := by_text.get((level[:first], level[end:]))):
                if group.node:
                    yield group.node
                if group.number:
                    yield from group.taking(level, level[first:end])


class _BetweenEnds:
    """Levels with the same first and last literal, found by the longest literal between those."""

    __slots__ = ("_by_length", "node", "number")

    def __init__(self) -> None:
        self.node: _Node | None = None  # of the level with nothing but one name between the two
        self.number = 0  # of the others
        self._by_length: dict[int, dict[str, list[tuple[Literals, _Node]]]] = {}

    def add(self, longest: str, literals: Literals, node: _Node) -> None:
        self._by_length.setdefault(len(longest), {}).setdefault(longest, []).append((literals, node))
        self.number += 1

    def taking(self, level: str, inner: str) -> Iterator[_Node]:
        for length, by_text in self._by_length.items():
            held: Iterable[str] = by_text
            places = len(inner) - length + 1
            if places > _MANY * len(by_text):  # a device may send a level of 65,535 bytes
                held = [text for text in by_text if text in inner]
            elif len(by_text) > _FEW:
                held = by_text.keys() & {inner[at : at + length] for at in range(places)}
            for text in held:
                yield from [node for literals, node in by_text[text] if parts_of(level, literals) is not None]


class OverlapTree:
    """Finds the first filter that overlaps a filter: there is a topic that both match. Numbers rise.

    For a `+` of the filter a search has to look below all children of a node. So that this takes one step,
    the children are merged into one node when such a search first comes by.
    """

    def __init__(self) -> None:
        self._roots = (_OverlapNode(), _OverlapNode())  # a $ at the front overlaps only others with one

    def add(self, levels: Sequence[str], number: int) -> None:
        """Call this for all filters before the first search. Each number is higher than the one before."""
        node = self._roots[is_reserved(levels)]
        node.below = _lowest(node.below, (number,))
        for level in levels:
            if level == "#":
                node.rest = _lowest(node.rest, (number,))
                return
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _OverlapNode()
            node = child
            node.below = _lowest(node.below, (number,))
        node.ends = _lowest(node.ends, (number,))

    def first_beside(self, levels: Sequence[str], number: int = -1) -> int | None:
        """The lowest number, other than `number`, of the filters that overlap this one; None: there is none.

        If the filter itself is in the tree, its own number is passed as `number`.
        """
        found: list[int] = []
        nodes = [self._roots[is_reserved(levels)]]
        for level in levels:
            below: list[_OverlapNode] = []
            for node in nodes:
                if level == "#":
                    found += node.below
                    continue
                found += node.rest
                if level == "+":
                    if node.children:
                        below.append(node.merged())
                else:
                    below += [
                        child for name in (level, "+") if (child := node.children.get(name)) is not None
                    ]
            nodes = below
        for node in nodes:
            found += node.ends
            found += node.rest
        return min((other for other in found if other != number), default=None)


class _OverlapNode:
    """Each tuple has the two lowest numbers, because a search may leave out one of them."""

    __slots__ = ("_merged", "below", "children", "ends", "rest")

    def __init__(self) -> None:
        self.children: dict[str, _OverlapNode] = {}
        self.ends: tuple[int, ...] = ()  # of the filters that end here
        self.rest: tuple[int, ...] = ()  # of those that end with one more level, `#`
        self.below: tuple[int, ...] = ()  # of these and all filters below
        self._merged: _OverlapNode | None = None

    def merged(self) -> "_OverlapNode":
        """All children as one node. `below` has no numbers of this node."""
        if self._merged is None:
            children = list(self.children.values())
            if len(children) == 1:
                self._merged = children[0]
            else:
                self._merged = _OverlapNode()
                for child in children:
                    self._merged.take_in(child)
        return self._merged

    def take_in(self, other: "_OverlapNode") -> None:
        self.ends = _lowest(self.ends, other.ends)
        self.rest = _lowest(self.rest, other.rest)
        self.below = _lowest(self.below, other.below)
        todo = [(self, other)]
        while todo:
            into, of = todo.pop()
            for level, child in of.children.items():
                same = into.children.get(level)
                if same is None:
                    same = into.children[level] = _OverlapNode()
                same.ends = _lowest(same.ends, child.ends)
                same.rest = _lowest(same.rest, child.rest)
                same.below = _lowest(same.below, child.below)
                if child.children:
                    todo.append((same, child))


def _lowest(some: tuple[int, ...], others: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted({*some, *others})[:2]) if some and others else some or others
