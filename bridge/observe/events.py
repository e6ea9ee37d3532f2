"""Every event that the bridge logs, and `log()`, the one way to log.

The names are an interface: people write alerts and `jq` filters on them. So they are a closed list,
and the list is the documentation too (docs/reference/events.md is made from it). A level says who is
to do something:

    ERROR     a person must act; the message names the way out
    WARNING   it heals itself, but a person may want to know
    INFO      the life of the service; nothing here happens once for each message
    DEBUG     all the rest
"""

from enum import StrEnum
from logging import DEBUG, ERROR, INFO, WARNING

import structlog


class Event(StrEnum):
    """`level` is one of logging's numbers, `meaning` one line for the reference."""

    level: int
    meaning: str

    def __new__(cls, name: str, level: int, meaning: str) -> "Event":
        event = str.__new__(cls, name)
        event._value_ = name
        event.level = level
        event.meaning = meaning
        return event

    # fmt: off
    SERVICE_STARTING           = "service.starting",           INFO,    "the settings are good and the parts are being built"
    SERVICE_STARTED            = "service.started",            INFO,    "all parts run; the first connections are being made"
    SERVICE_STOPPING           = "service.stopping",           INFO,    "a signal came: nothing more is taken, what is in flight is waited for"
    SERVICE_STOP_DEADLINE      = "service.stop_deadline",      WARNING, "Kafka did not confirm all that it was sent and is no longer waited for; what is not on disk EMQ will send again"
    SERVICE_STOPPED            = "service.stopped",            INFO,    "the last line of a clean stop"
    SERVICE_FAILED             = "service.failed",             ERROR,   "an error that the bridge has no answer to; it exits, systemd starts it again"
    SERVICE_NO_THREAD          = "service.no_thread",          ERROR,   "this machine or its limits allow no further thread; what needs one is tried again, and messages go to disk meanwhile"
    CONFIG_WARNING             = "config.warning",             WARNING, "a setting is allowed, but has a price that is easily overlooked"
    CLOCK_WRONG                = "clock.wrong",                WARNING, "the clock is not to be believed; records get no timestamp, and Kafka may double them when a broker dies"
    CLOCK_RIGHT                = "clock.right",                INFO,    "the clock is right again; records get timestamps"

    TLS_EXPIRES_SOON           = "tls.expires_soon",           WARNING, "a certificate expires within 14 days, or has expired: the bridge's, its authority's or a peer's; said once a day"

    MQTT_CONNECTING            = "mqtt.connecting",            DEBUG,   "an attempt begins"
    MQTT_CONNECT_FAILED        = "mqtt.connect_failed",        WARNING, "name resolution, TCP or TLS failed; tried again"
    MQTT_TLS_FAILED            = "mqtt.tls_failed",            ERROR,   "no TLS with the broker: certificate, authority, name or protocol; tried again slowly"
    MQTT_CONNACK_TIMEOUT       = "mqtt.connack_timeout",       WARNING, "connected, but no CONNACK or SUBACK within mqtt.connack_timeout; connecting anew"
    MQTT_REFUSED               = "mqtt.refused",               ERROR,   "CONNACK says never like this (password, permission, client id); tried again slowly"
    MQTT_UNAVAILABLE           = "mqtt.unavailable",           WARNING, "CONNACK says not now, or the connection closed before it; tried again"
    MQTT_CONNECTED             = "mqtt.connected",             DEBUG,   "CONNACK came; filters may still have to be subscribed"
    MQTT_LIVE                  = "mqtt.live",                  INFO,    "the session is up and subscribed: messages flow"
    MQTT_KEEPALIVE_TIMEOUT     = "mqtt.keepalive_timeout",     WARNING, "no PINGRESP in time: the peer hangs or is gone; connecting anew"
    MQTT_CLOSED                = "mqtt.closed",                WARNING, "a connection that was up has ended, and why"
    MQTT_BACKING_OFF           = "mqtt.backing_off",           DEBUG,   "the next attempt waits, for how long"
    MQTT_PROTOCOL_FALLBACK     = "mqtt.protocol_fallback",     WARNING, "the broker speaks no MQTT 5; 3.1.1 from here on"
    MQTT_TAKEN_OVER            = "mqtt.taken_over",            ERROR,   "another client uses this client id; give each bridge its own mqtt.client_id"
    MQTT_SESSION_LOST          = "mqtt.session_lost",          WARNING, "the broker no longer knew the session: what it held for it is gone"
    MQTT_SUBSCRIBE_REFUSED     = "mqtt.subscribe_refused",     ERROR,   "SUBACK refused a filter; the others work, this one is tried again slowly"
    MQTT_QOS_LOWERED           = "mqtt.qos_lowered",           WARNING, "SUBACK granted a filter a lower QoS than its route asks for"
    MQTT_UNSUBSCRIBED          = "mqtt.unsubscribed",          INFO,    "filters that the settings no longer name were taken off the session"
    MQTT_UNSUBSCRIBE_REFUSED   = "mqtt.unsubscribe_refused",   WARNING, "UNSUBACK refused a filter that the settings no longer name; its messages still come"
    MQTT_SUBSCRIPTIONS_UNKNOWN = "mqtt.subscriptions_unknown", INFO,    "what the session is subscribed to is not on record; subscribing again"
    MQTT_STATE_UNWRITABLE      = "mqtt.state_unwritable",      ERROR,   "state_directory can't be written; each start subscribes again"
    MQTT_MALFORMED_PACKET      = "mqtt.malformed_packet",      ERROR,   "the broker broke the protocol; connecting anew"

    KAFKA_ERROR                = "kafka.error",                WARNING, "librdkafka reports an error that time may cure"
    KAFKA_ALL_BROKERS_DOWN     = "kafka.all_brokers_down",     WARNING, "no Kafka broker can be reached; messages go to disk"
    KAFKA_AUTHENTICATION_FAILED = "kafka.authentication_failed", ERROR, "Kafka refused the user or password"
    KAFKA_WRONG_LISTENER       = "kafka.wrong_listener",       ERROR,   "the port is one of Kafka's for another security.protocol, or a controller's"
    KAFKA_TLS_FAILED           = "kafka.tls_failed",           ERROR,   "no TLS with Kafka: certificate, authority or protocol"
    KAFKA_FILES_READ           = "kafka.files_read",           INFO,    "a certificate, key or password file was replaced; a new producer uses it"
    KAFKA_FILES_UNUSABLE       = "kafka.files_unusable",       ERROR,   "a certificate, key or password file can't be used; what was read of it before stays in use"
    KAFKA_TOPIC_MISSING        = "kafka.topic_missing",        ERROR,   "a route's topic does not exist; its messages are held, on disk; with the command that creates it"
    KAFKA_LIMIT_UNKNOWN        = "kafka.limit_unknown",        WARNING, "a topic's max.message.bytes can't be asked for; a cautious one is used"
    KAFKA_LANE_HELD            = "kafka.lane_held",            WARNING, "a topic can't be written at the moment; its messages are held, on disk"
    KAFKA_LANE_LIVE            = "kafka.lane_live",            INFO,    "a topic that was held is written again"
    KAFKA_REFUSED              = "kafka.refused",              ERROR,   "Kafka can never take a message; it is a dead letter: topic, size, reason"
    KAFKA_TIMESTAMPS_REFUSED   = "kafka.timestamps_refused",   WARNING, "a topic refuses the timestamps of its records; they are produced without one"
    KAFKA_TIMESTAMPS_TAKEN     = "kafka.timestamps_taken",     INFO,    "a topic takes timestamps again"
    KAFKA_REORDERED            = "kafka.reordered",            WARNING, "Kafka refused a batch and had stored what was behind it before the bridge could produce it again"
    KAFKA_FATAL                = "kafka.fatal",                WARNING, "the producer can't go on and is replaced"
    KAFKA_REBUILT              = "kafka.rebuilt",              INFO,    "a new producer has taken over; what was held is produced again"

    SPOOL_LATE                 = "spool.late",                 WARNING, "Kafka has not confirmed a topic's messages within spool.after; they go to disk and are acknowledged"
    SPOOL_EMPTY                = "spool.empty",                INFO,    "Kafka holds all that a topic had on disk"
    SPOOL_PROGRESS             = "spool.progress",             INFO,    "how many messages are on disk, and how many a second Kafka takes, every ten seconds"
    SPOOL_FULL                 = "spool.full",                 ERROR,   "spool.max_bytes or spool.keep_free is reached; nothing more is acknowledged, and EMQ's own queue fills"
    SPOOL_UNUSABLE             = "spool.unusable",             ERROR,   "the spool can't be opened or written; the bridge goes on with Kafka alone, and tries again"
    SPOOL_USABLE               = "spool.usable",               INFO,    "the spool is written again"
    SPOOL_UNREADABLE           = "spool.unreadable",           ERROR,   "what a topic has on disk can't be read; it stays there, and the next start tries again"
    SPOOL_DAMAGED              = "spool.damaged",              ERROR,   "the disk gave back other bytes than were written; these messages stay in the file and are left out"
    SPOOL_SET_ASIDE            = "spool.set_aside",            ERROR,   "the database is damaged; it is kept under another name, and a new one was begun"
    SPOOL_SLOW                 = "spool.slow",                 WARNING, "the disk took more than a second for one commit; acknowledgements waited for it"
    SPOOL_MOVING               = "spool.moving",               INFO,    "the routes have changed, and much is on disk: until it is where they lead now, what comes goes to disk behind it"
    SPOOL_REASSIGNED           = "spool.reassigned",           INFO,    "the routes have changed; messages on disk go where they lead now"

    DEADLETTER_REMOVED         = "deadletter.removed",         WARNING, "dead letters beyond dead_letters.max_bytes or max_age were removed for good, oldest first"
    DEADLETTER_NOT_PRODUCED    = "deadletter.not_produced",    WARNING, "dead letters did not get to dead_letters.topic; they are on disk"

    ROUTE_UNROUTABLE           = "route.unroutable",           ERROR,   "no route can take a message of this topic; it is a dead letter: topic, reason"
    QOS0_DROPPED               = "qos0.dropped",               WARNING, "QoS 0 messages beyond mqtt.qos0_messages or qos0_bytes were dropped"
    FLOW_MINUTE                = "flow.minute",                INFO,    "counts of the last minute, if anything flowed"

    LIBRARY_PAHO               = "library.paho",               DEBUG,   "a line of paho-mqtt's own log, at its own level, WARNING at most"
    LIBRARY_LIBRDKAFKA         = "library.librdkafka",         DEBUG,   "a line of librdkafka's own log; its errors at DEBUG, since the kafka.* events tell them"
    LIBRARY_PYTHON             = "library.python",             DEBUG,   "a Python warning, or the log of another library, WARNING at most"
    # fmt: on


_logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def log(event: Event, **fields: object) -> None:
    """Log `event` at its level, from any thread. Costs next to nothing where the level is off."""
    _logger.log(event.level, event, **fields)


def log_at(level: int, event: Event, **fields: object) -> None:
    """Log `event` at another level than its own: the lines of libraries bring theirs."""
    _logger.log(level, event, **fields)
