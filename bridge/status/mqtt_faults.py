"""What is wrong between the devices and the bridge: HAProxy, EMQ, and the session with EMQ. Pure."""

from collections.abc import Iterator

from bridge.status.finding import Finding, broken, warning
from bridge.status.snapshot import BrokerNode, Neighbour, Snapshot
from bridge.status.spoken import count, duration, listed, sentence
from bridge.status.whereabouts import behind_the_bridge, has_haproxy, is_live, mqtt_address, quoted

_STALE = 30.0  # seconds after which an answer of a neighbour says nothing about the present
_RIVAL_NOW, _RIVAL_LATELY = 180.0, 3600.0  # seconds since another client took the client id
_LOST_LATELY = 3600.0  # seconds for which a lost session is shown
_OFTEN, _OFTEN_WITHIN = 4, 600.0  # so many ended connections within so many seconds are too many
_CONNECTING_TOO_LONG = 10.0  # seconds
_UNREACHABLE = "mqtt.connect_failed"
_ANSWERS_NOTHING = ("mqtt.connack_timeout", "mqtt.keepalive_timeout")
_NO_NAME = ("name resolution", "name or service", "no address associated", "nodename")
_NO_WAY = ("no route", "network is unreachable", "timed out", "host is down", "host is unreachable")

_HAPROXY = "sudo systemctl restart haproxy"
_EMQ = "sudo systemctl restart emqx (or emqttd)"
_BROKER = "sudo systemctl restart mosquitto (or emqx, or what your broker is)"
_CONSOLE = "HAProxy's console, port 8081, /haproxy?stats"


def rival(s: Snapshot) -> Iterator[Finding]:
    age = s.mqtt.taken_over_age
    if age is None or age > _RIVAL_LATELY:
        return
    remedy = (
        "Find the other client: EMQ's dashboard, port 18083, shows the address of client"
        f' "{s.mqtt.client_id}".'
        " It is usually a forgotten second bridge: stop it, or give it another mqtt.client_id. Its filters"
        " stay in the session: clean the session as the runbook says."
    )
    if age > _RIVAL_NOW:
        what = f'Another client used this bridge\'s client id "{s.mqtt.client_id}" {duration(age)} ago.'
        yield warning("client-id-taken", mqtt_address(s), f"{what} It has not come back since.", remedy)
        return
    yield broken(
        "client-id-taken",
        mqtt_address(s),
        f'A second client, perhaps a second bridge, uses the same client id "{s.mqtt.client_id}": EMQ'
        f" disconnects one when the other connects, the last time {duration(age)} ago. Messages may reach"
        " Kafka twice, or go to the other client alone.",
        remedy,
    )


def nodes(s: Snapshot) -> Iterator[Finding]:
    """EMQ nodes that HAProxy does not use."""
    if not _knows_nodes(s):
        return
    down, out = _down(s), [node for node in s.nodes if not node.is_up and _is_out(node)]
    up = [node for node in s.nodes if node.is_up]
    if down and not up:
        names = listed([f"{_name(node)} {node_state(node)}" for node in down])
        if _flows_since(s, min(node.state_age for node in down)):
            yield warning(
                "emq-check-fails",
                listed([_name(node) for node in down]),
                f"HAProxy finds no EMQ node up ({names}), but the bridge's session is live. Either HAProxy's"
                " last answer is some seconds old, or HAProxy's check of EMQ fails although EMQ works. Then"
                " HAProxy lets no new client through, and the bridge neither once its connection ends.",
                f"Wait some seconds. If this lasts, correct the check in haproxy.cfg; {_CONSOLE}, shows how"
                f" it ends.{_where(*down)}",
            )
            return
        since = duration(min(node.state_age for node in down))
        both = "Both EMQ nodes are" if len(down) == 2 else "All EMQ nodes are" if len(down) > 1 else "EMQ is"
        yield broken(
            "emq-all-down",
            listed([_name(node) for node in down]),
            f"{both} down, says HAProxy: {names}, for {since}. Devices can't publish, and the bridge gets no"
            " messages.",
            f"Start EMQ on these hosts, or restart it where it hangs: {_EMQ}. If EMQ runs there, check with"
            f" `nc -vz` whether HAProxy's host reaches the addresses.{_where(*down)}",
        )
        return
    if out and not up and not is_live(s):
        yield broken(
            "emq-node-out",
            listed([_name(node) for node in out]),
            f"All EMQ nodes were taken out of HAProxy by a person: {listed([_name(node) for node in out])}."
            " Devices can't publish, and the bridge gets no messages.",
            f"Enable a node again at {_CONSOLE}.",
        )
        return
    for node in down:
        rest = listed([each.name for each in up])
        flow = f"Messages flow through {rest}." if is_live(s) else f"HAProxy still has {rest}."
        yield warning(
            "emq-node-down",
            _name(node),
            f"EMQ node {_name(node)} {node_state(node)}, says HAProxy ({_words(node)}), for"
            f" {duration(node.state_age)}."
            f" {flow} A session that lived on the dead node alone, and its queue, may be lost inside EMQ.",
            f"{_remedy(node)}{_where(node)}",
        )
    for node in out:
        yield warning(
            "emq-node-out",
            _name(node),
            f"EMQ node {_name(node)} was taken out of HAProxy by a person ({node.status}).",
            f"When the work on this node is done, enable {node.name} again at {_CONSOLE}.",
        )


