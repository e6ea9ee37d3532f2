"""The bridge's own exceptions.

    BridgeError                 a sentence for a person, with the way out           exit status 1
    ├── ConfigurationError      one line for each wrong setting                     exit status 2
    │   └── WrongRoutes         ... because of [[routes]]; knows which route and which key
    ├── Unroutable              no route can take this message
    │   └── NoRoute             no route's filter matches its topic
    ├── MalformedPacket         the broker sent a packet that MQTT forbids
    ├── CorruptSegment          a row of the spool was damaged on disk
    ├── SpoolUnusable           the spool can't be opened, read or written
    └── NoThread                the kernel allows no further thread now

A failure that the bridge can cure by itself (a broken connection, a dead Kafka broker) is a state and not an
exception: see mqtt/session.py and kafka/error_verdicts.py.
"""

from collections.abc import Iterable
from typing import TypeVar

_Error = TypeVar("_Error", bound=BaseException)


class BridgeError(Exception):
    """An error that a person has to know. Its `str()` can be printed as it is."""


class ConfigurationError(BridgeError):
    """The settings can't be used. `problems` has one line for each error."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class WrongRoutes(ConfigurationError):
    """Routes can't be used. `wrong`: for each error the name of the route, the key, and the line.

    Who knows where the settings came from puts the file and the number of the line in front.
    """

    def __init__(self, wrong: Iterable[tuple[str, str, str]]) -> None:
        self.wrong = tuple(wrong)
        super().__init__(line for _, _, line in self.wrong)


class Unroutable(BridgeError):
    """No route can take a message. `reason` is the same for all messages of a topic."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class NoRoute(Unroutable):
    """No route's filter matches the topic of a message."""


class MalformedPacket(BridgeError):
    """The broker broke the protocol. The start of its next packet is unknown: the connection must end."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class CorruptSegment(BridgeError):
    """The disk returned other bytes than the bridge has written."""


class NoThread(BridgeError):
    """A thread could not be started. The work that needs the thread must be tried again later."""

    reason = "no further thread can be started now"
    way_out = "raise the limit: TasksMax= of the systemd unit, pids.max of a container, or ulimit -u"

    def __init__(self) -> None:
        super().__init__(f"{self.reason}; {self.way_out}")


class SpoolUnusable(BridgeError):
    """The spool can't be written or read for now. `reason` names the file."""

    def __init__(self, reason: str, way_out: str = "repair the disk, or the file's permissions") -> None:
        self.reason = reason
        self.way_out = way_out
        super().__init__(f"{reason}; {way_out}")


def without_frames(error: _Error) -> _Error:
    """The same exception, of which only type and text are kept: for one that outlives its `except` clause.

    A traceback keeps every frame that it went through, with all local variables. Where one of those
    variables leads back to the exception, the two keep each other until the collector runs, which it does
    after 100,000 objects: an SSLContext of 0.8 MB for each attempt stayed in memory.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error
