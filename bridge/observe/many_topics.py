"""Events of single Kafka topics, which may come from thousands of topics at once.

The log gets the first few lines of a minute as they are. Of the topics after those it gets one line for each
event: how many topics they are, and the names of a few. So a thousand missing topics are a few lines.
"""

from dataclasses import dataclass, field

from bridge.observe.events import Event, log

LINES = 5  # in a period, of all these events together
MOST = 10  # in a period, with the lines that count topics
PERIOD = 60.0  # seconds
COUNT_FOR = 5.0  # seconds from the first topic that is only counted to the line that counts them
_EXAMPLES = 3
_NEVER = float("inf")


@dataclass(slots=True)
class _Counted:
    topics: set[str] = field(default_factory=set)
    examples: list[str] = field(default_factory=list)
    fields: dict[str, object] = field(default_factory=dict)  # of the newest one


class ManyTopics:
    """Call `log` when an event occurs, `turn` at `due` (monotonic seconds), and `log_counts` at the end."""

    def __init__(self) -> None:
        self.due = _NEVER
        self._lines = 0  # in this period
        self._ends = _NEVER  # when this period does
        self._counted: dict[Event, _Counted] = {}

    def log(self, event: Event, topic: str, **fields: object) -> None:
        if not self._counted:
            self.due = 0.0  # `turn` knows the time
        if self._lines < LINES:
            self._lines += 1
            log(event, topic=topic, **fields)
            return
        counted = self._counted.setdefault(event, _Counted())
        if len(counted.examples) < _EXAMPLES and topic not in counted.topics:
            counted.examples.append(topic)
        counted.topics.add(topic)
        counted.fields = fields

    def turn(self, now: float) -> None:
        if self._ends == _NEVER:
            self._ends = now + PERIOD
        if now >= self._ends:  # another period, if it has a line already
            self._lines = len(self._counted)
            self.log_counts()
            self.due = self._ends = now + PERIOD if self._lines else _NEVER
            return
        if self.due == 0.0:
            self.due = min(self._ends, now + COUNT_FOR) if self._counted else self._ends
            return
        if self._counted and self._lines + len(self._counted) <= MOST:
            self._lines += len(self._counted)
            self.log_counts()
        self.due = self._ends

    def log_counts(self) -> None:
        """Log one line for each event of which topics were counted: `topics` is their number."""
        for event, counted in self._counted.items():
            if len(counted.topics) == 1:
                log(event, topic=counted.examples[0], **counted.fields)
            else:
                log(
                    event,
                    topics=len(counted.topics),
                    examples=", ".join(counted.examples),
                    **counted.fields,
                )
        self._counted.clear()