def session(s: Snapshot) -> Iterator[Finding]:
    """Why the session with EMQ is not live."""
    if is_live(s) or (s.state == "starting" and not s.mqtt.trouble):
        return
    if _knows_nodes(s) and not any(node.is_up for node in s.nodes):
        return  # nodes() has said so
    by_trouble = {
        "mqtt.refused": _refused,
        "mqtt.tls_failed": _tls_failed,
        "mqtt.malformed_packet": _malformed,
        _UNREACHABLE: _unreachable,
        "mqtt.unavailable": _unavailable,
        **dict.fromkeys(_ANSWERS_NOTHING, _hangs),
    }
    taken_over = s.mqtt.taken_over_age
    if s.mqtt.trouble == "mqtt.subscribe_refused" and s.mqtt.refused:
        return  # refused_filters() says so
    if s.mqtt.trouble == "mqtt.taken_over" and taken_over is not None and taken_over <= _RIVAL_NOW:
        return  # rival() says so
    if s.haproxy and s.haproxy.hangs and s.mqtt.trouble in (*_ANSWERS_NOTHING, ""):
        yield _haproxy_hangs(s, s.haproxy)
        return
    yield by_trouble.get(s.mqtt.trouble, _connecting)(s)


def _refused(s: Snapshot) -> Finding:
    at = mqtt_address(s)
    if not s.mqtt.way_out:  # the bridge itself could not read a file
        return broken(
            "mqtt-refused",
            "the bridge's machine",
            f"The bridge can't log in to EMQ at {at}: {sentence(s.mqtt.reason or 'a file is unusable')}"
            f" {behind_the_bridge(s)}",
            "Correct mqtt.password_file on the bridge's machine. The bridge tries again every minute, without"
            " a restart.",
        )
    return broken(
        "mqtt-refused",
        at,
        f"EMQ at {at} refuses this bridge (client id {s.mqtt.client_id}){quoted(s.mqtt.reason)}: a wrong"
        f" user name or password, or no permission. {behind_the_bridge(s)}",
        f"{sentence(s.mqtt.way_out)} The bridge reads the password file again every minute, so no restart is"
        " needed for it.",
    )


def _tls_failed(s: Snapshot) -> Finding:
    return broken(
        "mqtt-tls",
        mqtt_address(s),
        f"The bridge gets no TLS connection to {mqtt_address(s)}{quoted(s.mqtt.reason)}."
        f" {behind_the_bridge(s)}",
        sentence(s.mqtt.way_out)
        or "Check the certificates: `sudo mqtt-kafka-bridge check` names the wrong one.",
    )


