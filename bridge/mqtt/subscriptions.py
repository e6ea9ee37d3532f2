"""Subscribes and unsubscribes filters until the session has the filters that the routes want."""

from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from typing import Protocol

from bridge.errors import MalformedPacket
from bridge.mqtt.subscription_record import SubscriptionRecord
from bridge.observe.events import Event, log
from bridge.routing.topics import Subscription

Wanted = Callable[
    [Collection[str]], Sequence[Subscription]
]  # the filters to subscribe while the broker refuses these

_REFUSED = 0x80  # SUBACK, UNSUBACK: lowest reason code of a refusal (MQTT 5, 2.4; 3.1.1: Failure)


class Sender(Protocol):
    """The part of mqtt.client.TappedClient that `Subscriptions` uses."""

    def send_subscribe(self, subscriptions: list[Subscription]) -> int | None: ...
    def send_unsubscribe(self, filters: list[str]) -> int | None: ...


class Subscriptions:
    """The session's filters: asked for, granted and refused. One object serves all connections of the bridge.

    `record` keeps the granted filters on disk.
    """

    def __init__(self, wanted: Wanted, record: SubscriptionRecord) -> None:
        self._wanted = wanted
        self._record = record
        self._refused: set[str] = set()
        self._asked: dict[int | None, list[Subscription]] = {}  # no SUBACK yet; by paho's number
        self._taken_off: dict[int | None, list[str]] = {}  # no UNSUBACK yet

    @property
    def settled(self) -> bool:
        """The broker has answered every SUBSCRIBE and UNSUBSCRIBE."""
        return not self._asked and not self._taken_off

    @property
    def any_granted(self) -> bool:
        return bool(self._record.applied)

    @property
    def expects_session(self) -> bool:
        return bool(self._record.applied or self._record.uncertain)

    @property
    def some_refused(self) -> bool:
        return bool(self._refused)

    def connected(self, session_present: bool) -> None:
        """The broker sent CONNACK. A new session (not `session_present`) has no filters: clear the record."""
        self._asked.clear()
        self._taken_off.clear()
        self._refused.clear()
        if not session_present:
            # Sync an empty record before SUBSCRIBE. If the bridge died before SUBACK, an old record would
            # claim filters that the new session does not have.
            self._record.record({}, set())
        elif not self._record.known:
            log(Event.MQTT_SUBSCRIPTIONS_UNKNOWN)

    def apply(self, sender: Sender) -> None:
        """Subscribe the missing filters; if none is missing, unsubscribe the unwanted ones.

        The broker must first have granted or refused the missing filters: in a gap between two filters it
        would drop what devices publish.
        """
        record = self._record
        wanted = {each.filter: each for each in self._wanted(self._refused)}
        missing = [each for name, each in wanted.items() if record.applied.get(name) != _as_granted(each)]
        if missing:
            applied = {
                name: granted
                for name, granted in record.applied.items()
                if name not in wanted or granted == _as_granted(wanted[name])
            }
            record.record(applied, record.uncertain | {each.filter for each in missing})
            self._ask(sender, missing)
            return
        surplus = {*record.applied, *record.uncertain}.difference(wanted)
        if surplus:
            applied = {name: granted for name, granted in record.applied.items() if name in wanted}
            record.record(applied, surplus)
            filters = sorted(surplus)
            self._taken_off[sender.send_unsubscribe(filters)] = filters

    def ask_again(self, sender: Sender) -> None:
        """Subscribe the refused filters again: a person may have corrected the broker's access rules."""
        self._ask(sender, [each for each in self._wanted(()) if each.filter in self._refused])

    def granted(self, sender: Sender, number: int, reasons: list[int]) -> None:
        """The broker sent SUBACK, with one reason code for each filter. Raises MalformedPacket."""
        applied = dict(self._record.applied)
        uncertain = set(self._record.uncertain)
        refused = set(self._refused)
        asked = self._asked.pop(number, [])
        if len(reasons) != len(asked):
            raise MalformedPacket(f"SUBACK with {len(reasons)} reason codes for {len(asked)} filters")
        for subscription, reason in zip(asked, reasons, strict=True):
            name = subscription.filter
            uncertain.discard(name)
            if reason < _REFUSED:
                # Record the requested QoS: otherwise `apply` would ask a broker that grants less for ever.
                applied[name] = _as_granted(subscription)
                refused.discard(name)
                if reason < subscription.qos:
                    log(Event.MQTT_QOS_LOWERED, filter=name, asked=subscription.qos, granted=reason)
                continue
            applied.pop(name, None)
            refused.add(name)
            log(
                Event.MQTT_SUBSCRIBE_REFUSED,
                filter=name,
                reason=f"0x{reason:02x}",
                way_out="allow the client id or user to subscribe to it in the broker's access rules (EMQX"
                " denies #, $SYS/# and from 5.8 on +/# by default), or change the route's filter",
            )
        self._record.record(applied, uncertain)
        self._refused = refused
        if not self._asked:  # filters that a refused wide filter covers become wanted, or unwanted again
            self.apply(sender)

    def taken_off(self, number: int, reasons: Sequence[int]) -> None:
        """The broker sent UNSUBACK. `reasons`: one for each filter; MQTT 3.1.1 has none and can't refuse."""
        filters = self._taken_off.pop(number, [])
        refused = [name for name, reason in zip(filters, reasons, strict=False) if reason >= _REFUSED]
        gone = [name for name in filters if name not in refused]
        # A filter whose UNSUBSCRIBE was refused stays uncertain, so the next connection tries again.
        self._record.record(self._record.applied, self._record.uncertain.difference(gone))
        if gone:
            log(Event.MQTT_UNSUBSCRIBED, filters=gone)
        if refused:
            log(Event.MQTT_UNSUBSCRIBE_REFUSED, filters=refused)

    def _ask(self, sender: Sender, subscriptions: list[Subscription]) -> None:
        # A SUBSCRIBE can carry only one Subscription Identifier (MQTT 5, 3.8.2.1.2).
        for _, group in groupby(sorted(subscriptions, key=_identifier), key=_identifier):
            asked = list(group)
            self._asked[sender.send_subscribe(asked)] = asked


def _identifier(subscription: Subscription) -> int:
    return subscription.identifier or 0


def _as_granted(subscription: Subscription) -> tuple[int, int]:
    return subscription.qos, _identifier(subscription)
