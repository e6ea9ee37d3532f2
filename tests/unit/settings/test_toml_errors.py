"""The slips of TOML that people make: each is told with its line, and with the line that is right."""

import tomllib

import pytest

from bridge.settings.toml_errors import bracket_slips, sentence

QUOTES = "text needs quotation marks; write "
HALF = "a quotation mark is missing; write "
BRACKET = "a bracket is missing or too many; write "
STRAIGHT = "the quotation marks must be straight ones; write "
SMALL = "true and false are written in small letters; write "
SIGN = "the sign between the name and the value must be =; write "
BACKSLASH = "a backslash means something else between double quotation marks; write "

# fmt: off
SLIPS = [
    ("[mqtt]\nhost = emq", 2, f'{QUOTES}host = "emq"'),
    ("[mqtt]\nhost = emq # the broker", 2, f'{QUOTES}host = "emq"'),
    ("[mqtt]\n\nhost = 192.168.1.7\nport = 1883", 3, f'{QUOTES}host = "192.168.1.7"'),
    ("mqtt.host = emq", 1, f'{QUOTES}mqtt.host = "emq"'),
    ("[kafka]\nbootstrap_servers = k1:9092,k2:9092", 2, f'{QUOTES}bootstrap_servers = "k1:9092,k2:9092"'),
    ("[mqtt]\nkeepalive = 60s", 2, f'{QUOTES}keepalive = "60s"'),
    ("[[routes]]\nfilter = sensors/#", 2, f'{QUOTES}filter = "sensors/#"'),
    ("[[routes]]\ntopic = iot.{site}", 2, f'{QUOTES}topic = "iot.{{site}}"'),
    ("[mqtt.tls]\nca_file = /etc/ca.pem", 2, f'{QUOTES}ca_file = "/etc/ca.pem"'),
    ('[mqtt]\nhost = "emq\nport = 1', 2, f'{HALF}host = "emq"'),
    ('[mqtt]\nhost = "emq', 2, f'{HALF}host = "emq"'),
    ("[mqtt]\nhost = 'emq", 2, f'{HALF}host = "emq"'),
    ('[mqtt]\nhost = emq"', 2, f'{HALF}host = "emq"'),
    ("[mqtt]\nhost = \u201cemq\u201d", 2, f'{STRAIGHT}host = "emq"'),
    ("[mqtt.tls]\nenabled = True", 2, f"{SMALL}enabled = true"),
    ("[mqtt.tls]\nenabled = off", 2, f"{SMALL}enabled = false"),
    ("[mqtt]\nport = 1883;", 2, "the ; at the end is too much; write port = 1883"),
    ("[mqtt]\nport = 01883", 2, "a number begins with no 0; write port = 1883"),
    ("[mqtt]\nport =", 2, "port has no value; write port = 1884"),
    ("[mqtt]\nhost =", 2, 'host has no value; write host = "..."'),
    ('[mqtt]\nhost "emq"', 2, f'{SIGN}host = "emq"'),
    ('[mqtt]\nhost := "emq"', 2, f'{SIGN}host = "emq"'),
    ("[mqtt]\nport == 1883", 2, f"{SIGN}port = 1883"),
    ('[mqtt\nhost = "emq"', 1, f"{BRACKET}[mqtt]"),
    ('[[routes]\nname = "a"', 1, f"{BRACKET}[[routes]]"),
    ('[routes]]\nname = "a"', 1, f"{BRACKET}[[routes]]"),
    ('[spool]\ndirectory = "C:\\x"', 2, f"{BACKSLASH}directory = 'C:\\x'"),
    ("[mqtt]\nport = 1\nport = 2", 3, "port is there already, in line 2; keep one of them"),
    ("port = 1\nport = 2", 2, "port is there already, in line 1; keep one of them"),
    ('[[routes]]\nname = "a"\n[[routes]]\nname = "b"\nname = "c"', 5,
     "name is there already, in line 4; keep one of them"),
    ("[mqtt]\n[kafka]\n[mqtt]", 3, "[mqtt] is there already, in line 1; put the settings of both under one"),
    # what nobody can guess keeps tomllib's words
    ("[mqtt]\n= 5", 2, "Invalid statement"),
    ("[[routes]]\nheaders = [a, b]", 2, "Invalid value"),
    ('"host = "emq"', 1, "Expected '=' after a key in a key/value pair"),
]
# fmt: on


@pytest.mark.parametrize(("text", "line", "said"), SLIPS)
def test_a_slip_is_told_with_its_line_and_the_right_one(text: str, line: int, said: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(text)
    assert sentence(text, caught.value) == (line, said)


@pytest.mark.parametrize(("text", "line", "said"), [slip for slip in SLIPS if "; write " in slip[2]])
def test_what_it_says_to_write_is_toml(text: str, line: int, said: str) -> None:
    tomllib.loads(said.partition("; write ")[2])


@pytest.mark.parametrize(
    "text",
    ["[mqtt]\npassword = hunter2", '[kafka.options]\nsasl.password = "hunter2', "[mqtt]\npassword: hunter2"],
)
def test_a_secret_is_not_repeated(text: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(text)
    _, said = sentence(text, caught.value)
    assert "hunter2" not in said
    assert 'password = "***"' in said


def test_a_heading_of_the_wrong_kind_is_told_where_it_is_toml_too() -> None:
    several = "since there may be several routes; write [[routes]] above each of them"
    assert bracket_slips('\n[routes] # x\nname = "a"\n[[mqtt.tls]]\n') == [
        (2, f"[routes] needs two pairs of brackets, {several}"),
        (4, "[[mqtt.tls]] has one pair of brackets too many; write [mqtt.tls]"),
    ]
    assert bracket_slips("[[routes]]\n[mqtt]\n[mqtt.tls]\n[[no.table.of.ours]]\n") == []
