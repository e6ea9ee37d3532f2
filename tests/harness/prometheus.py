"""Debian's Prometheus with the shipped alerts, which scrapes one bridge."""

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.host import Host
from tests.harness.kit import ROOT
from tests.harness.process import Process

PORT = 9090
SHIPPED = ROOT / "deploy" / "prometheus"
_TARGET = "127.0.0.1:9464"  # in the shipped file


class Prometheus(Process):
    """Prometheus with deploy/prometheus/prometheus.yml, but for the address of the bridge.

    `target` is the HOST:PORT of [http] listen. The data are in `directory`, and last as long as the run.
    """

    def __init__(self, host: Host, directory: Path, target: str, interval: str = "5s") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        settings = (SHIPPED / "prometheus.yml").read_text()
        assert settings.count(f'"{_TARGET}"') == 1
        settings = settings.replace(f'"{_TARGET}"', json.dumps(target)).replace(
            "_interval: 5s", f"_interval: {interval}"
        )
        file = directory / "prometheus.yml"
        file.write_text(settings.replace("- alerts.yml", f"- {SHIPPED / 'alerts.yml'}"))
        self.url = f"http://{host.address}:{PORT}"
        self.api = Api(self.url)
        super().__init__(
            "prometheus",
            [
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={directory / 'data'}",
                "--storage.tsdb.retention.time=1d",
                f"--web.listen-address={host.address}:{PORT}",
            ],
            log=directory / "prometheus.log",
            host=host,
            ready=self.api.answers,
        )

    def spawn(self) -> None:
        self.host.require_free(PORT)
        super().spawn()


@dataclass(frozen=True)
class Api:
    """What Prometheus answers at a URL, whoever started it."""

    url: str

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now. Raises RuntimeError if Prometheus refuses it."""
        return list(self._ask("query", query=expression)["result"])

    def firing(self) -> dict[str, str]:
        """The alerts that fire, by name with their descriptions; several of one name are joined."""
        found: dict[str, str] = {}
        for alert in self._ask("alerts")["alerts"]:
            if alert["state"] == "firing":
                name = alert["labels"]["alertname"]
                found[name] = f"{found.get(name, '')} {alert['annotations']['description']}".strip()
        return found

    def _ask(self, what: str, **parameters: str) -> dict[str, Any]:
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)["data"]
                return found
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"Prometheus: {what} {parameters}: {error.read().decode()}") from error