def _malformed(s: Snapshot) -> Finding:
    return broken(
        "mqtt-protocol",
        mqtt_address(s),
        f"What answers at {mqtt_address(s)} does not speak MQTT correctly{quoted(s.mqtt.reason)}.",
        "Check mqtt.host and mqtt.port: a broker's port is 1883, with TLS 8883, and that of the shipped"
        " HAProxy is 1884, with TLS 8884. If both are right, report the reason as a defect of the broker or"
        " of the bridge.",
    )


def _unreachable(s: Snapshot) -> Finding:
    at, reason = mqtt_address(s), s.mqtt.reason.lower()
    if any(words in reason for words in _NO_NAME):
        return broken(
            "mqtt-name-unknown",
            s.mqtt.host,
            f'The name "{s.mqtt.host}" of mqtt.host can\'t be resolved{quoted(s.mqtt.reason)}, so the bridge'
            f" finds neither HAProxy nor EMQ. {behind_the_bridge(s)}",
            "Correct mqtt.host, or repair the name server of this network; an IP address needs none.",
        )
    stats, usual = "", 8883 if s.mqtt.port == 8884 else 1883
    if s.haproxy and s.haproxy.trouble:
        stats = f" HAProxy's statistics at {s.haproxy.url} do not answer either."
    if any(words in reason for words in _NO_WAY):
        fault = "The host is off, its cable is out, or a firewall drops the packets."
        remedy = f"See whether the host {s.mqtt.host} is up (`ping {s.mqtt.host}`), then start HAProxy there:"
        if s.kafka.state in ("away", "connecting"):
            fault += " Kafka can't be reached either, so look at the network of the bridge's machine first."
        if not has_haproxy(s):
            return broken(
                "mqtt-unreachable",
                at,
                f"The MQTT broker at {at} can't be reached{quoted(s.mqtt.reason)}. {fault}"
                f" {behind_the_bridge(s)}",
                f"See whether the host {s.mqtt.host} is up (`ping {s.mqtt.host}`), then start the broker.",
            )
    elif not has_haproxy(s):
        return broken(
            "mqtt-unreachable",
            at,
            f"The MQTT broker at {at} can't be reached{quoted(s.mqtt.reason)}: no program listens there."
            f" {behind_the_bridge(s)}",
            f"Start the broker on the host {s.mqtt.host}. If it runs, check that mqtt.host and mqtt.port are"
            " right.",
        )
    else:
        fault = "No program listens there: HAProxy has stopped or does not start."
        remedy = f"On the host {s.mqtt.host} look with `systemctl status haproxy`, then start HAProxy:"
    return broken(
        "mqtt-unreachable",
        at,
        f"HAProxy at {at} can't be reached{quoted(s.mqtt.reason)}. {fault}{stats} Devices that connect"
        f" through this HAProxy can't publish now either. {behind_the_bridge(s)}",
        f"{remedy} {_HAPROXY}. If it runs, check that mqtt.host and mqtt.port are right: without HAProxy"
        f" mqtt.port is the broker's own, usually {usual}.",
    )


def _unavailable(s: Snapshot) -> Finding:
    at = mqtt_address(s)
    if "before connack" not in s.mqtt.reason.lower():
        return broken(
            "emq-busy",
            at,
            f"EMQ behind {at} refuses connections for now{quoted(s.mqtt.reason)}. {behind_the_bridge(s)}",
            "Wait a minute: the bridge retries after at most 2 s. If this lasts, look at EMQ's own log.",
        )
    if not has_haproxy(s):
        return broken(
            "emq-gone",
            at,
            f"The MQTT broker at {at} accepts connections and closes them before it answers"
            f"{quoted(s.mqtt.reason)}. {behind_the_bridge(s)}",
            f"Look at the broker's log on the host {s.mqtt.host}, and whether mqtt.port is a port for MQTT"
            f" without TLS. If the broker is stuck, restart it: {_BROKER}.",
        )
    if _knows_nodes(s):
        up = listed([_name(node) for node in s.nodes if node.is_up])
        return broken(
            "emq-no-answer",
            up,
            f"HAProxy at {at} accepts the bridge's connection, and it ends before EMQ answers, while HAProxy"
            f" calls {up} up. Either EMQ has just died and HAProxy's check has not seen it yet, or one node"
            f" hangs and holds up the others. {behind_the_bridge(s)}",
            f"Wait a minute. If this lasts, restart EMQ on each of these hosts, one after the other: {_EMQ}.",
        )
    unknown = (
        f"The bridge can't ask HAProxy which nodes ({s.haproxy.trouble})."
        if s.haproxy and s.haproxy.trouble
        else "The bridge can't tell which nodes: [haproxy] is not set."
    )
    return broken(
        "emq-gone",
        f"the EMQ nodes behind {at}",
        f"HAProxy at {at} accepts connections and closes them before EMQ answers: no EMQ node is up behind"
        f" HAProxy, so both EMQ nodes are down or out of its reach. Devices can't publish either. {unknown}",
        f"Start EMQ on its hosts: {_EMQ}. {_CONSOLE} on {s.mqtt.host} shows which nodes are down.",
    )


