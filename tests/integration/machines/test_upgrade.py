"""Upgrades under load: to a good version, to one that never becomes live, and back."""

import pytest

from tests.harness.devices import Devices
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.kit import ROOT
from tests.harness.machine import Machine
from tests.harness.verifier import Verifier
from tests.integration.machines.conftest import (
    SETTINGS,
    TOPIC,
    UNIT,
    WHEELS,
    Installed,
    NewMachine,
    Source,
    wait_live,
)

GOOD, BAD = "/root/good", "/root/bad"

LIVE = '_systemd.ready(f"live{'
"""What tells systemd that the bridge is live: the bad version never says it."""


def _of(clone: str, command: str, *options: str) -> list[str]:
    return [f"{clone}/deploy/install.sh", command, *WHEELS, *options]


@pytest.fixture
def pi(new_machine: NewMachine, installed: Installed, source: Source) -> Machine:
    app = (ROOT / "bridge" / "app.py").read_text()
    assert app.count(LIVE) == 1
    bad = source("0.9.1", {"bridge/app.py": app.replace(LIVE, LIVE.replace("live", "nearly"))})
    files = {GOOD: source("0.9.0"), BAD: bad}
    return new_machine("bookworm", [installed("bookworm")], files)


def test_upgrade_failed_upgrade_and_rollback_under_load_lose_and_double_nothing(
    chain: list[str], pi: Machine, haproxy: HAProxy, kafka: KafkaCluster
) -> None:
    with pi, Verifier(kafka.bootstrap, [TOPIC]) as verifier:
        wait_live(pi)
        before = version(pi)
        with Devices(haproxy.host.address, DEVICES, rate=100) as devices:
            devices.wait_sent(200)

            pi.run(*_of(GOOD, "upgrade"))
            assert version(pi) == "0.9.0"

            failed = pi.run(*_of(BAD, "upgrade", "--wait", "8"), status=1)
            assert "putting everything back ... as it was before" in failed
            assert (version(pi), pi.show(UNIT, "StatusText")) == ("0.9.0", "live")

            assert sorted(pi.run("ls", "/opt/mqtt-kafka-bridge").split()) == sorted(
                [before, "0.9.0", "current", "previous"]
            )

            settings = pi.read(SETTINGS)
            pi.write(SETTINGS, settings.replace("[mqtt]", "[mqtt]\nnew = 1", 1))
            refused = pi.run(*_of(GOOD, "rollback"), status=1)
            assert "mqtt.new (/etc/mqtt-kafka-bridge/bridge.toml:" in refused
            assert (version(pi), pi.show(UNIT, "StatusText")) == ("0.9.0", "live")
            pi.write(SETTINGS, settings)

            pi.run(*_of(GOOD, "rollback"))
            assert version(pi) == before
            again = pi.run(*_of(GOOD, "upgrade"))
            assert "is there already" in again
            devices.wait_sent(100)
        verifier.wait_for(devices.tally.acked, deadline=60.0)
        verdict = verifier.verdict(devices.tally)
        assert (verdict.lost, verdict.doubled, verdict.inversions) == (set(), {}, ()), verdict


def version(pi: Machine) -> str:
    """The version of the running process, not of the link to the installed one."""
    program = pi.run("cat", f"/proc/{pi.show(UNIT, 'MainPID')}/cmdline").split("\0")[0]
    return program.removeprefix("/opt/mqtt-kafka-bridge/").partition("/")[0]
