"""Every exception that is the bridge's own.

    BridgeError                 a sentence for a person, which tells the way out    exit status 1
    ├── ConfigurationError      one line for each wrong setting                     exit status 2
    ├── Unroutable              no route can take this message
    ├── MalformedPacket         the broker sent what MQTT forbids
    ├── CorruptSegment          a row of the spool is not what was written
    ├── SpoolUnusable           the spool can't be opened, read or written
    └── NoThread                this machine or its limits allow no further thread now

What the bridge can cure by itself (a connection that broke, a Kafka broker that died) is no exception
but a state: see mqtt/session.py and kafka/faults.py.
"""

from collections.abc import Iterable


class BridgeError(Exception):
    """Something a person has to know. `str()` of it can be printed as it is."""


class ConfigurationError(BridgeError):
    """The settings can't be used. `problems` holds one line for each thing that is wrong."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class Unroutable(BridgeError):
    """No route can take a message. `reason` is the same for all messages of a topic."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class MalformedPacket(BridgeError):
    """The peer broke the protocol, so where its next packet begins is unknown: the connection must end."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class CorruptSegment(BridgeError):
    """The disk gave back other bytes than it was given."""


class NoThread(BridgeError):
    """A thread could not be started. The work that needs the thread must be tried again later."""

    def __init__(self) -> None:
        super().__init__(
            "no further thread can be started now; raise the limit: TasksMax= of the systemd unit, pids.max"
            " of a container, or ulimit -u"
        )


class SpoolUnusable(BridgeError):
    """Nothing can be committed, or read, for the time being. `reason` names the file."""

    def __init__(self, reason: str, way_out: str = "put the disk and the file's rights in order") -> None:
        self.reason = reason
        self.way_out = way_out
        super().__init__(f"{reason}; {way_out}")
