"""install.sh emqx without a machine: a person's rules, and data that no other node has."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.harness import installer

PART = "%% -- from install.sh emqx: the next installation writes it anew\n{allow, all}.\n"
END = "%% -- end of install.sh emqx\n"
MINE = "{deny, all}.\n"


@pytest.fixture
def emqx(tmp_path: Path) -> str:
    """EMQX's places below tmp_path. No EMQX runs."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "data").mkdir()
    return f"EMQX_ETC={tmp_path}/etc EMQX_DATA={tmp_path}/data EMQX_DROPIN={tmp_path}/dropin; "


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (MINE, 0),
        (PART + END + MINE, 0),
        (PART + END.replace("\n", "\r\n") + MINE, 0),
        (PART + MINE, 1),
        (END + MINE, 1),
        (PART + PART + END, 1),
    ],
)
def test_rules_below_a_part_without_an_end_are_not_taken_for_the_part(
    tmp_path: Path, emqx: str, text: str, status: int
) -> None:
    (tmp_path / "etc" / "acl.conf").write_text(text)
    done = installer.run(tmp_path, f"{emqx} require_whole_parts")
    assert (done.returncode, done.stderr.count("\n")) == (status, status)
    assert ("acl.conf: install.sh's part has lost its first or last line" in done.stderr) == bool(status)
    kept = installer.run(tmp_path, f"{emqx} without_our_part $EMQX_ETC/acl.conf").stdout
    assert status or kept == MINE


def test_data_that_no_other_node_is_known_to_have_are_not_purged(tmp_path: Path, emqx: str) -> None:
    """A person's own EMQX, whose package is removed."""
    assert installer.run(tmp_path, f"{emqx} refuse_last_node").returncode == 0
    (tmp_path / "data" / "mnesia").mkdir()
    done = installer.run(tmp_path, f"{emqx} refuse_last_node")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no settings tell of another node that has them; --force purges" in done.stderr


def test_an_emqx_that_does_not_answer_is_not_taken_for_one_with_another_cookie(
    tmp_path: Path, emqx: str
) -> None:
    script = """
finish_in_any_case; systemctl() { true; }; await_emqx() { return 1; }; emqx_is_up() { false; }
running_nodes() { echo "$runs"; }
NODES=(10.0.0.1 10.0.0.2) NODE=1 EMQX_RESTARTS=''; start_emqx
"""
    done = installer.run(tmp_path, f"{emqx} runs='' {script}")
    assert (done.returncode, "EMQX does not answer yet" in done.stderr) == (3, True), done.stderr
    done = installer.run(tmp_path, f"{emqx} runs=emqx@10.0.0.1 {script}")
    assert "10.0.0.2 is not in the cluster: does it have the same cookie" in done.stderr
    assert done.returncode == 3


@pytest.mark.parametrize("line", ["5.8", "4.4"])
def test_rules_by_client_id_that_a_person_has_removed_do_not_come_back(
    tmp_path: Path, emqx: str, line: str
) -> None:
    script = (
        f"{emqx} EMQX_LINE={line} NODES=(10.0.0.1) NODE=1 COOKIE=c; write_emqx_files;"
        " cp $SCRATCH/emqx/acl.conf $EMQX_ETC"
    )
    acl = tmp_path / "etc" / "acl.conf"
    acl.write_text(MINE)
    for _ in range(2):
        assert installer.run(tmp_path, script).returncode == 0
        assert ("{allow, {client" in acl.read_text(), acl.read_text().endswith(MINE)) == (True, True)
    acl.write_text("".join(row for row in acl.read_text().splitlines(True) if "{client" not in row))
    for _ in range(2):
        assert installer.run(tmp_path, script).returncode == 0
        assert "{client" not in acl.read_text()
        assert acl.read_text().count('{allow, {user, "bridge"}') == 1
        assert acl.read_text().endswith(MINE)


def test_an_empty_file_of_the_cookie_is_none(tmp_path: Path, emqx: str) -> None:
    """A power cut may leave one."""
    (tmp_path / "cookie").touch()
    script = f'NODES=(10.0.0.1) NODE=1 EMQX_COOKIE_FILE={tmp_path}/cookie; choose_cookie ""; echo $COOKIE'
    assert len(installer.run(tmp_path, emqx + script).stdout.strip()) > 20
    (tmp_path / "cookie").write_text("EMQX_NODE__COOKIE=mine\n")
    assert installer.run(tmp_path, emqx + script).stdout == "mine\n"


def test_a_person_who_pastes_the_cookie_is_asked_for_it(tmp_path: Path, emqx: str) -> None:
    """Without a pipe nothing would tell what the command waits for."""
    (tmp_path / "scratch").mkdir()
    person, terminal = pty.openpty()
    os.write(person, b"c" * 30 + b"\n")
    done = subprocess.run(
        installer.command(tmp_path / "scratch", f"{emqx} choose_cookie -; echo $COOKIE"),
        env=installer.environment(tmp_path / "log"),
        stdin=terminal,
        capture_output=True,
        text=True,
        timeout=30,
    )
    os.close(person)
    os.close(terminal)
    assert (done.stdout, done.stderr) == ("c" * 30 + "\n", "the cookie, then Enter: ")
