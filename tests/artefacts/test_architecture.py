"""Which room may know which: read from the imports of the package, none of which is executed."""

import ast
from pathlib import Path

import pytest

from bridge.observe.events import Event

PACKAGE = Path(__file__).parents[2] / "bridge"
LONGEST_FILE = 400  # lines

# What decides does no I/O, so it can be tested and reasoned about without any.
PURE = {
    "counts",
    "deadletter",
    "envelope",
    "errors",
    "kafka.faults",
    "lanes",
    "ledger",
    "message",
    "ondisk",
    "mqtt.backoff",
    "mqtt.protocol",
    "mqtt.reasons",
    "mqtt.wire",
    "outcome",
    "routes",
    "routing",
    "rows",
    "segment",
    "topics",
    "units",
}
IMPURE = {"ctypes", "logging", "os", "pathlib", "select", "signal", "socket", "sqlite3", "ssl", "subprocess"}
IMPURE |= {"sys", "tempfile", "threading", "time", "paho", "confluent_kafka", "structlog", "rich"}

# Who may be imported by whom: a room sees only what stands to its right.
WIRING = {"__main__", "cli", "app", "check", "upkeep"}
DECIDING = {"pipeline", "spooling", "ledger", "lanes", "qos0", "routing", "routes", "rows", "dryrun"}
DECIDING |= {"letters", "replay", "status"}
_ADAPTERS = {"mqtt", "kafka", "spool"}


def _modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below `bridge`; packages by their own name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _imports(module: str, inside_functions: bool = True) -> set[str]:
    """What a module imports: "bridge.x.y" for the package's own, else the name it begins with."""
    tree = ast.parse(MODULES[module].read_text())
    nodes = ast.walk(tree) if inside_functions else iter(tree.body)
    found = set()
    for node in nodes:
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
    """The package's own modules that this one imports, without "bridge."."""
    return {name.partition(".")[2] for name in _imports(module) if name.partition(".")[0] == "bridge"}


def _room(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize(
    ("library", "owner"), [("paho", "mqtt"), ("confluent_kafka", "kafka"), ("sqlite3", "spool")]
)
def test_a_library_has_one_room_that_knows_it(library: str, owner: str) -> None:
    who = {module for module in MODULES if library in _imports(module)}
    assert who, f"nobody imports {library}: has it another name now?"
    assert {_room(module) for module in who} == {owner}


@pytest.mark.parametrize("module", [name for name in MODULES if _room(name) in _ADAPTERS])
def test_an_adapter_knows_neither_the_other_one_nor_who_uses_it(module: str) -> None:
    others = _ADAPTERS - {_room(module)}
    forbidden = others | {"pipeline", "spooling", "ledger", "lanes", "dryrun"} | WIRING
    assert not {name for name in _own(module) if _room(name) in forbidden}


@pytest.mark.parametrize("module", sorted(PURE))
def test_what_is_pure_reaches_no_input_or_output(module: str) -> None:
    assert module in MODULES, f"{module} is gone: take it off the list"
    reached = _reached(module)
    impure = {f"{name} (through {by})" for by in reached for name in _imports(by) & IMPURE}
    # Settings are data to the pure rooms, though reading them is not; errors of routes are settings' too.
    assert not {line for line in impure if not line.endswith(tuple(f"through {x})" for x in _SETTINGS))}


_SETTINGS = {name for name in MODULES if _room(name) == "settings"}


def _reached(module: str) -> set[str]:
    seen, todo = set(), {module}
    while todo:
        name = todo.pop()
        seen.add(name)
        todo |= _own(name) - seen
    return seen


@pytest.mark.parametrize("module", sorted(DECIDING))
def test_what_decides_does_not_know_the_adapters(module: str) -> None:
    assert not {name for name in _own(module) if _room(name) in _ADAPTERS | WIRING}


def test_only_the_composition_roots_know_the_adapters() -> None:
    who = {m for m in MODULES if _room(m) not in _ADAPTERS and _adapters(m)}
    assert who == {"app", "check", "upkeep"}


def _adapters(module: str) -> set[str]:
    return {name for name in _own(module) if _room(name) in _ADAPTERS}


def test_nobody_imports_the_command_line_but_its_entry_point() -> None:
    assert {module for module in MODULES if "cli" in _own(module)} == {"__main__"}


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


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_file_can_be_read_in_one_go(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) < LONGEST_FILE


def test_every_event_is_logged_somewhere() -> None:
    text = "\n".join(path.read_text() for name, path in MODULES.items() if name != "observe.events")
    assert not [event.name for event in Event if f"Event.{event.name}" not in text]
