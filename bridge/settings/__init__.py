"""The type, default, bounds and purpose of every setting, and where its value comes from.

Decided here: what a setting allows, which source wins, and the error message for a wrong value.
Not here: what filters and templates of a route mean (routing).

    mqtt.py kafka.py routes.py spool.py   the tables of the file, with the rules between settings
    neighbours.py                         the tables of the neighbours' monitoring
    http.py                               the page and what programs ask
    root.py                               the file as a whole
    kafka_options.py                      which librdkafka settings are refused, and why
    load.py layers.py                     flags win over environment, file and defaults, in this order
    problems.py                           one error line for each wrong setting
    describe.py                           describes in words what a setting allows
    passwords.py                          reads the password files

The tables' descriptions and bounds also feed --help, docs/reference/settings.md and the error messages.

Start with `load.load`.
"""

from bridge.settings.http import HttpSettings
from bridge.settings.kafka import KafkaSettings
from bridge.settings.mqtt import MqttSettings, ReconnectSettings, TcpSettings, TlsSettings
from bridge.settings.neighbours import EmqxSettings, HaproxySettings
from bridge.settings.passwords import read_kafka_password, read_mqtt_password
from bridge.settings.root import LogSettings, Settings
from bridge.settings.routes import STANDARD_HEADERS, RouteSettings
from bridge.settings.spool import DeadLetterSettings, SpoolSettings

__all__ = [
    "STANDARD_HEADERS",
    "DeadLetterSettings",
    "EmqxSettings",
    "HaproxySettings",
    "HttpSettings",
    "KafkaSettings",
    "LogSettings",
    "MqttSettings",
    "ReconnectSettings",
    "RouteSettings",
    "Settings",
    "SpoolSettings",
    "TcpSettings",
    "TlsSettings",
    "read_kafka_password",
    "read_mqtt_password",
]
