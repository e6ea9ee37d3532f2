"""Flechtwerk joins the bench where a Python can run it, and the others run without it."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.bench.peers import FLECHTWERK, FOR_BACKLOGS, FOR_USE, flechtwerk_venv
from tests.harness.kit import KitError


def test_it_speaks_mqtt_5_alone() -> None:
    assert FLECHTWERK.speaks(mqtt5=True)
    assert not FLECHTWERK.speaks(mqtt5=False)


def test_it_is_one_of_the_peers() -> None:
    assert FLECHTWERK in FOR_BACKLOGS
    assert FLECHTWERK in FOR_USE


def test_without_a_new_python_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(KitError, match=r"no Python 3\.12\.4 or later"):
        flechtwerk_venv.python()


def test_a_python_that_is_too_old_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flechtwerk_venv, "_NAMES", ())
    monkeypatch.setattr(flechtwerk_venv, "_NEEDS", "99.0")
    assert flechtwerk_venv._base() is None
    monkeypatch.setattr(flechtwerk_venv, "_NEEDS", "3.0")
    assert flechtwerk_venv._base() == sys.executable
