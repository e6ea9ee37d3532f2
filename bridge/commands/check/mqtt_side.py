"""Checks of the MQTT side: name, TCP and TLS, CONNECT, SUBSCRIBE, HAProxy, EMQ's queue."""

import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

from bridge.commands.check import haproxy_cfg
from bridge.commands.check.outcome import Level, Outcome, Site, failed, good, skipped, warning
from bridge.errors import BridgeError
from bridge.mqtt.broker_check import BrokerCheck, reach, resolve
from bridge.mqtt.connector import is_open
from bridge.neighbours.answer import Hangs, Unavailable
from bridge.neighbours.neighbours import Emqx, ask_haproxy
from bridge.status.mqtt_faults import node_state
from bridge.status.snapshot import BrokerNode, SessionQueue
from bridge.status.spoken import count
from bridge.units import DURATION

INSTALLED = Path("/etc/haproxy/haproxy.cfg")

_PING_MARGIN = 1.5  # as settings/mqtt.py
_SHORT_EXPIRY = 3 * 86400.0  # seconds: a long weekend
_FEW_SECONDS = 60.0  # that EMQ's queue should hold
_NEARLY_FULL = 0.5
_ALL_DOWN = "on its host: sudo systemctl restart emqx (or emqttd)"  # no other node serves meanwhile


def has_balancer(site: Site) -> bool:
    """Whether HAProxy seems to stand in front of the broker. If not, no text speaks of HAProxy."""
    haproxy = site.settings.haproxy
    told = site.haproxy_cfg is not None or bool(haproxy.stats and not haproxy.is_a_guess)
    return told or (site.settings.mqtt.is_balancers_port and not site.brokers_port_is_open)


def name(site: Site) -> Iterator[Outcome]:
    host, addresses = site.settings.mqtt.host, resolve(site.settings.mqtt)
    if addresses != [host]:  # of an address there is nothing to tell
        yield good(f"{host} is {', '.join(addresses)}")


def tcp(site: Site) -> Iterator[Outcome]:
    mqtt, balancer = site.settings.mqtt, has_balancer(site)
    who = "HAProxy" if balancer else "the broker"
    try:
        with reach(mqtt, balancer=balancer) as sock:
            if isinstance(sock, ssl.SSLSocket) and (der := sock.getpeercert(binary_form=True)):
                site.shown[f"{mqtt.host}:{mqtt.port}"] = der
    except BridgeError:
        usual = mqtt.brokers_port
        if mqtt.port != usual and is_open(mqtt.host, usual, 2.0):
            site.brokers_port_is_open = True
            yield failed(
                f"{mqtt.host}:{mqtt.port} accepts no connection, but port {usual} is open there",
                f"set mqtt.port = {usual}; or, if a balancer stands in front of the broker, start it",
            )
            return
        raise
    yield good(f"{mqtt.host}:{mqtt.port}: {who} accepts connections")


def connack(site: Site) -> Iterator[Outcome]:
    mqtt, balancer = site.settings.mqtt, has_balancer(site)
    try:
        site.broker = BrokerCheck(mqtt, site.client_id, balancer=balancer)
    except BridgeError:
        if balancer and _haproxy_hangs(site):
            yield Outcome(
                Level.FAILED,
                f"HAProxy hangs: {mqtt.host}:{mqtt.port} accepts the connection and answers nothing, and"
                " HAProxy's statistics do neither",
                f"on {mqtt.host}: sudo systemctl restart haproxy",
                "haproxy-hangs",
            )
            return
        raise
    yield good(f"the broker accepts the bridge, MQTT {site.broker.version}")


def subscription(site: Site) -> Iterator[Outcome]:
    for wanted in site.router.subscriptions:
        granted = site.opened_broker.subscribe(wanted)
        text = f"{wanted.filter} at QoS {granted}"
        if granted < wanted.qos:
            yield warning(
                f"{text}; its route asks for {wanted.qos}", "raise the QoS that EMQ's access rules allow"
            )
        else:
            yield good(text)


def session_expiry(site: Site) -> Iterator[Outcome]:
    mqtt = site.settings.mqtt
    version = site.broker.version if site.broker else "5" if mqtt.protocol == "auto" else mqtt.protocol
    limited = site.snapshot.events.get("mqtt.broker_limits", 0) if site.snapshot else 0
    found = expiry_verdict(mqtt.session_expiry, version, bool(limited), is_known=site.broker is not None)
    if found.level is Level.GOOD and site.broker is None and not site.offline:
        found = skipped("needs mqtt.connack")
    yield found


def expiry_verdict(seconds: float, version: str, limited: bool, *, is_known: bool = True) -> Outcome:
    """Judge mqtt.session_expiry, in seconds.

    `limited`: the service has logged mqtt.broker_limits. `is_known`: a broker has answered.
    """
    if version == "3.1.1":
        return warning(
            "MQTT 3.1.1: the broker's own session expiry applies (EMQX: 2 h), not mqtt.session_expiry",
            "raise the broker's session expiry above the longest outage that must lose nothing",
        )
    if limited:
        return warning("the broker grants less than the bridge asks for: see mqtt.broker_limits in the log")
    who = "EMQ keeps" if is_known else "the bridge asks EMQ to keep"
    text = f"{who} the session for {DURATION.format(seconds)} while the bridge is away"
    return good(text) if seconds >= _SHORT_EXPIRY else warning(f"{text}, which is less than a long weekend")


