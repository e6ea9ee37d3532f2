"""install.sh kafka without a machine: what a removal takes, and what it leaves to a person."""

from pathlib import Path

import pytest

from tests.harness import installer


@pytest.fixture
def kafka(tmp_path: Path) -> str:
    """Kafka's places below tmp_path, with things of a person beside what install.sh has made."""
    for directory in (
        "opt/4.3.0/libs",
        "opt/4.4.0/libs",
        "opt/4.5.0/libs",
        "opt/plugins",
        "opt/kafka_2.13-3.9.1",
    ):
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
    assert installer.run(tmp_path, f"{kafka} remove_kafka_versions '4.4.0 4.3.0'").returncode == 0
    assert installer.names(tmp_path / "opt") == {"4.3.0", "4.4.0", "current", "plugins", "kafka_2.13-3.9.1"}
    done = installer.run(tmp_path, f"{kafka} remove_kafka; purge_kafka")
    assert (done.returncode, done.stderr) == (0, "")
    assert installer.names(tmp_path / "opt") == {"plugins", "kafka_2.13-3.9.1"}
    assert installer.names(tmp_path / "state") == {"photos"}


def test_another_kafka_is_neither_overwritten_nor_purged(tmp_path: Path, kafka: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "server.properties").write_text("broker.id=1\n")
    done = installer.run(tmp_path, f"{kafka} KAFKA={tmp_path}/none; require_no_other_kafka")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "server.properties is not from install.sh: this machine has another Kafka" in done.stderr
    (tmp_path / "etc" / "server.properties").write_text("")  # as a power cut may leave ours
    (tmp_path / "unit").touch()
    assert installer.run(tmp_path, f"{kafka} KAFKA={tmp_path}/none; require_no_other_kafka").returncode == 0


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
    assert installer.names(tmp_path / "state" / "data") == {"kept"}
    assert (tmp_path / "state" / "photos").exists()


@pytest.mark.parametrize(("nodes", "status"), [("a b c", 0), ("a", 1), ("a b c d e", 1)])
def test_a_cluster_with_data_keeps_its_number_of_nodes(
    tmp_path: Path, kafka: str, nodes: str, status: int
) -> None:
    """One node and two new ones, which have a majority, would elect one that has nothing."""
    identifier = "MkU3OEVBNTcwNTJENDM2Qg"
    (tmp_path / "state" / "data" / "meta.properties").write_text(f"cluster.id={identifier}\nnode.id=1\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "server.properties").write_text(
        "controller.quorum.voters=1@a:9093,2@b:9093,3@c:9093\n"
    )
    done = installer.run(tmp_path, f"{kafka} NODES=({nodes}) NODE=1; choose_cluster_id {identifier}")
    assert (done.returncode, "the number of nodes cannot change" in done.stderr) == (status, bool(status))


def test_a_node_with_the_id_of_another_one_is_told_when_it_does_not_get_in_sync(
    tmp_path: Path, kafka: str
) -> None:
    """Two nodes that are installed at the same time, with --nodes in another order, cannot know before."""
    script = f"""{kafka}
systemctl() {{ [[ $1 != is-active ]]; }}; await_kafka() {{ echo waits >$SCRATCH/joined; return 1; }}
cluster() {{ [[ $1 == reach ]] || {{ echo "$*: node 1 runs already"; return 1; }}; }}
NODES=(b a c) NODE=1 CLUSTER_ID=x; start_kafka
"""
    done = installer.run(tmp_path, script)
    assert (done.returncode, "before x kept: node 1 runs already" in done.stdout) == (3, True), done


def test_the_state_names_a_disk_that_is_not_mounted(tmp_path: Path, kafka: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "server.properties").write_text(
        "log.retention.bytes=3000000\nlog.segment.bytes=500000\n"
    )
    done = installer.run(tmp_path, f"{kafka} touch $KAFKA_DATA/meta.properties; describe_disk")
    assert "at most 3 of " in done.stdout  # of its one partition
    done = installer.run(tmp_path, f"{kafka} rm -r $KAFKA_DATA; describe_disk")
    assert (done.returncode, done.stderr) == (1, "")
    assert "has no data of Kafka. Is its disk mounted?" in done.stdout
