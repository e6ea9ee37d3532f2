"""The session over a socket pair; each test plays the broker at the other end."""

import queue
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from structlog.testing import capture_logs

from bridge.loop import Loop
from bridge.message import Message, Packet, Release
from bridge.mqtt import connection as connection_module
from bridge.mqtt import connector
from bridge.mqtt import session as session_module
from bridge.mqtt import tap as tap_module
from bridge.mqtt.protocol_version import ProtocolVersion
from bridge.mqtt.session import Session, State
from bridge.routing.topics import Subscription
from bridge.settings import MqttSettings
from tests.harness.conditions import wait_until
from tests.harness.fields import Property
from tests.harness.packets import (
    Ack,
    Connack,
    Connect,
    Disconnect,
    Frames,
    Kind,
    Ping,
    Publish,
    Suback,
    Subscribe,
)

SETTINGS = MqttSettings(
    host="broker", reconnect={"min_delay": "10ms", "max_delay": "100ms", "refused_delay": "60s"}
)


class Handler:
    """Records the session's calls. With `settles` it acknowledges each message at once."""

    session: Session

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.received: list[Message] = []
        self.handed = self.certain = 0
        self.settles = False

    def subscriptions(self, refused: Collection[str]) -> Sequence[Subscription]:
        return [Subscription("t", 1, None)]

    def connecting(self) -> None: ...
    def connected(self, session_present: bool, mqtt5: bool) -> None:
        self.told.append(("connected", session_present, mqtt5))

    def subscribed(self) -> None:
        self.certain += 1

    def session_lost(self) -> None:
        self.told.append("session lost")

    def receive(self, packets: list[Packet]) -> None:
        for packet in packets:
            if isinstance(packet, Release):
                self.session.complete(packet.packet_id, known=True)
            else:
                self.received.append(packet)
                if self.settles:
                    self.session.acknowledge([packet])

    def handed_over(self, acknowledgements: int) -> None:
        self.handed += acknowledgements
        self.told.append(("handed over", acknowledgements))

    def disconnected(self) -> None:
        self.told.append("disconnected")

    def taken_over(self) -> None:
        self.told.append("taken over")

    @property
    def numbers(self) -> list[int]:
        return [message.packet_id for message in self.received]


class Kernel:
    """The session's socket. The connection breaks after the session has sent `takes` bytes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self.takes = sock, 1 << 20

    def send(self, data: bytes) -> int:
        if self.takes <= 0:
            raise BrokenPipeError(32, "Broken pipe")
        size = self._sock.send(data[: self.takes])
        self.takes -= size
        return size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class World:
    """A session, and the broker's end of its latest connection."""

    def __init__(self, directory: Path | None, settings: MqttSettings, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(session_module, "connect_in_background", self._connect)
        self.loop = Loop()
        self.handler = Handler()
        self.session = Session(settings, self.loop, self.handler, "bridge", directory)
        self.session._backoff._uniform = lambda _, most: most  # the longest delay: a random one could be 0
        self.handler.session = self.session
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self.version = 5
        self.refuse: OSError | None = None

    def _connect(self, _: MqttSettings, done: Callable[[socket.socket | OSError], None], __: object) -> None:
        self.connections += 1
        if self.refuse:
            done(self.refuse)
            return
        ours, self.broker = socket.socketpair()
        self._sockets += (ours, self.broker)
        for sock in (ours, self.broker):
            sock.setblocking(False)
        self.frames = Frames(self.version)
        self.kernel = Kernel(ours)
        done(self.kernel)  # type: ignore[arg-type]

    def close(self) -> None:
        self.session.abandon()
        self.turn(1)
        self.loop.close()
        for sock in self._sockets:
            sock.close()

    def turn(self, times: int = 3) -> float:
        """Let the session do what is due, a few times, because one turn can make the next one due."""
        for _ in range(times):
            due = self.session.turn()
            self.loop.wait(0)
        return due

    def send(self, *packets: Any) -> None:
        self.broker.sendall(b"".join(packet.encode(self.version) for packet in packets))
        self.turn()

    def heard(self) -> list[Any]:
        self.turn()
        data = b""
        try:
            while chunk := self.broker.recv(1 << 16):
                data += chunk
        except BlockingIOError:
            pass
        return list(self.frames.feed(data))

    def connect(self, version: int = 5) -> None:
        """Let the session send CONNECT; the test sends the broker's answer."""
        self.version = version
        self.turn()
        (connect,) = self.heard()
        assert isinstance(connect, Connect)

    def lose(self, lived: float = 10.0) -> None:
        """Close the broker's end, as if the connection had been LIVE for `lived` seconds."""
        self.session._live_since -= lived
        self.broker.close()
        self.turn()

    def speak(self, version: int) -> None:
        """The one MQTT that the settings allow, before the first connection."""
        self.session._protocol = ProtocolVersion("5" if version == 5 else "3.1.1")

    def go_live(self, session_present: bool = False, version: int = 5) -> None:
        self.connect(version)
        self.send(Connack(session_present))
        for packet in self.heard():
            if isinstance(packet, Subscribe):
                self.send(Suback(Kind.SUBACK, packet.identifier, (1,) * len(packet.filters)))
        assert self.session.state is State.LIVE


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path, SETTINGS, monkeypatch)
    yield world
    world.close()


