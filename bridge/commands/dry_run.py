"""`bridge --dry-run`: shows what the bridge would produce. Can run beside the service."""

import signal
import sys
import time
from collections.abc import Collection, Sequence
from typing import TextIO

from bridge.commands.preview import Preview
from bridge.loop import Loop
from bridge.message import Message, Packet, Release
from bridge.mqtt.session import Session, State
from bridge.observe import logging
from bridge.observe.printable import printable
from bridge.routing.router import Router
from bridge.routing.topics import Subscription
from bridge.settings import Settings
from bridge.status.spoken import listed


def dry_run(settings: Settings, count: int | None, json: bool, client_id: str | None) -> int:
    """Show what would be produced, without affecting the running bridge. Returns the exit status."""
    logging.set_up("warning" if settings.log.level == "info" else settings.log.level, settings.log.format)
    return DryRun(settings, count, json, client_id or f"{settings.mqtt.client_id}-dry-run", sys.stdout).run()


class DryRun:
    """Subscribes in its own clean session, shows each message, and produces nothing.

    It joins no $share group, so it takes no messages away from the running bridge.
    """

    def __init__(
        self, settings: Settings, count: int | None, json: bool, client_id: str, stream: TextIO
    ) -> None:
        self._settings = settings
        self._router = Router(settings.routes, shared=False)
        self._preview = Preview(self._router, json, stream)
        self._left = count
        self._client_id = client_id
        self._is_told = False
        self._loop = Loop()
        self._session = Session(settings.mqtt, self._loop, self, client_id, state_directory=None)

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._loop.post(self._stop))
        try:
            due = self._session.turn()
            while self._session.state is not State.STOPPED:
                self._loop.wait(due)
                due = self._session.turn()
        except BrokenPipeError:  # a reader such as `| head` has closed the pipe
            self._session.abandon()
            return 0
        self._preview.summary()
        return 0

    def _stop(self) -> None:
        self._session.take_no_more()
        self._session.say_goodbye()

    # -- the session's handler -------------------------------------------------------------------------

    def subscriptions(self, refused: Collection[str]) -> Sequence[Subscription]:
        return self._router.without(refused).subscriptions

    def receive(self, packets: list[Packet]) -> None:
        messages: list[Message] = []
        now = time.time_ns() // 1_000_000
        for packet in packets:
            if isinstance(packet, Release):
                self._session.complete(packet.packet_id, known=True)
                continue
            if self._left == 0:
                break
            if packet.qos:
                messages.append(packet)
            packet.timestamp = now
            self._preview.message(packet)
            if self._left:
                self._left -= 1
        if messages:
            self._session.acknowledge(messages)
        if self._left == 0:
            self._loop.post(self._stop)

    def connecting(self) -> None: ...
    def connected(self, session_present: bool, mqtt5: bool) -> None: ...

    def subscribed(self) -> None:
        """Tell a person at a terminal that all is well: the first message may be hours away."""
        refused = self._session.refused
        filters = [each.filter for each in self.subscriptions(refused) if each.filter not in refused]
        if self._is_told or not filters or not sys.stderr.isatty():
            return
        self._is_told = True
        shown = listed([f'"{printable(each)}"' for each in filters])
        mqtt = self._settings.mqtt
        sys.stderr.write(
            f"connected to {mqtt.host}:{mqtt.port} as {printable(self._client_id)} with MQTT"
            f" {self._session.protocol}, subscribed to {shown}; waiting for messages, Ctrl-C ends\n"
        )
        sys.stderr.flush()

    def session_lost(self) -> None: ...
    def handed_over(self, acknowledgements: int) -> None: ...
    def taken_over(self) -> None: ...
    def disconnected(self) -> None: ...
