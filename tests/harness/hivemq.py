"""HiveMQ CE behind two doors: a strict MQTT 5 broker that numbers messages differently from EMQ.

Sessions are on disk, survive the death of a node and of the whole broker, and a takeover ends the older
connection with reason 0x8E. A message gets the lowest free identifier, and keeps it when HiveMQ resends the
message. Up to 50 messages are in flight; HiveMQ sends the next ones when all 50 are acknowledged, and numbers
them from 1 again.
"""

from pathlib import Path
from string import Template

from tests.harness import jvm, kit
from tests.harness.brokers import Doors, Family, answers_connect
from tests.harness.host import Network
from tests.harness.process import Process

_DATA = Path(__file__).parent / "hivemq"
_SETTINGS = Template("""\
<?xml version="1.0"?>
<hivemq>
  <listeners>
    <tcp-listener><port>1883</port><bind-address>${address}</bind-address></tcp-listener>
  </listeners>
  <mqtt>
    <queued-messages><max-queue-size>${queued}</max-queue-size><strategy>discard-oldest</strategy></queued-messages>
  </mqtt>
  <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
</hivemq>
""")

# Packages of java.base unless another module is named. HiveMQ's log names those that it misses.
_OPENED = ["java.lang", "java.nio", "sun.nio.ch"]


class HiveMQ(Doors):
    """HiveMQ CE; needs its jars (kit.py), and a Java that compiles: Debian's JRE does. Starts in 3-5 s.

    `broker` is the one process behind the doors; its sessions survive kill -9 and a restart.
    `queued` is EMQ's default limit for a session; HiveMQ, like EMQ, drops the oldest messages beyond that.
    """

    family: Family = "hivemq"
    supports_mqtt5 = True
    max_qos = 2

    def __init__(self, network: Network, directory: Path, *, queued: int = 1000) -> None:
        address = network.behind_the_doors.address
        home = directory / "hivemq"
        for part in ("conf", "data", "extensions"):
            (home / part).mkdir(parents=True, exist_ok=True)
        (home / "conf" / "config.xml").write_text(_SETTINGS.substitute(address=address, queued=queued))
        options = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED] + [
            "--add-opens=jdk.management/com.sun.management.internal=ALL-UNNAMED",
            "--add-exports=java.base/jdk.internal.misc=ALL-UNNAMED",
        ]
        broker = Process(
            "hivemq",
            jvm.command(kit.hivemq_jars(), *options, _DATA / "Broker.java", home),
            log=directory / "hivemq.log",
            host=network.behind_the_doors,
            ready=lambda: answers_connect(address),
            deadline=120.0,
        )
        super().__init__(network, directory, broker)
