"""A pair of ejabberd nodes in one cluster: a session dies with its node, like EMQ's regular sessions.

ejabberd is a Debian package and supports MQTT 3.1.1 and 5 and all QoS across nodes. When a client moves to
the other node, its session follows. ejabberd differs from EMQ in four things: a client must send a username
and a password (any are accepted); only one message of a session is in flight, whatever the client's Receive
Maximum; ejabberd ends a session whose queue is full, instead of dropping the oldest messages; and there are
no shared subscriptions.

If a client takes its session over at the other node within a second after the last takeover, ejabberd may
disconnect the client at once: the nodes then compare counters (unique_timestamp) that are local to each node.
For a minute no client can get the session, then the session is lost.
"""

from pathlib import Path
from string import Template

from tests.harness.brokers import Family, answers_connect
from tests.harness.erlang import ErlangPair
from tests.harness.host import Network
from tests.harness.process import Process

_SETTINGS = Template("""\
hosts: [localhost]
loglevel: info
log_rotate_count: 0
auth_method: anonymous
anonymous_protocol: login_anon
# All clients share one username; each is a "resource" of that user.
allow_multiple_connections: true
listen:
  - port: 1883
    ip: "${address}"
    module: mod_mqtt
    backlog: 1000
modules:
  mod_mqtt:
    session_expiry: 2 hours
    max_queue: ${queued}
""")

# A node that starts copies the tables of its peer if that runs, else it loads its own. Without this setting,
# after both nodes died, the node that died first waits for its peer before it serves.
_WHOSE_TABLES = Template(
    "mnesia:set_master_nodes(case net_adm:ping('${peer}') of pong -> []; pang -> [node()] end)."
)


class EjabberdPair(ErlangPair):
    """Two nodes on the founding addresses; needs the package ejabberd. Both start in 3-6 s, one in 1-2 s.

    `queued` is how many messages a session queues besides its one message in flight.
    """

    family: Family = "ejabberd"
    supports_mqtt5 = True
    max_qos = 2
    sessions_survive_node = False
    credentials = ("anybody", "anything")

    def __init__(self, network: Network, directory: Path, *, queued: int = 1000) -> None:
        super().__init__(network, directory)
        self._nodes = [self._node(number, queued) for number in (1, 2)]

    def _node(self, number: int, queued: int) -> Process:
        host = self._hosts[number - 1]
        base = self._directory / host.name
        base.mkdir(parents=True, exist_ok=True)
        settings = base / "ejabberd.yml"
        settings.write_text(_SETTINGS.substitute(address=host.address, queued=queued))
        # Not ejabberdctl: as root it changes to the user ejabberd, who may not read the tests' directories.
        return Process(
            host.name,
            [
                *_erl(f"ej{number}", "-mnesia", "dir", f'"{base / "database"}"'),
                *("-eval", _WHOSE_TABLES.substitute(peer=f"ej{3 - number}@localhost")),
                *("-s", "ejabberd"),
            ],
            log=self._directory / f"{host.name}.log",
            env=self._epmd.environment
            | {
                "ERL_LIBS": str(_libraries()),
                "ERL_CRASH_DUMP": str(base / "crash.dump"),
                "EJABBERD_CONFIG_PATH": str(settings),
                "EJABBERD_LOG_PATH": str(base / "ejabberd.log"),
            },
            ready=lambda: answers_connect(host.address, credentials=self.credentials),
            deadline=120.0,
        )

    def _form_cluster(self) -> None:
        """Join the two nodes once; after a restart they rejoin by themselves."""
        control = Process(
            "join_cluster",
            [
                *_erl("control", "-hidden", "-s", "ejabberd_ctl"),
                *("-extra", "ej2@localhost", "--no-timeout", "join_cluster", "ej1@localhost"),
            ],
            log=self._directory / "join_cluster.log",
            env=self._epmd.environment | {"ERL_LIBS": str(_libraries())},
        )
        control.spawn()
        control.wait_end()
        self._nodes[1].wait_ready()


def _erl(name: str, *arguments: str) -> list[str]:
    """The command for an Erlang node of this name that uses only the loopback network."""
    loopback = ("-kernel", "inet_dist_use_interface", "{127,0,0,1}")
    return ["erl", "-sname", f"{name}@localhost", "-noinput", *loopback, *arguments]


def _libraries() -> Path:
    """The directory of Debian's ejabberd and its libraries. Raises RuntimeError if it is missing."""
    for found in Path("/usr/lib").glob("*-linux-gnu/ejabberd-*/ebin"):
        return found.parents[1]
    raise RuntimeError("no ejabberd here: apt-get install --no-install-recommends ejabberd")
