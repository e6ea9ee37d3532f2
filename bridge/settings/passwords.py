"""Reads the password files: at each MQTT connect, after a refusal by Kafka, each time a neighbour is
asked, at each request to the page.

So a changed password takes effect without a restart.
"""

import errno
from pathlib import Path

from bridge.errors import BridgeError
from bridge.settings.http import HttpSettings
from bridge.settings.kafka import KafkaSettings
from bridge.settings.mqtt import MqttSettings
from bridge.settings.neighbours import EmqxSettings, HaproxySettings
from bridge.settings.text import NotUtf8, decode

_LONGEST = 65_535  # bytes; MQTT's CONNECT counts them in two bytes (MQTT 5, 1.5.4)

_KEY = "the API key, a colon and the secret key"

_WAYS_OUT = {
    errno.EACCES: "let the bridge's user read it: sudo chgrp GROUP FILE and sudo chmod 640 FILE",
    errno.ENOENT: "create it, or correct the path in the settings",
    errno.EISDIR: "name the file in it",
}


def read_mqtt_password(settings: MqttSettings) -> str | None:
    """The password for `settings.username`, or None. Raises BridgeError if its file can't be read."""
    if settings.password_file is not None:
        return _read(settings.password_file, "mqtt.password_file")
    return settings.password.get_secret_value() if settings.password else None


def read_kafka_password(settings: KafkaSettings) -> str | None:
    """The value for sasl.password; None if no file is set. Raises BridgeError if it can't be read."""
    return _read(settings.password_file, "kafka.password_file") if settings.password_file else None


def read_haproxy_password(settings: HaproxySettings) -> str | None:
    """The console's password; None if no file is set. Raises BridgeError if it can't be read."""
    return _read(settings.password_file, "haproxy.password_file") if settings.password_file else None


def read_http_password(settings: HttpSettings) -> str | None:
    """The page's password; None if no file is set. Raises BridgeError if it can't be read."""
    return _read(settings.password_file, "http.password_file") if settings.password_file else None


def read_emqx_key(settings: EmqxSettings) -> tuple[str, str]:
    """API key and secret key. Raises BridgeError if the file can't be read or has another form."""
    if settings.key_file is None:
        raise BridgeError("emqx.key_file is missing: EMQX's API answers nobody without a key")
    key, colon, secret = _read(settings.key_file, "emqx.key_file", _KEY).partition(":")
    if not colon or not key or not secret:
        raise BridgeError(
            f"cannot use {settings.key_file}: it has no colon between two texts (it must hold {_KEY}, in"
            " one line)"
        )
    return key, secret


def _read(path: Path, setting: str, content: str = "the password alone") -> str:
    """The file's one line, which must hold `content`.

    Leaves out what an editor adds: line breaks at the end, a byte-order mark.
    """
    try:
        text = decode(path.read_bytes())
    except OSError as error:
        way_out = _WAYS_OUT.get(error.errno or 0, f"{setting} names it")
        raise BridgeError(
            f"cannot read {path}: {(error.strerror or str(error)).lower()} ({way_out})"
        ) from None
    except NotUtf8 as error:
        way_out = error.way_out.replace("FILE", str(path))
        raise BridgeError(f"cannot read {path}: {error.reason} ({way_out})") from None
    password = text.rstrip("\r\n")
    if not password:
        raise BridgeError(f"cannot use {path}: it is empty (it must hold {content})")
    if "\n" in password or "\r" in password:
        lines = len(password.splitlines())
        raise BridgeError(f"cannot use {path}: it has {lines} lines (it must hold {content}, in one line)")
    if "\0" in password:
        raise BridgeError(f"cannot use {path}: it holds a null character (it must hold {content})")
    if len(password.encode()) > _LONGEST:
        raise BridgeError(f"cannot use {path}: it holds more than {_LONGEST} bytes (it must hold {content})")
    return password
