"""From a snapshot to OpenMetrics: stands here until the metrics of issue 15 are merged."""

from bridge.status.snapshot import Snapshot

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def render(snapshot: Snapshot) -> bytes:
    return f"# {snapshot.version}\n# EOF\n".encode()
