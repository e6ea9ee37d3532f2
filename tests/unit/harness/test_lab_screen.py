"""The live view restores the terminal, however its program ends."""

import os
import re
import signal
import subprocess
import sys
import termios

import pytest

from tests.harness.conditions import wait_until
from tests.harness.kit import ROOT

PROGRAM = """\
import signal, sys, threading
from tests.harness.lab.screen import Screen
from tests.unit.harness.test_lab_view import ALL_UP

def end(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, end)
signal.signal(signal.SIGTERM, end)
ended = threading.Event()
drawn = 0

def look():
    global drawn
    drawn += 1
    if drawn > 1 and "view" in sys.argv:
        raise ValueError("a fault of the view")
    return ALL_UP

screen = Screen(look, first=0)
screen.open()
try:
    while not ended.wait(0.05):
        screen.require_alive()
        if drawn > 1 and "program" in sys.argv:
            raise ValueError("a fault of the program")
except KeyboardInterrupt:
    sys.exit(3)
finally:
    screen.close()
"""


@pytest.mark.parametrize(
    ("how", "code"),
    [("\x03", 3), ("q", 3), (signal.SIGTERM, 3), ("program", 1), ("view", 1)],
    ids=["Ctrl-C", "q", "SIGTERM", "an exception", "an exception in the view"],
)
def test_the_terminal_is_restored(how: str | signal.Signals, code: int) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(ours, (24, 80))
    os.set_blocking(ours, False)
    before = termios.tcgetattr(theirs)
    program = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, "-c", PROGRAM, str(how)],
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=os.environ | {"TERM": "xterm", "PYTHONPATH": str(ROOT)},
    )
    output = b""

    def shows_keys() -> bool:
        nonlocal output
        try:
            output += os.read(ours, 65536)
        except BlockingIOError:
            return False
        return b"a message" in output

    wait_until(lambda: shows_keys() or program.poll() is not None, 10.0, lambda: f"the view in {output!r}")
    if isinstance(how, signal.Signals):
        program.send_signal(how)
    elif len(how) == 1:
        os.write(ours, how.encode())
    _, errors = program.communicate(timeout=10.0)
    shows_keys()

    assert program.returncode == code
    assert (b"a fault of the " + str(how).encode() in errors) == (code == 1)
    assert termios.tcgetattr(theirs) == before
    assert re.search(rb"\x1b\[\?1049l", output)  # back from the alternate screen
    assert output.rfind(b"\x1b[?25h") > output.rfind(b"\x1b[?25l")  # with a cursor
    os.close(ours)
    os.close(theirs)
