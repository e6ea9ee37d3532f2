"""install.sh haproxy without a machine: a person's files, missing files, and a HAProxy that hangs."""

import socket
from pathlib import Path

import pytest

from tests.harness import installer


@pytest.fixture
def haproxy(tmp_path: Path) -> str:
    """HAProxy's files below tmp_path. Its service always runs."""
    (tmp_path / "haproxy.cfg").write_text("# the distribution's\n")
    (tmp_path / "source" / "haproxy").mkdir(parents=True)
    (tmp_path / "source" / "haproxy" / "haproxy.cfg").write_text("# ours\n")
    return (
        "systemctl() { true; }; serve_with() { true; }; "
        f"SOURCE={tmp_path}/source HAPROXY_CFG={tmp_path}/haproxy.cfg HAPROXY_DEFAULTS={tmp_path}/defaults\n"
        "HAPROXY_BEFORE=$HAPROXY_CFG.before; "
    )


def test_a_haproxy_cfg_that_a_person_has_changed_is_kept_each_time(tmp_path: Path, haproxy: str) -> None:
    cfg = tmp_path / "haproxy.cfg"
    put = "touch $SCRATCH/new; put_haproxy_in_place $SCRATCH/new ''; rm -r $SCRATCH/old"
    for mine in (
        "# the distribution's\n",
        "# the distribution's\n",
        "# mine\n",
        "# mine\n",
        "# mine, again\n",
    ):
        cfg.write_text(mine)
        assert installer.run(tmp_path, haproxy + put).returncode == 0
        assert cfg.read_text() == "# ours\n"
    kept = {file.name: file.read_text() for file in tmp_path.glob("haproxy.cfg.*")}
    assert kept == {
        "haproxy.cfg.before": "# the distribution's\n",
        "haproxy.cfg.replaced.~1~": "# mine\n",
        "haproxy.cfg.replaced": "# mine, again\n",
    }


def test_a_missing_haproxy_cfg_is_written_and_missing_again_after_a_failure(
    tmp_path: Path, haproxy: str
) -> None:
    (tmp_path / "haproxy.cfg").unlink()
    script = "touch $SCRATCH/new; finish_in_any_case; put_haproxy_in_place $SCRATCH/new ''; exit 1"
    done = installer.run(tmp_path, haproxy + script)
    assert "haproxy.cfg ... 0 s" in done.stdout
    assert "as it was before" in done.stderr
    assert not (tmp_path / "haproxy.cfg").exists()


def test_a_line_of_a_person_without_a_newline_stays_a_line_of_its_own(tmp_path: Path, haproxy: str) -> None:
    """Both lines as one would give LOG a wrong value, and HAProxy the founding document's first node."""
    (tmp_path / "defaults").write_text("LOG=/dev/null")
    script = """
require_root() { true; }; require_debian() { true; }; require_ports() { true; }; is_installed() { true; }
check_haproxy() { true; }; await_nodes() { true; }; openssl() { echo hash; }
balancer --emq 10.0.0.1 --emq [fd00::2]:1884
"""
    assert installer.run(tmp_path, haproxy + script).returncode == 0
    lines = (tmp_path / "defaults").read_text().splitlines()
    assert lines[:3] == ["LOG=/dev/null", "EMQ1=10.0.0.1", "EMQ1_PORT=1883"]
    assert lines[3:5] == ["EMQ2=fd00::2", "EMQ2_PORT=1884"]


def test_a_haproxy_that_hangs_is_not_waited_for_without_end(tmp_path: Path, haproxy: str) -> None:
    (tmp_path / "defaults").write_text("LISTEN=127.30.2.81\n")
    with socket.create_server(("127.30.2.81", 8081)):  # it accepts, and says nothing
        done = installer.run(tmp_path, haproxy + "HAPROXY_ANSWERS=0.2; node_state 1; echo $?")
    assert done.stdout == "0\n"


def test_haproxy_is_removed_though_its_package_has_been(tmp_path: Path, haproxy: str) -> None:
    script = """
systemctl() { [[ $1 == show ]] && echo not-found || { [[ $1 != disable ]] || return 1; }; }
KEEPALIVED_CONF=$HAPROXY_CFG.k KEEPALIVED_UNIT_FILE=$HAPROXY_CFG.d/k.conf
remove_keepalived; stop_for_good haproxy; forget_haproxy
"""
    assert installer.run(tmp_path, haproxy + script).returncode == 0


def test_keepaliveds_missing_file_is_written_again(tmp_path: Path, haproxy: str) -> None:
    script = f"""
KEEPALIVED_ETC={tmp_path}/keepalived KEEPALIVED_CONF={tmp_path}/keepalived/keepalived.conf
KEEPALIVED_UNIT_FILE={tmp_path}/unit.d/mqtt-kafka-bridge.conf SOURCE={installer.ROOT}
VIP=10.0.0.1 OWN=10.0.0.2 OTHER=10.0.0.3 INTERFACE=eth0
keepalived() {{ true; }}
write_keepalived_files; put_keepalived_in_place
rm $KEEPALIVED_ETC/check-haproxy; put_keepalived_in_place
"""
    done = installer.run(tmp_path, haproxy + script)
    assert (done.returncode, done.stderr) == (0, "")
    assert installer.names(tmp_path / "keepalived") == {"check-haproxy", "keepalived.conf"}


def test_the_state_is_good_though_the_journal_does_not_reach_back_to_keepaliveds_start(
    tmp_path: Path, haproxy: str
) -> None:
    script = """
address() { [[ $1 != holder ]] || echo here; }; described() { true; }; journalctl() { true; }
VIP=10.0.0.1 OWN=10.0.0.2 OTHER=10.0.0.3 INTERFACE=eth0
vip_status
"""
    done = installer.run(tmp_path, haproxy + script)
    assert (done.returncode, "this machine has it" in done.stdout) == (0, True)


def test_a_file_that_a_person_wrote_before_the_package_came_does_not_stop_apt(tmp_path: Path) -> None:
    """Such as /etc/default/haproxy of the old machine, on a spare. dpkg would ask which one to take."""
    done = installer.run(tmp_path, 'env() { echo "$@"; }; compgen() { true; }; apt_install haproxy')
    assert "-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install" in done.stdout
