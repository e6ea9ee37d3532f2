"""A pair of RabbitMQ nodes with mirrored queues: MQTT 3.1.1 sessions that survive the death of their node.

They behave like EMQ's durable sessions, and come from Debian's own packages. RabbitMQ differs from EMQ in two
things: it treats QoS 2 as QoS 1, and packet identifiers start anew on every connection.
"""

import json
import time
from pathlib import Path
from string import Template

from tests.harness.brokers import MQTT, Family, answers_connect
from tests.harness.conditions import wait_until
from tests.harness.erlang import ErlangPair, free_port
from tests.harness.host import Network
from tests.harness.process import Process

_AMQP = 5672
_BIN = Path("/usr/lib/rabbitmq/bin")
_PLUGINS = "[rabbitmq_mqtt].\n"
_SETTINGS = Template("""\
listeners.tcp.default = ${address}:5672
mqtt.listeners.tcp.default = ${address}:1883
mqtt.allow_anonymous = true
mqtt.default_user = guest
mqtt.default_pass = guest
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = r1@localhost
cluster_formation.classic_config.nodes.2 = r2@localhost
log.console = true
log.console.level = info
log.file = false
""")

# A node that starts sooner after kill -9 hangs, because its peer still believes that the old node runs.
_REST = 4.0  # seconds


class RabbitNode(Process):
    """One of the two nodes."""

    _died = 0.0

    @property
    def was_killed(self) -> bool:
        return self._died > 0.0

    def spawn(self) -> None:
        wait_until(
            lambda: time.monotonic() - self._died > _REST,
            _REST + 1.0,
            f"{self.name} has been dead for {_REST} s",
        )
        super().spawn()

    def kill9(self) -> None:
        if self.alive:
            self._died = time.monotonic()
        super().kill9()


class RabbitPair(ErlangPair):
    """Two nodes on the founding addresses; needs the package rabbitmq-server. Ready in 17-30 s."""

    family: Family = "rabbitmq"
    supports_mqtt5 = False
    max_qos = 1
    sessions_survive_node = True
    ports = (MQTT, _AMQP)

    def __init__(self, network: Network, directory: Path) -> None:
        super().__init__(network, directory)
        self._nodes: list[RabbitNode] = [self._node(number) for number in (1, 2)]

    def _node(self, number: int) -> RabbitNode:
        host = self._hosts[number - 1]
        base = self._directory / host.name
        base.mkdir(parents=True, exist_ok=True)
        (base / "rabbitmq.conf").write_text(_SETTINGS.substitute(address=host.address))
        (base / "enabled_plugins").write_text(_PLUGINS)
        return RabbitNode(
            host.name,
            [_BIN / "rabbitmq-server"],
            log=self._directory / f"{host.name}.log",
            env=self._epmd.environment
            | {
                "RABBITMQ_NODENAME": f"r{number}@localhost",
                "RABBITMQ_MNESIA_BASE": str(base),
                "RABBITMQ_LOG_BASE": str(base),
                "RABBITMQ_CONFIG_FILE": str(base / "rabbitmq.conf"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(base / "enabled_plugins"),
                "RABBITMQ_DIST_PORT": str(free_port()),
                # Its script then becomes the Erlang machine instead of staying beside it.
                "RUNNING_UNDER_SYSTEMD": "true",
            },
            ready=lambda: self._is_up(number),
            deadline=120.0,
        )

    def node(self, number: int) -> RabbitNode:
        return self._nodes[number - 1]

    def _form_cluster(self) -> None:
        self._control("await_online_nodes", "2")
        mirrored = json.dumps({"ha-mode": "all", "ha-sync-mode": "automatic"})
        self._control("set_policy", "sessions", "^mqtt-subscription-", mirrored, "--apply-to", "queues")

    def _is_up(self, number: int) -> bool:
        if answers_connect(self._hosts[number - 1].address):
            return True
        # The nodes agree on client ids by Raft, and neither of the two has a majority alone. A node that
        # returns asks its peer for the leader before it starts its own Raft server (mqtt_node.erl). If the
        # killed node was the leader, that question takes 100 s to fail. So start that Raft server here, and
        # trigger an election: only this node can win it, because it wrote the last entries.
        peer = 3 - number
        if self.node(number).was_killed and self.node(peer).alive:
            part = f"{{mqtt_node, r{number}@localhost}}"
            start = f"catch ra:restart_server(coordination, {part})"
            self._control("eval", f"{start}, catch ra:trigger_election({part}).", at=peer)
        return False

    def _control(self, *command: str, at: int = 1) -> None:
        """Run rabbitmqctl at this node. Raises RuntimeError with what it printed."""
        control = Process(
            f"rabbitmqctl {command[0]}",
            [_BIN / "rabbitmqctl", "-n", f"r{at}@localhost", *command],
            log=self._directory / "rabbitmqctl.log",
            env=self._epmd.environment,
        )
        control.spawn()
        control.wait_end()
