"""Reason codes of CONNACK and DISCONNECT that the session acts on (MQTT 5, 2.4).

Paho translates the return codes of MQTT 3.1.1 into reason codes: 1 is 0x84, 2 is 0x85, 3 is 0x88,
4 is 0x86, 5 is 0x87.
"""

UNSPECIFIED = 0x80  # paho also reports this code for each end that has none
UNSUPPORTED_PROTOCOL_VERSION = 0x84
KEEP_ALIVE_TIMEOUT = 0x8D  # paho also reports this code when no PINGRESP came
SESSION_TAKEN_OVER = 0x8E

# Refusals that only a person can cure: the broker would refuse an early retry in the same way.
CONNACK_WAYS_OUT = {
    UNSUPPORTED_PROTOCOL_VERSION: 'set mqtt.protocol to what the broker speaks, or to "auto"',
    0x85: "set mqtt.client_id to one the broker accepts",
    0x86: "check mqtt.username and mqtt.password_file against the broker's users",
    0x87: "check mqtt.username and mqtt.password_file; if they are right, let the broker's access rules allow"
    " this user and client id to connect",
    0x8A: "the broker has banned this client: lift the ban there",
    0x8C: "let the broker accept user name and password: it asks for another authentication method",
    0x95: "the broker does not accept a CONNECT this long: shorten client id, user name or password",
    0x9C: "the broker asks the bridge to use another server: set mqtt.host",
    0x9D: "the broker has moved: set mqtt.host",
}

# Refusals that time may cure.
_IF_IT_LASTS = {
    0x88: "if this lasts, see whether the broker has started: its log says what it waits for",
    0x89: "if this lasts, the broker has too much to do: look at its processor and memory",
    0x97: "if this lasts, raise the broker's limit of connections",
    0x9F: "if this lasts, raise the broker's limit of new connections a second",
}


def if_it_lasts(code: int) -> str:
    """What a person can do about a refusal that time may cure."""
    return _IF_IT_LASTS.get(code, "if this lasts, the broker's log says why")


def if_it_goes_on_closing(has_balancer: bool, tls: bool) -> str:
    """What a person can do if each connection is closed before CONNACK."""
    if has_balancer:
        return "if this lasts, start the EMQ nodes: HAProxy closes connections while none is up"
    speaks = "mqtt.tls is on, so does the port speak TLS?" if tls else "does the port want TLS (mqtt.tls)?"
    return f"if this lasts, the broker's log says why; {speaks}"