def haproxy_timeouts(site: Site) -> Iterator[Outcome]:
    file, mqtt = site.haproxy_cfg or INSTALLED, site.settings.mqtt
    try:
        text = file.read_text(errors="replace")
    except OSError as error:
        if site.haproxy_cfg:
            yield failed(f"{file}: {(error.strerror or str(error)).lower()}", "correct --haproxy-cfg")
        elif has_balancer(site):
            yield skipped("no haproxy.cfg can be read on this machine; name a copy with --haproxy-cfg FILE")
        return
    found = haproxy_cfg.silence(text, mqtt.port)
    if found is not None:
        yield from timeouts_verdict(str(file), found, mqtt.keepalive)
    elif site.haproxy_cfg:
        yield skipped(f"{file} has no bind for port {mqtt.port}")


def timeouts_verdict(file: str, found: dict[str, float | None], keepalive: float) -> Iterator[Outcome]:
    """Judge HAProxy's timeouts, in seconds, against mqtt.keepalive."""
    for timeout, seconds in found.items():
        if seconds is None:
            yield warning(
                f"{file}: {timeout} is not set, so HAProxy keeps dead connections for ever",
                f"set {timeout} 3h",
            )
        elif keepalive * _PING_MARGIN > seconds:
            yield failed(
                f"{file}: {timeout} {DURATION.format(seconds)} ends the bridge's connection before its next"
                f" ping; mqtt.keepalive is {DURATION.format(keepalive)}",
                f"set {timeout} 3h, or mqtt.keepalive to at most {DURATION.format(seconds // _PING_MARGIN)}",
            )
        else:
            yield good(f"{timeout} {DURATION.format(seconds)}, mqtt.keepalive {DURATION.format(keepalive)}")


def _haproxy_hangs(site: Site) -> bool:
    mqtt, haproxy = site.settings.mqtt, site.settings.haproxy
    if url := haproxy.address(mqtt.host, mqtt.port):
        try:
            ask_haproxy(url, haproxy)
        except Hangs:
            return True
        except BridgeError:
            pass
    return False


def nodes(site: Site) -> Iterator[Outcome]:
    mqtt, haproxy = site.settings.mqtt, site.settings.haproxy
    url = haproxy.address(mqtt.host, mqtt.port)
    if not url or not has_balancer(site):
        return
    try:
        found = ask_haproxy(url, haproxy)
    except Unavailable as error:
        if haproxy.is_a_guess:
            yield skipped(f"HAProxy does not tell the nodes' states: {error.reason}")
        else:
            yield warning(f"{url.partition('?')[0]}: {error.reason}", error.way_out)
    else:
        yield from nodes_verdict(found)


def nodes_verdict(nodes: Sequence[BrokerNode]) -> Iterator[Outcome]:
    """Judge the EMQ nodes as HAProxy sees them. The chain works as long as one of them is up."""
    none_is_up = not any(node.is_up for node in nodes)
    for node in nodes:
        name = f"{node.name} ({node.address})" if node.address else node.name
        if node.is_up:
            yield good(f"HAProxy calls EMQ node {name} {node.status}; {count(node.sessions, 'session')}")
        else:
            judged = failed if none_is_up else warning
            said = f"{node.status}: it {node_state(node)}" if node.check else node.status
            yield judged(f"HAProxy calls EMQ node {name} {said}", _ALL_DOWN if none_is_up else "")


def broker_queue(site: Site) -> Iterator[Outcome]:
    if not site.settings.emqx.api:
        return
    rate = site.snapshot.flow.received_rate if site.snapshot else 0.0
    try:
        queue = Emqx(site.settings.emqx, site.settings.mqtt.client_id)()
    except Unavailable as error:
        yield warning(f"EMQX's API: {error.reason}", error.way_out)
    else:
        yield from queue_verdict(queue, rate)


def queue_verdict(queue: SessionQueue, rate: float) -> Iterator[Outcome]:
    """Judge EMQX's queue for the bridge's session. `rate`: messages a second that the bridge receives."""
    length, limit, dropped = queue.length, queue.limit, queue.dropped
    if dropped:
        yield failed(f"EMQX has dropped {count(dropped, 'message')} of the bridge's session: lost")
    if limit and length >= _NEARLY_FULL * limit:
        yield failed(f"EMQX's queue holds {length:,} of {limit:,} messages; a full queue drops its oldest")
    elif limit and rate and limit / rate < _FEW_SECONDS:
        yield warning(
            f"EMQX's queue of {limit:,} messages is full {limit / rate:.0f} s after the bridge stops, at"
            f" {rate:,.0f} messages/s"
        )
    elif not dropped:
        yield good(f"EMQX's queue holds {length:,} of {f'{limit:,}' if limit else 'any number of'} messages")
    if queue.window_limit and queue.window >= queue.window_limit:
        yield warning(
            f"EMQX's window of {queue.window_limit} messages is full: EMQX waits for acknowledgements",
            "raise EMQX's max_inflight, if Kafka and the disk are fast enough",
        )
