"""EMQX's files of deploy/: read as EMQX reads them, with settings that its own schema has."""

import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from pyhocon import ConfigFactory, ConfigTree

from tests.harness.kit import ROOT
from tests.unit.settings.configurations import Machine

EMQX = ROOT / "deploy" / "emqx"
LINES = ("5.8", "4.4")
NODES = ("172.30.1.25", "emq2.example.org")
SHIPPED = {
    "5.8": 'node {\n  name = "emqx@127.0.0.1"\n}',
    "4.4": "node.name = emqx@127.0.0.1",
}  # no last newline
ACL = '{deny, all, subscribe, [{eq, "#"}]}.\n'

lines = pytest.mark.parametrize("line", LINES)


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """EMQX's directory, as its package leaves it."""
    directory = tmp_path / "etc"
    directory.mkdir()
    return directory


def install(etc: Path, line: str, *nodes: str, node: int = 1) -> None:
    """Write EMQX's files as install.sh emqx does."""
    if not (etc / "emqx.conf").exists():
        (etc / "emqx.conf").write_text(SHIPPED[line])
        (etc / "acl.conf").write_text(ACL)
    script = """
set -eu; EMQX_UNIT=emqx.service
. "$SOURCE/deploy/install/emqx_files.sh"
SCRATCH=$ETC/../scratch EMQX_ETC=$ETC EMQX_COOKIE_FILE=$ETC/../cookie
COOKIE=cYzc0NGExM2RjYzc0NGExM2Rj NODES=("$@")
rm -rf "$SCRATCH"; write_emqx_files
emqx_files | sed '$d' | while read -r to mode from; do install -m "$mode" "$from" "$to"; done
"""
    environment = {
        "PATH": "/usr/bin:/bin",
        "SOURCE": str(ROOT),
        "ETC": str(etc),
        "EMQX_LINE": line,
        "NODE": str(node),
    }
    subprocess.run(["bash", "-c", script, "bash", *(nodes or NODES)], check=True, env=environment)


def settings(etc: Path, line: str) -> dict[str, object]:
    """What EMQX reads, by the full name of each setting."""
    if line == "5.8":
        return flat(ConfigFactory.parse_file(str(etc / "emqx.conf"), required=True))
    pairs = (
        text.split(" = ") for text in (etc / "emqx.conf").read_text().splitlines() if text[:1] not in "#"
    )
    return dict(pairs)  # type: ignore[arg-type]


def flat(tree: ConfigTree, above: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in tree.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, ConfigTree) else {above + name: value}
    return found


def schema(line: str) -> dict[str, str]:
    text = (Path(__file__).parent / "emqx" / f"keys-{line}.txt").read_text()
    return dict(row.split(None, 1) for row in text.splitlines() if row and row[0] != "#")  # type: ignore[misc]


def fits(value: object, kind: str) -> bool:
    name, *words = kind.split()
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if name == "integer" and words:
        low, _, high = words[0].partition("-")
        return text.isdigit() and int(low) <= int(text) <= int(high or 2**63)
    if name == "enum":
        return text in words
    if name == "nodes":
        names = value if isinstance(value, list) else text.split(",")
        return bool(names) and all(re.fullmatch(r"emqx@[\w.-]+\.[\w.-]+", name) for name in names)
    if isinstance(value, timedelta):
        return name == "duration"
    forms = {
        "string": r".+",
        "integer": r"-?\d+",
        "number": r"[\d.]+",
        "boolean": "true|false",
        "flag": "on|off",
        "duration": r"(\d+(ms|s|m|h|d))+",
        "bytesize": r"\d+(KB|MB|GB)",
        "address": r"(\d+\.){3}\d+:\d+",
    }
    return re.fullmatch(forms[name], text) is not None


@lines
def test_emqx_knows_every_setting_and_its_value_has_the_right_type(etc: Path, line: str) -> None:
    install(etc, line)
    known = {
        re.compile(re.escape(key).replace(r"\$name", r"\w+")): kind for key, kind in schema(line).items()
    }
    ours = settings(etc, line)
    assert len(ours) > 12
    kinds = {key: [kind for form, kind in known.items() if form.fullmatch(key)] for key in ours}
    assert [key for key, found in kinds.items() if not found] == [], "in no list of EMQX's settings"
    assert {key: value for key, value in ours.items() if not fits(value, kinds[key][0])} == {}


@pytest.mark.parametrize(
    ("value", "kind"),
    [("20", "duration"), (timedelta(seconds=20), "integer"), ("64", "bytesize"), (70000, "integer 1-65535"),
     (True, "flag"), ("off", "boolean"), ("later", "enum sync async"), (["emqx@pi"], "nodes")],
)  # fmt: skip
def test_a_value_of_another_type_is_seen(value: object, kind: str) -> None:
    assert not fits(value, kind)


