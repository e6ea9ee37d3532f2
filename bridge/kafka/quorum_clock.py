"""Reads Kafka's clock, without writing anything.

DescribeQuorum (API key 55, version 1: Kafka 3.3 and later) tells for each controller when the leader of
the quorum last heard of it. For the leader itself this is the present time of its clock. librdkafka has no
call for this request, so this module sends it itself, where the listener wants no login. Source: Kafka
protocol guide, "DescribeQuorum"; KIP-836.
"""

import struct
import time

from bridge.kafka import listeners
from bridge.kafka.tls import is_used
from bridge.settings import KafkaSettings

_DESCRIBE_QUORUM, _VERSION = 55, 1
_TOPIC = b"__cluster_metadata"


def seconds_ahead(settings: KafkaSettings) -> float | str:
    """By how many seconds this machine's clock is ahead of Kafka's; or why that can't be told. It blocks."""
    options = settings.client_options()
    if str(options.get("security.protocol", "PLAINTEXT")).upper().startswith("SASL"):
        return "Kafka tells its time only after a login, which this check does not make"
    for server in settings.bootstrap_servers.split(","):
        before = time.time()
        try:
            answer = listeners.ask(server, _DESCRIBE_QUORUM, _VERSION, _request(), tls=is_used(options))
            kafka = latest(answer)
        except (OSError, IndexError, ValueError, struct.error):
            continue
        return (before + time.time()) / 2 - kafka
    return "no broker tells its time (DescribeQuorum: Kafka 3.3 and later, without client certificates)"


def _request() -> bytes:
    """One topic with partition 0. All fields are of the compact kind, with empty tags behind them."""
    no_tags = b"\x00"
    partition = b"\x02" + struct.pack(">i", 0) + no_tags
    topic = b"\x02" + bytes([len(_TOPIC) + 1]) + _TOPIC + partition + no_tags
    return no_tags + topic + no_tags


def latest(answer: bytes) -> float:
    """The latest time in an answer to DescribeQuorum, in seconds since 1970. Pure.

    Raises ValueError where the answer is an error; IndexError or struct.error where it is cut.
    """
    at = 1  # behind the header's empty tags

    def take(form: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(form, answer, at)
        at += struct.calcsize(form)
        return int(value)

    def count() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = answer[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    if error := take(">h"):
        raise ValueError(f"DescribeQuorum: error {error}")
    if count() != 2:  # one topic
        raise ValueError("DescribeQuorum: not one topic")
    length = count() - 1  # of its name; `at += count()` would read `at` before count() changes it
    at += length
    if count() != 2:
        raise ValueError("DescribeQuorum: not one partition")
    take(">i")
    if error := take(">h"):
        raise ValueError(f"DescribeQuorum: error {error}")
    take(">i")  # leader's id
    take(">i")  # its epoch
    take(">q")  # high watermark
    newest = -1
    for _ in ("voters", "observers"):
        for _replica in range(count() - 1):
            take(">i")  # id
            take(">q")  # log's end
            newest = max(newest, take(">q"))  # last fetch
            take(">q")  # last caught up
            if count():
                raise ValueError("DescribeQuorum: unknown tags")
    if newest <= 0:
        raise ValueError("DescribeQuorum: no time")
    return newest / 1000
