"""Makes commits to a spool, and prints a line after each that has returned.

    python -m tests.integration.disk.commits DIRECTORY SEED

Each line lists the numbers of all messages that are on disk then. For
tests/integration/disk/test_the_power_is_cut.py.
"""

import os
import random
import sys
from pathlib import Path

from bridge.delivery.segment import Segment, cut, pack
from bridge.message import Message
from bridge.spool import unused_space
from bridge.spool.store import Store

_COMMITS = 40

# Return free pages early and in small pieces, so that a small spool tests it too.
unused_space._WORTH_A_VACUUM, unused_space._WORTH_EMPTYING, unused_space._VACUUM_AT_ONCE = 16, 1, 10


def main(directory: Path, chosen: random.Random) -> None:
    spool = Store(directory)
    number = 0
    there: list[Segment] = []
    for _ in range(_COMMITS):
        messages = []
        for _ in range(chosen.choice((0, 1, 3, 40, 300))):
            number += 1
            size = chosen.choice((10, 100, 100, 100, 5000))
            message = Message.of(b"t", 2, 1, None, (b"%d " % number).ljust(size, b"."))
            message.sequence, message.timestamp = number, 0
            messages.append(message)
        bodies = [("t", segment, pack(segment.messages)) for segment in cut(messages)]
        done = chosen.sample(there, chosen.choice((0, 0, len(there) // 2, len(there))))
        spool.write(bodies, (), [("t", segment) for segment in done])
        there = [segment for segment in there if segment not in done]
        there += [segment for _, segment, _ in bodies]
        numbers = [number for segment in there for number in range(segment.first, segment.last + 1)]
        os.write(1, b" ".join(b"%d" % each for each in numbers) + b"\n")
        while spool.give_back() or (chosen.random() < 0.5 and spool.give_all_back()):
            pass
    spool.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), random.Random(int(sys.argv[2])))
