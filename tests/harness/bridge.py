"""The bridge as an operator runs it: a program with a configuration file, a state directory and a log."""

import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.harness.conditions import wait_until
from tests.harness.host import Host
from tests.harness.kit import ROOT
from tests.harness.process import Process

Entry = dict[str, Any]


class BridgeProcess(Process):
    """`python -m bridge --config FILE`, with `settings` as the tables of that file.

    The state and the JSON log are in `directory`; both survive a restart. A context manager: inside it the
    MQTT session is live. At its end the bridge is stopped and must end with exit code 0.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        directory: Path,
        *,
        name: str = "bridge",
        host: Host | None = None,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "bridge"),
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.settings = directory / f"{name}.toml"
        state = directory / f"{name}.state"
        state.mkdir(exist_ok=True)
        defaults = {"state_directory": state, "log": {"format": "json"}, "http": {"listen": ""}}
        self.settings.write_text(toml(_merged(defaults, settings)))
        self.journal = Journal(directory / f"{name}.log")
        self._started_at = 0
        self.peak_mb = 0.0  # peak resident memory of any run of the bridge, in MB (10^6 bytes)
        super().__init__(
            name,
            [*program, "--config", self.settings],
            log=self.journal.path,
            host=host,
            env=env or {},
            cwd=ROOT,
            ready=lambda: self.entries("service.started"),
        )

    def spawn(self) -> None:
        self._started_at = self.journal.mark()
        super().spawn()

    def kill9(self) -> None:
        self._note_peak()
        super().kill9()

    def terminate(self, deadline: float = 30.0) -> int | None:
        self._note_peak()
        return super().terminate(deadline)

    def _note_peak(self) -> None:
        with contextlib.suppress(OSError):  # the process has ended
            status = Path(f"/proc/{self.pid}/status").read_text() if self.alive else ""
            found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
            self.peak_mb = max(self.peak_mb, int(found[1]) * 1024 / 1e6 if found else 0.0)

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_live()
        except BaseException:
            self.kill9()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.kill9()
        elif self.alive:
            code = self.terminate()
            assert code == 0, f"{self.name} ended with {code} instead of 0{self.log_tail()}"

    # -- the log ----------------------------------------------------------------------------------

    def entries(self, event: str, /, **fields: object) -> list[Entry]:
        """All log entries of this event with these fields since the last start."""
        return self.journal.matching(event, fields, self._started_at)

    def wait_for(self, event: str, /, deadline: float = 30.0, **fields: object) -> Entry:
        """Wait for the first such entry since the last start. Raises NotInTime or RuntimeError."""
        return self._wait(self._started_at, event, deadline, fields)

    def wait_live(self, deadline: float = 60.0) -> Entry:
        """Wait for the entry that says that the session is up and subscribed."""
        return self.wait_for("mqtt.live", deadline)

    @contextlib.contextmanager
    def log_contains(self, event: str, /, deadline: float = 30.0, **fields: object) -> Iterator[None]:
        """Check that such an entry follows the start of the block."""
        mark = self.journal.mark()
        yield
        self._wait(mark, event, deadline, fields)

    def _wait(self, mark: int, event: str, deadline: float, fields: Mapping[str, object]) -> Entry:
        def found() -> list[Entry]:
            entries = self.journal.matching(event, fields, mark)
            if not entries and not self.alive and not self.journal.matching(event, fields, mark):
                raise RuntimeError(
                    f"{self.name} ended with {self.returncode} before {event}{self.log_tail()}"
                )
            return entries

        wanted = " ".join([event, *(f"{name}={value!r}" for name, value in fields.items())])
        return wait_until(found, deadline, lambda: f"{self.name} logs {wanted}{self.log_tail()}")[0]

    # -- memory and CPU ----------------------------------------------------------------------------

    def rss_mb(self) -> float:
        """The bridge's resident memory now, in MB (10^6 bytes)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def cpu_seconds(self) -> float:
        """The processor time that the bridge has used since its start."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Journal:
    """Reads a log of JSON lines while it is written, and skips other lines. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: list[Entry] = []
        self._read = 0
        self._lock = threading.Lock()  # guards reading

    def mark(self) -> int:
        """The current end of the log, as `mark` for `matching`."""
        return len(self._caught_up())

    def matching(self, event: str, fields: Mapping[str, object], mark: int = 0) -> list[Entry]:
        """All entries of this event from `mark` on that have these fields with these values."""
        return [
            entry
            for entry in self._caught_up()[mark:]
            if entry.get("event") == event
            and all(name in entry and entry[name] == value for name, value in fields.items())
        ]

    def _caught_up(self) -> list[Entry]:
        """Read new lines, and return all entries up to now."""
        with self._lock, contextlib.suppress(FileNotFoundError), self.path.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    break  # the last line is still being written
                self._read += len(line)
                with contextlib.suppress(ValueError):
                    if isinstance(entry := json.loads(line), dict):
                        self._entries.append(entry)
        return self._entries


def toml(tables: Mapping[str, Any]) -> str:
    """Format nested dicts as TOML tables, and lists of dicts as arrays of tables."""
    return "\n".join(_toml_lines(tables, ())) + "\n"


def _toml_lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    nested = {key: value for key, value in table.items() if _is_nested(value)}
    for key, value in table.items():
        if key not in nested:
            yield f"{json.dumps(key)} = {json.dumps(value, default=str)}"
    for key, value in nested.items():
        header = ".".join(json.dumps(name) for name in (*path, key))
        for item in value if isinstance(value, list) else [value]:
            yield f"[[{header}]]" if isinstance(value, list) else f"[{header}]"
            yield from _toml_lines(item, (*path, key))


def _is_nested(value: object) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(item, dict) for item in value)
    )


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below`, overridden by the values of `above`, table by table."""
    result = dict(below)
    for key, value in above.items():
        both_tables = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both_tables else value
    return result
