"""Messages as the programs of docs/how-to/smart-home.md publish them: topics, payloads, QoS, retain flags."""

import json
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple


class Sent(NamedTuple):
    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


def _json(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


# -- Sparkplug's Protobuf (sparkplug_b.proto: Payload, Metric) -------------------------------------------

_DOUBLE, _UINT64 = 10, 8  # data types of a metric


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def _field(number: int, value: int | float | bytes) -> bytes:
    if isinstance(value, float):
        return _varint(number << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _metric(name: str, value: int | float) -> bytes:
    kind, field = (_DOUBLE, 13) if isinstance(value, float) else (_UINT64, 11)
    return _field(1, name.encode()) + _field(3, 1795369709000) + _field(4, kind) + _field(field, value)


def sparkplug(seq: int | None, **metrics: int | float) -> bytes:
    """A payload of Sparkplug B. NDEATH has no `seq`."""
    body = _field(1, 1795369709000)
    body += b"".join(_field(2, _metric(name, value)) for name, value in metrics.items())
    return body if seq is None else body + _field(3, seq)


# -- what is sent ----------------------------------------------------------------------------------------

_JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffdb0043") + bytes(range(256)) + b"\xff\xd9"

_CHIRPSTACK = "application/3b1f5c0e-6d3a-4b0c-9a53-0b9d5bb1d2f4/device/0102030405060708/event"
_DEVICE = {
    "tenantId": "52f14cd4-c6f1-4fbd-8f87-4025e1d49242",
    "applicationId": "3b1f5c0e-6d3a-4b0c-9a53-0b9d5bb1d2f4",
    "deviceName": "garden probe",
    "devEui": "0102030405060708",
}

# By the titles of the page's sections.
SENT: dict[str, list[Sent]] = {
    "Zigbee2MQTT": [
        Sent("zigbee2mqtt/bridge/state", _json(state="online"), retain=True),
        Sent("zigbee2mqtt/living room lamp/availability", _json(state="online"), 1, retain=True),
        Sent(
            "zigbee2mqtt/living room lamp",
            _json(state="ON", brightness=254, color_mode="color_temp", linkquality=120),
        ),
        Sent(
            "zigbee2mqtt/0x00158d0001a2b3c4",
            _json(battery=97, humidity=48.2, pressure=1002, temperature=21.53, voltage=2985),
        ),
        Sent("zigbee2mqtt/living room lamp/set", _json(state="OFF")),
    ],
    "Tasmota": [
        Sent("tele/plug1/LWT", b"Online", retain=True),
        Sent(
            "tele/plug1/STATE",
            _json(Time="2026-11-28T20:15:02", Uptime="1T02:03:04", Heap=26, POWER="ON", Wifi={"RSSI": 82}),
        ),
        Sent(
            "tele/plug1/SENSOR",
            _json(Time="2026-11-28T20:15:02", ENERGY={"Total": 3.185, "Power": 42, "Voltage": 229}),
        ),
        Sent("stat/plug1/RESULT", _json(POWER="ON")),
        Sent("stat/plug1/POWER", b"ON"),
    ],
    "Home Assistant": [
        Sent("statestream/sensor/kitchen_temperature/state", b"21.5", 1, retain=True),
        Sent("statestream/light/desk/brightness", b"180", 1, retain=True),
        Sent(
            "homeassistant/sensor/0x00158d0001a2b3c4/temperature/config",
            _json(
                name="Temperature",
                device_class="temperature",
                state_topic="zigbee2mqtt/0x00158d0001a2b3c4",
                unique_id="0x00158d0001a2b3c4_temperature_zigbee2mqtt",
                unit_of_measurement="°C",
                value_template="{{ value_json.temperature }}",
            ),
            1,
            retain=True,
        ),
        Sent(
            "homeassistant/switch/plug1/config",
            _json(name="plug1", command_topic="cmnd/plug1/POWER"),
            0,
            True,
        ),
        Sent("homeassistant/switch/plug1/config", b"", 0, True),  # the device is removed
        Sent("homeassistant/status", b"online", retain=True),
    ],
    "ESPHome": [
        Sent("esp/livingroom/status", b"online", retain=True),
        Sent("esp/livingroom/sensor/temperature/state", b"21.4", retain=True),
        Sent("esp/livingroom/switch/relay/state", b"OFF", retain=True),
        Sent("esp/livingroom/debug", b"\x1b[0;36m[D][sensor:093]: 'temperature': Sending state 21.4\x1b[0m"),
        Sent("esp/livingroom/switch/relay/command", b"ON"),
    ],
    "Frigate": [
        Sent("frigate/available", b"online", retain=True),
        Sent(
            "frigate/events",
            _json(
                type="new",
                before={"id": "1795369709.475377-mxklsc", "camera": "front_door", "label": "person"},
                after={"id": "1795369709.475377-mxklsc", "camera": "front_door", "label": "person"},
            ),
        ),
        Sent("frigate/reviews", _json(type="new", after={"camera": "front_door", "severity": "alert"})),
        Sent("frigate/front_door/person", b"1"),
        Sent("frigate/front_door/motion", b"ON"),
        Sent("frigate/front_door/person/snapshot", _JPEG, retain=True),
    ],
    "ChirpStack": [
        Sent(f"{_CHIRPSTACK}/join", _json(deviceInfo=_DEVICE, devAddr="00189440")),
        Sent(
            f"{_CHIRPSTACK}/up",
            _json(
                deduplicationId="3ac7e3c4-4401-4b8d-9386-a5c902f9202d",
                time="2026-11-28T20:15:02.123+00:00",
                deviceInfo=_DEVICE,
                devAddr="00189440",
                fCnt=10,
                fPort=1,
                data="AWcA1wJoYA==",
                object={"temperature": 21.5, "humidity": 48},
                rxInfo=[{"gatewayId": "0016c001f153a14c", "rssi": -48, "snr": 9}],
            ),
        ),
        Sent(f"{_CHIRPSTACK}/status", _json(deviceInfo=_DEVICE, margin=10, batteryLevel=75.5)),
    ],
    "OwnTracks": [
        Sent(
            "owntracks/anna/phone",
            _json(_type="location", acc=12, batt=81, lat=50.0371, lon=8.5622, tid="an", tst=1795369709),
            1,
            retain=True,
        ),
        Sent(
            "owntracks/anna/phone/event",
            _json(_type="transition", event="leave", desc="home", lat=50.04, lon=8.56, tst=1795369709),
            1,
        ),
        Sent("owntracks/anna/phone", _json(_type="lwt", tst=1795369709), 1),
    ],
    "Sparkplug": [
        Sent("spBv1.0/STATE/scada", _json(online=True, timestamp=1795369709000), 1, retain=True),
        Sent("spBv1.0/plant/NBIRTH/edge1", sparkplug(0, bdSeq=0, uptime=1)),
        Sent("spBv1.0/plant/DBIRTH/edge1/pump", sparkplug(1, pressure=2.25)),
        Sent("spBv1.0/plant/DDATA/edge1/pump", sparkplug(2, pressure=2.5)),
        Sent("spBv1.0/plant/NCMD/edge1", sparkplug(None, rebirth=1)),
        Sent("spBv1.0/plant/NDEATH/edge1", sparkplug(None, bdSeq=0), 1),
    ],
}


def everything() -> Iterator[Sent]:
    for messages in SENT.values():
        yield from messages
