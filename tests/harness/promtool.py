"""Asks promtool whether alerts fire: on series written by hand, or on those of a snapshot."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from bridge.status.metrics import Families
from bridge.status.snapshot import Snapshot
from tests.harness.kit import ROOT

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
TARGET = {"job": "mqtt-kafka-bridge", "instance": "bridge:9464"}
STEP = 5  # seconds between two samples, and between two evaluations
STEPS = 400  # samples of a series that does not change

Values = Mapping[str, str]
"""By a series such as `x{a="b"}`, without job and instance, its values in promtool's words: `0x10 1+2x5`."""


def series(name: str, labels: Mapping[str, str]) -> str:
    pairs = ",".join(f"{label}={json.dumps(value)}" for label, value in sorted(labels.items()))
    return f"{name}{{{pairs}}}"


def steady(snapshot: Snapshot) -> dict[str, str]:
    """All series of a snapshot that stays as it is, and a scrape that works."""
    # Imported from the older text format: promtool's series have its names.
    import prometheus_client

    text = prometheus_client.generate_latest(Families(snapshot)).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = {series(sample.name, sample.labels): f"{sample.value}x{STEPS}" for sample in samples}
    return {"up{}": f"1x{STEPS}", **found}


def firing(values: Values, seconds: int, expected: Mapping[str, int], directory: Path) -> str:
    """What promtool says if other alerts than `expected` (by name how many) fire after so many seconds."""
    samples = [
        {"labels": f'{{alertname="{name}"}}', "value": count} for name, count in sorted(expected.items())
    ]
    test = {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{seconds}s",
        "exp_samples": samples,
    }
    return _run(values, {"promql_expr_test": [test]}, directory)


def annotations(
    values: Values, seconds: int, alert: str, expected: Mapping[str, object], directory: Path
) -> str:
    """What promtool says unless the alert fires once, with these `exp_labels` and `exp_annotations`."""
    test = {"eval_time": f"{seconds}s", "alertname": alert, "exp_alerts": [expected]}
    return _run(values, {"alert_rule_test": [test]}, directory)


def _run(values: Values, tests: Mapping[str, object], directory: Path) -> str:
    inputs = []
    for name, notation in values.items():
        before, _, labels = name.partition("{")
        target = ",".join(f'{label}="{value}"' for label, value in TARGET.items())
        others = labels.removesuffix("}")
        inputs.append({"series": f"{before}{{{target}{',' if others else ''}{others}}}", "values": notation})
    file = directory / "test.yml"
    whole = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": f"{STEP}s",
        "tests": [{"interval": f"{STEP}s", "input_series": inputs, **tests}],
    }
    file.write_text(json.dumps(whole))  # JSON is YAML
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr
