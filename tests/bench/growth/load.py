"""The traffic of one point: messages round-robin over MQTT topics whose levels are decimal digits.

The digits make many routes and many Kafka topics out of the same MQTT topics: 10 routes name the first digit,
100 the first two, up to 10,000. So two points differ in the number of routes, and in nothing that is sent.
"""

import socket
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tests.bench import backlog
from tests.bench.peers import Place, bridge_settings
from tests.harness.packets import Disconnect

DIGITS = 4
LEVELS = [f"{{d{place}}}" for place in range(DIGITS)]
_AT_ONCE = 500  # messages that are sent before waiting for their acknowledgements,
_BYTES_AT_ONCE = 4_000_000  # or so many bytes
_ACK_BYTES = 4
_PUBREL = b"\x62\x02"
_PINGREQ, _PINGRESP = b"\xc0\x00", b"\xd0\x00"


@dataclass(frozen=True)
class Load:
    """`count` messages. The bridge's settings are as shipped, except for those that are given here."""

    count: int
    devices: int = 10
    """How many MQTT topics. Two messages of one topic are `devices` messages apart."""
    routes: int = 1
    kafka_topics: int | None = None
    """A power of ten: the devices' messages go to so many topics. None: to one topic with partitions."""
    size: int = 100
    qos: int = 1
    window: int = 100
    """Messages in flight, at most: from the broker to the bridge, and from the bare producer to Kafka."""

    def payload(self, number: int) -> bytes:
        return b"%-*d" % (self.size, number)

    def settings(self, place: Place) -> dict[str, Any]:
        """The contents of bridge.toml."""
        settings = bridge_settings(place)
        del settings["kafka"]["options"]
        settings["mqtt"]["receive_maximum"] = self.window
        topic = "iot.{site}" if self.kafka_topics is None else _many(LEVELS[: _exponent(self.kafka_topics)])
        settings["routes"] = routes(place.site, self.routes, topic, self.qos)
        return settings

    def topics(self, place: Place) -> list[str]:
        """The Kafka topics."""
        if self.kafka_topics is None:
            return [place.topic]
        places = _exponent(self.kafka_topics)
        return [_many(digits(number)[:places]) for number in range(self.kafka_topics)]


def mqtt_topic(root: str, site: str, device: int) -> str:
    return "/".join([root, site, *digits(device)])


def digits(number: int) -> list[str]:
    """The number's decimal digits, the last one first. What is beyond DIGITS stays together at the end."""
    found = []
    for _ in range(DIGITS - 1):
        number, digit = divmod(number, 10)
        found.append(str(digit))
    return [*found, str(number)]


def routes(site: str, count: int, topic: str, qos: int = 1, root: str = "sensors") -> list[dict[str, Any]]:
    """`count` routes, a power of ten, that together take all the MQTT topics of this root and site."""
    places = _exponent(count)
    # A literal site, except where the Kafka topic needs its name.
    start = [root, "{site}" if "{site}" in topic else site]
    return [
        {
            "name": f"{root}-{number}",
            "filter": "/".join([*start, *digits(number)[:places], *LEVELS[places:]]),
            "topic": topic,
            "qos": qos,
            "headers": ["mqtt.topic", "mqtt.qos"],
        }
        for number in range(count)
    ]


def publish(place: Place, load: Load, root: str = "sensors", per_second: int | None = None) -> None:
    """Publish all messages, and return when the broker has all. `per_second`: not faster than that."""
    heads = (mqtt_topic(root, place.site, device).encode() for device in range(load.devices))
    prefixes = [_prefix(topic, load) for topic in heads]
    # The broker's window holds for what a publisher sends with QoS 2 too.
    at_once = max(1, min(load.window if load.qos == 2 else _AT_ONCE, _BYTES_AT_ONCE // load.size))
    if per_second:
        at_once = min(at_once, per_second // 100)
    numbers = iter(range(load.count))
    began = time.monotonic()
    with closing(backlog.connect(place.mqtt_host, place.mqtt_port, "bench-publisher")) as connection:
        while batch := list(islice(numbers, at_once)):
            if per_second:
                time.sleep(max(0.0, began + batch[0] / per_second - time.monotonic()))
            identifiers = [number.to_bytes(2) if load.qos else b"" for number in range(1, len(batch) + 1)]
            connection.sendall(
                b"".join(
                    prefixes[number % load.devices] + identifier + load.payload(number)
                    for number, identifier in zip(batch, identifiers, strict=True)
                )
            )
            if load.qos:
                _receive(connection, _ACK_BYTES * len(batch))
            if load.qos == 2:  # PUBACK and PUBREC have been received alike
                connection.sendall(b"".join(_PUBREL + identifier for identifier in identifiers))
                _receive(connection, _ACK_BYTES * len(batch))
        connection.sendall(_PINGREQ)  # the broker answers once it has handled all that came before
        if _receive(connection, len(_PINGRESP)) != _PINGRESP:
            raise RuntimeError("the broker did not answer PINGREQ with PINGRESP")
        connection.sendall(Disconnect().encode(4))


def _prefix(topic: bytes, load: Load) -> bytes:
    """The beginning of a PUBLISH of MQTT 3.1.1, up to the topic's end."""
    left = 2 + len(topic) + (2 if load.qos else 0) + load.size
    length = bytearray()
    while True:
        left, low = divmod(left, 128)
        length.append(low | 128 if left else low)
        if not left:
            return bytes([0x30 | load.qos << 1]) + length + len(topic).to_bytes(2) + topic


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError("the broker closed the connection")
        data += more
    return data


def _many(parts: list[str]) -> str:
    return "-".join(["iot.many", *parts])


def _exponent(count: int) -> int:
    """Of a power of ten. Raises ValueError for other numbers, and for more than DIGITS digits make."""
    for exponent in range(DIGITS + 1):
        if count == 10**exponent:
            return exponent
    raise ValueError(f"{count:,} is not 1, 10, 100, 1,000 or 10,000")
