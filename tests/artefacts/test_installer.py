"""install.sh without a machine: what it does with a person's files, with odd arguments, and when it is cut off."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.harness import installer
from tests.harness.conditions import wait_until

# -- the end -------------------------------------------------------------------------------------------

STEPS = """
finish_in_any_case
undo touch {0}/undone
step "something" touch {0}/done
step "something long" sleep 60
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_program_that_is_cut_off_undoes_its_steps(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "scratch").mkdir()
    with subprocess.Popen(
        installer.command(tmp_path / "scratch", STEPS.format(tmp_path)),
        env=installer.environment(tmp_path / "log"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # As in a terminal: pytest may ignore SIGINT, and bash could not trap it then.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as program:
        wait_until((tmp_path / "done").exists, 30.0, "the first step is done")
        os.killpg(program.pid, number)
        said = program.communicate(timeout=30)[0]
    assert program.returncode == 130, said
    assert (tmp_path / "undone").exists()
    assert not (tmp_path / "scratch").exists()


def test_a_program_whose_reader_has_gone_undoes_its_steps(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    script = f"finish_in_any_case; undo touch {tmp_path}/undone; step one true; step two true"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        installer.command(tmp_path / "scratch", script),
        env=installer.environment(tmp_path / "log"),
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
        timeout=30,
        restore_signals=True,
    )
    os.close(writer)
    assert done.returncode != 0
    assert (tmp_path / "undone").exists()


def test_what_a_service_says_is_not_taken_for_a_failed_download(tmp_path: Path) -> None:
    script = "touch $LOG; step 'restart it' sh -c 'echo \"{}kafka: Connection refused\"; exit 1'"
    done = installer.run(tmp_path, script.format("      "))
    assert (done.returncode, "no network" in done.stderr) == (1, False), done.stderr
    assert "the lines above say why" in done.stderr
    assert "no network" in installer.run(tmp_path, script.format("")).stderr
