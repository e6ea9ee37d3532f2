"""Packets that no server may send: each is complete, and wrong in one way.

The error is in the packet itself, so a reader can detect it without earlier or later packets. Topics that are
no valid text are not among them: routing handles those (test_routing.py).
"""

from collections.abc import Callable

from hypothesis import strategies as st

from tests.harness.fields import binary, properties, varint
from tests.harness.packets import Kind, frame

_identifiers = st.integers(1, 0xFFFF).map(lambda number: number.to_bytes(2))
_names = st.binary(min_size=1, max_size=5)
_bodies = st.binary(max_size=40)
_FROM_A_SERVER = (
    Kind.CONNACK, Kind.PUBACK, Kind.PUBREC, Kind.PUBCOMP,
    Kind.SUBACK, Kind.UNSUBACK, Kind.PINGRESP, Kind.DISCONNECT,
)  # fmt: skip
_FROM_A_CLIENT = (Kind.CONNECT, Kind.SUBSCRIBE, Kind.UNSUBSCRIBE, Kind.PINGREQ)


def malformed(version: int) -> st.SearchStrategy[bytes]:
    """A malformed packet of MQTT 3.1.1 (4) or 5."""
    defects: list[Callable[[int], st.SearchStrategy[bytes]]] = [
        _with_flags_that_are_reserved,
        _of_a_client,
        _with_a_length_of_five_bytes,
        _of_which_nobody_wants_so_much,
        _publish_of_qos_3,
        _publish_with_identifier_0,
        _publish_with_parts_beyond_its_end,
        _pubrel_without_identifier,
    ]
    if version == 5:
        defects += [_publish_with_properties_that_it_has_not, _publish_with_properties_beyond_their_end]
    else:
        defects.append(_pubrel_with_more_than_its_identifier)
    return st.one_of([defect(version) for defect in defects])


def _with_flags_that_are_reserved(version: int) -> st.SearchStrategy[bytes]:
    control = st.builds(frame, st.sampled_from(_FROM_A_SERVER), st.integers(1, 15), _bodies)
    wrong = st.sampled_from([flags for flags in range(16) if flags != 2])
    pubrel = st.builds(lambda flags, number: frame(Kind.PUBREL, flags, number), wrong, _identifiers)
    return st.one_of(control, pubrel)


def _of_a_client(version: int) -> st.SearchStrategy[bytes]:
    nothing = st.builds(
        lambda flags, body: bytes([flags]) + varint(len(body)) + body, st.integers(0, 15), _bodies
    )
    return st.one_of(nothing, st.builds(frame, st.sampled_from(_FROM_A_CLIENT), st.integers(0, 15), _bodies))


def _with_a_length_of_five_bytes(version: int) -> st.SearchStrategy[bytes]:
    endless = st.lists(st.integers(0x80, 0xFF), min_size=4, max_size=8).map(bytes)
    return st.builds(lambda head, length: bytes([head]) + length, st.integers(0, 255), endless)


def _of_which_nobody_wants_so_much(version: int) -> st.SearchStrategy[bytes]:
    """Packets that announce too large a size. Only the header is sent, and must be enough."""
    heads = st.sampled_from([0x62, *(kind << 4 for kind in _FROM_A_SERVER)])
    return st.builds(
        lambda head, size: bytes([head]) + varint(size), heads, st.integers(1 << 20 | 1, (1 << 28) - 1)
    )


def _publish(flags: int, *parts: bytes) -> bytes:
    return frame(Kind.PUBLISH, flags, b"".join(parts))


def _no_properties(version: int) -> bytes:
    return properties({}, version)


def _publish_of_qos_3(version: int) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda other, topic, number, body: _publish(
            other | 6, binary(topic), number, _no_properties(version), body
        ),
        st.sampled_from((0, 1, 8, 9)),
        _names,
        _identifiers,
        _bodies,
    )


