"""How much the disk writes for a commit, as docs/how-to/one-pi.md says about the memory card."""

import re
from itertools import count
from pathlib import Path

import pytest

from bridge.delivery.segment import cut, pack
from bridge.message import Message
from bridge.spool.store import Store

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "one-pi.md"


def written() -> int:
    """Bytes that this process has caused to be written to a disk so far."""
    return int(re.findall(r"^write_bytes: (\d+)$", Path("/proc/self/io").read_text(), re.MULTILINE)[0])


@pytest.mark.parametrize(
    ("messages", "said"), [(1, r"100 bytes writes (\d+) KB"), (10, r"messages (\d+) KB")]
)
def test_a_commit_writes_no_more_than_the_page_says(tmp_path: Path, messages: int, said: str) -> None:
    store = Store(tmp_path)
    commits, numbers = 200, count(1)
    before = written()
    for _ in range(commits):
        batch = [Message.of(b"sensors/kitchen/d1/temp", 1 << 1, 1, None, bytes(100)) for _ in range(messages)]
        for message in batch:
            message.sequence = next(numbers)
        store.write([("iot.kitchen", segment, pack(segment.messages)) for segment in cut(batch)])
    kilobytes = (written() - before) / commits / 1000
    store.close()
    if not kilobytes:
        pytest.skip("the temporary directory is not on a disk")
    (expected,) = re.findall(said, PAGE.read_text())
    assert kilobytes <= int(expected) * 1.25
