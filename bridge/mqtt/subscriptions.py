"""Subscribes and unsubscribes filters until the session has the filters that the routes want.

Only the broker knows what its session is subscribed to. Another client with the same client id, or a
person, may have changed it since this bridge last knew. So:

* On MQTT 5 the bridge subscribes all filters on each connection, with Retain Handling 1: that brings no
  retained message of a subscription that exists.
* MQTT 3.1.1 has no Retain Handling: a SUBSCRIBE brings all retained messages again. There a resumed session
  whose filters are on record is left alone, unless there is a doubt: another client may have had it.

A Subscription Identifier tells the bridge to skip a copy, for another subscription brings the same message
(routing/router.py). That must be true of each message that carries it. So a subscription gets its
identifier only once all subscriptions that have one were granted; until then they are subscribed without
identifiers, and each copy is produced. In doubt that holds for a resumed session too.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Protocol

from bridge.errors import MalformedPacket
from bridge.mqtt.broker_limits import BrokerLimits
from bridge.mqtt.subscription_record import Granted, SubscriptionRecord
from bridge.observe.events import Event, log
from bridge.routing.topics import Subscription

Wanted = Callable[
    [Collection[str]], Sequence[Subscription]
]  # the filters to subscribe while the broker refuses these

_REFUSED = 0x80  # SUBACK, UNSUBACK: lowest reason code of a refusal (MQTT 5, 2.4; 3.1.1: Failure)
_NO_LIMITS = BrokerLimits()


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
        self._limits = _NO_LIMITS
        self._confirmed: Granted = {}  # what the session has, as this connection knows
        self._in_place: set[str] = set()  # subscribed, with the right identifier or another one or none
        self._refused: set[str] = set()
        self._asked: dict[int | None, list[Subscription]] = {}  # no SUBACK yet; by paho's number
        self._taken_off: dict[int | None, list[str]] = {}  # no UNSUBACK yet
        self._again = False  # what is wanted has changed while the broker owes an answer
        self._lowered: set[str] = set()  # filters of which a lower QoS was logged

    @property
    def settled(self) -> bool:
        """The broker has answered every SUBSCRIBE and UNSUBSCRIBE."""
        return not self._asked and not self._taken_off

    @property
    def any_granted(self) -> bool:
        return bool(self._confirmed)

    @property
    def expects_session(self) -> bool:
        return bool(self._record.applied or self._record.uncertain)

    @property
    def refused(self) -> tuple[str, ...]:
        return tuple(sorted(self._refused))

    @property
    def some_refused(self) -> bool:
        return bool(self._refused)

    @property
    def want_identifiers(self) -> bool:
        """Some routes overlap so that only Subscription Identifiers tell copies apart."""
        return any(each.identifier for each in self._wanted(()))

    def connected(
        self, session_present: bool, mqtt5: bool, doubt: str = "", limits: BrokerLimits = _NO_LIMITS
    ) -> None:
        """The broker sent CONNACK. A new session (not `session_present`) has no filters: clear the record.

        `doubt` says why another client may have had the session; it is empty where there is no reason.
        """
        self._asked.clear()
        self._taken_off.clear()
        self._refused.clear()
        self._again = False
        self._limits = limits
        record = self._record
        if not session_present:
            # Sync an empty record before SUBSCRIBE. If the bridge died before SUBACK, an old record would
            # claim filters that the new session does not have.
            record.record({}, set())
        elif not record.known or (doubt and not mqtt5):
            log(Event.MQTT_SUBSCRIPTIONS_UNKNOWN, reason=doubt or "nothing of it is on record")
        is_believed = session_present and record.known and not doubt
        self._confirmed = dict(record.applied) if is_believed and not mqtt5 else {}
        self._in_place = set(record.applied) if is_believed else set()

    def apply(self, sender: Sender) -> None:
        """Subscribe the missing filters; if none is missing, unsubscribe the unwanted ones.

        The broker must first have granted or refused the missing filters: in a gap between two filters it
        would drop what devices publish.
        """
        record = self._record
        wanted = {each.filter: each for each in self._allowed()}
        missing = [each for name, each in wanted.items() if self._confirmed.get(name) != _as_granted(each)]
        if missing:
            missing = self._without_early_identifiers(missing, wanted.values())
            changing = {
                each.filter for each in missing if record.applied.get(each.filter) != _as_granted(each)
            }
            applied = {name: granted for name, granted in record.applied.items() if name not in changing}
            record.record(applied, record.uncertain | changing)
            self._ask(sender, missing)
            return
        # A refused filter is still wanted: the broker may bring its messages all the same, by a subscription
        # that it granted earlier.
        surplus = {*record.applied, *record.uncertain}.difference(wanted, self._refused)
        if surplus:
            applied = {name: granted for name, granted in record.applied.items() if name in wanted}
            record.record(applied, surplus | (record.uncertain & self._refused))
            filters = sorted(surplus)
            for name in filters:
                self._confirmed.pop(name, None)  # a reload may want it again on this connection
            self._taken_off[sender.send_unsubscribe(filters)] = filters

    def wanted_changed(self, sender: Sender) -> None:
        """A reload has changed what is wanted. New filters are subscribed before old ones are unsubscribed.

        While the broker owes an answer this waits: an UNSUBACK must not be taken for an answer about a filter
        that is subscribed again meanwhile.
        """
        self._again = not self.settled
        if not self._again:
            self.apply(sender)

    def ask_again(self, sender: Sender) -> None:
        """Subscribe the refused filters again: a person may have corrected the broker's access rules."""
        wanted = self._available(())
        refused = [each for each in wanted if each.filter in self._refused]
        refused = [each for each in refused if not self._limits.forbids(each.filter)]
        if refused:
            self._ask(sender, self._without_early_identifiers(refused, wanted))

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
            if reason < _REFUSED:
                # Record the requested QoS: otherwise `apply` would ask a broker that grants less for ever.
                self._confirmed[name] = applied[name] = _as_granted(subscription)
                self._in_place.add(name)
                uncertain.discard(name)
                refused.discard(name)
                if reason < subscription.qos:
                    self._log_lowered(subscription, reason)
                continue
            # A refusal leaves a subscription that the session had before, so what was there stays uncertain.
            if applied.pop(name, None) is not None:
                uncertain.add(name)
            elif name not in self._in_place:
                uncertain.discard(name)
            self._confirmed.pop(name, None)
            self._in_place.discard(name)
            refused.add(name)
            _log_refused(name, f"0x{reason:02x}")
        self._record.record(applied, uncertain)
        self._refused = refused
        # Filters that a refused wide filter covers become wanted, or unwanted again.
        if not self._asked and not (self._again and self._taken_off):
            self._again = False
            self.apply(sender)

    def taken_off(self, sender: Sender, number: int, reasons: Sequence[int]) -> None:
        """The broker sent UNSUBACK. `reasons`: one for each filter; MQTT 3.1.1 has none and can't refuse."""
        filters = self._taken_off.pop(number, [])
        refused = [name for name, reason in zip(filters, reasons, strict=False) if reason >= _REFUSED]
        gone = [name for name in filters if name not in refused]
        # A filter whose UNSUBSCRIBE was refused stays uncertain, so the next connection tries again.
        self._record.record(self._record.applied, self._record.uncertain.difference(gone))
        self._in_place.difference_update(gone)
        if gone:
            log(Event.MQTT_UNSUBSCRIBED, filters=gone)
        if refused:
            log(Event.MQTT_UNSUBSCRIBE_REFUSED, filters=refused)
        if self._again and self.settled:
            self._again = False
            self.apply(sender)

    # -- what to ask for -------------------------------------------------------------------------------

    def _allowed(self) -> Sequence[Subscription]:
        """What is wanted, and neither refused by the broker nor forbidden by its CONNACK."""
        while True:
            wanted = self._available(self._refused)
            forbidden = {each.filter: self._limits.forbids(each.filter) for each in wanted}
            if not any(forbidden.values()):
                return wanted
            for name, reason in forbidden.items():
                if reason:
                    self._refused.add(name)
                    _log_refused(name, reason)

    def _available(self, refused: Collection[str]) -> Sequence[Subscription]:
        wanted = self._wanted(refused)
        if self._limits.subscription_identifiers:
            return wanted
        return [replace(each, identifier=None) for each in wanted]

    def _without_early_identifiers(
        self, missing: Iterable[Subscription], wanted: Iterable[Subscription]
    ) -> list[Subscription]:
        """Of `missing` what is to be asked for now: see the module's docstring."""
        if all(each.filter in self._in_place for each in wanted if each.identifier):
            return list(missing)
        return [
            replace(each, identifier=None)
            for each in missing
            if not each.identifier or each.filter not in self._in_place
        ]

    def _ask(self, sender: Sender, subscriptions: list[Subscription]) -> None:
        # A SUBSCRIBE can carry only one Subscription Identifier (MQTT 5, 3.8.2.1.2).
        for _, group in groupby(sorted(subscriptions, key=_identifier), key=_identifier):
            asked = list(group)
            self._asked[sender.send_subscribe(asked)] = asked

    def _log_lowered(self, subscription: Subscription, granted: int) -> None:
        name = subscription.filter
        if name not in self._lowered:
            self._lowered.add(name)
            log(Event.MQTT_QOS_LOWERED, filter=name, asked=subscription.qos, granted=granted)


def _log_refused(name: str, reason: str) -> None:
    log(
        Event.MQTT_SUBSCRIBE_REFUSED,
        filter=name,
        reason=reason,
        way_out="allow the client id or user to subscribe to it in the broker's access rules (EMQX"
        " denies #, $SYS/# and from 5.8 on +/# by default), or change the route's filter",
    )


def _identifier(subscription: Subscription) -> int:
    return subscription.identifier or 0


def _as_granted(subscription: Subscription) -> tuple[int, int]:
    return subscription.qos, _identifier(subscription)
