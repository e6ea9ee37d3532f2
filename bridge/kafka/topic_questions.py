"""The questions about topics that the loop has asked, and Kafka's answers. A thread finds them out."""

from collections import deque
from collections.abc import Callable
from functools import partial

from bridge.delivery.results import NoTopicAnswer, TopicAnswer
from bridge.kafka.topic_lookup import TopicLookup
from bridge.loop import Loop
from bridge.settings import KafkaSettings


class TopicQuestions:
    """`answers`: appended between two turns of the loop. `look_at` gets each one before that."""

    def __init__(
        self, settings: KafkaSettings, loop: Loop, look_at: Callable[[TopicAnswer | NoTopicAnswer], None]
    ) -> None:
        self._settings = settings
        self._loop = loop
        self._look_at = look_at
        self.answers: deque[TopicAnswer | NoTopicAnswer] = deque()
        self._asked: set[str] = set()
        self._lookup = self._new_lookup()

    def ask(self, topic: str) -> None:
        """Ask Kafka about `topic`, unless it is being asked."""
        if topic not in self._asked:
            self._asked.add(topic)
            self._lookup.look_up(topic)

    def give_up(self, why: str) -> None:
        """The thread may wait for long. Another one answers the next questions."""
        unanswered, self._asked = self._asked, set()
        self.answers += [NoTopicAnswer(topic, why) for topic in unanswered]
        self._lookup = self._new_lookup()

    def take(self, answer: TopicAnswer | NoTopicAnswer) -> None:
        """An answer has come, in the loop's thread."""
        self._asked.discard(answer.topic)
        self._look_at(answer)
        self.answers.append(answer)

    def _new_lookup(self) -> TopicLookup:
        return TopicLookup(self._settings, lambda answer: self._loop.post(partial(self.take, answer)))
