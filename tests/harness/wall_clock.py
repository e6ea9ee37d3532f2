"""A wall clock that a test sets while a program runs. The program's monotonic clock stays as it is.

libfaketime can't do this: it shows the program another time, but a wait for a time of the wall clock (C11's
`cnd_timedwait`, which librdkafka uses) then ends by the machine's own clock, years too late or at once.
wall_clock.c lets such a wait end as Linux does.
"""

import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")
_SIZE = 4096  # bytes; the file is mapped as one page


class WallClock:
    """A program that is started with `environment` sees this clock."""

    def __init__(self, directory: Path) -> None:
        library, self._file = directory / "wall_clock.so", directory / "wall_clock"
        subprocess.run(["tcc", "-shared", "-nostdlib", "-o", library, _SOURCE], check=True)
        self._file.write_bytes(bytes(_SIZE))
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(self._file)}

    def set(self, years: float = 0.0, hours: float = 0.0) -> None:
        """Set the clock's difference from the right time."""
        seconds = (years * 365 * 24 + hours) * 3600
        with self._file.open("r+b") as file:  # in place: the program has mapped it
            file.write(struct.pack("q", int(seconds * 1e9)))