def _haproxy_hangs(s: Snapshot, haproxy: Neighbour) -> Finding:
    at, host = mqtt_address(s), s.mqtt.host
    return broken(
        "haproxy-hangs",
        at,
        f"HAProxy at {at} hangs: it accepts the bridge's connections and answers nothing, and its statistics"
        f" at {haproxy.url} do not answer either. Devices that connect through this HAProxy can't publish"
        f" now. {behind_the_bridge(s)}",
        f"On the host {host} restart HAProxy: {_HAPROXY}. If HAProxy hangs again, look at the load of that"
        " host.",
    )


def _hangs(s: Snapshot) -> Finding:
    at = mqtt_address(s)
    if not has_haproxy(s):
        return broken(
            "emq-hangs",
            at,
            f"The MQTT broker at {at} accepts connections, but does not answer: it hangs."
            f" {behind_the_bridge(s)}",
            f"See whether the host {s.mqtt.host} is overloaded, then restart the broker there: {_BROKER}.",
        )
    down = _down(s) if _knows_nodes(s) else []
    if down:
        names = listed([_name(node) for node in down])
        states = listed([f"{_name(node)} {node_state(node)}" for node in down])
        slow = " While a node hangs, the healthy node answers new clients only after a minute or more."
        may_hang = any(node_state(node) != "is down" for node in down)
        return broken(
            "emq-hangs",
            names,
            f"EMQ behind {at} does not answer the bridge yet, and HAProxy finds that EMQ node {states}, for"
            f" {duration(down[0].state_age)}.{slow if may_hang else ''} {behind_the_bridge(s)}",
            f"Restart EMQ on the host of {names}: {_EMQ}. The bridge then connects by itself.",
        )
    unknown = (
        "HAProxy calls all nodes up."
        if _knows_nodes(s)
        else f"The bridge can't tell which node; {_CONSOLE} on {s.mqtt.host} shows it."
    )
    return broken(
        "emq-hangs",
        f"the EMQ nodes behind {at}",
        f"{at} accepts connections, but EMQ behind it does not answer: an EMQ node hangs. {unknown}"
        f" {behind_the_bridge(s)}",
        f"Find the EMQ host that is overloaded or frozen and restart EMQ there: {_EMQ}. Otherwise wait some"
        " minutes, until the cluster drops the hung node.",
    )


def _connecting(s: Snapshot) -> Finding:
    at = mqtt_address(s)
    if _knows_nodes(s) and _down(s):
        return _hangs(s)
    who = "EMQ behind" if has_haproxy(s) else "the MQTT broker at"
    make = broken if s.mqtt.state != "backing_off" and s.mqtt.state_age >= _CONNECTING_TOO_LONG else warning
    return make(
        "mqtt-connecting",
        at,
        f"The bridge is not connected to {who} {at}: {s.mqtt.state.replace('_', ' ')} for"
        f" {duration(s.mqtt.state_age)}{quoted(s.mqtt.reason)}. {behind_the_bridge(s)}",
        "Wait: the bridge connects again within seconds. If this lasts for more than a minute, run"
        " `sudo mqtt-kafka-bridge check`.",
    )


