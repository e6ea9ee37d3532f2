"""Replays dead letters: produces each to the topic of the present routes, or to a given topic.

A letter is removed from the disk once Kafka has confirmed it. A replay that is killed leaves at most one
page of letters both on disk and in Kafka.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.delivery.dead_letter import StoredLetter
from bridge.errors import Unroutable
from bridge.message import Message
from bridge.routing.plan import Plan, plain_plan
from bridge.routing.router import Router


class BlockingProducer(Protocol):
    """The part of kafka.blocking_producer.BlockingProducer that replay uses; see the descriptions there."""

    @property
    def is_stuck(self) -> bool: ...
    def deliver(self, messages: Sequence[Message]) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Fate:
    """The result for a letter. `reason` tells why it stays; empty: Kafka has it in `kafka_topic`."""

    stored: StoredLetter
    kafka_topic: str
    reason: str


class Replay:
    """Replays letters by the present settings' `router`, or to the Kafka topic `to` if that is given."""

    def __init__(
        self,
        router: Router,
        producer: BlockingProducer,
        delete: Callable[[Sequence[StoredLetter]], object],
        to: str | None,
    ) -> None:
        self._router = router
        self._producer = producer
        self._delete = delete
        self._to = to
        self._plans: dict[bytes, Plan | str] = {}  # by MQTT topic; text: why there is no plan

    def run(self, pages: Iterable[Sequence[StoredLetter]]) -> Iterable[Fate]:
        """Yield the result for each letter, in order. Ends early if Kafka does not answer."""
        for page in pages:
            yield from self._page(page)
            if self._producer.is_stuck:
                return

    def _page(self, page: Sequence[StoredLetter]) -> list[Fate]:
        ready: list[StoredLetter] = []
        fates: dict[int, Fate] = {}
        for stored in page:
            message = stored.letter.message
            plan = self._plan(message)
            if isinstance(plan, str):
                fates[stored.number] = Fate(stored, "", plan)
            else:
                message.plan = plan
                ready.append(stored)
        reasons = self._producer.deliver([stored.letter.message for stored in ready])
        for stored, reason in zip(ready, reasons, strict=True):
            fates[stored.number] = Fate(stored, stored.letter.message.plan.kafka_topic, reason)
        self._delete([fate.stored for fate in fates.values() if not fate.reason])
        return [fates[stored.number] for stored in page]

    def _plan(self, message: Message) -> Plan | str:
        plan = self._plans.get(message.topic)
        if plan is None:
            plan = self._plans[message.topic] = self._make_plan(message.topic)
        if isinstance(plan, Plan) and plan.skips(message) and not self._to:
            kind = "retained" if plan.skip_retained and message.retain else "empty"
            return f'route "{plan.route}" skips {kind} messages'
        return plan

    def _make_plan(self, topic: bytes) -> Plan | str:
        try:
            plan = self._router.plan(topic)
        except Unroutable as error:
            return plain_plan(topic, self._to) if self._to else error.reason
        if self._to:
            if plan.action == "drop":
                return plain_plan(topic, self._to)
            plan.kafka_topic = self._to
        elif plan.action == "drop":
            return f'route "{plan.route}" drops it'
        return plan
