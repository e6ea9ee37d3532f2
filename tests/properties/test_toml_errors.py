"""Any text that is no TOML has a line and a reason; what the reason says to write is TOML."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from bridge.settings.toml_errors import bracket_slips, sentence

_WORDS = ["[[", "]]", "mqtt", "routes", "host", "port", "password", "1883", "emq", "/x", "true", "True"]
PARTS = st.sampled_from([*"[].=:\"'\\#;, \n\0\x0b\u201c\u201d\u2028", *_WORDS])


@given(st.lists(PARTS, max_size=25).map("".join) | st.text(max_size=40))
def test_every_text_that_is_no_toml_has_a_reason(text: str) -> None:
    bracket_slips(text)
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, said = sentence(text, error)
    else:
        return
    assert 0 <= line <= text.count("\n") + 2
    assert said
    if "; write " in said and "***" not in said:
        tomllib.loads(said.partition("; write ")[2])
