"""Checks of the spool: what its directory lies on, space, speed, contents."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bridge.commands.check.outcome import Outcome, Site, failed, good, skipped, warning
from bridge.spool import disk_check, disk_space
from bridge.spool.read_only import on_disk
from bridge.status.spoken import count
from bridge.units import size

_EMQ_WINDOW = 32  # EMQX's default max_inflight
_SLOW_SYNC = 0.25  # seconds
_MEMORY = ("tmpfs", "ramfs")
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs")


def disk(site: Site) -> Iterator[Outcome]:
    directory = _existing(site.settings.spool_directory)
    yield disk_verdict(str(directory), disk_check.file_system(directory), disk_check.device(directory))


def disk_verdict(directory: str, file_system: str, device: str) -> Outcome:
    if file_system in _MEMORY:
        return failed(f"{directory} is in memory ({file_system}): a power cut loses acknowledged messages")
    if file_system in _NETWORK:
        return failed(
            f"{directory} is on another machine ({file_system}): syncs and locks may not work there"
        )
    if device.startswith("mmcblk"):
        return warning(f"{directory} is on a memory card ({device}): syncs are slow and wear the card")
    return good(f"{directory} is on {device or 'a disk'}, {file_system}")


def space(site: Site) -> Iterator[Outcome]:
    limits, directory = site.settings.spool, _existing(site.settings.spool_directory)
    yield space_verdict(disk_space.free_bytes(directory), limits.keep_free, limits.max_bytes)


def space_verdict(free: int, keep_free: int, max_bytes: int) -> Outcome:
    """All in bytes."""
    room = free - keep_free
    text = f"{size(free)} of the disk are free"
    if room <= 0:
        return failed(f"{text}, and spool.keep_free keeps {size(keep_free)} free: the spool is full")
    if room < max_bytes:
        return warning(
            f"{text}: the spool can't grow to spool.max_bytes = {size(max_bytes)}",
            "free disk space, or lower spool.max_bytes so that the settings say what is possible",
        )
    return good(f"{text}; the spool may take {size(max_bytes)}")


def sync(site: Site) -> Iterator[Outcome]:
    directory = site.settings.spool_directory
    if not directory.is_dir():
        yield skipped(f"{directory} does not exist yet: the service makes it at its first start")
        return
    try:
        times = disk_check.sync_times(directory)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        yield skipped(f"{directory}: nothing can be written there ({why}); run the check as root")
        return
    snapshot = site.snapshot
    queue = snapshot.queue if snapshot else None
    window = min(site.settings.mqtt.receive_maximum, (queue and queue.window_limit) or _EMQ_WINDOW)
    rate = snapshot.flow.received_rate if snapshot else None
    yield sync_verdict(median(times), window, rate, always=site.settings.kafka.is_exactly_once)


def sync_verdict(seconds: float, window: int, rate: float | None, *, always: bool = False) -> Outcome:
    """`seconds`: of one sync. `rate`: messages a second that the bridge receives now; None: unknown.

    `always`: every message goes to disk, and not only while Kafka is away.
    """
    allowed = window / max(seconds, 1e-6)
    text = (
        f"a sync takes {seconds * 1000:.1f} ms, which allows about {_two_digits(allowed):,} messages/s"
        f"{'' if always else ' while Kafka is away'} (with the broker's window of {window})"
    )
    if seconds >= _SLOW_SYNC or (rate is not None and rate > allowed):
        more = f"; now {rate:,.0f} messages/s come" if rate is not None else ""
        return warning(f"{text}{more}")
    return good(text)


def _two_digits(number: float) -> int:
    """A few syncs say no more: 293,166 is 290,000."""
    return int(float(f"{number:.1e}"))


def contents(site: Site) -> Iterator[Outcome]:
    state = on_disk(site.settings.spool_directory, site.settings.spool)
    if not state.exists:
        yield skipped(f"{state.path} does not exist yet")
        return
    if state.why_full:
        yield failed(f"the spool is full: {state.why_full}")
    for path in state.set_aside:
        yield warning(f"a damaged database was kept: {path}", "see spool.set_aside in the runbook")
    if state.dead_letters:
        yield warning(
            count(state.dead_letters, "dead letter"), "sudo mqtt-kafka-bridge dead-letters list shows them"
        )
    yield good(f"{count(state.messages, 'message')} on disk for Kafka")


def _existing(directory: Path) -> Path:
    return next(path for path in (directory, *directory.absolute().parents) if path.exists())
