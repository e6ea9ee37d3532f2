"""Says an event in plain words, for people who read the page and `bridge top`, not the log. Pure.

Keys are the names of `events.Event`; a test compares the two. `{name}` is a field of the event. A part in
brackets `[...]` is left out if one of its fields is missing or empty.
"""

import re
from collections.abc import Mapping

from bridge.observe.printable import printable

_MOST = 400  # characters of one sentence

# fmt: off
_WORDS = {
    "service.starting":           "The bridge starts[, version {version}].",
    "service.started":            "The bridge runs and makes its first connections.",
    "service.stopping":           "The bridge stops[; {in_flight} messages are not yet confirmed].",
    "service.stop_deadline":      "The bridge stopped before Kafka had confirmed all[; EMQ resends those of {in_flight} messages that are not on disk].",
    "service.stopped":            "The bridge has stopped.",
    "service.failed":             "The bridge failed by a defect of its own[: {error}].",
    "service.no_thread":          "The bridge's machine allows it no further thread[: {reason}].",
    "config.warning":             "A setting has a cost[: {warning}].",
    "config.reloaded":            "The bridge read its settings again[; changed: {changed}].",
    "config.reload_refused":      "The bridge read its settings again; they are wrong, and nothing changed[: {problem}].",
    "config.needs_restart":       "Some changed settings need a restart[: {settings}].",
    "clock.wrong":                "The bridge's clock can't be trusted; records get no timestamp.",
    "clock.right":                "The bridge's clock is right again.",
    "clock.set_back":             "The bridge's clock was set back[ by {seconds} seconds].",
    "tls.expires_soon":           "A certificate expires soon, or has expired[: {certificate}][, {expires}].",
    "mqtt.connecting":            "The bridge connects to EMQ[ at {host}].",
    "mqtt.connect_failed":        "The bridge can't reach the MQTT broker[ at {host}][:{port}][: {reason}].",
    "mqtt.tls_failed":            "No TLS with EMQ[: {reason}].",
    "mqtt.connack_timeout":       "EMQ accepted a connection and did not answer[ within {seconds} s]: a node may hang.",
    "mqtt.refused":               "EMQ refused the bridge's login[: {reason}].",
    "mqtt.unavailable":           "EMQ takes no connection for now[: {reason}].",
    "mqtt.connected":             "EMQ accepted the connection.",
    "mqtt.live":                  "The session with EMQ is live: messages come.",
    "mqtt.keepalive_timeout":     "EMQ gave no sign of life in time; the bridge connects again.",
    "mqtt.closed":                "The connection to EMQ ended[ after {live_seconds} s][: {reason}].",
    "mqtt.backing_off":           "The bridge waits before it connects again[, {seconds} s].",
    "mqtt.protocol_fallback":     "EMQ does not speak MQTT 5; the bridge uses MQTT 3.1.1.",
    "mqtt.taken_over":            "Another client took this bridge's client id[ {client_id}].",
    "mqtt.session_lost":          "EMQ no longer had the bridge's session; what EMQ had queued for the session is lost.",
    "mqtt.subscribe_refused":     "EMQ refused a subscription[ to {filter}][: {reason}].",
    "mqtt.qos_lowered":           "EMQ granted a subscription a lower QoS[: {filter}][, QoS {granted} instead of {asked}].",
    "mqtt.broker_limits":         "EMQ restricts the session[: {limit}][; {meaning}].",
    "mqtt.unsubscribed":          "The bridge unsubscribed filters that the settings no longer contain[: {filters}].",
    "mqtt.unsubscribe_refused":   "EMQ refused to unsubscribe filters[: {filters}].",
    "mqtt.subscriptions_unknown": "The bridge subscribes again, because it does not know for sure what is subscribed[: {reason}].",
    "mqtt.state_unwritable":      "The bridge can't write its record of subscriptions[ to {path}][: {reason}].",
    "mqtt.malformed_packet":      "What came from EMQ is not correct MQTT[: {reason}].",
    "kafka.error":                "Kafka's client reports an error[: {reason}].",
    "kafka.all_brokers_down":     "No Kafka broker can be reached; messages go to disk.",
    "kafka.authentication_failed": "Kafka refused the bridge's user or password[: {reason}].",
    "kafka.wrong_listener":       "The Kafka port is not the one that the settings expect[: {reason}].",
    "kafka.tls_failed":           "No TLS with Kafka[: {reason}].",
    "kafka.files_read":           "The bridge uses a new certificate, key or password file for Kafka.",
    "kafka.files_unusable":       "The bridge can't use a file for Kafka[: {reason}].",
    "kafka.topic_missing":        "The Kafka topic[ {topic}] does not exist; its messages wait on disk[ ({topics} topics: {examples})].",
    "kafka.limit_unknown":        "Kafka does not tell how large messages of a topic may be[: {topic}][ ({topics} topics: {examples})].",
    "kafka.lane_held":            "Kafka can't write a topic; its messages wait on disk[: {topic}][: {reason}][ ({topics} topics: {examples})].",
    "kafka.lane_live":            "Kafka writes a topic again[: {topic}][ ({topics} topics: {examples})].",
    "kafka.refused":              "Kafka can never take a message; it is now a dead letter[: {topic}][: {reason}].",
    "kafka.timestamps_refused":   "A topic refuses the records' timestamps; they go without[: {topic}][ ({topics} topics: {examples})].",
    "kafka.timestamps_taken":     "A topic takes timestamps again[: {topic}][ ({topics} topics: {examples})].",
    "kafka.reordered":            "Kafka stored newer messages before older ones[: {topic}][, {messages} messages][ ({topics} topics: {examples})].",
    "kafka.fatal":                "Kafka's client can't go on; the bridge replaces it[: {reason}].",
    "kafka.transactional":        "The bridge can begin Kafka transactions[; the one that was open: {open_transaction}].",
    "kafka.fenced":               "Another bridge uses this one's transactional id[ {transactional_id}]; this one waits[ {again_in_seconds} s].",
    "kafka.number_unexpected":    "The number in Kafka does not fit this spool; messages may be in Kafka twice[: {reason}].",
    "kafka.transaction_lost":     "Kafka did not take a transaction; the bridge goes on from what was committed[: {reason}].",
    "kafka.rebuilt":              "A new client for Kafka has taken over.",
    "spool.late":                 "Kafka is late; messages of a topic go to disk[: {topic}][ ({topics} topics: {examples})].",
    "spool.empty":                "Kafka has confirmed all that a topic had on disk[: {topic}][ ({topics} topics: {examples})].",
    "spool.progress":             "Messages wait on disk[: {spooled}][; Kafka confirms {delivered_a_second} a second].",
    "spool.full":                 "The spool is full; EMQ's queue fills now[: {reason}].",
    "spool.unusable":             "The bridge can't use its spool[: {reason}].",
    "spool.usable":               "The bridge can use its spool again.",
    "spool.unreadable":           "Messages on disk can't be read[: {topic}][: {reason}].",
    "spool.damaged":              "The disk returned wrong bytes; these messages are skipped[: {reason}].",
    "spool.set_aside":            "The spool's database was damaged; the bridge renamed it[ to {path}] and began a new one.",
    "spool.slow":                 "The disk was slow[: one commit took {seconds} s].",
    "spool.moving":               "Messages on disk move to the topics of the new routes[: {messages}].",
    "spool.reassigned":           "Messages on disk have moved to the topics of the new routes[: {messages}].",
    "deadletter.removed":         "The bridge removed dead letters for good[: {letters}][, by {bound}].",
    "deadletter.not_produced":    "Dead letters did not reach their topic; they are on disk[: {letters}][: {reason}].",
    "route.unroutable":           "No route takes a message; it is now a dead letter[: {topic}][: {reason}].",
    "qos0.dropped":               "The bridge dropped QoS 0 messages[: {dropped} since the start].",
    "flow.minute":                "In the last minute[ {received} messages came][ and Kafka confirmed {delivered}].",
    "neighbour.unavailable":      "No monitoring[ from {neighbour}][ at {url}][: {reason}].",
    "http.listening":             "The page can be read[ at {url}].",
    "http.unavailable":           "The bridge can't show its page[: {reason}].",
    "log.lines_lost":             "The reader of the log was too slow[; {lines} lines are lost].",
    "library.paho":               "The MQTT library says[: {message}].",
    "library.librdkafka":         "The Kafka library says[: {message}].",
    "library.python":             "A library says[: {message}].",
}
# fmt: on

_PART = re.compile(r"\[([^\]]*)\]")
_FIELD = re.compile(r"\{(\w+)\}")


def words(event: str, fields: Mapping[str, object]) -> str:
    """One sentence about the event. An event without words of its own keeps its name."""
    template = _WORDS.get(event, event)
    text = _PART.sub(lambda part: _filled(part[1], fields), template)
    return printable(text[:_MOST])


def _filled(part: str, fields: Mapping[str, object]) -> str:
    names = _FIELD.findall(part)
    if any(fields.get(name) in (None, "", [], ()) for name in names):
        return ""
    return _FIELD.sub(lambda name: _text(fields[name[1]]), part).rstrip(".")


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)
