"""kit.py's decisions on simulated machines; tests/run itself tests the installation."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import debian, kit


def make_java(directory: Path, version: str) -> Path:
    java = directory / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.touch(mode=0o755)
    (directory / "release").write_text(f'IMPLEMENTOR="Debian"\nJAVA_VERSION="{version}"\n')
    return java


@pytest.mark.parametrize("version", ["17", "17.0.15", "21.0.1", "25"])
def test_a_java_that_is_new_enough_is_taken_from_java_home(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = make_java(tmp_path, version)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert kit.java() == java


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.2"])
def test_an_old_java_is_passed_over(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_java(tmp_path / "old", version)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    java = make_java(tmp_path / "new", "17.0.15")
    monkeypatch.setenv("PATH", str(java.parent))
    assert kit.java() == java


def test_jars_and_packages_are_kept_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kit.cache() == tmp_path / "mqtt-kafka-bridge"
    with pytest.raises(kit.KitError, match=r"Kafka's jars are not there yet: .* lab"):
        kit.kafka_jars()
    with pytest.raises(kit.KitError, match=r"HiveMQ's jars are not there yet: .* tests"):
        kit.hivemq_jars()


def test_the_lab_asks_for_no_jars_that_only_tests_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kit._missing_jars("lab") == ["kafka"]
    assert kit._missing_jars("tests") == ["kafka", "older-kafka", "hivemq"]


def test_a_full_disk_is_said_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**30, 2**30, 2**20))  # type: ignore[attr-defined]
    with pytest.raises(kit.KitError, match=r"1700 MB are needed on the disk of .*, 1 MB are free"):
        kit.provide("lab")


def test_what_will_be_installed_is_said_before_with_the_time_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kit, "_missing_packages", lambda purpose: ["haproxy", "mosquitto"])
    monkeypatch.setattr(kit, "_venv_is_current", lambda: False)
    monkeypatch.setattr(kit, "_require_space", lambda: None)
    said = []
    for step in ("_install_packages", "_build_venv", "_fetch_jars"):
        monkeypatch.setattr(kit, step, lambda *_: said.append(capsys.readouterr().err))

    kit.provide("tests")

    first, *others = said
    assert "All of it takes 2 to 10 minutes" in first
    for part in (
        "haproxy, mosquitto",
        "tests/requirements.txt",
        str(kit.VENV),
        "Kafka's jars",
        "HiveMQ's jars",
    ):
        assert part in first
    assert others == ["", "", "", ""]


@pytest.mark.parametrize("words", [["--help"], ["tests/unit", "-h"]])
def test_the_help_of_tests_run_installs_nothing(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    shutil.copy(kit.ROOT / "tests/run", tmp_path / "tests/run")  # without a kit, so installing would fail

    done = subprocess.run([tmp_path / "tests/run", *words], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert "tests/run --help" in done.stdout
    assert "about" in done.stdout
    assert "set -eu" not in done.stdout
    assert "#" not in done.stdout


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("E: You don't have enough free space in /var: not enough free space", "the disk is full"),
        ("Temporary failure resolving 'deb.debian.org'", "no network"),
        ("[ERROR] Unknown host repo.maven.apache.org", "no network"),
        ("E: Unable to locate package mosquito", "E: Unable to locate package mosquito"),
        ("", "exit code 1"),
    ],
)
def test_a_step_that_fails_says_in_one_line_what_to_do(
    output: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kit.cache().mkdir()
    with pytest.raises(kit.KitError, match=f"packages failed: .*{said}.*kit.log") as raised:
        kit._step("packages", [sys.executable, "-c", f"print({output!r}); raise SystemExit(1)"])
    assert "\n" not in str(raised.value)


def test_a_machine_without_apt_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(kit.KitError, match=r"not Debian \(no apt-get\).*haproxy, mosquitto"):
        kit._install_packages(["haproxy", "mosquitto"])


def test_one_without_rights_is_told_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, **_: "/usr/bin/apt-get" if name == "apt-get" else None)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(kit.KitError, match=r"as root: apt-get install --no-install-recommends haproxy"):
        kit._install_packages(["haproxy"])


@pytest.mark.parametrize("before", [None, "#!/bin/sh\nexit 104\n"])
def test_policy_rc_d_is_as_it_was(
    before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(debian, "_POLICY", policy)
    monkeypatch.setattr(debian, "_ASIDE", tmp_path / "aside")
    if before:
        policy.write_text(before)
    with debian._nothing_starts():
        assert "exit 101" in policy.read_text()
    assert (policy.read_text() if policy.exists() else None) == before


def test_what_a_killed_run_left_of_policy_rc_d_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(debian, "_POLICY", policy)
    monkeypatch.setattr(debian, "_ASIDE", tmp_path / "aside")
    policy.write_text(debian._OURS)
    (tmp_path / "aside").write_text("#!/bin/sh\nexit 104\n")
    with debian._nothing_starts():
        pass
    assert policy.read_text() == "#!/bin/sh\nexit 104\n"


def test_a_linked_venv_is_left_alone_with_all_that_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_another_clone = tmp_path / "other"
    of_another_clone.mkdir()
    (of_another_clone / "kit").write_text("x")
    link = tmp_path / ".venv"
    link.symlink_to(of_another_clone)
    monkeypatch.setattr(kit, "VENV", link)
    monkeypatch.setattr(kit, "_step", lambda *_: (_ for _ in ()).throw(AssertionError("a step was taken")))
    with pytest.raises(kit.KitError, match=f"symbolic link.* would empty {of_another_clone}: rm {link}"):
        kit._build_venv()
    assert (of_another_clone / "kit").read_text() == "x"


def test_a_package_is_missing_if_its_shared_library_is(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = {"libc.so.6": "libc6", "libnowhere.so.0": "libnowhere0"}
    monkeypatch.setattr(kit, "_LIBRARIES", {"tests": libraries})
    assert {"libc6", "libnowhere0"} & set(kit._missing_packages("tests")) == {"libnowhere0"}
