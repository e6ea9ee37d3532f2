"""Grafana with the shipped dashboard and its provisioning, if grafana-server is installed."""

import shutil
import urllib.request
from pathlib import Path

from tests.harness.host import Host
from tests.harness.kit import ROOT
from tests.harness.process import Process

PORT = 3000
_SHIPPED = ROOT / "deploy" / "grafana"
_HOME = Path("/usr/share/grafana")  # of Grafana's own Debian package
_PROMETHEUS = "http://127.0.0.1:9090"  # in the shipped file
_DASHBOARDS = "/var/lib/grafana/dashboards"


class Grafana(Process):
    """grafana-server, open to everybody who reaches it, with the data source `prometheus` (a URL)."""

    def __init__(self, host: Host, directory: Path, prometheus: str) -> None:
        provisioning = directory / "provisioning"
        shutil.copytree(_SHIPPED / "provisioning", provisioning, dirs_exist_ok=True)
        _change(provisioning / "datasources" / "mqtt-kafka-bridge.yml", _PROMETHEUS, prometheus)
        dashboards = directory / "dashboards"
        dashboards.mkdir(exist_ok=True)
        shutil.copy(_SHIPPED / "mqtt-kafka-bridge.json", dashboards)
        _change(provisioning / "dashboards" / "mqtt-kafka-bridge.yml", _DASHBOARDS, str(dashboards))
        self.url = f"http://{host.address}:{PORT}"
        super().__init__(
            "grafana",
            ["grafana-server", "--homepath", _HOME],
            log=directory / "grafana.log",
            host=host,
            env={
                "GF_PATHS_DATA": str(directory / "data"),
                "GF_PATHS_LOGS": str(directory),
                "GF_PATHS_PROVISIONING": str(provisioning),
                "GF_SERVER_HTTP_ADDR": host.address,
                "GF_SERVER_HTTP_PORT": str(PORT),
                "GF_AUTH_ANONYMOUS_ENABLED": "true",
                "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
                "GF_ANALYTICS_REPORTING_ENABLED": "false",
                "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            },
            ready=self._is_ready,
            deadline=60.0,
        )

    @staticmethod
    def is_installed() -> bool:
        return shutil.which("grafana-server", path="/usr/sbin:/usr/bin:/usr/local/bin") is not None

    def spawn(self) -> None:
        self.host.require_free(PORT)
        super().spawn()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def _change(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