def refused_filters(s: Snapshot) -> Iterator[Finding]:
    if s.mqtt.refused:
        filters = listed([f'"{name}"' for name in s.mqtt.refused])
        yield broken(
            "subscription-refused",
            mqtt_address(s),
            f"EMQ refuses the subscription to {filters}: the bridge gets none of these messages. Other"
            " filters work.",
            "Let EMQ's access rules allow this user to subscribe (EMQX denies `#` and `$SYS/#` by default),"
            " or change the route. The bridge asks again every minute.",
        )


def queue(s: Snapshot) -> Iterator[Finding]:
    """EMQX's queue for this session, before it drops."""
    q = s.queue
    if not q or not s.emqx or is_stale(s.emqx.trouble, s.emqx.asked_age) or q.limit <= 0:
        return
    is_soon = q.full_in is not None and q.full_in < 900
    if q.length < q.limit / 2 and not (is_soon and q.length > q.limit / 10):
        return
    is_urgent = q.length >= q.limit * 0.8 or (q.full_in is not None and q.full_in < 60)
    lasts = f" and is full in {duration(q.full_in)}" if q.full_in is not None else ""
    gone = f" EMQX has dropped {count(q.dropped, 'message')} of this session so far." if q.dropped else ""
    if is_live(s):
        cause = "messages come faster than the bridge acknowledges them."
        remedy = (
            "If Kafka or the disk is named below, repair that first. Otherwise raise EMQX's max_mqueue_len"
            " and max_inflight for this session."
        )
    else:
        cause = "the bridge is not connected."
        remedy = "Repair the connection first, as named here. A larger max_mqueue_len in EMQX buys time."
    yield (broken if is_urgent else warning)(
        "emq-queue-fills",
        "EMQX",
        f"EMQX's queue for this bridge's session fills: {q.length:,} of {q.limit:,} messages{lasts}, because"
        f" {cause} A full queue drops its oldest messages.{gone}",
        remedy,
    )


def dropped(s: Snapshot) -> Iterator[Finding]:
    """What EMQX dropped is lost, also when its queue is empty again."""
    q = s.queue
    if q and q.dropped and q.dropped_age is not None and q.dropped_age <= _LOST_LATELY:
        yield warning(
            "emq-dropped",
            "EMQX",
            f"EMQX has dropped {count(q.dropped, 'message')} of this bridge's session: they are lost. The"
            f" bridge saw that {duration(q.dropped_age)} ago.",
            "Find out what kept the bridge from acknowledging, and raise EMQX's max_mqueue_len:"
            " docs/how-to/prepare-emq.md.",
        )


def lost(s: Snapshot) -> Iterator[Finding]:
    ages = [each.age for each in s.lately if each.event == "mqtt.session_lost"]
    if s.mqtt.sessions_lost and ages and min(ages) <= _LOST_LATELY:
        yield warning(
            "session-lost",
            "EMQ",
            f"EMQ no longer had this bridge's session {duration(min(ages))} ago; what EMQ had queued for the"
            " session at that moment is lost. The bridge has subscribed again.",
            "Find out whether the session's EMQ node was stopped, or the session expired"
            " (mqtt.session_expiry). EMQX's durable sessions survive a node.",
        )


def flapping(s: Snapshot) -> Iterator[Finding]:
    recent = [each.age for each in s.happened if each.event == "mqtt.closed" and each.age <= _OFTEN_WITHIN]
    is_rival = s.mqtt.taken_over_age is not None and s.mqtt.taken_over_age <= _RIVAL_LATELY
    if len(recent) >= _OFTEN and not is_rival:
        yield warning(
            "mqtt-flapping",
            mqtt_address(s),
            f"The connection to {mqtt_address(s)} ended {len(recent)} times within {duration(max(recent))}."
            " Nothing is lost by it: EMQ resends what was not acknowledged.",
            "Read the reasons among the last events. The same lifetime each time is a timeout on the way;"
            " see mqtt.closed in the runbook.",
        )


