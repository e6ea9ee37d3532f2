"""Makes librdkafka itself wake the loop when a producer has something to report.

librdkafka writes to a descriptor once its queue of reports is no longer empty (rdkafka.h,
rd_kafka_queue_io_event_enable). confluent_kafka does not offer that call, so this file makes it through
ctypes. The call needs the C client, whose address confluent_kafka keeps in the first field of its Producer.

The file believes that field only where the C client names the Producer in turn, as its opaque pointer. If
anything is not as expected, `hang_up` returns False, and a thread waits for reports instead
(docs/decisions/0026-librdkafka-rings-the-loops-bell.md).
"""

import ctypes
import os
import sys
from contextlib import suppress
from typing import Any

from confluent_kafka import Producer, cimpl

_FIRST_FIELD = object.__basicsize__  # its offset in any Python object, in bytes
_ADDRESS = ctypes.sizeof(ctypes.c_void_p)
_CLIENT = 8192  # bytes of the C client to look at; in librdkafka 2.16 the opaque pointer is at 2664
_NO_DESCRIPTOR = -1
_ONE = (1).to_bytes(8, sys.byteorder)  # what rings an eventfd: eventfd(2)


def hang_up(producer: Producer, bell: int) -> bool:
    """Have librdkafka ring the eventfd `bell` whenever reports have come and none has waited before.

    Returns whether it will. The bell rings once now, for reports that wait already. Call `take_down` before
    `bell` is closed.
    """
    hangs = _set(producer, bell)
    if hangs:
        os.eventfd_write(bell, 1)
    return hangs


def take_down(producer: Producer) -> None:
    """librdkafka rings no more after this call. It does nothing for a producer that is closed."""
    _set(producer, _NO_DESCRIPTOR)


def _set(producer: Producer, bell: int) -> bool:
    with suppress(AttributeError, OSError):
        library = _library()
        client = _client(producer)
        if client and library.rd_kafka_opaque(client) == id(producer):
            queue = library.rd_kafka_queue_get_main(client)
            library.rd_kafka_queue_io_event_enable(queue, bell, _ONE, len(_ONE))
            library.rd_kafka_queue_destroy(queue)  # gives back the reference; the queue is the client's
            return True
    return False


def _client(producer: Producer) -> int:
    """The address of the C client; 0 where what stands there does not refer to the producer.

    The memory is read as a file, because a wrong address then fails and does not end the process.
    """
    memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        client = int.from_bytes(os.pread(memory, _ADDRESS, id(producer) + _FIRST_FIELD), sys.byteorder)
        its_owner = id(producer).to_bytes(_ADDRESS, sys.byteorder)
        return client if client and its_owner in os.pread(memory, _CLIENT, client) else 0
    except OverflowError:  # no address
        return 0
    finally:
        os.close(memory)


def _library() -> Any:
    """The very librdkafka that confluent_kafka uses. Raises AttributeError where it lacks a function."""
    library = ctypes.CDLL(cimpl.__file__)  # and the libraries that it is linked with
    pointer = ctypes.c_void_p
    library.rd_kafka_opaque.argtypes, library.rd_kafka_opaque.restype = [pointer], pointer
    library.rd_kafka_queue_get_main.argtypes, library.rd_kafka_queue_get_main.restype = [pointer], pointer
    enable = library.rd_kafka_queue_io_event_enable
    enable.argtypes, enable.restype = [pointer, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t], None
    library.rd_kafka_queue_destroy.argtypes, library.rd_kafka_queue_destroy.restype = [pointer], None
    return library
