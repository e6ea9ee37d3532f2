"""The behaviour of paho on which bridge/mqtt/client.py and session.py depend: a changed paho fails here.

Each test's message says what in the bridge depends on the behaviour. paho documents loop_read, loop_write,
loop_misc, want_write and the callbacks (external event loop), but not `_create_socket`.
"""

import random
import socket
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.client import Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridge.mqtt.tap import Tap
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
    Unsubscribe,
)

KEEPALIVE = 60
VERSIONS = pytest.mark.parametrize("version", [4, 5], ids=["mqtt3.1.1", "mqtt5"])


class Socket:
    """A SocketLike that records paho's calls, and returns the data that the test puts there."""

    def __init__(self) -> None:
        self.incoming = b""
        self.ended = False
        self.room = 1 << 20  # bytes that send() still accepts
        self.broken = False
        self.sent = b""
        self.reads: list[int] = []
        self.closed = 0
        self.blocking: bool | None = None

    def recv(self, size: int) -> bytes:
        self.reads.append(size)
        if not self.incoming:
            if self.ended:
                return b""
            raise BlockingIOError
        taken, self.incoming = self.incoming[:size], self.incoming[size:]
        return taken

    def send(self, data: bytes) -> int:
        if self.broken:
            raise BrokenPipeError(32, "Broken pipe")
        if not self.room:
            raise BlockingIOError
        taken = bytes(data[: self.room])
        self.sent += taken
        self.room -= len(taken)
        return len(taken)

    def pending(self) -> int:
        return len(self.incoming)

    def fileno(self) -> int:
        return 0

    def setblocking(self, flag: bool) -> None:
        self.blocking = flag

    def close(self) -> None:
        self.closed += 1


class Paho(Client):
    """A client as bridge/mqtt/client.py makes it, with a fake socket."""

    def __init__(self, version: int) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            "contract",
            clean_session=False if version == 4 else None,
            protocol=MQTTv5 if version == 5 else MQTTv311,
            reconnect_on_failure=False,
        )
        self.version = version
        self.line = Socket()
        self.frames = Frames(version)
        self.told: list[tuple[Any, ...]] = []
        self.on_connect = lambda *told: self.told.append(("connect", *told[2:]))
        self.on_subscribe = lambda *told: self.told.append(("subscribe", *told[2:]))
        self.on_unsubscribe = lambda *told: self.told.append(("unsubscribe", *told[2:]))
        self.on_disconnect = lambda *told: self.told.append(("disconnect", *told[2:]))

    def _create_socket(self) -> Socket:  # type: ignore[override]
        return self.line

    def start(self) -> None:
        kwargs = {"clean_start": False} if self.version == 5 else {}
        self.connect("nobody.invalid", 1, KEEPALIVE, **kwargs)  # type: ignore[arg-type]

    def come_up(self) -> None:
        self.start()
        self.gets(Connack(session_present=True))
        self.told.clear()
        self.packets()

    def gets(self, packet: Any) -> MQTTErrorCode:
        self.line.incoming += packet.encode(self.version)
        return self.loop_read()

    def packets(self) -> list[Any]:
        """The packets that paho has sent since the last call."""
        sent, self.line.sent = self.line.sent, b""
        return list(self.frames.feed(sent))


@pytest.fixture
def client(version: int) -> Paho:
    return Paho(version)


# -- the socket ------------------------------------------------------------------------------------------


