"""The state of the spool on disk, as `bridge spool status` reports it. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """The messages on disk for one Kafka topic. Messages that Kafka confirmed just now may still count."""

    topic: str
    messages: int
    size: int  # bytes
    oldest: int  # time of receipt of the oldest message, ms since 1970; -1: the clock was wrong


@dataclass(frozen=True, slots=True)
class OnDisk:
    """The state of one spool. `why_full`: why the bridge would write nothing more; empty: it would write."""

    path: str
    exists: bool  # the database is there
    topics: tuple[Waiting, ...] = ()
    dead_letters: int = 0
    dead_letters_size: int = 0  # bytes
    used: int = 0  # bytes of the file that are in use
    file_size: int = 0  # bytes, with SQLite's log
    free: int = 0  # bytes that are free on the disk
    max_bytes: int = 0
    keep_free: int = 0
    why_full: str = ""
    set_aside: tuple[str, ...] = ()  # damaged databases that the bridge has renamed

    @property
    def messages(self) -> int:
        return sum(topic.messages for topic in self.topics)