def message(number: int, qos: int = 1) -> Publish:
    return Publish(b"t", b"v", qos, number)


def is_closed(sock: socket.socket) -> bool:
    """Read and drop what the peer has sent. True: then the peer has closed."""
    while sock.recv(1 << 16):
        pass
    return True


# -- coming up -----------------------------------------------------------------------------------------


def test_a_session_is_live_when_its_filters_are_granted(world: World) -> None:
    world.connect()
    assert world.session.state is State.CONNECTING
    world.send(Connack())
    assert world.session.state is State.SUBSCRIBING
    (subscribe,) = world.heard()
    assert [each.filter for each in subscribe.filters] == ["t"]
    world.send(Suback(Kind.SUBACK, subscribe.identifier, (1,)))
    assert world.session.state is State.LIVE


def test_a_message_glued_to_connack_is_taken_behind_it(world: World) -> None:
    world.connect()
    world.send(Connack(session_present=True), message(7))
    assert world.handler.told == [("connected", True, True)]
    assert world.handler.numbers == [7]


def test_messages_come_before_suback_too(world: World) -> None:
    world.connect()
    world.send(Connack())
    world.send(message(1))
    assert world.handler.numbers == [1]


def test_a_message_before_connack_ends_the_connection(world: World) -> None:
    world.connect()
    world.send(message(1))
    assert world.handler.told == []
    assert world.handler.received == []
    assert world.session.state is not State.SUBSCRIBING


def test_on_mqtt_5_a_resumed_session_is_subscribed_again_before_it_is_live(world: World) -> None:
    """The broker alone knows what its session is subscribed to."""
    world.go_live()
    world.lose()
    world.connect()
    world.send(Connack(session_present=True))
    assert world.session.state is State.SUBSCRIBING
    (subscribe,) = world.heard()
    assert [each.retain_handling for each in subscribe.filters] == [1]
    assert world.handler.certain == 1
    world.send(Suback(Kind.SUBACK, subscribe.identifier, (1,)))
    assert world.session.state is State.LIVE
    assert world.handler.certain == 2


def test_a_session_that_is_gone_is_said_and_subscribed_anew(world: World) -> None:
    world.go_live()
    world.lose()
    world.connect()
    world.send(Connack(session_present=False))
    assert "session lost" in world.handler.told
    assert isinstance(world.heard()[0], Subscribe)


