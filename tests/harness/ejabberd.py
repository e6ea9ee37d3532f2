"""A pair of ejabberd nodes in one cluster: sessions that die with their node, as EMQ's regular ones do.

MQTT 3.1.1 and 5 and all QoS across nodes, from Debian's own package. A session that is taken over moves to
the node its client came to. Four things differ from EMQ: there must be a username and a password (any
will do); only one message of a session is in flight, whatever the client's Receive Maximum; a session whose
queue is full is ended instead of losing its oldest messages; and there are no shared subscriptions.

Who takes a session over at the other node within the second in which it was taken over last may be thrown
out at once: the nodes compare counters then (unique_timestamp) that belong to each of them alone. For a
minute nobody can have the session, then it is lost.
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
# All clients have one username, and each is a "resource" of it.
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

# A node that starts takes the tables of the other one if that runs, else its own. Without: where both have
# died, the one that died first waits for the other before it serves.
_WHOSE_TABLES = Template(
    "mnesia:set_master_nodes(case net_adm:ping('${peer}') of pong -> []; pang -> [node()] end)."
)


class EjabberdPair(ErlangPair):
    """Two nodes on the founding addresses; needs the package ejabberd. Ready in 3-6 s, one in 1-2 s.

    `queued` is what a session holds beside its one message in flight.
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
        # Not by ejabberdctl: as root it becomes the user ejabberd, who may not read the tests' directories.
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
        """They then find it again by themselves."""
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
    """An Erlang machine of this name that keeps to the loopback network."""
    loopback = ("-kernel", "inet_dist_use_interface", "{127,0,0,1}")
    return ["erl", "-sname", f"{name}@localhost", "-noinput", *loopback, *arguments]


def _libraries() -> Path:
    """Where Debian has ejabberd, beside the libraries it needs. Raises RuntimeError where it is not."""
    for found in Path("/usr/lib").glob("*-linux-gnu/ejabberd-*/ebin"):
        return found.parents[1]
    raise RuntimeError("no ejabberd here: apt-get install --no-install-recommends ejabberd")
