"""`bridge --dry-run` beside a live bridge: it shows the messages, and does not disturb the live bridge."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.harness.bridge import BridgeProcess
from tests.harness.kit import ROOT
from tests.integration.flow import assert_nothing_lost_or_doubled

COUNT = 50


def dry_run(bridge: BridgeProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bridge", "--config", str(bridge.settings), "--dry-run", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)


def test_a_live_bridge_loses_doubles_and_notices_nothing(new_flow: Callable[..., Any]) -> None:
    with new_flow(rate=100) as flow:
        state = Path(flow.bridge.settings).with_suffix(".state") / "subscriptions.json"
        before, mark = state.read_text(), flow.bridge.journal.mark()
        for _ in range(2):
            shown = dry_run(flow.bridge, "--json", "--count", str(COUNT)).stdout.splitlines()
            assert len(shown) == COUNT
        flow.goes_on()
        assert state.read_text() == before
        for event in ("mqtt.closed", "mqtt.live", "mqtt.taken_over", "mqtt.session_lost"):
            assert not flow.bridge.journal.matching(event, {}, mark), event
    assert_nothing_lost_or_doubled(flow)


def test_each_line_says_what_the_record_in_kafka_will_be(new_flow: Callable[..., Any]) -> None:
    with new_flow(rate=100) as flow:
        first = json.loads(dry_run(flow.bridge, "--json", "--count", "1").stdout)
        text = dry_run(flow.bridge, "--count", "3").stdout
    assert first["mqtt"]["topic"].startswith("sensors/house/") if "mqtt" in first else first
    assert " -> " in text
    assert "What would be produced" in text


def test_members_of_a_share_group_lose_nothing_to_it(
    new_flow: Callable[..., Any],
) -> None:
    with new_flow(rate=100, filter="$share/bridges/sensors/{site}/{device}/temp") as flow:
        shown = dry_run(flow.bridge, "--json", "--count", str(COUNT)).stdout.splitlines()
        assert len(shown) == COUNT
        flow.goes_on()
    assert_nothing_lost_or_doubled(flow)
