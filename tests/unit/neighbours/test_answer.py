"""A neighbour that hangs is told from one that is not there."""

import socket
import threading

import pytest

from bridge.neighbours import answer
from bridge.neighbours.answer import Hangs, Unavailable, ask


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "TIMEOUT", 0.2)


def test_a_neighbour_that_accepts_and_answers_nothing_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(Hangs, match="no whole answer"):
        ask(f"http://127.0.0.1:{server.getsockname()[1]}/")


def test_a_port_that_is_closed_does_not_hang() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Unavailable, match="refused") as failed:
        ask(f"http://127.0.0.1:{port}/")
    assert not isinstance(failed.value, Hangs)


def test_a_host_that_drops_the_packets_does_not_hang() -> None:
    """A full queue of connections drops SYN, as a host without power does."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, socket.socket() as first:
        first.connect(server.getsockname())
        with pytest.raises(Unavailable, match="no connection within") as failed:
            ask(f"http://127.0.0.1:{server.getsockname()[1]}/")
        assert not isinstance(failed.value, Hangs)


def test_a_neighbour_that_closes_without_an_answer_does_not_hang() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def close() -> None:
            server.accept()[0].close()

        thread = threading.Thread(target=close)
        thread.start()
        with pytest.raises(Unavailable) as failed:
            ask(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()
        assert not isinstance(failed.value, Hangs)
