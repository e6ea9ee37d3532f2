"""Which room may import which. The imports are read from the source; nothing is executed."""

import ast
from pathlib import Path

import pytest

from bridge.observe.events import Event

PACKAGE = Path(__file__).parents[2] / "bridge"

# From top to bottom. A room imports only rooms of lower lines; `bridge` is the package itself,
# with its version.
FLOORS = (
    {"__main__"},
    {"commands"},
    {"app"},
    {"mqtt", "kafka", "spool", "http", "neighbours"},
    {"status"},
    {"delivery"},
    {"settings"},
    {"routing", "tls"},
    {"observe"},
    {"message", "loop", "units", "program"},
    {"errors"},
    {"bridge"},
)
EDGES = {"mqtt", "kafka", "spool", "http", "neighbours"}
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Modules that decide do no I/O, so they can be tested and understood without it.
PURE = {
    "delivery.counts",
    "delivery.dead_letter",
    "delivery.intent",
    "delivery.journal",
    "delivery.lanes",
    "delivery.ledger",
    "delivery.results",
    "delivery.room",
    "delivery.rows",
    "delivery.segment",
    "delivery.stop_deadline",
    "errors",
    "kafka.brokers",
    "kafka.error_verdicts",
    "kafka.transactions",
    "message",
    "mqtt.backoff",
    "mqtt.packet_codec",
    "mqtt.protocol_version",
    "mqtt.reasons",
    "neighbours.emqx_session",
    "neighbours.haproxy_stats",
    "observe.words",
    "program",
    "routing.envelope",
    "routing.filter_tree",
    "routing.plan",
    "routing.router",
    "routing.routes",
    "routing.topics",
    "spool.job",
    "spool.contents",
    "status.diagnosis",
    "status.document",
    "status.finding",
    "status.kafka_faults",
    "status.machine_faults",
    "status.mqtt_faults",
    "status.snapshot",
    "status.spoken",
    "status.whereabouts",
    "tls.certificate",
    "units",
}
IMPURE = {"ctypes", "logging", "os", "pathlib", "select", "signal", "socket", "sqlite3", "ssl", "subprocess"}
IMPURE |= {"sys", "tempfile", "threading", "time", "paho", "confluent_kafka", "structlog", "rich"}


def _modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below `bridge`; packages by their name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "bridge"] = path
    return found


MODULES = _modules()


def _imports(module: str) -> set[str]:
    """A module's imports, inside functions too: "bridge.x.y" for our modules, else the first part."""
    tree = ast.parse(MODULES[module].read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively; the package does not"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if _is_module(name) else node.module or "" for name in names}
    return {name if name.partition(".")[0] == "bridge" else name.partition(".")[0] for name in found}


def _is_module(name: str) -> bool:
    return name.partition(".")[0] == "bridge" and name.partition(".")[2] in MODULES


def _own(module: str) -> set[str]:
    """The package's modules that `module` imports, without "bridge."."""
    own = {name for name in _imports(module) if name.partition(".")[0] == "bridge"}
    return {name.partition(".")[2] or "bridge" for name in own}


def _room(module: str) -> str:
    return module.partition(".")[0]


ROOMS = {_room(module) for module in MODULES}


def test_each_room_has_its_place() -> None:
    assert FLOOR.keys() == ROOMS


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down_only_and_never_from_one_edge_to_another(module: str) -> None:
    others = {name for name in _own(module) if _room(name) != _room(module)}
    assert not {name for name in others if FLOOR[_room(name)] <= FLOOR[_room(module)]}


@pytest.mark.parametrize("room", sorted(room for room in ROOMS if (PACKAGE / room).is_dir()))
def test_the_door_of_a_room_says_what_is_decided_there_and_where_to_start(room: str) -> None:
    sign = ast.get_docstring(ast.parse(MODULES[room].read_text())) or ""
    assert "Decided here: " in sign
    assert "Not here: " in sign
    start = sign.partition("Start with `")[2].partition("`")[0]
    module, _, name = start.rpartition(".")
    path = MODULES[f"{room}.{module}" if module else room]
    named = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, _NAMED)}
    assert name in named, f"{room}: there is no {start} to start with"


_NAMED = (ast.ClassDef, ast.FunctionDef)


@pytest.mark.parametrize(
    ("library", "owner"),
    [
        ("paho", "mqtt"),
        ("confluent_kafka", "kafka"),
        ("sqlite3", "spool"),
        ("rich", "commands"),
        ("h11", "http"),
        ("prometheus_client", "status"),
    ],
)
def test_a_library_has_one_room_that_knows_it(library: str, owner: str) -> None:
    who = {module for module in MODULES if library in _imports(module)}
    assert who, f"nobody imports {library}: has it another name now?"
    assert {_room(module) for module in who} == {owner}


@pytest.mark.parametrize("module", sorted(PURE))
def test_what_is_pure_reaches_no_input_or_output(module: str) -> None:
    assert module in MODULES, f"{module} is gone: take it off the list"
    # Settings are plain data for the pure rooms, although loading settings does I/O.
    impure = {
        f"{name} (through {by})"
        for by in _reached(module)
        if _room(by) != "settings"
        for name in _imports(by) & IMPURE
    }
    assert not impure


def _reached(module: str) -> set[str]:
    seen, todo = set(), {module}
    while todo:
        name = todo.pop()
        seen.add(name)
        todo |= _own(name) - seen
    return seen


def test_there_is_no_import_cycle() -> None:
    graph = {module: _own(module) - {module} for module in MODULES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"cycle: {' -> '.join((*path[path.index(module) :], module))}"
        if module not in done:
            for name in sorted(graph[module]):
                visit(name, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_nobody_imports_the_command_line_but_its_entry_point() -> None:
    assert {module for module in MODULES if "commands.cli" in _own(module)} == {"__main__"}


def test_every_event_is_logged_somewhere() -> None:
    text = "\n".join(path.read_text() for name, path in MODULES.items() if name != "observe.events")
    assert not [event.name for event in Event if f"Event.{event.name}" not in text]
