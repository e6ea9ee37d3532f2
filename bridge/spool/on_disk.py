"""What stands on disk, as `bridge spool status` reports it. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """What one Kafka topic still has to get. Messages that Kafka has got within the last moment count."""

    topic: str
    messages: int
    size: int  # bytes
    oldest: int  # time of receipt of the first one, ms since 1970; -1: the clock was not to be believed


@dataclass(frozen=True, slots=True)
class OnDisk:
    """`why_full`: why nothing more would be written. Empty: more would."""

    path: str
    exists: bool  # the database is there
    topics: tuple[Waiting, ...] = ()
    dead_letters: int = 0
    dead_letters_size: int = 0  # bytes
    used: int = 0  # bytes of the file that hold something
    file_size: int = 0  # bytes, with its log
    free: int = 0  # bytes of the disk that are left
    max_bytes: int = 0
    keep_free: int = 0
    why_full: str = ""
    set_aside: tuple[str, ...] = ()  # damaged databases that were kept under other names

    @property
    def messages(self) -> int:
        return sum(topic.messages for topic in self.topics)
