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


# -- kafka ---------------------------------------------------------------------------------------------


@pytest.fixture
def kafka(tmp_path: Path) -> str:
    """Kafka's places below tmp_path, with things of a person beside what install.sh has made."""
    for directory in ("opt/4.3.0/libs", "opt/4.4.0/libs", "opt/4.5.0/libs", "opt/plugins", "opt/kafka_2.13-3.9.1"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "opt" / "current").symlink_to("4.4.0")
    (tmp_path / "state" / "data" / "mqtt-0").mkdir(parents=True)
    (tmp_path / "state" / "photos").mkdir()
    return (
        "systemctl() { true; }; id() { return 1; }; "
        f"KAFKA={tmp_path}/opt KAFKA_STATE={tmp_path}/state KAFKA_DATA={tmp_path}/state/data"
        f" KAFKA_ETC={tmp_path}/etc KAFKA_PROPERTIES={tmp_path}/etc/server.properties"
        f" KAFKA_UNIT_FILE={tmp_path}/unit KAFKA_DEFAULTS={tmp_path}/defaults\n"
    )


def test_the_removal_of_kafka_takes_only_what_install_sh_has_made(tmp_path: Path, kafka: str) -> None:
    assert installer.run(tmp_path, f"{kafka} remove_kafka_versions 4.4.0 4.3.0").returncode == 0
    assert names(tmp_path / "opt") == {"4.3.0", "4.4.0", "current", "plugins", "kafka_2.13-3.9.1"}
    done = installer.run(tmp_path, f"{kafka} remove_kafka; purge_kafka")
    assert (done.returncode, done.stderr) == (0, "")
    assert names(tmp_path / "opt") == {"plugins", "kafka_2.13-3.9.1"}
    assert names(tmp_path / "state") == {"photos"}


def test_another_kafka_is_neither_overwritten_nor_purged(tmp_path: Path, kafka: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "server.properties").write_text("broker.id=1\n")
    done = installer.run(tmp_path, f"{kafka} KAFKA={tmp_path}/none; require_no_other_kafka")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "server.properties is not from install.sh: this machine has another Kafka" in done.stderr


def test_a_first_installation_that_fails_leaves_no_data_on_a_disk_that_was_mounted(
    tmp_path: Path, kafka: str
) -> None:
    (tmp_path / "state" / "data" / "mqtt-0").rmdir()
    (tmp_path / "state" / "data").rmdir()
    script = f"""{kafka}
was=$(existing $KAFKA_DATA)
mkdir $KAFKA_DATA; touch $KAFKA_DATA/meta.properties
forget_kafka "" "$was" "$KAFKA_ETC" || true
was=$KAFKA_DATA; mkdir $KAFKA_DATA; touch $KAFKA_DATA/kept
forget_kafka "" "$was" "$KAFKA_ETC" || true
"""
    installer.run(tmp_path, script)
    assert names(tmp_path / "state" / "data") == {"kept"}
    assert (tmp_path / "state" / "photos").exists()


@pytest.mark.parametrize(("nodes", "status"), [("a b c", 0), ("a", 1), ("a b c d e", 1)])
def test_a_cluster_with_data_keeps_its_number_of_nodes(
    tmp_path: Path, kafka: str, nodes: str, status: int
) -> None:
    """One node and two new ones, which have a majority, would elect one that has nothing."""
    identifier = "MkU3OEVBNTcwNTJENDM2Qg"
    (tmp_path / "state" / "data" / "meta.properties").write_text(f"cluster.id={identifier}\nnode.id=1\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "server.properties").write_text("controller.quorum.voters=1@a:9093,2@b:9093,3@c:9093\n")
    done = installer.run(tmp_path, f"{kafka} NODES=({nodes}) NODE=1; choose_cluster_id {identifier}")
    assert (done.returncode, "the number of nodes cannot change" in done.stderr) == (status, bool(status))


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


# -- the bridge ----------------------------------------------------------------------------------------


def test_a_purge_ends_though_a_disk_is_mounted_at_the_bridges_directory(tmp_path: Path) -> None:
    (tmp_path / "state" / "lost+found").mkdir(parents=True)
    (tmp_path / "state" / "spool.db").touch()
    script = f"mountpoint() {{ true; }}; rmdir() {{ false; }}; empty_and_remove {tmp_path}/state"
    done = installer.run(tmp_path, script)
    assert (done.returncode, done.stderr, names(tmp_path / "state")) == (0, "", set())
    assert installer.run(tmp_path, f"empty_and_remove {tmp_path}/state").returncode == 0
    assert not (tmp_path / "state").exists()
