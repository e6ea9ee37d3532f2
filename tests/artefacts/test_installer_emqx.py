"""install.sh emqx without a machine: a person's rules, and data that no other node has."""

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
