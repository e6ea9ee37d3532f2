"""HiveMQ CE behind two doors: the strictest MQTT 5, and another way to number messages than EMQ's.

Sessions stand on disk, survive the death of a node and of the whole broker, and are taken over with 0x8E. A
message gets the lowest identifier that is free, and keeps it when it is sent again. Up to 50 messages are in
flight; the next ones come when all of them are acknowledged, and begin with 1 again.
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

# Of java.base where no other module is named; it says itself which ones it misses.
_OPENED = ["java.lang", "java.nio", "sun.nio.ch"]


class HiveMQ(Doors):
    """HiveMQ CE; needs its jars (kit.py), and a Java that compiles: Debian's JRE does. Ready in 3-5 s.

    `broker` is the one process behind the doors: killed with -9 and started again it has its sessions still.
    `queued` is what it holds for a session, as EMQ does by default; like EMQ it drops the oldest beyond that.
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