@pytest.mark.parametrize("stage", ["connack", "suback"])
def test_an_answer_that_never_comes_ends_the_connection(
    world: World, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    world.connect()
    if stage == "suback":
        world.send(Connack())
    now, broker = session_module.time.monotonic(), world.broker
    monkeypatch.setattr(session_module.time, "monotonic", lambda: now + SETTINGS.connack_timeout + 1)
    world.turn()
    assert is_closed(broker)


# -- acknowledgements ------------------------------------------------------------------------------------


def test_acknowledgements_leave_and_are_told_as_handed_over(world: World) -> None:
    world.handler.settles = True
    world.go_live()
    world.send(message(1), message(2, qos=2))
    assert world.heard() == [Ack(Kind.PUBACK, 1), Ack(Kind.PUBREC, 2)]
    assert world.handler.handed == 2


def test_pubrel_is_answered(world: World) -> None:
    world.go_live()
    world.send(Ack(Kind.PUBREL, 9))
    assert world.heard() == [Ack(Kind.PUBCOMP, 9)]


def test_acknowledgements_of_a_connection_that_is_gone_go_nowhere(world: World) -> None:
    world.go_live()
    world.send(message(1))
    world.refuse = ConnectionRefusedError(111, "Connection refused")
    world.broker.close()
    world.turn()
    world.session.acknowledge(world.handler.received)
    assert world.handler.handed == 0


def test_what_the_kernel_took_before_the_connection_broke_counts_as_handed_over(world: World) -> None:
    world.go_live()
    world.kernel.takes = 4
    two = [Message.of(b"t", 2, number, None, b"v") for number in (1, 2)]
    world.session.acknowledge(two)
    assert world.handler.told[-2:] == [("handed over", 1), "disconnected"]


def test_who_is_in_the_middle_of_a_batch_when_the_connection_breaks_gets_all_of_it(world: World) -> None:
    world.go_live()
    world.broker.sendall(Ack(Kind.PUBREL, 1).encode(5) + message(2).encode(5))
    world.broker.close()
    world.turn()
    assert world.handler.numbers == [2]
    assert world.handler.told.count("disconnected") == 1


# -- the end of a connection -----------------------------------------------------------------------------


def test_the_first_try_after_a_live_session_is_made_at_once(world: World) -> None:
    world.go_live()
    world.lose()
    assert world.connections == 2


def test_a_session_that_lived_for_a_moment_only_is_not_fought_for(world: World) -> None:
    world.go_live()
    world.lose(lived=0.0)
    assert world.session.state is State.BACKING_OFF


def test_what_came_before_the_end_is_taken_first(world: World) -> None:
    world.go_live()
    world.broker.sendall(message(1).encode(5) + message(2).encode(5))
    world.broker.close()
    world.turn()
    assert world.handler.numbers == [1, 2]
    assert "disconnected" in world.handler.told


def test_a_refusal_for_good_is_tried_again_slowly(world: World) -> None:
    world.connect()
    world.send(Connack(reason=0x86))
    assert world.session.state is State.BACKING_OFF
    assert world.turn() > 25


def test_a_busy_broker_is_tried_again_soon(world: World) -> None:
    world.connect()
    world.send(Connack(reason=0x89))
    assert world.connections == 2


@pytest.mark.parametrize(
    ("port", "way_out"), [(1884, "start the EMQ nodes: HAProxy closes"), (1883, "does the port want TLS")]
)
def test_a_broker_that_closes_before_connack_is_logged_with_what_to_do_if_that_lasts(
    world: World, port: int, way_out: str
) -> None:
    world.session.use_password(world.session._settings.model_copy(update={"port": port}))
    world.connect()
    with capture_logs() as lines:
        world.broker.close()
        world.turn()
    (line,) = [line for line in lines if line["event"] == "mqtt.unavailable"]
    assert line["reason"].startswith("closed before CONNACK")
    assert way_out in line["way_out"]


@pytest.mark.parametrize(("code", "way_out"), [(0x89, "too much to do"), (0x80, "the broker's log says why")])
def test_a_broker_that_refuses_for_now_is_logged_with_what_to_do_if_that_lasts(
    world: World, code: int, way_out: str
) -> None:
    world.connect()
    with capture_logs() as lines:
        world.send(Connack(reason=code))
    (line,) = [line for line in lines if line["event"] == "mqtt.unavailable"]
    assert way_out in line["way_out"]


def test_who_is_taken_over_once_is_back_soon(world: World) -> None:
    """It may have been a tool, for a moment. EMQ's queue fills, or drops, until the bridge is back."""
    world.go_live()
    with capture_logs() as lines:
        world.send(Disconnect(0x8E))
    assert "taken over" in world.handler.told
    assert [line["evidence"] for line in lines if line["event"] == "mqtt.taken_over"]
    assert world.turn() < 1


def test_who_is_taken_over_again_steps_back(world: World) -> None:
    world.go_live()
    world.session._live_since -= 3.0
    world.send(Disconnect(0x8E))
    world.go_live(session_present=True)
    world.send(Disconnect(0x8E))
    assert world.turn() > 25


@pytest.mark.parametrize("version", [5, 4])
def test_who_is_closed_again_and_again_by_a_broker_that_answers_has_a_twin(
    world: World, version: int
) -> None:
    """mosquitto before 2.1 sends no DISCONNECT, on either version."""
    world.speak(version)
    for _ in range(2):
        world.go_live(version=version)
        world.lose(lived=2.0)
        assert world.session.state is not State.BACKING_OFF
    world.go_live(version=version)
    with capture_logs() as lines:
        world.lose(lived=2.0)
    (taken_over,) = [line for line in lines if line["event"] == "mqtt.taken_over"]
    assert "closed 3 times in a row" in taken_over["evidence"]
    assert world.turn() > 25


def test_a_balancer_that_is_restarted_often_is_no_twin(world: World) -> None:
    for _ in range(4):
        world.go_live()
        world.refuse = ConnectionRefusedError(111, "Connection refused")
        world.lose(lived=2.0)
        world.refuse = None
        wait_until(lambda: world.turn(1) and world.session.state is State.CONNECTING, 5.0, "it tries again")
    assert "taken over" not in world.handler.told


@pytest.mark.parametrize(
    ("unread", "reason"),
    [
        (False, "the peer closed the connection (FIN), without DISCONNECT"),
        (True, "Connection reset by peer"),
    ],
    ids=["FIN", "RST"],
)
def test_the_log_says_what_the_socket_said(world: World, unread: bool, reason: str) -> None:
    world.go_live()
    if unread:
        world.session.acknowledge([Message.of(b"t", 2, 1, None, b"v")])
    with capture_logs() as lines:
        world.broker.close()
        world.turn()
    assert [line["reason"] for line in lines if line["event"] == "mqtt.closed"] == [reason]


def test_what_paho_can_not_read_is_no_unspecified_error(world: World) -> None:
    """Paho gives the same code to each end that MQTT has no reason for."""
    world.go_live()
    reason = ReasonCode(PacketTypes.DISCONNECT, identifier=0x80)
    assert world.session._connection
    said = world.session._connection.why_closed(reason, by_broker=False)
    assert said == "paho could not read what the broker sent"


def test_attempts_that_fail_alike_are_logged_once_a_minute(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one every two seconds, for as long as the broker is away."""
    world.refuse = ConnectionRefusedError(111, "Connection refused")
    now = session_module.time.monotonic()
    monkeypatch.setattr(session_module.time, "monotonic", lambda: now)
    with capture_logs() as lines:
        for _ in range(65):
            now += 1.0
            world.turn()
    assert world.connections > 60
    assert len([line for line in lines if line["event"] == "mqtt.connect_failed"]) == 2


@pytest.mark.parametrize(
    ("port", "hint"),
    [
        (1884, {"way_out": "start HAProxy there; without HAProxy set mqtt.port = 1883"}),
        (1883, {"way_out": "start the broker there, or correct mqtt.host and mqtt.port"}),
    ],
)
def test_a_port_that_refuses_is_named_with_the_one_of_a_plain_broker(
    world: World, port: int, hint: dict[str, str]
) -> None:
    world.session.use_password(world.session._settings.model_copy(update={"port": port}))
    world.refuse = ConnectionRefusedError(111, "Connection refused")
    with capture_logs() as lines:
        wait_until(lambda: world.turn(1) or lines, 5.0, "the attempt has failed")
        world.turn(5)
    (line,) = [line for line in lines if line["event"] == "mqtt.connect_failed"]
    assert (line["port"], line["reason"]) == (port, "Connection refused")
    assert {name: text for name, text in line.items() if name == "way_out"} == hint


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (
            socket.gaierror(-2, "Name or service not known"),
            "correct mqtt.host, or this machine's name resolution",
        ),
        (TimeoutError("timed out"), ""),
    ],
)
def test_a_name_that_does_not_resolve_comes_with_the_command_that_asks_for_it(
    world: World, error: OSError, hint: str
) -> None:
    world.refuse = error
    with capture_logs() as lines:
        wait_until(lambda: world.turn(1) or lines, 5.0, "the attempt has failed")
        world.turn(5)
    (line,) = [line for line in lines if line["event"] == "mqtt.connect_failed"]
    assert line.get("way_out", "").partition(": getent hosts ")[0] == hint


def test_a_malformed_packet_is_answered_with_disconnect_0x81(world: World) -> None:
    world.go_live()
    world.broker.sendall(message(1).encode(5) + b"\x36\x05\x00\x01t\x00\x01")
    old, frames = world.broker, world.frames
    world.turn()
    assert world.handler.numbers == [1]
    assert list(frames.feed(old.recv(1000))) == [Disconnect(0x81)]
    assert is_closed(old)


def test_a_port_that_speaks_no_mqtt_is_an_error_once_a_minute_and_not_at_each_attempt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = session_module.time.monotonic()
    monkeypatch.setattr(session_module.time, "monotonic", lambda: now)
    with capture_logs() as lines:
        for _ in range(20):
            now += 2.0
            world.turn()
            if world.session.state is State.CONNECTING:
                world.broker.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                world.turn()
    said = [line for line in lines if line["event"] == "mqtt.malformed_packet"]
    assert world.connections > 5
    assert [line["way_out"].partition(" at ")[0] for line in said] == ["see whether what listens"]


@pytest.mark.parametrize("control", [b"\x20\x03\x00\x00\x00", b"\x20\x00", b"\x90\x00", b"\xb0\x01\x00"])
def test_a_control_packet_that_makes_no_sense_ends_the_connection_and_not_the_service(
    world: World, control: bytes
) -> None:
    world.go_live()
    world.broker.sendall(control)
    world.turn()
    assert world.session.state is not State.STOPPED


def test_no_connection_is_tried_again(world: World) -> None:
    world.refuse = ConnectionRefusedError(111, "Connection refused")
    world.turn()
    assert world.session.state is State.BACKING_OFF
    assert world.turn() < 1


# -- MQTT 3.1.1 --------------------------------------------------------------------------------------------


def test_who_closes_on_mqtt_5_and_answers_on_3_1_1_speaks_3_1_1(world: World) -> None:
    world.connect()
    world.broker.close()  # as RabbitMQ 3.10 does
    world.turn()
    world.connect(version=4)
    world.send(Connack())
    world.turn()
    world.connect(version=5)  # MQTT 5 once more, because the balancer may have closed the first attempt
    world.broker.close()
    world.turn()
    world.connect(version=4)
    world.send(Connack())
    assert world.session.state is State.SUBSCRIBING
    assert world.handler.told == [("connected", False, False)]


def test_who_says_that_it_knows_no_mqtt_5_is_asked_on_3_1_1_at_once(world: World) -> None:
    world.connect()
    world.send(Connack(reason=0x84))
    world.connect(version=4)


def on_3_1_1(world: World) -> None:
    world.speak(4)
    world.go_live(version=4)


def answer_resumed(world: World) -> list[Any]:
    """A resumed session on MQTT 3.1.1: what the bridge says to its CONNACK."""
    world.connect(version=4)
    world.send(Connack(session_present=True))
    return world.heard()


def test_on_3_1_1_a_session_is_left_alone_after_a_balancer_was_away(world: World) -> None:
    """A SUBSCRIBE would bring all retained messages again."""
    on_3_1_1(world)
    world.refuse = ConnectionRefusedError(111, "Connection refused")
    world.lose()
    world.refuse = None
    wait_until(lambda: world.turn(1) and world.session.state is State.CONNECTING, 5.0, "it tries again")
    assert answer_resumed(world) == []
    assert world.session.state is State.LIVE


def test_on_3_1_1_a_close_by_a_broker_that_answers_at_once_may_be_a_take_over(world: World) -> None:
    on_3_1_1(world)
    world.lose()
    with capture_logs() as lines:
        assert isinstance(answer_resumed(world)[0], Subscribe)
    assert "take-over" in next(
        line["reason"] for line in lines if line["event"] == "mqtt.subscriptions_unknown"
    )


def test_on_3_1_1_each_start_subscribes_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another host may have had its turn meanwhile, or a backup was put back: the record tells neither."""
    on_3_1_1(world)
    world.session.take_no_more()
    world.session.say_goodbye()
    world.turn()
    again = World(tmp_path, SETTINGS, monkeypatch)
    again.speak(4)
    assert isinstance(answer_resumed(again)[0], Subscribe)
    again.close()


# -- stopping ----------------------------------------------------------------------------------------------


def test_a_stop_sends_the_last_acknowledgements_then_disconnect_then_fin(world: World) -> None:
    world.go_live()
    world.send(message(1))
    world.session.take_no_more()
    assert world.session.state is State.STOPPING
    world.session.acknowledge(world.handler.received)
    world.session.say_goodbye()
    assert world.heard() == [Ack(Kind.PUBACK, 1), Disconnect()]
    assert world.broker.recv(1) == b""
    assert world.session.state is State.STOPPING
    world.broker.close()
    world.turn()
    assert world.session.state is State.STOPPED


def test_a_session_that_stops_takes_no_more(world: World) -> None:
    world.go_live()
    world.session.take_no_more()
    world.send(message(1))
    assert world.handler.received == []


def test_a_broker_that_does_not_close_is_left_after_a_second(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.go_live()
    world.session.take_no_more()
    world.session.say_goodbye()
    world.turn()
    assert world.session.state is State.STOPPING
    now = session_module.time.monotonic()
    monkeypatch.setattr(session_module.time, "monotonic", lambda: now + 1.1)
    world.turn()
    assert world.session.state is State.STOPPED


def test_a_stop_while_backing_off_is_over_at_once(world: World) -> None:
    world.refuse = ConnectionRefusedError(111, "Connection refused")
    world.turn()
    world.session.take_no_more()
    world.session.say_goodbye()
    assert world.session.state is State.STOPPED


def test_a_socket_that_comes_after_the_stop_is_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    later: list[Callable[[Any], None]] = []
    monkeypatch.setattr(session_module, "connect_in_background", lambda _, done, __: later.append(done))
    world.turn()
    world.session.take_no_more()
    assert world.session.state is State.STOPPED
    ours, theirs = socket.socketpair()
    later[0](ours)
    world.turn()
    assert world.session.state is State.STOPPED
    assert theirs.recv(1) == b""
    theirs.close()


def test_a_stop_before_connack_does_not_wait_for_it(world: World) -> None:
    world.connect()
    world.session.take_no_more()
    world.session.say_goodbye()
    world.turn()
    world.broker.close()
    world.turn()
    assert world.session.state is State.STOPPED


def test_a_session_that_has_stopped_lets_the_loop_sleep(world: World) -> None:
    world.refuse = ConnectionRefusedError(111, "Connection refused")
    world.turn()
    world.session.take_no_more()
    assert world.turn() > 0


# -- connecting: a thread blocks, and always reports a result -----------------------------------------------


_NO_FAMILY = 255  # an unsupported address family, like AF_INET6 where IPv6 is turned off


def connected(settings: MqttSettings) -> socket.socket | OSError:
    results: queue.SimpleQueue[socket.socket | OSError] = queue.SimpleQueue()
    connector.connect_in_background(settings, results.put, lambda *_: None)
    return results.get(timeout=10)


def test_a_name_that_is_none_comes_back_as_no_connection() -> None:
    assert isinstance(connected(SETTINGS.model_copy(update={"host": "emq..lan"})), OSError)


def test_an_address_family_that_this_machine_lacks_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.47.0.3", 0)) as server:
        address = server.getsockname()
        found = [(family, socket.SOCK_STREAM, 0, "", address) for family in (_NO_FAMILY, socket.AF_INET)]
        monkeypatch.setattr(connector.socket, "getaddrinfo", lambda *_, **__: found)
        result = connected(MqttSettings(host="broker", port=address[1]))
        assert isinstance(result, socket.socket)
        with result:
            assert result.getpeername() == address
            assert not result.getblocking()


def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.47.0.3", 0)) as server:
        address = server.getsockname()
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", each)
            for each in (("127.47.0.4", address[1]), address)
        ]
        monkeypatch.setattr(connector.socket, "getaddrinfo", lambda *_, **__: found)
        result = connected(MqttSettings(host="broker", port=address[1]))
        assert isinstance(result, socket.socket)
        result.close()


def test_a_host_that_vanished_is_noticed_by_the_kernel() -> None:
    with socket.create_server(("127.47.0.3", 0)) as server:
        host, port = server.getsockname()
        result = connected(MqttSettings(host=host, port=port))
    assert isinstance(result, socket.socket)
    with result:
        tcp = {
            name: result.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT", "TCP_NODELAY")
        }
        assert result.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert tcp == {
        "TCP_KEEPIDLE": 20,
        "TCP_KEEPINTVL": 5,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 35_000,
        "TCP_NODELAY": 1,
    }


# -- idle --------------------------------------------------------------------------------------------------


def test_an_idle_session_sleeps(world: World) -> None:
    world.go_live()
    assert world.turn() > 0.5


def test_pings_go_on_while_messages_flow(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.go_live()
    later = SETTINGS.keepalive + 1
    now, paho_now = session_module.time.monotonic, paho.time_func
    monkeypatch.setattr(session_module.time, "monotonic", lambda: now() + later)
    monkeypatch.setattr(paho, "time_func", lambda: paho_now() + later)
    world.send(message(1))
    assert world.heard() == [Ping(Kind.PINGREQ)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the session's and paho's time forward by so many seconds."""
    ahead = 0.0
    monotonic, paho_time = session_module.time.monotonic, paho.time_func
    monkeypatch.setattr(session_module.time, "monotonic", lambda: monotonic() + ahead)
    monkeypatch.setattr(paho, "time_func", lambda: paho_time() + ahead)

    def pass_time(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    return pass_time


@pytest.mark.parametrize("slow", [True, False], ids=["bytes come", "nothing comes"])
def test_a_pingresp_may_wait_behind_a_message_that_takes_minutes(
    world: World, clock: Callable[[float], None], slow: bool
) -> None:
    world.go_live()
    data = message(1).encode(5)[:1] + b"\xff\x01" + bytes(300)  # a PUBLISH of 255 bytes, and not all of it
    data = data[:200]
    pings = 0
    for number in range(100):  # 200 s
        clock(2.0)
        if slow:
            world.broker.sendall(data[number : number + 1])
        world.turn()
        if world.connections > 1:
            break
        pings += sum(isinstance(packet, Ping) for packet in world.heard())
    if slow:
        assert world.connections == 1
        assert pings == 3, "the broker must hear of the bridge all the same"
    else:
        assert world.connections == 2


@pytest.mark.parametrize("server_keep_alive", [0, 3600])
def test_a_broker_that_asks_for_fewer_pings_or_none_gets_them_all_the_same(
    world: World, clock: Callable[[float], None], server_keep_alive: int
) -> None:
    """The balancer between would cut the connection, and a broker that hangs would never be noticed."""
    world.connect()
    world.send(Connack(properties={Property.SERVER_KEEP_ALIVE: server_keep_alive}))
    world.heard()
    clock(SETTINGS.keepalive + 1)
    assert world.heard() == [Ping(Kind.PINGREQ)]


def test_a_suback_may_come_behind_messages_that_take_longer_than_its_time_out(
    world: World, clock: Callable[[float], None]
) -> None:
    """A resumed session sends its window first: 32 MB take minutes on a slow line."""
    world.connect()
    world.send(Connack(session_present=True))
    (subscribe,) = world.heard()
    for number in range(1, 5):
        clock(SETTINGS.connack_timeout - 1)
        world.send(message(number))
    world.send(Suback(Kind.SUBACK, subscribe.identifier, (1,)))
    assert world.session.state is State.LIVE
    assert world.connections == 1


def test_a_suback_that_never_comes_is_not_waited_for_because_messages_do(
    world: World, clock: Callable[[float], None]
) -> None:
    world.connect()
    world.send(Connack(session_present=True))
    for number in range(1, 30):
        clock(SETTINGS.connack_timeout / 2)
        world.turn()
        if world.session.state is State.BACKING_OFF:
            break
        world.broker.sendall(message(number).encode(5))
    assert 10 < number < 29


# -- what CONNACK restricts --------------------------------------------------------------------------------


def test_what_connack_restricts_is_said_once(world: World) -> None:
    restricted = {Property.SESSION_EXPIRY: 7200, Property.MAXIMUM_PACKET_SIZE: 1_000_000}
    with capture_logs() as lines:
        for _ in range(2):
            world.connect()
            world.send(Connack(properties=restricted))
            world.broker.close()
            world.turn()
            wait_until(lambda: world.turn(1) and world.session.state is State.CONNECTING, 5.0, "again")
    (line,) = [line for line in lines if line["event"] == "mqtt.broker_limits"]
    assert line["limit"] == "Session Expiry Interval = 2h"
    assert "7d" in line["meaning"]


@pytest.mark.parametrize(
    ("properties", "limits"),
    [
        ({}, []),
        ({Property.MAXIMUM_PACKET_SIZE: 20_000_000}, ["Maximum Packet Size = 20MB"]),
        ({Property.MAXIMUM_PACKET_SIZE: 1_048_576, Property.SESSION_EXPIRY: 604_800}, []),
        (
            {Property.MAXIMUM_PACKET_SIZE: 1_048_576, Property.SESSION_EXPIRY: 0},
            ["Session Expiry Interval = 0"],
        ),
        (
            {Property.MAXIMUM_PACKET_SIZE: 1_048_576, Property.RECEIVE_MAXIMUM: 1, Property.MAXIMUM_QOS: 1},
            [],
        ),
    ],
)
def test_a_restriction_that_weakens_no_guarantee_is_not_said(
    world: World, properties: dict[Any, Any], limits: list[str]
) -> None:
    world.connect()
    with capture_logs() as lines:
        world.send(Connack(properties=properties))
    assert [line["limit"] for line in lines if line["event"] == "mqtt.broker_limits"] == limits


def test_a_stop_before_suback_still_sends_the_acknowledgements(world: World) -> None:
    """SUBACK is not read any more, so nothing may end the connection for its absence."""
    world.session._settings = SETTINGS.model_copy(update={"connack_timeout": 0.05})
    world.connect()
    world.send(Connack(session_present=True), message(7))
    world.session.take_no_more()
    over = time.monotonic() + 0.2
    wait_until(lambda: world.turn() or time.monotonic() > over, 10, "the answer is overdue")
    world.session.acknowledge(world.handler.received)
    assert [each.identifier for each in world.heard() if isinstance(each, Ack)][-1:] == [7]


# -- between two turns ---------------------------------------------------------------------------------


def test_a_session_is_calm_while_it_is_live(world: World) -> None:
    assert not world.session.is_calm
    world.connect()
    world.send(Connack())
    assert not world.session.is_calm, "SUBACK is to come"
    (subscribe,) = world.heard()
    world.send(Suback(Kind.SUBACK, subscribe.identifier, (1,)))
    assert world.session.is_calm
    world.session.take_no_more()
    assert not world.session.is_calm


def test_a_message_is_passed_on_between_two_turns(world: World) -> None:
    world.go_live()
    world.handler.settles = True
    world.broker.sendall(message(1).encode(5))
    assert world.session.relay()
    assert world.session.is_calm
    assert world.handler.numbers == [1]
    assert world.handler.handed == 1
    assert [packet.identifier for packet in Frames(5).feed(world.broker.recv(100))] == [1]


def test_what_came_in_masses_is_read_by_a_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_READS_PER_TURN", 1)
    world.go_live()
    world.broker.sendall(b"".join(message(number).encode(5) for number in range(1, 1000)))
    assert not world.session.relay()
    assert world.session.relay(), "nothing is left"
    assert len(world.handler.received) == 999


@pytest.mark.parametrize("a_few", [0, 4096])
def test_a_packet_for_paho_is_followed_by_a_turn(
    world: World, monkeypatch: pytest.MonkeyPatch, a_few: int
) -> None:
    monkeypatch.setattr(tap_module, "_A_FEW", a_few)
    world.go_live()
    world.broker.sendall(Ping(Kind.PINGRESP).encode(5) + message(1).encode(5))
    assert not world.session.relay()
    assert world.session.is_calm
    assert world.handler.numbers == [1]


def test_a_packet_that_paho_answers_is_followed_by_a_turn(world: World) -> None:
    world.go_live()
    world.broker.sendall(Disconnect(0x8B).encode(5))
    world.session.relay()
    assert not world.session.is_calm
    assert world.session.state is State.BACKING_OFF


def test_a_connection_that_ends_between_two_turns_is_followed_by_a_turn(world: World) -> None:
    world.go_live()
    world.broker.sendall(message(1).encode(5))
    world.broker.close()
    while world.session.is_calm:  # the message, then the end
        world.session.relay()
    assert world.handler.numbers == [1]
    assert world.handler.told[-1] == "disconnected"
    assert world.session.state is State.BACKING_OFF
    assert not world.session.relay()


def test_an_acknowledgement_that_waits_for_the_kernel_is_followed_by_a_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.go_live()
    world.handler.settles = True

    def full(_: bytes) -> int:
        raise BlockingIOError

    monkeypatch.setattr(world.kernel, "send", full)
    world.broker.sendall(message(1).encode(5))
    world.session.relay()
    assert not world.session.is_calm
    monkeypatch.undo()
    world.turn()
    assert world.session.is_calm
    assert world.handler.handed == 1


def test_a_pubcomp_that_waits_for_the_kernel_is_followed_by_a_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.go_live()

    def full(_: bytes) -> int:
        raise BlockingIOError

    monkeypatch.setattr(world.kernel, "send", full)
    monkeypatch.setattr(tap_module, "_A_FEW", 0)  # so a second read follows, which finds nothing
    world.broker.sendall(Ack(Kind.PUBREL, 9).encode(5))
    assert not world.session.relay()
    monkeypatch.undo()
    assert world.heard() == [Ack(Kind.PUBCOMP, 9)]
