"""The functions of deploy/install.sh, for a test that runs a few of them without a machine."""

from pathlib import Path

from tests.harness.kit import ROOT

_KAFKAS = ("say", "machine", "service", "kafka_checks", "kafka_versions", "kafka_files", "kafka_tls")


def kafka_functions(scratch: Path) -> str:
    """Lines of bash that define what install.sh has for a node of Kafka, with `scratch` to write into.

    What it finds out first, such as NODES, NODE, BIND and HEAP, is the caller's to set.
    """
    lines = [f"SOURCE={ROOT} COMMAND=kafka PREFIX=/usr/local SCRATCH={scratch}"]
    lines += (f". {ROOT}/deploy/install/{part}.sh" for part in _KAFKAS)
    return "\n".join((*lines, ""))
