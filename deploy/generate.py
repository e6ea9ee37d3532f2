"""Writes bridge.toml from the settings, and the template unit from the unit: python deploy/generate.py

tests/artefacts/test_deploy.py fails if a file is out of date.
"""

import re
import sys
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from pydantic.fields import FieldInfo  # noqa: E402

from bridge.settings import describe  # noqa: E402
from bridge.settings.changes import TAKEN_WHILE_RUNNING  # noqa: E402
from bridge.settings.load import DEFAULT_FILE  # noqa: E402
from bridge.settings.section import Key  # noqa: E402

_WIDTH = 100
_UNIT = HERE / "systemd" / "mqtt-kafka-bridge.service"

# Settings with another value than the default. The founding document's addresses; install.sh replaces them.
_SET = {
    ("mqtt", "host"): '"172.30.1.10"',
    ("mqtt", "port"): "1884",
    ("kafka", "bootstrap_servers"): '"172.30.1.31:9092,172.30.1.32:9092,172.30.1.33:9092"',
    ("routes", "name"): '"everything"',
    # EMQX refuses "#" alone by default.
    ("routes", "filter"): '"+/#"',
    ("routes", "topic"): '"mqtt"',
}


def files() -> dict[Path, str]:
    """The text of each file, by its path."""
    return {
        HERE / "bridge.toml": "\n".join(_settings()).rstrip() + "\n",
        _UNIT.with_name("mqtt-kafka-bridge@.service"): _template(_UNIT.read_text()),
    }


# -- bridge.toml ---------------------------------------------------------------------------------------


def _taken_while_running() -> str:
    *others, last = sorted(TAKEN_WHILE_RUNNING)
    return f"{', '.join(others)} and {last}"


def _settings() -> Iterator[str]:
    yield f"""# The settings of mqtt-kafka-bridge, {DEFAULT_FILE}
#
# This file lists every setting. A line that begins with "#" shows the default; no value means no default.
# "mqtt-kafka-bridge config" shows the value in force of each setting and its source.
# After a change run "sudo mqtt-kafka-bridge config". If that prints no error, run
# "sudo systemctl reload mqtt-kafka-bridge".
# A reload changes {_taken_while_running()}.
# For any other setting run "sudo systemctl restart mqtt-kafka-bridge".
#
# Write durations as 200ms, 60s, 5min, 3h, 7d, and sizes as 64KiB, 16MB, 1GB.
"""
    tables = {key: field for key, field in describe.walk() if describe.table(field.annotation)}
    for table, settings in groupby(describe.fields(), key=lambda item: item[0][:-1]):
        if table:
            yield from _comment((tables[table].description or "").rstrip(".") + ".")
            yield f"[[{table[0]}]]\n" if table == ("routes",) else f"[{describe.dotted(table)}]\n"
        for key, field in settings:
            yield from _comment(field.description or "")
            yield from _setting(key, field)


def _setting(key: Key, field: FieldInfo) -> Iterator[str]:
    default = describe.default(field)
    if key == describe.OPTIONS:
        yield f"[{describe.dotted(key)}]\n"
        return
    allowed = describe.allowed(field)
    if allowed not in ("a path", "text", "text that is not empty"):
        yield from _comment(f"Allowed: {allowed}.")
    if key in _SET:
        yield f"{key[-1]} = {_SET[key]}\n"
    else:
        yield f"#{key[-1]} = {default}\n" if default is not None else f"#{key[-1]} =\n"


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(text, _WIDTH - 2, break_on_hyphens=False):
        yield f"# {line}"


# -- mqtt-kafka-bridge@.service ------------------------------------------------------------------------


def _template(unit: str) -> str:
    """The unit for one of several bridges, with its own names for settings, state and passwords."""
    head = (
        "# Made by deploy/generate.py from mqtt-kafka-bridge.service; change that.\n"
        "# mqtt-kafka-bridge@NAME reads /etc/mqtt-kafka-bridge/NAME.toml.\n"
    )
    text = head + re.sub(r"\A(#.*\n)+", "", unit)
    for plain, instance in (
        ("Description=MQTT to Kafka bridge", "Description=MQTT to Kafka bridge, %i"),
        ("/etc/mqtt-kafka-bridge/bridge.toml", "/etc/mqtt-kafka-bridge/%i.toml"),
        ("StateDirectory=mqtt-kafka-bridge", "StateDirectory=mqtt-kafka-bridge/%i"),
        (":mqtt-kafka-bridge.", ":mqtt-kafka-bridge@%i."),
    ):
        if plain not in text:
            raise ValueError(f"{_UNIT.name} has no {plain}")
        text = text.replace(plain, instance)
    return text


def main() -> None:
    for path, text in files().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
