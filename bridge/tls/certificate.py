"""Reads until when a certificate is valid, the only date in it that the bridge needs. Pure.

The code walks through the DER to the X.509 validity (RFC 5280, 4.1). Python's ssl gives the date only for a
peer whose certificate it has verified, and not for a file.
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
    """Return the certificates in the text of a PEM file, as DER. Raises ValueError where one is broken."""
    return [b64decode("".join(body.split()), validate=True) for body in _PEM.findall(text)]


def not_after(der: bytes) -> datetime:
    """Return when the certificate expires. Raises ValueError where `der` is no certificate."""
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
    """Iterate over the elements of `data`. Raises IndexError or ValueError where `data` is no DER."""
    position = 0
    while position < len(data):
        tag, length = data[position], data[position + 1]
        position += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[position : position + size])
            position += size
        if position + length > len(data):
            raise ValueError("the DER ends too early")
        yield tag, data[position : position + length]
        position += length


def _time(kind: int, text: str) -> datetime:
    if kind == _UTC_TIME:  # a two-digit year below 50 means 20YY (RFC 5280, 4.1.2.5.1)
        text = f"{'20' if text < '50' else '19'}{text}"
    elif kind != _GENERALIZED_TIME:
        raise ValueError("no X.509 time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
