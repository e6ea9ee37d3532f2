"""deploy/grafana: the dashboard keeps the rules of Grafana's dashboard-linter; its metrics exist."""

import json
import re
import subprocess
from typing import Any

import pytest

from bridge.status.metrics import METRICS, PREFIX
from tests.harness.dashboard import (
    ALERTS,
    DASHBOARD,
    alert_expressions,
    metrics_in,
    panels,
    targets,
    without_variables,
)
from tests.harness.kit import ROOT

VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
# What Prometheus shows of each metric.
SERIES = {
    f"{PREFIX}{metric.name}{end}": metric
    for metric in METRICS
    for end in (("_bucket", "_sum", "_count") if metric.type == "histogram" else ("",))
}
each_panel = pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
each_target = pytest.mark.parametrize("name", targets())


# -- https://github.com/grafana/dashboard-linter, docs/index.md: each test is a rule ------------------------


def test_the_data_source_is_chosen_by_a_variable() -> None:
    variable = VARIABLES["datasource"]
    assert (variable["type"], variable["query"], variable["label"]) == (
        "datasource",
        "prometheus",
        "Data source",
    )


@pytest.mark.parametrize("name", ["job", "instance"])
def test_job_and_instance_are_variables(name: str) -> None:
    variable = VARIABLES[name]
    assert variable["type"] == "query"
    assert variable["label"] == name.capitalize()
    assert variable["datasource"]["uid"] == "${datasource}"
    assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".+")
    assert variable["refresh"] == 2  # when the time range changes
    assert metrics_in(variable["definition"]) <= set(SERIES)


def test_the_dashboard_is_not_editable() -> None:
    assert DASHBOARD["editable"] is False


@each_panel
def test_a_panel_explains_itself(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]


@each_target
def test_an_expression_selects_job_and_instance(name: str) -> None:
    expression = targets()[name]
    selectors = re.findall(rf"{PREFIX}\w+\{{([^}}]*)\}}", expression)
    assert len(selectors) == len(re.findall(rf"\b{PREFIX}\w+", expression)) > 0
    for selector in selectors:
        assert selector.startswith('job=~"$job", instance=~"$instance"')


@each_target
def test_a_rate_has_the_interval_of_the_dashboard(name: str) -> None:
    expression = targets()[name]
    assert set(re.findall(r"\[([^\]]*)\]", expression)) <= {"$__rate_interval"}
    counters = {each for each in metrics_in(expression) if SERIES[each].type in ("counter", "histogram")}
    if counters:
        assert re.search(r"\b(rate|increase)\(", expression)
    else:
        assert not re.search(r"\b(rate|increase)\(", expression)


@each_target
def test_promtool_can_parse_an_expression(name: str) -> None:
    rule = {"record": "x", "expr": without_variables(targets()[name])}
    text = json.dumps({"groups": [{"name": "g", "rules": [rule]}]})  # JSON is YAML
    done = subprocess.run(
        ["promtool", "check", "rules", "/dev/stdin"], input=text, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_classic_schema_imports_everywhere() -> None:
    assert DASHBOARD["schemaVersion"] <= 41  # 42 and later belong to Grafana 12's second schema
    assert not {"apiVersion", "kind", "spec"} & DASHBOARD.keys()
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert len(titles) == len(set(titles))


def test_no_panel_covers_another() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} covers {taken[x, y]}"
                taken[x, y] = panel["title"]


# -- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*targets(), *alert_expressions()])
def test_each_metric_in_an_expression_exists_with_its_labels(name: str) -> None:
    expression = {**targets(), **alert_expressions()}[name]
    used = metrics_in(expression)
    assert used <= set(SERIES)
    labels = {label for each in used for label in SERIES[each].labels} | {"job", "instance", "le"}
    named = re.findall(r"[{,]\s*(\w+)\s*(?:=~|=|!~|!=)", expression)
    grouped = re.findall(r"\b(?:by|on|without) \(([^)]*)\)", expression)
    assert {*named, *(label.strip() for group in grouped for label in group.split(","))} - {""} <= labels


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {each for expression in targets().values() for each in metrics_in(expression)}
    assert not {name for name in SERIES if not name.endswith(("_sum", "_count"))} - shown


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_legend_names_labels_that_the_expression_keeps(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        grouped = re.findall(r"\bby \(([^)]*)\)", target["expr"])
        labels = {label for each in metrics_in(target["expr"]) for label in SERIES[each].labels}
        kept = {part.strip() for part in grouped[0].split(",")} if grouped else labels | {"job", "instance"}
        assert wanted <= kept, target["expr"]


def test_the_alerts_fire_on_thresholds_that_the_dashboard_shows() -> None:
    steps = [
        step["value"]
        for panel in panels()
        if panel["title"] == "Oldest undelivered message"
        for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    ]
    late = re.findall(r"oldest_undelivered_age_seconds\[\w+\]\) > (\d+)", ALERTS)
    assert steps == [None, *map(int, late)]


def test_grafana_is_provisioned_with_the_scrape_interval_of_prometheus() -> None:
    prometheus = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text()
    provisioned = (ROOT / "deploy/grafana/provisioning/datasources/mqtt-kafka-bridge.yml").read_text()
    [interval] = re.findall(r"scrape_interval: (\w+)", prometheus)
    assert f"timeInterval: {interval} " in provisioned
