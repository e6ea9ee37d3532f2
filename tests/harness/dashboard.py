"""The expressions of the shipped alerts and of the shipped dashboard."""

import json
import re
from typing import Any

from tests.harness.kit import ROOT

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "mqtt-kafka-bridge.json").read_text())
ALERTS = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()


def panels() -> list[dict[str, Any]]:
    """All panels but the rows, which are headings."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def targets() -> dict[str, str]:
    """The expressions of the panels, by title and number."""
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels()
        for target in panel["targets"]
    }


def without_variables(expression: str, interval: str = "1m") -> str:
    """The expression as Grafana sends it when all jobs and instances are chosen."""
    chosen = expression.replace("$job", ".+").replace("$instance", ".+")
    return chosen.replace("$__rate_interval", interval)


def alert_expressions() -> dict[str, str]:
    """By alert and number its expression."""
    found = {}
    for number, part in enumerate(ALERTS.split("- alert: ")[1:]):
        [expression] = re.findall(
            r"expr: (?:>-\n)?((?:.|\n)*?)\n        (?:for|keep_firing_for|labels):", part
        )
        found[f"{part.split()[0]} {number}"] = " ".join(expression.split())
    return found


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\bmqtt_kafka_bridge_\w+", expression))
