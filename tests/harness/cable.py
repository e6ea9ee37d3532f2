"""A cable that loses and delays Ethernet frames, for kernels without netem. A program of its own.

    python -m tests.harness.cable LOSS DELAY NAMESPACE INTERFACE NAMESPACE INTERFACE

The program makes a TAP interface in each of the two namespaces, prints "ready", and forwards frames between
them until it is killed. In each direction it loses the share LOSS of the frames, and delays the others by
DELAY seconds.
"""

import fcntl
import heapq
import itertools
import os
import random
import selectors
import struct
import sys
import time

from tests.harness.netns import enter

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_LARGEST = 65536  # bytes of a frame


def tap(namespace: str, interface: str) -> int:
    """Make a TAP interface and return its descriptor. The thread stays in the namespace. Raises OSError."""
    with open(namespace, "rb") as place:
        enter(place.fileno())
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", interface.encode(), _IFF_TAP | _IFF_NO_PI))
    return descriptor


def carry(one: int, other: int, loss: float, delay: float) -> None:
    """Forward frames in both directions, for ever."""
    far_end = {one: other, other: one}
    selector = selectors.DefaultSelector()
    for end in far_end:
        selector.register(end, selectors.EVENT_READ)
    under_way: list[tuple[float, int, int, bytes]] = []  # due time, order of arrival, destination, frame
    numbers = itertools.count()
    while True:
        until = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        ready = selector.select(until)
        now = time.monotonic()
        for key, _ in ready:
            frame = os.read(key.fd, _LARGEST)
            if random.random() >= loss:
                heapq.heappush(under_way, (now + delay, next(numbers), far_end[key.fd], frame))
        while under_way and under_way[0][0] <= now:
            _, _, end, frame = heapq.heappop(under_way)
            try:
                os.write(end, frame)
            except OSError:  # the destination is not up yet: the frame is lost
                continue


def main() -> None:
    loss, delay, *places = sys.argv[1:]
    one, other = tap(*places[:2]), tap(*places[2:])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    carry(one, other, float(loss), float(delay))


if __name__ == "__main__":
    main()
