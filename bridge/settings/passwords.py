"""Passwords that live in files of their own, read again whenever they are needed.

So a changed password takes effect with the next connection, and no restart. A file that the settings name
comes first, then the settings themselves, then what systemd provides (LoadCredential= in systemd.exec(5)).
"""

import errno
import os
from pathlib import Path

from bridge.errors import BridgeError
from bridge.settings.kafka import KafkaSettings
from bridge.settings.mqtt import MqttSettings

MQTT_CREDENTIAL, KAFKA_CREDENTIAL = "mqtt-password", "kafka-password"

_WAYS_OUT = {
    errno.EACCES: "the user that the bridge runs as must be able to: sudo chgrp GROUP FILE; sudo chmod 640 FILE",
    errno.ENOENT: "create it, or correct the path in the settings",
    errno.EISDIR: "name the file in it",
}


def read_mqtt_password(settings: MqttSettings) -> str | None:
    """The password for `settings.username`. None: there is none. Raises BridgeError where it can't be read."""
    if settings.username is None:
        return None
    if settings.password is not None:
        return settings.password.get_secret_value()
    return _read(settings.password_file or credential(MQTT_CREDENTIAL), "mqtt.password_file")


def read_kafka_password(settings: KafkaSettings) -> str | None:
    """The value for sasl.password. None: there is none, or it is among the options. Raises BridgeError."""
    if settings.sasl_username is None or "sasl.password" in settings.options:
        return None
    return _read(settings.password_file or credential(KAFKA_CREDENTIAL), "kafka.password_file")


def credential(name: str) -> Path | None:
    """Where systemd put the credential of that name, if it did."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory, name) if directory else None
    return path if path and path.exists() else None


def _read(path: Path | None, setting: str) -> str | None:
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        way_out = _WAYS_OUT.get(error.errno or 0, f"it is named by {setting}")
        raise BridgeError(
            f"cannot read {path}: {(error.strerror or str(error)).lower()} ({way_out})"
        ) from None
    except UnicodeDecodeError:
        raise BridgeError(f"cannot read {path}: it is not UTF-8 (it must hold the password alone)") from None
    password = text.removesuffix("\n").removesuffix("\r")
    if not password:
        raise BridgeError(f"cannot use {path}: it is empty (it must hold the password alone)")
    return password
