"""Bytes of a file that a person wrote, as text. Editors differ; most of Windows' write a byte-order mark."""

import codecs

_BY_MARK = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before that of UTF-16, with which it begins
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


class NotUtf8(ValueError):
    """`reason` and `way_out`; FILE stands for the file's name in both."""

    def __init__(self, reason: str, way_out: str) -> None:
        self.reason = reason
        self.way_out = way_out
        super().__init__(f"{reason} ({way_out})")


def decode(data: bytes) -> str:
    """UTF-8, of which a byte-order mark is left out. Raises NotUtf8, which names the line and what helps."""
    for mark, encoding in _BY_MARK:
        if data.startswith(mark):
            raise _other(encoding, f"it is {encoding}, as its first bytes say")
    head = data[:64]
    if len(head) > 3 and head.count(0) * 3 >= len(head):
        encoding = "UTF-16LE" if head[1] == 0 else "UTF-16BE"
        raise _other(encoding, f"it is {encoding} without a byte-order mark: every second byte is 0")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        where = f"line {line} is not UTF-8: byte 0x{data[error.start]:02x}"
    raise _other("WINDOWS-1252", f"{where}, as in a file in Latin-1 or Windows-1252")


def _other(encoding: str, reason: str) -> NotUtf8:
    return NotUtf8(reason, f"save it as UTF-8, or: iconv -f {encoding} -t UTF-8 FILE > NEW")
