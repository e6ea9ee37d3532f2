"""What a diagnosis consists of. Pure."""

from dataclasses import dataclass
from typing import Literal

from bridge.observe.printable import printable


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, for the person who has to act. `what` and `remedy` are whole sentences."""

    id: str  # such as "mqtt-unreachable": an interface, as events are
    level: Literal["warning", "broken"]
    host: str  # where to act: a host's name or address, or a name of a certificate, topic or setting
    what: str
    remedy: str
    runbook: str  # an anchor of docs/runbook.md


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`sentence` tells a person what is wrong and what to do. `findings`: worst first, or empty."""

    level: Literal["good", "warning", "broken"]
    sentence: str
    findings: tuple[Finding, ...]


def warning(name: str, host: str, what: str, remedy: str) -> Finding:
    """Messages flow, or will flow again without a person; but a person may want to know."""
    return _finding(name, "warning", host, what, remedy)


def broken(name: str, host: str, what: str, remedy: str) -> Finding:
    """Messages do not flow, or are no longer safe, until a person acts or a host is back."""
    return _finding(name, "broken", host, what, remedy)


def _finding(name: str, level: Literal["warning", "broken"], host: str, what: str, remedy: str) -> Finding:
    # Reasons and names come from other programs, and may hold characters that move a terminal's cursor.
    return Finding(name, level, printable(host), printable(what), printable(remedy), runbook=name)
