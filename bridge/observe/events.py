"""Every event that the bridge logs, and `log()`, the one way to log.

The names are an interface: people write alerts and `jq` filters on them. So the list is closed, and
docs/reference/events.md is made from it. The level tells whether a person must act:

    ERROR     a person must act; the line says how
    WARNING   the problem heals itself, but a person may want to know
    INFO      the life of the service; no INFO event happens once for each message
    DEBUG     everything else
"""

from enum import StrEnum
from logging import DEBUG, ERROR, INFO, WARNING

import structlog

from bridge.observe.recent import RECENT


class Event(StrEnum):
    """An event. `level` is one of logging's numbers, `meaning` one line for the reference."""

    level: int
    meaning: str

    def __new__(cls, name: str, level: int, meaning: str) -> "Event":
        event = str.__new__(cls, name)
        event._value_ = name
        event.level = level
        event.meaning = meaning
        return event

    # fmt: off
    SERVICE_STARTING           = "service.starting",           INFO,    "the settings are valid; the bridge builds its parts"
    SERVICE_STARTED            = "service.started",            INFO,    "all parts run; the bridge makes its first connections"
    SERVICE_STOPPING           = "service.stopping",           INFO,    "a signal came; the bridge takes no more messages and waits for those in flight, and 5 s for Kafka if all are on disk; a second signal ends the wait"
    SERVICE_STOP_DEADLINE      = "service.stop_deadline",      WARNING, "Kafka did not confirm all messages in time, and the bridge stops waiting; EMQ resends those that are not on disk"
    SERVICE_STOPPED            = "service.stopped",            INFO,    "the last line of a clean stop"
    SERVICE_FAILED             = "service.failed",             ERROR,   "an error that the bridge cannot handle; it exits, and systemd starts it again"
    SERVICE_NO_THREAD          = "service.no_thread",          ERROR,   "this machine or its limits allow no further thread; what needs one is tried again, and messages go to disk meanwhile"
    CONFIG_WARNING             = "config.warning",             WARNING, "a setting is allowed, but has an easily overlooked cost"
    CONFIG_RELOADED            = "config.reloaded",            INFO,    "the bridge has read its settings again, and uses what has changed"
    CONFIG_RELOAD_REFUSED      = "config.reload_refused",      ERROR,   "the bridge has read its settings again, and they are wrong; nothing has changed"
    CONFIG_NEEDS_RESTART       = "config.needs_restart",       WARNING, "the bridge has read its settings again, and some of what has changed takes effect at the next start only"
    CLOCK_WRONG                = "clock.wrong",                WARNING, "the clock cannot be trusted; records get no timestamp, and Kafka may duplicate them when a broker dies"
    CLOCK_RIGHT                = "clock.right",                INFO,    "the clock is right again; records get timestamps"
    CLOCK_SET_BACK             = "clock.set_back",             INFO,    "the clock was set back, by so many seconds; the bridge ends librdkafka's waits, which would last longer by as much"

    TLS_EXPIRES_SOON           = "tls.expires_soon",           WARNING, "a certificate expires within 14 days, or has expired: the bridge's, its authority's or a peer's; logged once a day"

    MQTT_CONNECTING            = "mqtt.connecting",            DEBUG,   "an attempt to connect begins"
    MQTT_CONNECT_FAILED        = "mqtt.connect_failed",        WARNING, "name resolution, TCP or TLS failed; the bridge retries; logged once a minute for each reason"
    MQTT_TLS_FAILED            = "mqtt.tls_failed",            ERROR,   "no TLS with the broker: certificate, authority, name or protocol; the bridge retries slowly"
    MQTT_CONNACK_TIMEOUT       = "mqtt.connack_timeout",       WARNING, "connected, but no CONNACK or SUBACK within mqtt.connack_timeout; the bridge connects again"
    MQTT_REFUSED               = "mqtt.refused",               ERROR,   "CONNACK refuses with a reason that time does not cure (password, permission, client id); the bridge retries slowly"
    MQTT_UNAVAILABLE           = "mqtt.unavailable",           WARNING, "CONNACK refuses for now, or the connection closed before CONNACK; the bridge retries; logged once a minute for each reason"
    MQTT_CONNECTED             = "mqtt.connected",             DEBUG,   "CONNACK came; the bridge may still have to subscribe filters"
    MQTT_LIVE                  = "mqtt.live",                  INFO,    "the session is up and subscribed: messages flow"
    MQTT_KEEPALIVE_TIMEOUT     = "mqtt.keepalive_timeout",     WARNING, "no PINGRESP in time: the peer hangs or is gone; the bridge connects again"
    MQTT_CLOSED                = "mqtt.closed",                WARNING, "a connection that was up has ended, with the reason"
    MQTT_BACKING_OFF           = "mqtt.backing_off",           DEBUG,   "the bridge waits before the next attempt, with the delay"
    MQTT_PROTOCOL_FALLBACK     = "mqtt.protocol_fallback",     WARNING, "the broker does not speak MQTT 5; the bridge uses 3.1.1 from here on"
    MQTT_TAKEN_OVER            = "mqtt.taken_over",            ERROR,   "another client uses this client id; give each bridge its own mqtt.client_id"
    MQTT_SESSION_LOST          = "mqtt.session_lost",          WARNING, "the broker no longer has the session: messages that it kept there are lost"
    MQTT_SUBSCRIBE_REFUSED     = "mqtt.subscribe_refused",     ERROR,   "SUBACK refused a filter; the other filters work, and the bridge retries this filter slowly"
    MQTT_QOS_LOWERED           = "mqtt.qos_lowered",           WARNING, "SUBACK granted a filter a lower QoS than its route asks for"
    MQTT_BROKER_LIMITS         = "mqtt.broker_limits",         WARNING, "CONNACK restricts what a guarantee rests on, and what that means; logged once for each restriction"
    MQTT_UNSUBSCRIBED          = "mqtt.unsubscribed",          INFO,    "the bridge unsubscribed filters that the settings no longer contain"
    MQTT_UNSUBSCRIBE_REFUSED   = "mqtt.unsubscribe_refused",   WARNING, "UNSUBACK refused a filter that the settings no longer contain; its messages still come"
    MQTT_SUBSCRIPTIONS_UNKNOWN = "mqtt.subscriptions_unknown", INFO,    "the bridge does not know for sure what the session is subscribed to; it subscribes again"
    MQTT_STATE_UNWRITABLE      = "mqtt.state_unwritable",      ERROR,   "the bridge can't write to state_directory; filters that the settings drop stay on the session"
    MQTT_MALFORMED_PACKET      = "mqtt.malformed_packet",      ERROR,   "the broker violated the protocol; the bridge connects again; before CONNACK logged once a minute for each reason"

    KAFKA_ERROR                = "kafka.error",                WARNING, "librdkafka reports an error that time may cure"
    KAFKA_ALL_BROKERS_DOWN     = "kafka.all_brokers_down",     WARNING, "the bridge can reach no Kafka broker; messages go to disk"
    KAFKA_AUTHENTICATION_FAILED = "kafka.authentication_failed", ERROR, "Kafka refused the user or password"
    KAFKA_WRONG_LISTENER       = "kafka.wrong_listener",       ERROR,   "the port is one of Kafka's for another security.protocol, or a controller's"
    KAFKA_TLS_FAILED           = "kafka.tls_failed",           ERROR,   "no TLS with Kafka: certificate, authority or protocol"
    KAFKA_FILES_READ           = "kafka.files_read",           INFO,    "a certificate, key or password file was replaced; a new producer uses it"
    KAFKA_FILES_UNUSABLE       = "kafka.files_unusable",       ERROR,   "the bridge can't use a certificate, key or password file; it keeps using what it read before"
    KAFKA_TOPIC_MISSING        = "kafka.topic_missing",        ERROR,   "a route's topic does not exist; the bridge holds its messages on disk; with the command that creates the topic"
    KAFKA_LIMIT_UNKNOWN        = "kafka.limit_unknown",        WARNING, "the bridge can't query a topic's max.message.bytes, and assumes a cautious limit"
    KAFKA_LANE_HELD            = "kafka.lane_held",            WARNING, "a topic can't be written at the moment; the bridge holds its messages on disk"
    KAFKA_LANE_LIVE            = "kafka.lane_live",            INFO,    "the bridge writes to a held topic again"
    KAFKA_REFUSED              = "kafka.refused",              ERROR,   "Kafka can never take a message; it becomes a dead letter: topic, size, reason"
    KAFKA_TIMESTAMPS_REFUSED   = "kafka.timestamps_refused",   WARNING, "a topic refuses the timestamps of its records; they are produced without one"
    KAFKA_TIMESTAMPS_TAKEN     = "kafka.timestamps_taken",     INFO,    "a topic takes timestamps again"
    KAFKA_REORDERED            = "kafka.reordered",            WARNING, "Kafka refused a batch and had stored what was behind it before the bridge could produce it again"
    KAFKA_FATAL                = "kafka.fatal",                WARNING, "the producer can't go on; the bridge replaces it"
    KAFKA_TRANSACTIONAL        = "kafka.transactional",        INFO,    "exactly-once: the bridge has its transactional.id, and every earlier producer is fenced; with what Kafka has of the transaction whose end was unknown; at the start, and after kafka.fenced or kafka.transaction_lost"
    KAFKA_FENCED               = "kafka.fenced",               ERROR,   "another bridge uses this one's kafka.transactional_id; this one waits before it takes the id back; stop the other one, or give it its own id"
    KAFKA_NUMBER_UNEXPECTED    = "kafka.number_unexpected",    ERROR,   "exactly-once: the number in Kafka does not fit this spool, and why; messages on disk may be produced twice"
    KAFKA_TRANSACTION_LOST     = "kafka.transaction_lost",     WARNING, "exactly-once: Kafka did not take a transaction; the bridge reads what was committed, and produces the rest again"
    KAFKA_REBUILT              = "kafka.rebuilt",              INFO,    "a new producer has taken over; the bridge produces the held messages again"

    SPOOL_LATE                 = "spool.late",                 WARNING, "Kafka has not confirmed a topic's messages within spool.after; the bridge writes them to disk and acknowledges them"
    SPOOL_EMPTY                = "spool.empty",                INFO,    "Kafka has confirmed all messages that a topic had on disk"
    SPOOL_PROGRESS             = "spool.progress",             INFO,    "how many messages are on disk, and how many a second Kafka confirms; every ten seconds, or once a minute while all of them wait for a topic that Kafka does not have"
    SPOOL_FULL                 = "spool.full",                 ERROR,   "spool.max_bytes or spool.keep_free is reached; the bridge acknowledges only what Kafka confirms (with exactly-once: nothing), and EMQ's own queue fills"
    SPOOL_UNUSABLE             = "spool.unusable",             ERROR,   "the bridge can't open or write the spool; it retries, and goes on with Kafka alone, or with exactly-once not at all"
    SPOOL_USABLE               = "spool.usable",               INFO,    "the bridge writes to the spool again"
    SPOOL_UNREADABLE           = "spool.unreadable",           ERROR,   "the bridge can't read a topic's messages from disk; they stay there, and it retries at the next start"
    SPOOL_DAMAGED              = "spool.damaged",              ERROR,   "the disk returned other bytes than the bridge wrote; the bridge skips these messages and leaves them in the file"
    SPOOL_SET_ASIDE            = "spool.set_aside",            ERROR,   "the database is damaged; the bridge renamed it and began a new one"
    SPOOL_SLOW                 = "spool.slow",                 WARNING, "the disk took more than a second for one commit; acknowledgements waited for it"
    SPOOL_MOVING               = "spool.moving",               INFO,    "the routes have changed and much is on disk; until all of it has moved to its new topics, new messages go to disk behind it"
    SPOOL_REASSIGNED           = "spool.reassigned",           INFO,    "the routes have changed; messages on disk have moved to the topics of the new routes"

    DEADLETTER_REMOVED         = "deadletter.removed",         WARNING, "the bridge removed dead letters for good, oldest first: beyond dead_letters.max_bytes or max_age, or because the spool was full"
    DEADLETTER_NOT_PRODUCED    = "deadletter.not_produced",    WARNING, "dead letters did not reach dead_letters.topic; they are on disk"

    ROUTE_UNROUTABLE           = "route.unroutable",           ERROR,   "no route can take a message of this topic; it becomes a dead letter: topic, reason"
    QOS0_DROPPED               = "qos0.dropped",               WARNING, "the bridge dropped QoS 0 messages beyond mqtt.qos0_messages or qos0_bytes"
    FLOW_MINUTE                = "flow.minute",                INFO,    "counts of the last minute, if any messages flowed"

    NEIGHBOUR_UNAVAILABLE      = "neighbour.unavailable",      WARNING, "HAProxy's statistics or EMQX's API gave no useful answer; messages flow all the same; logged once an hour for each reason"

    HTTP_LISTENING             = "http.listening",             INFO,    "the page, /status.json, /metrics, /livez and /readyz can be read at this address"
    HTTP_UNAVAILABLE           = "http.unavailable",           WARNING, "the bridge can't show its page, and tries again; messages flow all the same"

    LOG_LINES_LOST             = "log.lines_lost",             WARNING, "the reader of the log was too slow, and the bridge did not wait for it: so many lines before this one are lost"

    LIBRARY_PAHO               = "library.paho",               DEBUG,   "a line of paho-mqtt's own log, at its own level, but WARNING at most"
    LIBRARY_LIBRDKAFKA         = "library.librdkafka",         DEBUG,   "a line of librdkafka's own log; its errors at DEBUG, because kafka.* events report them"
    LIBRARY_PYTHON             = "library.python",             DEBUG,   "a Python warning, or a line of another library's log, WARNING at most"
    # fmt: on


_logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def use_new_configuration() -> None:
    """Log by structlog's present configuration: a logger keeps that of its first line."""
    global _logger
    _logger = structlog.get_logger()


def log(event: Event, **fields: object) -> None:
    """Log `event` at its level, from any thread. It counts, and `recent` remembers it, at any log level."""
    RECENT.note(event, event.level, fields)
    _logger.log(event.level, event, **fields)


def log_at(level: int, event: Event, **fields: object) -> None:
    """Log `event` at another level than its own. Lines of libraries have their own levels."""
    RECENT.note(event, level, fields)
    _logger.log(level, event, **fields)
