"""The JSON envelope: one MQTT message as one JSON object, for consumers that can't read Kafka headers.

    {"topic": "sensors/kitchen/temp", "qos": 1, "retained": false, "duplicate": false,
     "timestamp": 1795369709000, "properties": {}, "payload": "21.5"}

The keys are always the same, except that a payload that is not UTF-8 is in "payload_base64". A payload that
is JSON itself stays a string. An embedded JSON value would not keep the payload's bytes (digits of numbers,
repeated keys), and the field's type would differ from message to message.
"""

import json
from base64 import b64encode
from typing import Any

from bridge.message import Message, Properties

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def envelope(message: Message) -> bytes:
    """The envelope as UTF-8. The MQTT topic must be valid UTF-8; a topic that has a Plan always is."""
    return _encode(
        {
            "topic": message.topic.decode(),
            "qos": message.qos,
            "retained": message.retain,
            "duplicate": message.dup,
            "timestamp": None if message.timestamp == -1 else message.timestamp,
            "properties": {} if message.properties is None else present(message.properties),
            **text_or_base64("payload", message.payload),
        }
    ).encode()


def text_or_base64(key: str, data: bytes) -> dict[str, str]:
    """`{key: text}` if the bytes are UTF-8, otherwise `{key_base64: ...}`."""
    try:
        return {key: data.decode()}
    except UnicodeDecodeError:
        return {f"{key}_base64": b64encode(data).decode()}


def present(properties: Properties) -> dict[str, Any]:
    found: dict[str, Any] = {
        "payload_format": properties.payload_format,
        "message_expiry": properties.message_expiry,
        "content_type": properties.content_type,
        "response_topic": properties.response_topic,
    }
    found = {name: value for name, value in found.items() if value is not None}
    if properties.correlation_data is not None:
        found["correlation_data_base64"] = b64encode(properties.correlation_data).decode()
    if properties.user:
        found["user"] = [list(pair) for pair in properties.user]  # pairs, because a name may occur twice
    return found
