"""/status.json and its JSON Schema."""

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bridge.status.diagnosis import diagnose
from bridge.status.document import document
from bridge.status.finding import Diagnosis, Finding
from bridge.status.snapshot import FORMAT, Snapshot
from tests.harness.snapshots import STATES, healthy

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/reference/status.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FINDING = Finding("mqtt-unreachable", "broken", "172.30.1.10", "No answer.", "Start it.", "mqtt-unreachable")


def made(snapshot: Snapshot) -> Any:
    return json.loads(document(snapshot, diagnose(snapshot)))


@pytest.mark.parametrize("state", STATES)
def test_the_document_of_each_state_is_as_the_schema_says(state: str) -> None:
    VALIDATOR.check_schema(SCHEMA)
    assert [error.message for error in VALIDATOR.iter_errors(made(STATES[state]()))] == []


def test_a_diagnosis_with_findings_is_as_the_schema_says() -> None:
    found = json.loads(document(healthy(), Diagnosis("broken", "The balancer does not answer.", (FINDING,))))
    assert [error.message for error in VALIDATOR.iter_errors(found)] == []
    assert found["diagnosis"]["findings"][0]["id"] == "mqtt-unreachable"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("snapshot", "mqtt", "state"), 3),
        (("snapshot", "flow", "received"), "many"),
        (("snapshot", "nodes"), {}),
        (("diagnosis", "level"), "excellent"),
    ],
)
def test_the_schema_refuses_what_is_no_document(path: tuple[str, ...], value: object) -> None:
    document = made(healthy())
    place = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert not VALIDATOR.is_valid(document)


def test_every_field_of_a_snapshot_is_in_the_document() -> None:
    assert made(healthy())["snapshot"].keys() == {field.name for field in dataclasses.fields(Snapshot)}
    assert made(healthy())["snapshot"]["format"] == FORMAT


def test_the_document_is_the_snapshot_value_for_value() -> None:
    snapshot = healthy()
    plain = json.loads(json.dumps(dataclasses.asdict(snapshot)))
    assert made(snapshot)["snapshot"] == plain


def test_every_dataclass_of_a_snapshot_has_slots_which_the_encoder_reads() -> None:
    seen: set[type] = set()

    def walk(kind: Any) -> None:
        for each in typing.get_args(kind):
            walk(each)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind not in seen:
            seen.add(kind)
            assert "__slots__" in vars(kind), kind
            for hint in typing.get_type_hints(kind).values():
                walk(hint)

    walk(Snapshot)
    walk(Diagnosis)
    assert len(seen) > 10


def test_a_number_that_json_has_not_is_an_error_and_no_broken_document() -> None:
    snapshot = dataclasses.replace(healthy(), uptime=float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        document(snapshot, diagnose(snapshot))
