"""What becomes of the lines that librdkafka itself logs.

For people at a command these lines say nothing that the command's own sentences do not say. So commands use a
silent logger. The service logs them (observe/logging.py), but lowers two of which time cures the cause: one
comes at nearly every start, the other whenever a broker returns.
"""

import re
import time
from collections.abc import Callable
from logging import DEBUG, Filter, Logger, LogRecord, NullHandler, getLogger

from bridge.observe.events import Event, log

# The way out where Kafka gives no producer id.
START_CONTROLLERS = "Kafka's controllers give these ids: start a majority of them, and read the brokers' log"
_START_COORDINATOR = (
    "the transaction coordinator gives it: start as many brokers as transaction.state.log.replication.factor"
    " and transaction.state.log.min.isr ask for, and read the brokers' log"
)

# librdkafka logs this every 0.5 s until Kafka gives one.
_NO_PRODUCER_ID = re.compile(r"Failed to acquire (idempotence|transactional) PID")
# A partition's new leader is not known yet, or there is none (-1). librdkafka asks again by itself.
_NO_LEADER_YET = re.compile(r"new leader-?\d+ not found in cache")
_NORMAL = 10.0  # seconds; Kafka's controllers may be this late at a start
_ANOTHER = 30.0  # seconds without such a line, then the next one begins another wait
_LOG_AGAIN_AFTER = 60.0


class HealsItself(Filter):
    """Lowers librdkafka's warnings that a leader or a producer id is not known yet to DEBUG.

    Kafka gives no id while its controllers load their data, which heals itself within seconds. Where that
    lasts, the bridge says what that means, once a minute.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._since = self._last = -_ANOTHER
        self._log_at = 0.0

    def ends(self) -> None:
        """Kafka has given an id: the next line begins another wait."""
        self._last = -_ANOTHER

    def filter(self, record: LogRecord) -> bool:
        text = record.getMessage()
        if _NO_LEADER_YET.search(text):
            record.levelno, record.levelname = DEBUG, "DEBUG"
            return True
        if not (found := _NO_PRODUCER_ID.search(text)):
            return True
        now = self._clock()
        if now - self._last >= _ANOTHER:
            self._since, self._log_at = now, now + _NORMAL
        self._last = now
        record.levelno, record.levelname = DEBUG, "DEBUG"
        if now >= self._log_at:
            self._log_at = now + _LOG_AGAIN_AFTER
            cause = text[found.end() :].partition(": ")[2].removesuffix(": retrying")
            log(
                Event.KAFKA_ERROR,
                reason=f"Kafka has given the bridge no producer id for {now - self._since:.0f} s, so it can"
                f" produce nothing: {cause.removeprefix('Broker: ')}",
                way_out=_START_COORDINATOR if found[1] == "transactional" else START_CONTROLLERS,
            )
        return True


_heals_itself = HealsItself()


def producer_id_came() -> None:
    """Kafka has given an id to the only producer there is."""
    _heals_itself.ends()


def of_the_service() -> Logger:
    """The logger whose lines the service logs."""
    logger = getLogger("librdkafka")
    logger.addFilter(_heals_itself)
    return logger


class _Noted(Filter):
    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self._note = note

    def filter(self, record: LogRecord) -> bool:
        self._note(record.getMessage())
        return True


def of_transactions(note: Callable[[str], None]) -> Logger:
    """As `of_the_service`, for the transactional producer. `note` gets each line."""
    logger = getLogger("librdkafka.transactions")
    logger.filters = [_heals_itself, _Noted(note)]
    return logger


def silent(command: str) -> Logger:
    """A logger of which nothing is printed, not even by Python's handler of last resort."""
    logger = getLogger(f"librdkafka.{command}")
    logger.addHandler(NullHandler())
    logger.propagate = False
    return logger
