"""Checks of this machine: its clock and its certificates."""

from collections.abc import Iterator
from datetime import UTC, datetime

from bridge.commands.check.outcome import Outcome, Site, failed, good, skipped, warning
from bridge.delivery.clock import is_believable, is_synchronised
from bridge.kafka import tls as kafka_tls
from bridge.mqtt import connector
from bridge.tls.certificate import not_after
from bridge.tls.expiry import SOON


def clock(_site: Site) -> Iterator[Outcome]:
    if not is_believable():
        yield failed("nothing has set this machine's clock: records get no timestamp")
    elif not is_synchronised():
        yield warning("the clock shows a possible time, but NTP does not keep it")
    else:
        yield good("NTP keeps the clock")


def certificates(site: Site) -> Iterator[Outcome]:
    """Certificates of both sides: in files, and, unless offline, those that peers show."""
    now = datetime.now(UTC)
    watched = [connector.watch_expiry(site.settings.mqtt), kafka_tls.watch_expiry(site.settings.kafka)]
    found = False
    for expiry in watched:
        for name, expires in expiry.dates(ask_peers=not site.offline) if expiry else ():
            found = True
            yield (
                failed(f"{name}: {expires}") if isinstance(expires, str) else days_left(name, expires, now)
            )
    for peer, der in site.shown.items():
        found = True
        yield days_left(f"shown by {peer}", not_after(der), now)
    if not found:
        yield skipped("no certificate is used")


def days_left(name: str, expires: datetime, now: datetime) -> Outcome:
    days = (expires - now).days
    if expires <= now:
        return failed(f"{name} expired on {expires:%Y-%m-%d}")
    if expires - now <= SOON:
        return warning(f"{name} expires in {days} days, on {expires:%Y-%m-%d}")
    return good(f"{name} is valid for {days} days")
