"""install.sh without a machine: how it ends when it is cut off, odd arguments, and where its clone may be."""

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.harness import installer
from tests.harness.conditions import wait_until

# -- the end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_program_that_is_cut_off_undoes_its_steps(tmp_path: Path, number: signal.Signals) -> None:
    said = cut_off(tmp_path, "finish_in_any_case", number)
    assert "as it was before" in said
    assert (tmp_path / "undone").exists()
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_person_who_does_not_wait_for_a_service_keeps_it(tmp_path: Path, number: signal.Signals) -> None:
    """Its replicas may be in sync by now, and undoing deletes them."""
    said = cut_off(tmp_path, 'finish_in_any_case; keep_in_any_case "it runs"', number)
    assert said.endswith("note: it runs\n")
    assert not (tmp_path / "undone").exists()
    finally_undone = "keep_in_any_case x; finish_in_any_case; undo touch {0}/undone; kill -HUP $$; sleep 1"
    assert installer.run(tmp_path, finally_undone.format(tmp_path)).returncode == 130
    assert (tmp_path / "undone").exists()


def cut_off(tmp_path: Path, begin: str, number: signal.Signals) -> str:
    """Send a signal to a program, and to what it runs, as a terminal does. Returns what it has said."""
    (tmp_path / "scratch").mkdir()
    script = f"""
{begin}
undo touch {tmp_path}/undone
touch $LOG
sh -c 'touch {tmp_path}/done; sleep 60' # bash itself could lose the signal between its fork and exec
"""
    with subprocess.Popen(
        installer.command(tmp_path / "scratch", script),
        env=installer.environment(tmp_path / "log"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # As in a terminal: pytest may ignore SIGINT, and bash could not trap it then.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as program:
        wait_until((tmp_path / "done").exists, 30.0, "the program has begun")
        os.killpg(program.pid, number)
        said = program.communicate(timeout=30)[0]
    assert program.returncode == 130, said
    return said


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


@pytest.mark.parametrize(("name", "said"), [("apt_install", ", but for packages of apt"), ("other", "")])
def test_packages_that_stay_are_not_said_to_be_undone(tmp_path: Path, name: str, said: str) -> None:
    script = f'{name}() {{ true; }}; finish_in_any_case; undo true; step "packages" {name} emqx; fail "no"'
    done = installer.run(tmp_path, script)
    assert done.stderr.endswith(f"putting everything back ... as it was before{said}\n")


def test_what_a_step_leaves_running_does_not_lock_the_next_run_out(tmp_path: Path) -> None:
    script = f"""
exec 9>{tmp_path}/lock; flock --nonblock 9
step "a package's script" sh -c 'sleep 30 & echo $! >{tmp_path}/pid'
"""
    assert installer.run(tmp_path, script).returncode == 0
    try:
        assert subprocess.run(["flock", "--nonblock", tmp_path / "lock", "true"]).returncode == 0
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_what_a_service_says_is_not_taken_for_a_failed_download(tmp_path: Path) -> None:
    script = "touch $LOG; step 'restart it' sh -c 'echo \"{}kafka: Connection refused\"; exit 1'"
    done = installer.run(tmp_path, script.format("      "))
    assert (done.returncode, "no network" in done.stderr) == (1, False), done.stderr
    assert "the lines above say why" in done.stderr
    assert "no network" in installer.run(tmp_path, script.format("")).stderr


# -- the command line ----------------------------------------------------------------------------------

BRIDGE, HAPROXY = ("bridge", "--kafka", "10.0.0.1"), ("haproxy", "--emq", "10.0.0.1")
WRONG = {
    "a broker's address without brackets": (
        (*BRIDGE, "--mqtt", "fd00::10"),
        "--mqtt fd00::10: must be HOST or HOST:PORT; an IPv6 address needs brackets, as in [fd00::10]:1884",
    ),
    "a port that is none": (
        (*BRIDGE, "--mqtt", "10.0.0.1:mqtt"),
        "--mqtt 10.0.0.1:mqtt: must be HOST or HOST:PORT",
    ),
    "a port that is too large": ((*BRIDGE, "--mqtt", "10.0.0.1:65536"), "a port is a number from 1 to 65535"),
    "a space behind a comma": (
        ("bridge", "--kafka", "a:9092, b:9092"),
        "--kafka  b:9092: must be HOST or HOST:PORT",
    ),
    "no host": (("bridge", "--kafka", ":9092"), "--kafka :9092: must be HOST or HOST:PORT"),
    "a line break": (
        ("bridge", "--mqtt", "a\nb"),
        "--mqtt: has a line break, a tab or the like in its value",
    ),
    "a file of Windows": (("kafka", "--nodes", "a,b,c\r"), "--nodes: has a line break, a tab or the like"),
    "an option as a value": (("kafka", "--nodes", "--replace"), "--nodes: needs a value"),
    "a node with a slash": (
        (*HAPROXY, "--emq", "10.0.0.2/24"),
        "--emq 10.0.0.2/24: must be HOST or HOST:PORT",
    ),
    "one node twice": ((*HAPROXY, "--emq", "10.0.0.1:1883"), "--emq names 10.0.0.1:1883 twice"),
    "no seconds": (("bridge", "--wait", "1m"), "--wait 1m: must be a number of seconds"),
    "wheels for haproxy": ((*HAPROXY, "--wheels", "x"), "haproxy: --wheels: no such option"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_the_command_line_is_said_before_anything_else(tmp_path: Path, name: str) -> None:
    words, why = WRONG[name]
    script = 'require_root() { echo "it begins"; exit 9; }; main ' + shlex.join(words)
    done = installer.run(tmp_path, script)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    assert why in done.stderr


def test_a_number_with_a_zero_in_front_is_a_number(tmp_path: Path) -> None:
    assert installer.run(tmp_path, "common_option --wait 08; echo $PATIENCE").stdout == "8\n"


def test_a_bridge_whose_port_differs_from_its_settings_is_told(tmp_path: Path) -> None:
    (tmp_path / "bridge.toml").write_text('host = "10.0.0.1"\nport = 1884\n')
    script = f'CONFIGURATION={tmp_path}; write_settings 10.0.0.1:{{}} ""; echo "${{{{WARNINGS[*]}}}}"'
    assert installer.run(tmp_path, script.format(1884)).stdout == "\n"
    assert "it differs from --mqtt 10.0.0.1:1885" in installer.run(tmp_path, script.format(1885)).stdout


# -- the bridge ----------------------------------------------------------------------------------------


def test_a_purge_ends_though_a_disk_is_mounted_at_the_bridges_directory(tmp_path: Path) -> None:
    (tmp_path / "state" / "lost+found").mkdir(parents=True)
    (tmp_path / "state" / "spool.db").touch()
    script = f"mountpoint() {{ true; }}; rmdir() {{ false; }}; empty_and_remove {tmp_path}/state"
    done = installer.run(tmp_path, script)
    assert (done.returncode, done.stderr, installer.names(tmp_path / "state")) == (0, "", set())
    assert installer.run(tmp_path, f"empty_and_remove {tmp_path}/state").returncode == 0
    assert not (tmp_path / "state").exists()


def test_a_version_is_on_the_disk_before_it_is_marked_as_complete(tmp_path: Path) -> None:
    script = f"""
pip() {{ true; }}; python3() {{ mkdir {tmp_path}/version; }}
add_files() {{ mkdir $1/bin; echo "#!/bin/sh" >$1/bin/mqtt-kafka-bridge; chmod +x $1/bin/*; }}
sync() {{ [[ ! -e {tmp_path}/version/complete ]] && echo "$@"; }}
DIGEST=digest; build_version {tmp_path}/version
"""
    assert installer.run(tmp_path, script).stdout == f"-f {tmp_path}/version\n"
    assert (tmp_path / "version" / "complete").read_text() == "digest\n"


@pytest.mark.parametrize(("there", "removed"), [("true", ""), ("false", "removed\n")])
def test_a_user_that_was_there_before_outlives_an_installation_that_fails(
    tmp_path: Path, there: str, removed: str
) -> None:
    """`uninstall` keeps the user, because files that it keeps are the user's."""
    script = f"""
SOURCE={tmp_path} NEW=0.1 CONFIGURATION={tmp_path}/etc STATE={tmp_path}/state VERSIONS={tmp_path}/opt
for name in require_root require_debian require_no_package require_python find_new place_new remove_files \
    systemctl rmdir switch_to; do eval "$name() {{ true; }}"; done
id() {{ {there}; }}; remove_user() {{ echo removed >&4; }}; write_settings() {{ fail "no settings"; }}
exec 4>&1; finish_in_any_case
install_bridge --mqtt 10.0.0.1 --kafka 10.0.0.1 >/dev/null
"""
    done = installer.run(tmp_path, script)
    assert (done.returncode, done.stdout) == (1, removed), done


# -- the clone -----------------------------------------------------------------------------------------


def test_a_clone_in_a_directory_with_a_space_is_as_good(tmp_path: Path) -> None:
    """`unzip` of a second download makes such a directory."""
    clone = tmp_path / "bridge (1)"
    clone.symlink_to(installer.ROOT)
    script = f"""
SOURCE='{clone}' KAFKA_TLS='' EMQX_LINE=5.8
mkdir -p $SCRATCH/kafka $SCRATCH/emqx
touch $SCRATCH/kafka/{{server.properties,defaults}} $SCRATCH/keepalived.conf
touch $SCRATCH/emqx/{{settings,emqx.conf,acl.conf,cookie}}
systemctl() {{ true; }}
for files in kafka_files emqx_files keepalived_files; do
    moved() {{ $files | sed 's|^|{tmp_path}/root|'; }}
    copy_files moved
    are_in_place moved
done
"""
    done = installer.run(tmp_path, script)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "root/etc/kafka/log4j2.xml").read_text().startswith("<?xml")
    assert (
        tmp_path / "root/etc/systemd/system/emqx.service.d/mqtt-kafka-bridge.conf"
    ).stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "root/etc/keepalived/check-haproxy").stat().st_mode & 0o777 == 0o755
