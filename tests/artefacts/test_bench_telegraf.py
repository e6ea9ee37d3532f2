"""Telegraf's configuration in the bench: acknowledges nothing early, and keeps payloads unchanged."""

import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.bench import backlog, peers
from tests.bench.peers import TELEGRAF, Place, telegraf_build
from tests.harness.kit import KitError


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(telegraf_build, "program", lambda: Path("telegraf"))
    here = Place("127.0.0.1", 1883, "127.0.0.1:9092", "house", "bench", False, tmp_path)
    peers.telegraf(here)
    return tomllib.loads((tmp_path / "bench.conf").read_text())


def test_it_acknowledges_only_what_kafka_has(configuration: dict[str, Any]) -> None:
    (consumer,) = configuration["inputs"]["mqtt_consumer"]
    (output,) = configuration["outputs"]["kafka"]
    assert consumer["persistent_session"]
    assert output["required_acks"] == -1
    # Messages that Telegraf drops when its buffer is full are neither acknowledged nor written.
    assert consumer["max_undelivered_messages"] <= configuration["agent"]["metric_buffer_limit"]


def test_a_payload_of_the_bench_fits_in_and_out(configuration: dict[str, Any]) -> None:
    (consumer,) = configuration["inputs"]["mqtt_consumer"]
    assert consumer["binary"][0]["entries"][0]["bits"] == 8 * backlog.SIZE
    assert configuration["outputs"]["kafka"][0]["entries"][0]["string_length"] == backlog.SIZE


def test_its_plugins_are_built_in(configuration: dict[str, Any]) -> None:
    used = {f"{kind}.{name}" for kind in ("inputs", "outputs") for name in configuration[kind]}
    used.add(f"parsers.{configuration['inputs']['mqtt_consumer'][0]['data_format']}")
    used.add(f"serializers.{configuration['outputs']['kafka'][0]['data_format']}")
    assert used == set(telegraf_build.PLUGINS)


def test_it_speaks_mqtt_311_alone() -> None:
    assert TELEGRAF.speaks(mqtt5=False)
    assert not TELEGRAF.speaks(mqtt5=True)


def test_without_go_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(KitError, match="no go to build Telegraf"):
        telegraf_build.program()