@lines
def test_each_setting_has_its_reason(line: str) -> None:
    groups = (EMQX / line / "mqtt-kafka-bridge.conf").read_text().split("\n\n")
    without = [group for group in groups if " = " in group and not group.startswith("#")]
    assert without == []


def test_both_lines_get_the_same_values(etc: Path) -> None:
    install(etc, "5.8")
    new = settings(etc, "5.8")
    for name in ("emqx.conf", "acl.conf"):
        (etc / name).unlink()
    install(etc, "4.4")
    old = settings(etc, "4.4")
    for name in ("max_inflight", "max_mqueue_len"):
        assert int(str(old[f"zone.external.{name}"])) == new[f"mqtt.{name}"]
    assert new["mqtt.session_expiry_interval"] == timedelta(
        hours=int(str(old["zone.external.session_expiry_interval"])[:-1])
    )
    assert new["node.dist_net_ticktime"] == timedelta(seconds=int(str(old["node.dist_net_ticktime"])))
    for name in ("node.name", "rpc.mode"):
        assert new[name] == old[name]
    assert new["cluster.static.seeds"] == str(old["cluster.static.seeds"]).split(",")
    assert new["listeners.tcp.default.bind"] == old["listener.tcp.external"]


@lines
def test_each_node_has_its_own_name_and_all_seeds(etc: Path, line: str) -> None:
    install(etc, line, node=2)
    ours = settings(etc, line)
    assert ours["node.name"] == "emqx@emq2.example.org"
    seeds = ours["cluster.static.seeds"]
    assert (seeds if isinstance(seeds, list) else str(seeds).split(",")) == [f"emqx@{node}" for node in NODES]
    assert "node.cookie" not in ours


@lines
def test_a_second_installation_writes_the_same_and_keeps_what_is_not_ours(etc: Path, line: str) -> None:
    install(etc, line)
    before = {file.name: file.read_text() for file in etc.iterdir()}
    install(etc, line)
    assert {file.name: file.read_text() for file in etc.iterdir()} == before
    assert before["emqx.conf"].startswith(SHIPPED[line])
    assert before["acl.conf"].endswith(ACL)
    install(etc, line, "172.30.1.25")
    assert before["emqx.conf"].count("install.sh emqx:") == 1
    assert NODES[1] not in (etc / ("emqx.conf" if line == "4.4" else "mqtt-kafka-bridge.conf")).read_text()


def test_the_cookie_is_in_the_variable_that_the_line_reads(etc: Path) -> None:
    for line, variable in (("5.8", "EMQX_NODE__COOKIE"), ("4.4", "EMQX_NODE_COOKIE")):
        install(etc, line)
        assert f"\n{variable}=cYzc0NGExM2RjYzc0NGExM2Rj\n" in (etc.parent / "cookie").read_text()


# -- acl.conf ------------------------------------------------------------------------------------------

RULE = re.compile(r'\{allow, \{(user|client|clientid), ("[\w-]+"|\{re, "[^"]+"\})\}, subscribe, \["#"\]\}\.')


@lines
def test_the_access_rules_are_terms_that_this_line_of_emqx_reads(line: str) -> None:
    text = (EMQX / line / "acl.conf").read_text()
    rules = [rule for rule in text.splitlines() if not rule.startswith("%%")]
    assert [rule for rule in rules if not RULE.fullmatch(rule)] == []
    if line == "4.4":  # src/emqx_access_rule.erl: {client, ClientId}, and no regular expressions
        assert "{re," not in text
        assert "clientid" not in text


@lines
def test_the_access_rules_are_for_every_client_id_that_the_bridge_uses(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path, monkeypatch)
    machine.write((ROOT / "deploy" / "bridge.toml").read_text())
    client_id = machine.read().settings.mqtt.client_id
    found = re.findall(
        r'\{client(?:id)?, (?:"([\w-]+)"|\{re, "([^"]+)"\})\}', (EMQX / line / "acl.conf").read_text()
    )
    forms = [re.escape(plain) + "$" if plain else form for plain, form in found]
    for used in (client_id, f"{client_id}-dry-run", f"{client_id}-check"):
        assert any(re.match(form, used) for form in forms), used


def test_the_window_is_the_bridges(etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch)
    machine.write((ROOT / "deploy" / "bridge.toml").read_text())
    install(etc, "5.8")
    assert settings(etc, "5.8")["mqtt.max_inflight"] == machine.read().settings.mqtt.receive_maximum
