"""Computes the disk's content after a power cut at any moment of a run that strace(1) recorded.

    bridge = BridgeProcess(..., program=[*recording(trace), sys.executable, "-m", "bridge"])
    ...
    cuts = PowerCuts(directory)
    for event in events(trace):
        cuts.see(event)
        if event.call == "sendto":
            cuts.write_files(elsewhere)

A file's content is on the disk once fdatasync() of the file has returned, and its name once fdatasync() of
its directory has returned. Of all other writes any part may be on the disk, in sectors of 512 bytes. Writes
to mapped memory are not seen: only SQLite's -shm file is mapped, and it is not needed after a power cut.
"""

import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512  # bytes that a disk writes atomically

_CALLS = "openat,pwrite64,ftruncate,fdatasync,fsync,unlink,sendto,write"
_LINE = re.compile(r"\d+ +(?:(?P<call>\w+)\((?P<all>.*)|<\.\.\. (?P<resumed>\w+) resumed>(?P<rest>.*))")
_RESULT = re.compile(r"\) += (-?\d+)")
_NUMBER = re.compile(r", (\d+)")
_DESCRIPTOR = re.compile(r"\d+<(\w+:\[[^]]*\]|[^>]*)>")


def recording(trace: Path) -> list[str]:
    """A command prefix that records a trace. `is_complete` tells when the trace is complete."""
    # -DD: the program keeps its process id, and killing its group does not kill strace.
    how = ["-DD", "-f", "--seccomp-bpf", "-yy", "-xx", "-s", "10000000", "-e", "signal=none"]
    return ["strace", *how, "-e", f"trace={_CALLS}", "-o", str(trace)]


def is_complete(trace: Path) -> bool:
    """Whether the trace contains the end of the recorded program."""
    with trace.open("rb") as file:
        file.seek(max(0, trace.stat().st_size - 4096))
        return re.search(rb"\+\+\+ (?:exited|killed)[^\n]*\n\Z", file.read()) is not None


@dataclass(frozen=True, slots=True)
class Event:
    """A system call that begins or has returned. `path`: its file; `data`: the bytes written or sent."""

    call: str
    returned: bool
    path: str
    data: bytes = b""
    number: int = 0  # the offset, or the new length


def events(trace: Path) -> Iterator[Event]:
    """The events of a trace in order. A call that failed has only its beginning."""
    begun: dict[tuple[str, str], Event] = {}
    with trace.open() as lines:
        for line in lines:
            found = _LINE.match(line)
            if not found:
                continue  # the end of a thread
            call = found["call"] or found["resumed"]
            key = line.split(" ", 1)[0], call
            if found["call"]:
                begun[key] = _begin(call, found["all"])
                yield begun[key]
            result = _RESULT.search(found["all"] or found["rest"])
            if result and int(result[1]) >= 0:
                event = begun[key]
                yield Event(event.call, True, event.path, event.data, event.number)


def _begin(call: str, words: str) -> Event:
    before, _, string = words.partition('"')  # no traced call has two strings
    string, _, after = string.rpartition('"')
    data = _bytes(string)
    if call in ("openat", "unlink"):
        changes = call == "unlink" or "O_CREAT" in after
        return Event(call, False, os.fsdecode(data) if changes else "")
    descriptor = _DESCRIPTOR.match(before)
    path = os.fsdecode(_bytes(descriptor[1])) if descriptor else ""
    # pwrite64(5<path>, "...", 4096, OFFSET), ftruncate(5<path>, LENGTH)
    numbers = _NUMBER.findall(after or before) if call in ("pwrite64", "ftruncate") else [0]
    return Event(call, False, path, data, int(numbers[-1]))


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", "")) if text.startswith("\\x") else text.encode()


@dataclass(slots=True)
class _File:
    """`unsynced`: what was written since the last sync, as (offset, data), or (length, None) if cut off."""

    synced: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, bytes | None]] = field(default_factory=list)
    is_named: bool = False  # whether the file's name is on the disk

    def content(self, chosen: random.Random | None) -> bytes:
        content = bytearray(self.synced)
        for offset, data in self.unsynced if chosen else ():
            _apply_some(content, offset, data, chosen)
        return bytes(content)


def _apply_some(content: bytearray, offset: int, data: bytes | None, chosen: random.Random | None) -> None:
    """Apply a write: all of it, or the sectors that `chosen` picks."""
    if data is None:
        if chosen is None or chosen.random() < 0.5:
            del content[offset:]
            content.extend(bytes(offset - len(content)))
        return
    # Often all or nothing: whole writes in a wrong order cause more kinds of damage.
    chance = 1.0 if chosen is None else chosen.choice((0.0, 0.5, 1.0))
    at = 0
    while at < len(data):
        end = min(len(data), at + SECTOR - (offset + at) % SECTOR)
        if chosen is None or chosen.random() < chance:
            content.extend(bytes(max(0, offset + end - len(content))))
            content[offset + at : offset + end] = data[at:end]
        at = end


class PowerCuts:
    """The files of one directory as a power cut would leave them after the events seen so far."""

    def __init__(self, directory: Path) -> None:
        self._directory = os.fspath(directory)
        self._files: dict[str, _File] = {}
        self._removed: dict[str, _File] = {}  # removed, but the removal is not yet synced
        self._syncing: dict[str, int] = {}
        self.syncs = 0

    def see(self, event: Event) -> None:
        if event.path == self._directory:
            if event.call in ("fdatasync", "fsync") and event.returned:
                self._names_are_synced()
        elif os.path.dirname(event.path) == self._directory and not event.path.endswith(("-shm", ".lock")):
            self._see_file(event, os.path.basename(event.path))

    def _see_file(self, event: Event, name: str) -> None:
        if event.call == "openat":
            if event.returned:
                self._files.setdefault(name, _File())
            return
        if event.call == "unlink":
            if event.returned and name in self._files:
                self._removed[name] = self._files.pop(name)
            return
        file = self._files[name]
        match event.call, event.returned:
            case "pwrite64", False:
                file.unsynced.append((event.number, event.data))
            case "ftruncate", False:
                file.unsynced.append((event.number, None))
            case "fdatasync" | "fsync", False:
                self._syncing[name] = len(file.unsynced)
            case "fdatasync" | "fsync", True:
                for offset, data in file.unsynced[: self._syncing[name]]:
                    _apply_some(file.synced, offset, data, None)
                del file.unsynced[: self._syncing[name]]
                self.syncs += 1

    def _names_are_synced(self) -> None:
        for file in self._files.values():
            file.is_named = True
        self._removed.clear()

    def write_files(self, into: Path, chosen: random.Random | None = None) -> None:
        """Write what a cut leaves now: all synced data, and what `chosen` picks of the rest."""
        into.mkdir()
        files = self._files
        if chosen is None:
            files = {name: file for name, file in files.items() if file.is_named}
        else:
            files = {name: file for name, file in files.items() if file.is_named or chosen.random() < 0.5}
            files |= {name: file for name, file in self._removed.items() if chosen.random() < 0.5}
        for name, file in files.items():
            (into / name).write_bytes(file.content(chosen))
