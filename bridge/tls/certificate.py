"""Until when a certificate holds: the one date in it that the bridge needs. Pure.

A walk through DER to X.509's validity (RFC 5280, 4.1). Python's ssl tells the date only of a peer that it
has verified, and of a file not at all.
"""

import re
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime

_SEQUENCE, _EXPLICIT_VERSION = 0x30, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_PEM = re.compile("-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)

_Element = tuple[int, bytes]  # tag, content


def in_pem(text: str) -> list[bytes]:
    """The certificates of a PEM file, as DER. Raises ValueError where one is broken."""
    return [b64decode("".join(body.split()), validate=True) for body in _PEM.findall(text)]


def not_after(der: bytes) -> datetime:
    """When the certificate expires. Raises ValueError where it is none."""
    try:
        ((_, certificate),) = _elements(der)
        (_, to_be_signed), *_ = _elements(certificate)
        fields = [field for field in _elements(to_be_signed) if field[0] != _EXPLICIT_VERSION]
        _serial, _algorithm, _issuer, (tag, validity), *_ = fields
        _begins, (kind, text) = _elements(validity)
    except (IndexError, ValueError):
        raise ValueError("no X.509 certificate") from None
    if tag != _SEQUENCE:
        raise ValueError("no X.509 certificate")
    return _time(kind, text.decode("ascii"))


def _elements(data: bytes) -> Iterator[_Element]:
    """The elements that follow each other in `data`. Raises IndexError or ValueError where it is no DER."""
    position = 0
    while position < len(data):
        tag, length = data[position], data[position + 1]
        position += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[position : position + size])
            position += size
        if position + length > len(data):
            raise ValueError("it ends too early")
        yield tag, data[position : position + length]
        position += length


def _time(kind: int, text: str) -> datetime:
    if kind == _UTC_TIME:  # two digits of the year: up to 49 they are of this century (RFC 5280, 4.1.2.5.1)
        text = f"{'20' if text < '50' else '19'}{text}"
    elif kind != _GENERALIZED_TIME:
        raise ValueError("no X.509 time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