@pytest.fixture
def _no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("paho opens a socket of its own: TappedClient._create_socket is not (all) it uses now")

    for name in ("socket", "create_connection", "socketpair", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


@VERSIONS
@pytest.mark.usefixtures("_no_sockets")
def test_create_socket_is_where_paho_gets_its_only_socket(client: Paho) -> None:
    client.start()
    assert client.socket() is client.line, "TappedClient._create_socket is no longer what connect() uses"
    assert client.line.blocking is False
    (connect,) = client.packets()
    assert isinstance(connect, Connect), "connect() no longer sends CONNECT by itself (Session._tcp)"
    assert connect.keepalive == KEEPALIVE
    assert connect.client_id == "contract"
    assert connect.clean_start is False


@VERSIONS
def test_a_tap_is_all_that_paho_asks_of_a_socket(client: Paho) -> None:
    """The `Socket` above has only a tap's methods, and paho connected and disconnected with it."""
    methods = {name for name in vars(Socket) if not name.startswith("_")}
    assert not {name for name in methods if not hasattr(Tap, name)}
    client.come_up()
    client.disconnect()
    assert client.line.closed == 1


# -- reading ---------------------------------------------------------------------------------------------


@VERSIONS
def test_loop_read_consumes_one_packet_and_leaves_the_next(client: Paho) -> None:
    client.start()
    client.line.incoming = Connack().encode(client.version) + Suback(Kind.SUBACK, 1, (1,)).encode(
        client.version
    )
    client.loop_read()
    left = Suback(Kind.SUBACK, 1, (1,)).encode(client.version)
    assert client.line.incoming == left, "loop_read reads more than one packet, see Session._take_packets"


@VERSIONS
def test_half_a_packet_is_no_error(client: Paho) -> None:
    client.start()
    client.line.incoming = b"\x20"
    assert client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS, "BlockingIOError of Tap.recv is not handled"
    assert client.told == []


@VERSIONS
def test_the_end_of_the_stream_is_told_to_on_disconnect(client: Paho) -> None:
    client.come_up()
    client.line.ended = True
    client.loop_read()
    ((name, flags, reason, _),) = client.told
    assert name == "disconnect", "b'' of Tap.recv is no longer the end: the session would spin on it"
    assert flags.is_disconnect_packet_from_server is False
    assert str(reason), "Session._on_closed logs this text"
    assert client.socket() is None


# -- writing ---------------------------------------------------------------------------------------------


@VERSIONS
def test_what_the_socket_did_not_take_is_kept_and_sent_later(client: Paho) -> None:
    client.line.room = 5
    client.start()
    assert client.want_write(), (
        "bytes that Tap.send refused are lost, or want_write() is wrong (Session._write)"
    )
    client.line.room = 1 << 20
    client.loop_write()
    assert not client.want_write()
    assert isinstance(client.packets()[0], Connect)


@VERSIONS
def test_what_is_subscribed_in_a_callback_waits_for_loop_write(client: Paho) -> None:
    client.start()
    one: Any = [("a", SubscribeOptions(1) if client.version == 5 else 1)]
    client.on_connect = lambda *_: client.subscribe(one)
    client.gets(Connack())
    assert client.want_write(), "SUBSCRIBE from on_connect does not wait for loop_write"
    client.packets()
    client.loop_write()
    (subscribe,) = client.packets()
    assert isinstance(subscribe, Subscribe)
    assert [each.filter for each in subscribe.filters] == ["a"]


@VERSIONS
def test_a_socket_that_breaks_while_writing_is_told_to_on_disconnect(client: Paho) -> None:
    client.come_up()
    client.line.broken = True
    client.unsubscribe("a")
    assert [told[0] for told in client.told] == ["disconnect"], "an OSError of Tap.send is not handled"


# -- CONNACK and the other answers -----------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("present", [True, False])
def test_connack_tells_whether_the_session_is_present(client: Paho, present: bool) -> None:
    client.start()
    client.gets(Connack(present))
    ((name, flags, reason, _),) = client.told
    assert name == "connect"
    assert flags.session_present is present
    assert reason.is_failure is False


@pytest.mark.parametrize(
    ("version", "code", "value"),
    [
        *((5, code, code) for code in (0x84, 0x86, 0x87, 0x88, 0x89, 0x9D)),
        *((4, code, value) for code, value in ((2, 0x85), (3, 0x88), (4, 0x86), (5, 0x87))),
    ],
)
def test_a_refused_connack_gives_its_reason(version: int, code: int, value: int) -> None:
    client = Paho(version)
    client.start()
    client.gets(Connack(reason=code))
    assert client.told[0][0] == "connect"
    reason = client.told[0][2]
    assert reason.is_failure
    assert reason.value == value, "bridge/mqtt/reasons.py has other numbers for it"
    assert client.told[1][0] == "disconnect"


def test_a_version_that_3_1_1_refuses_ends_without_another_attempt_of_pahos_own() -> None:
    client = Paho(4)
    client.start()
    client.packets()
    client.gets(Connack(reason=1))
    assert client.packets() == [], "reconnect_on_failure=False no longer keeps paho from trying MQTT 3.1"
    assert client.told[-1][0] == "disconnect"


@VERSIONS
def test_suback_gives_its_number_and_a_reason_for_each_filter(client: Paho) -> None:
    client.come_up()
    options: Any = [(name, SubscribeOptions(1) if client.version == 5 else 1) for name in "ab"]
    number = client.subscribe(options)[1]
    assert number
    client.gets(Suback(Kind.SUBACK, number, (1, 0x80)))
    ((name, told_number, reasons, _),) = client.told
    assert (name, told_number) == ("subscribe", number)
    assert [reason.value for reason in reasons] == [1, 0x80]


@VERSIONS
def test_unsuback_gives_its_number(client: Paho) -> None:
    client.come_up()
    number = client.unsubscribe(["a", "b"])[1]
    assert number
    (unsubscribe,) = client.packets()
    assert isinstance(unsubscribe, Unsubscribe)
    client.gets(Suback(Kind.UNSUBACK, number, (0, 0)))
    assert client.told[0][:2] == ("unsubscribe", number)


def test_a_disconnect_of_the_broker_gives_its_reason() -> None:
    client = Paho(5)
    client.come_up()
    client.gets(Disconnect(0x8E))
    ((name, flags, reason, _),) = client.told
    assert name == "disconnect"
    assert flags.is_disconnect_packet_from_server is True, "Session._on_closed recognises a takeover by it"
    assert reason.value == 0x8E


@VERSIONS
def test_what_a_callback_raises_comes_out_of_loop_read(client: Paho) -> None:
    client.start()

    def second_connack(*_: object) -> None:
        raise LookupError

    client.on_connect = second_connack
    with pytest.raises(LookupError):
        client.gets(Connack())


@VERSIONS
def test_nothing_that_a_broker_may_send_makes_paho_raise(version: int) -> None:
    """The tap gives paho whole packets, with any content that the broker chooses."""
    some = random.Random(version)
    for _ in range(1000):
        client = Paho(version)
        client.start()
        kind = some.choice((2, 4, 5, 7, 9, 11, 13, 14, 15))
        size = some.choice((0, 1, 2, 3, 4, 5, 8, 20))
        body = bytes(some.choice((0, 1, 2, 0x1F, 0x26, 0x80, 0x87, some.randrange(256))) for _ in range(size))
        client.line.incoming = bytes([kind << 4, len(body)]) + body
        packet = client.line.incoming
        try:
            client.loop_read()
        except Exception as error:
            pytest.fail(f"{packet.hex()}: {error!r}: Session._take_packets must catch it now")


# -- keepalive -------------------------------------------------------------------------------------------


class Clock:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = paho.time_func()
        patch.setattr(paho, "time_func", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@VERSIONS
def test_loop_misc_pings_at_keepalive_and_not_before(clock: Clock, client: Paho) -> None:
    client.come_up()
    clock.now += KEEPALIVE - 1
    client.loop_misc()
    assert client.packets() == []
    clock.now += 1
    client.loop_misc()
    assert client.packets() == [Ping(Kind.PINGREQ)], "loop_misc no longer pings: the balancer cuts after 3 h"


@VERSIONS
def test_loop_misc_gives_up_when_no_pingresp_comes(clock: Clock, client: Paho) -> None:
    client.come_up()
    clock.now += KEEPALIVE
    client.loop_misc()
    clock.now += KEEPALIVE
    client.loop_misc()
    assert {told[0] for told in client.told} == {"disconnect"}  # paho 2.2 calls it twice
    assert client.told[0][2].value == 0x8D, "Session._on_closed logs mqtt.keepalive_timeout by it"


@VERSIONS
def test_pingresp_keeps_the_session(clock: Clock, client: Paho) -> None:
    client.come_up()
    for _ in range(5):
        clock.now += KEEPALIVE
        client.loop_misc()
        assert client.packets() == [Ping(Kind.PINGREQ)]
        client.gets(Ping(Kind.PINGRESP))
    assert client.told == []


@VERSIONS
def test_loop_misc_before_connack_would_end_the_attempt_at_keepalive(clock: Clock, client: Paho) -> None:
    """So the session calls loop_misc only after CONNACK, and has its own timer (mqtt.connack_timeout)."""
    client.start()
    clock.now += KEEPALIVE
    client.loop_misc()
    assert [told[0] for told in client.told] == ["disconnect"]


# -- DISCONNECT ------------------------------------------------------------------------------------------


@VERSIONS
def test_disconnect_closes_only_when_the_socket_has_taken_all_of_it(client: Paho) -> None:
    client.come_up()
    client.line.room = 1
    client.disconnect()
    assert client.line.closed == 0, "paho closes before DISCONNECT has left (Session.say_goodbye)"
    assert client.want_write()
    client.line.room = 1 << 20
    client.loop_write()
    assert client.packets() == [Disconnect()]
    assert client.line.closed == 1
    assert client.told[-1][0] == "disconnect"


def test_disconnect_carries_a_reason_on_mqtt_5() -> None:
    client = Paho(5)
    client.come_up()
    client.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=0x81))
    assert client.packets() == [Disconnect(0x81)]


# -- packets that bypass paho ------------------------------------------------------------------------------


@VERSIONS
def test_acknowledgements_by_paho_are_what_the_tap_spares_it(client: Paho) -> None:
    """If paho got a PUBLISH, it would acknowledge at once, without Kafka: the reason for the tap."""
    client.come_up()
    client.gets(Publish(b"t", b"v", 1, 7))
    client.loop_write()
    assert client.packets() == [Ack(Kind.PUBACK, 7)]