def unasked(s: Snapshot) -> Iterator[Finding]:
    """Monitoring that does not answer: what the bridge can't know."""
    if s.haproxy and s.haproxy.hangs and is_live(s):
        yield warning(
            "haproxy-hangs",
            mqtt_address(s),
            f"HAProxy's statistics at {s.haproxy.url} accept connections and give no answer: HAProxy hangs,"
            " or its host is very busy. If HAProxy hangs, no message comes, although the bridge's connection"
            " counts as live until the broker's next answer to a ping is late.",
            f"If this lasts, restart HAProxy on the host {s.mqtt.host}: {_HAPROXY}.",
        )
    elif s.haproxy and not s.haproxy.hangs and _is_silent(s, s.haproxy) and s.mqtt.trouble != _UNREACHABLE:
        yield warning(
            "haproxy-not-asked",
            s.haproxy.url,
            f"HAProxy's statistics at {s.haproxy.url} give no answer{quoted(s.haproxy.trouble)}, so the"
            " bridge can't know which EMQ nodes are up. Messages do not depend on it.",
            "Check the address under [haproxy], and that HAProxy's `listen stats` allows the bridge's"
            " machine.",
        )
    if s.emqx and _is_silent(s, s.emqx):
        yield warning(
            "emqx-not-asked",
            s.emqx.url,
            f"EMQX's API at {s.emqx.url} gives no useful answer{quoted(s.emqx.trouble)}, so the bridge can't"
            " know how full EMQX's queue is and what EMQX drops. Messages do not depend on it.",
            "Check the address and the key under [emqx], and whether the dashboard's port is open to the"
            " bridge's machine.",
        )


def _knows_nodes(s: Snapshot) -> bool:
    haproxy = s.haproxy
    return bool(s.nodes and haproxy and not is_stale(haproxy.trouble, haproxy.asked_age))


def _is_silent(s: Snapshot, neighbour: Neighbour) -> bool:
    if neighbour.asked_age is None and not neighbour.trouble:
        return s.uptime > _STALE  # the first question is on its way
    return is_stale(neighbour.trouble, neighbour.asked_age)


def is_stale(trouble: str, asked_age: float | None) -> bool:
    """Whether the last answer of a neighbour tells nothing about the present."""
    return bool(trouble) or asked_age is None or asked_age > _STALE


def _flows_since(s: Snapshot, age: float) -> bool:
    """Whether the session has begun, or brought a message, within the last `age` seconds."""
    received = s.flow.last_received_age
    return is_live(s) and (s.mqtt.state_age < age or (received is not None and received < age))


def _is_out(node: BrokerNode) -> bool:
    return node.status.upper().startswith(("MAINT", "DRAIN"))


def _down(s: Snapshot) -> list[BrokerNode]:
    return [node for node in s.nodes if not node.is_up and not _is_out(node)]


def node_state(node: BrokerNode) -> str:
    """What HAProxy's check says of a node, as a verb: "is up", "hangs", "is down" ..."""
    if node.is_up:
        return "is up"
    if _is_out(node):
        return "is taken out"
    check = node.check.upper()
    if check in ("L6TOUT", "L7TOUT"):
        return "hangs"
    if check == "L4TOUT":
        return "can't be reached"
    return "is down" if check else "is down or hangs"


def _words(node: BrokerNode) -> str:
    return f"{node.status}, {node.check}" if node.check else node.status


def _remedy(node: BrokerNode) -> str:
    host = f"the host of {_name(node)}"
    state = node_state(node)
    if state == "hangs":
        return f"EMQ there accepts connections and answers nothing. On {host} restart EMQ: {_EMQ}."
    if state == "can't be reached":
        return (
            f"See whether {host} is on and its cable is in (`ping`); a host that is too busy looks the same."
            f" If the host is up, restart EMQ there: {_EMQ}."
        )
    return f"On {host} look with `systemctl status emqx`, then start EMQ again: {_EMQ}."


def _where(*nodes: BrokerNode) -> str:
    """HAProxy's Prometheus endpoint tells no addresses."""
    lines = [f"`server {node.name}`" for node in nodes if not node.address]
    tell = "tells the address" if len(lines) == 1 else "tell the addresses"
    return f" {listed(lines)} in haproxy.cfg {tell}." if lines else ""


def _name(node: BrokerNode) -> str:
    return f"{node.name} ({node.address})" if node.address else node.name
