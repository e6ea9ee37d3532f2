"""One client's connection: what costs more than a few microseconds waits for the budget's turn."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bridge.http import connection
from bridge.http.budget import Budget
from bridge.http.connection import HEAD_BYTES, Connection
from bridge.http.site import Site
from bridge.settings import HttpSettings
from tests.harness.snapshots import healthy

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


class Gate(Budget):
    """A budget that gives a turn only when the test says so."""

    def __init__(self) -> None:
        super().__init__(1.0, 1.0)
        self.asked = 0
        self.open = asyncio.Event()

    async def turn(self) -> None:
        self.asked += 1
        await self.open.wait()


class Client:
    """One connection over a pair of sockets."""

    def __init__(self, gate: Gate, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.gate, self._reader, self._writer = gate, reader, writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def end(self) -> None:
        self._writer.write_eof()

    async def asked(self, turns: int) -> None:
        async with asyncio.timeout(5):
            while self.gate.asked < turns:
                await asyncio.sleep(0.001)

    async def nothing(self) -> None:
        """Nothing comes back while the turn is not given."""
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self._reader.read(1), 0.05)

    async def all(self) -> bytes:
        return await asyncio.wait_for(self._reader.read(), 5)

    async def line(self) -> bytes:
        return await asyncio.wait_for(self._reader.readline(), 5)


def run(work: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        gate = Gate()
        served: list[asyncio.Task[None]] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            site = Site(HttpSettings(), healthy)
            task = asyncio.current_task()
            assert task is not None
            served.append(task)
            await Connection(reader, writer, site, gate).serve()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(host, port)
            try:
                await work(Client(gate, reader, writer))
            finally:
                writer.close()
                gate.open.set()
                await asyncio.wait_for(asyncio.gather(*served), 5)

    asyncio.run(main())


def test_a_head_that_is_not_whole_asks_for_no_turn() -> None:
    async def work(client: Client) -> None:
        for byte in GET:
            await client.send(bytes([byte]))
        await client.nothing()
        assert client.gate.asked == 0
        await client.send(b"\r\n")
        await client.asked(1)
        await client.nothing()
        client.gate.open.set()
        assert (await client.line()).startswith(b"HTTP/1.1 200")

    run(work)


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\r\n\n", b"\n\r\n"])
def test_a_blank_line_is_found_wherever_it_is_cut(end: bytes) -> None:
    async def work(client: Client) -> None:
        client.gate.open.set()
        for cut in range(len(end) + 1):
            await client.send(GET.rstrip() + end[:cut])
            await asyncio.sleep(0)
            await client.send(end[cut:])
            assert (await client.line()).startswith(b"HTTP/1.1 200")
            while (await client.line()) != b"live\n":
                pass

    run(work)


def test_requests_that_come_together_have_a_turn_each() -> None:
    async def work(client: Client) -> None:
        client.gate.open.set()
        await client.send((GET + b"\r\n") * 3 + GET + b"Connection: close\r\n\r\n")
        assert (await client.all()).count(b"HTTP/1.1 200") == 4
        assert client.gate.asked == 4

    run(work)


def test_a_head_that_took_too_long_is_answered_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT", 0.1)

    async def work(client: Client) -> None:
        await client.send(GET)
        await client.asked(1)
        await client.nothing()
        client.gate.open.set()
        assert (await client.all()).startswith(b"HTTP/1.1 408")

    run(work)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (GET + b"X: " + b"x" * HEAD_BYTES, b"431"),
        (GET + b"X: " + b"x" * HEAD_BYTES + b"\r\n\r\n", b"431"),
        (b"\x16\x03\x01" + b"\x00" * 20, b"400"),
        (b"\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
    ids=["too long", "whole and too long", "TLS", "an empty line", "no request"],
)
def test_what_can_become_no_request_is_refused_in_a_turn(sent: bytes, status: bytes) -> None:
    async def work(client: Client) -> None:
        await client.send(sent)
        await client.asked(1)
        await client.nothing()
        client.gate.open.set()
        assert (await client.all()).startswith(b"HTTP/1.1 " + status)

    run(work)


def test_a_client_that_closes_within_a_head_is_told() -> None:
    async def work(client: Client) -> None:
        client.gate.open.set()
        await client.send(GET)
        client.end()
        assert (await client.all()).startswith(b"HTTP/1.1 400")

    run(work)


def test_a_client_that_sends_nothing_costs_no_turn() -> None:
    async def work(client: Client) -> None:
        client.end()
        assert await client.all() == b""
        assert client.gate.asked == 0

    run(work)
