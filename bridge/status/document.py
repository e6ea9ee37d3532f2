"""/status.json: a snapshot and its diagnosis as JSON, for the page and for programs. Pure.

The same document is what `bridge top --json` prints. docs/reference/status.schema.json describes it;
docs/reference/generate.py makes the schema from the dataclasses.
"""

import json
from dataclasses import dataclass

from bridge.status.finding import Diagnosis
from bridge.status.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Status:
    """The state of one bridge.

    `snapshot.format` gets a new number if a field is removed or changes its meaning. New fields may come at
    any time, so readers ignore fields that they do not know.
    """

    snapshot: Snapshot
    diagnosis: Diagnosis


def document(snapshot: Snapshot, diagnosis: Diagnosis) -> bytes:
    """The document in UTF-8. Takes a quarter of a millisecond with a few routes, much longer with thousands.

    Raises ValueError if a number is infinite or not a number, which JSON can't express.
    """
    return _ENCODER.encode(Status(snapshot, diagnosis)).encode()


def _fields(value: object) -> dict[str, object]:
    # pydantic's serializer is twice as fast, but its schema of the dataclasses takes 6 MB.
    return {name: getattr(value, name) for name in value.__slots__}  # type: ignore[attr-defined]


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_fields)