def _publish_with_identifier_0(version: int) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda flags, topic, body: _publish(flags, binary(topic), b"\0\0", _no_properties(version), body),
        st.sampled_from((2, 3, 4, 5, 10, 11, 12, 13)),
        _names,
        _bodies,
    )


def _publish_with_parts_beyond_its_end(version: int) -> st.SearchStrategy[bytes]:
    """An empty PUBLISH, no topic, a topic that is too long, or no room for the fields after it."""
    longer = st.builds(
        lambda flags, topic, missing: _publish(flags, (len(topic) + missing).to_bytes(2), topic),
        st.sampled_from((0, 2, 4)),
        st.binary(max_size=5),
        st.integers(1, 60_000),
    )
    empty = st.builds(lambda body: _publish(0, b"\0\0", _no_properties(version), body), _bodies)
    no_identifier = st.builds(
        lambda flags, topic, rest: _publish(flags, binary(topic), rest),
        st.sampled_from((2, 4)),
        _names,
        st.sampled_from((b"", b"\x01")),
    )
    cut = [longer, empty, no_identifier, st.sampled_from((b"\x30\x00", b"\x30\x01\x00"))]
    if version == 5:
        cut.append(st.builds(lambda topic: _publish(0, binary(topic)), _names))
        cut.append(st.builds(lambda topic, number: _publish(2, binary(topic), number), _names, _identifiers))
    return st.one_of(cut)


_ONE_OF_EACH = (
    b"\x01\x01", b"\x02\0\0\0\1", b"\x03\0\1a", b"\x08\0\1a", b"\x09\0\1a", b"\x0b\1", b"\x26\0\1a\0\1b"
)  # fmt: skip
_ONLY_ONCE = _ONE_OF_EACH[:5]
_TOPIC_ALIAS = b"\x23\0\1"  # Topic Alias Maximum was not given, so it is 0


def _publish_with(block: bytes, payload: bytes) -> bytes:
    return _publish(2, binary(b"t"), b"\0\7", varint(len(block)), block, payload)


def _publish_with_properties_that_it_has_not(version: int) -> st.SearchStrategy[bytes]:
    allowed = {one[0] for one in _ONE_OF_EACH}
    foreign = st.sampled_from([number for number in range(256) if number not in allowed])
    unknown = st.builds(lambda number, value: bytes([number]) + value, foreign, st.binary(max_size=5))
    twice = st.sampled_from(_ONLY_ONCE).map(lambda one: one + one)
    others = st.lists(st.sampled_from(_ONE_OF_EACH[5:]), max_size=2).map(b"".join)
    wrong = st.one_of(st.just(_TOPIC_ALIAS), unknown, twice)
    return st.builds(lambda before, it, body: _publish_with(before + it, body), others, wrong, _bodies)


def _publish_with_properties_beyond_their_end(version: int) -> st.SearchStrategy[bytes]:
    """Properties that are cut inside the last one, longer than the packet, or have a five-byte length."""
    cut = st.builds(
        lambda one, lost, body: _publish_with(one[: max(1, len(one) - lost)], body),
        st.sampled_from(_ONE_OF_EACH),
        st.integers(1, 6),
        _bodies,
    )
    longer = st.builds(
        lambda block, more: _publish(0, binary(b"t"), varint(len(block) + more), block),
        st.lists(st.sampled_from(_ONE_OF_EACH[5:]), max_size=3).map(b"".join),
        st.integers(1, (1 << 27)),
    )
    endless = st.builds(lambda body: _publish(0, binary(b"t"), b"\xff\xff\xff\xff", body), _bodies)
    return st.one_of(cut, longer, endless)


def _pubrel_without_identifier(version: int) -> st.SearchStrategy[bytes]:
    return st.sampled_from((b"\x62\x00", b"\x62\x01\x01", b"\x62\x02\x00\x00"))


def _pubrel_with_more_than_its_identifier(version: int) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda number, more: frame(Kind.PUBREL, 2, number + more),
        _identifiers,
        st.binary(min_size=1, max_size=9),
    )
