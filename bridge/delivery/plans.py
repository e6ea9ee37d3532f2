"""The plans that the pipeline keeps, so that it does not make one for each message. Bounded in bytes.

If there are more MQTT topics than fit, one in eight of the new plans is kept, and the oldest plans give way
to it. The others serve their one message, which costs about three microseconds. If each new plan were kept,
topics that come in turn, as those of sensors with one period do, would each find their plan just gone.
"""

from collections import deque

from bridge.routing.plan import Plan

_ROOM = 16 * 1024 * 1024  # bytes of all plans: about 18,000 MQTT topics of a usual length
_KEEP = 8  # once there is no room, one new plan in so many is kept
_ENTRY = 170  # bytes of a key without its texts, and of its place in the dictionary and the queue

_Key = bytes | tuple[bytes, str | None]


class Plans:
    """Plans by MQTT topic.

    The pipeline looks into `by_key` for each message. The key of a plan that does not depend on the payload
    is the MQTT topic. A plan of a route that skips empty messages has the key (topic, None), and a plan of
    messages on disk that follow earlier routes the key (topic, Kafka topic).
    """

    def __init__(self, room: int = _ROOM) -> None:
        self.by_key: dict[_Key, Plan] = {}  # always the same object
        self._room = room
        self._left = room
        self._oldest: deque[_Key] = deque()
        self.any_skipping = False
        self._passed = 0  # plans that were not kept, since the last one that was, for want of room

    def skipping(self, topic: bytes) -> Plan | None:
        """The plan of a route that skips empty messages. There is none unless `any_skipping`."""
        return self.by_key.get((topic, None))

    def of_row(self, topic: bytes, kafka_topic: str) -> Plan | None:
        """The plan that leads messages of this MQTT topic to this Kafka topic."""
        for key in (topic, (topic, None), (topic, kafka_topic)):
            plan = self.by_key.get(key)
            if plan is not None and plan.kafka_topic == kafka_topic:
                return plan
        return None

    def keep(self, topic: bytes, plan: Plan) -> None:
        """Keep the plan of this MQTT topic by the routes in force."""
        if plan.rule.empty == "skip":
            self.any_skipping = True
            self._keep((topic, None), plan, len(topic))
        else:
            self._keep(topic, plan, len(topic))

    def keep_of_row(self, topic: bytes, plan: Plan) -> None:
        """Keep the plan of messages on disk that the routes in force would lead elsewhere."""
        self._keep((topic, plan.kafka_topic), plan, len(topic))

    def forget(self) -> None:
        """Forget all plans: the routes have changed."""
        self.by_key.clear()
        self._oldest.clear()
        self._left = self._room
        self.any_skipping = False

    def _keep(self, key: _Key, plan: Plan, size: int) -> None:
        left = self._left - _ENTRY - size - plan.size
        if left < 0:
            self._passed += 1
            if self._passed < _KEEP:
                return
            self._passed = 0
        self.by_key[key] = plan
        self._oldest.append(key)
        while left < 0:
            oldest = self._oldest.popleft()
            topic = oldest if isinstance(oldest, bytes) else oldest[0]
            left += _ENTRY + len(topic) + self.by_key.pop(oldest).size
        self._left = left
