"""Every kind of mistake in a configuration, with its error message."""

import json
from pathlib import Path

import pytest

from tests.unit.settings.configurations import KAFKA, ROUTE, WORKS, Machine, with_setting


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


# (name of the mistake, table, line, error message)
IN_THE_FILE = [
    ("an unknown key", "mqtt", "hosst = 1", "mqtt.hosst (bridge.toml:3): no such setting; did you mean mqtt.host?"),
    ("a key of another table", "mqtt", 'options = "x"',
     "mqtt.options (bridge.toml:3): no such setting; did you mean kafka.options?"),
    ("a key like no other", "mqtt", "xyzzy = 1", "mqtt.xyzzy (bridge.toml:3): no such setting"),
    ("a part of a key", "emqx", 'key = "k"', "emqx.key (bridge.toml:10): no such setting; did you mean emqx.key_file?"),
    ("a path as a shell writes it", "spool", 'directory = "~nobody-here/x"',
     'spool.directory = "~nobody-here/x" (bridge.toml:10): begins with ~nobody-here, which a shell replaces and the'
     " bridge does not; write /PATH/x"),
    ("a path with a variable", "", 'state_directory = "$NOT_SET/x"',
     'state_directory = "$NOT_SET/x" (bridge.toml:1): begins with $NOT_SET, which a shell replaces and the bridge does'
     " not; write /PATH/x"),
    ("an unknown key at the top", "", 'stop_timout = "3s"',
     "stop_timout (bridge.toml:1): no such setting; did you mean stop_timeout?"),
    ("an unknown table", "mqtt.tsl", "enabled = true", "mqtt.tsl (bridge.toml:9): no such setting; did you mean mqtt.tls?"),
    ("an unknown key of a route", "routes", 'topik = "x"',
     "routes[0].topik (bridge.toml:9): no such setting; did you mean routes[0].topic?"),
    ("a feature of other programs", "grpc", 'port = 80', "grpc (bridge.toml:9): no such setting"),
    # types
    ("text where a number belongs", "mqtt", 'port = "http"',
     'mqtt.port = "http" (bridge.toml:3): must be a whole number of 1 to 65535'),
    ("true where a number belongs", "mqtt", "receive_maximum = true",
     "mqtt.receive_maximum = true (bridge.toml:3): must be a whole number of 1 to 65535"),
    ("a fraction where a whole number belongs", "mqtt.tcp", "keepalive_count = 2.5",
     "mqtt.tcp.keepalive_count = 2.5 (bridge.toml:10): must be a whole number of 1 to 20"),
    ("a number where text belongs", "mqtt", "client_id = 5",
     "mqtt.client_id = 5 (bridge.toml:3): must be text of 1 to 256 characters"),
    ("a number where true or false belongs", "mqtt.tls", "enabled = 3",
     "mqtt.tls.enabled = 3 (bridge.toml:10): must be true or false"),
    ("a word that is not one of the choices", "mqtt", 'protocol = "4"',
     'mqtt.protocol = "4" (bridge.toml:3): must be "auto", "5" or "3.1.1"'),
    ("a QoS that MQTT doesn't have", "routes", "qos = 3", "routes[0].qos = 3 (bridge.toml:9): must be 0, 1 or 2"),
    ("a list where a path belongs", "mqtt.tls", "ca_file = [1]", "mqtt.tls.ca_file (bridge.toml:10): must be a path"),
    ("text where a table belongs", "mqtt", 'tls = "yes"',
     "mqtt.tls (bridge.toml:3): must be a table; write enabled = true under [mqtt.tls], or tls = {enabled = true}"),
    ("true where a table belongs", "mqtt", "tls = true",
     "mqtt.tls (bridge.toml:3): must be a table; write enabled = true under [mqtt.tls], or tls = {enabled = true}"),
    ("false where a table belongs", "mqtt", "tls = false",
     "mqtt.tls (bridge.toml:3): must be a table; write enabled = false under [mqtt.tls], or tls = {enabled = false}"),
    ("a size where a table belongs", "", 'spool = "2GB"',
     'spool (bridge.toml:1): must be a table; write after = "1s" under [spool], or spool = {after = "1s"}'),
    ("text where options belong", "kafka", 'options = "linger.ms=3"',
     'kafka.options (bridge.toml:5): must be a table; write "linger.ms" = 5 under [kafka.options], or'
     ' options = {"linger.ms" = 5}'),
    ("a typo in a required name", "routes", 'filtre = "#"',
     "routes[0].filtre (bridge.toml:9): no such setting; did you mean routes[0].filter?"),
    ("a name in capitals", "mqtt", 'PORT = 1883', "mqtt.PORT (bridge.toml:3): no such setting; did you mean mqtt.port?"),
    ("text where a list belongs", "routes", 'headers = "mqtt.topic"',
     'routes[0].headers (bridge.toml:9): must be a list of text'),
    ("a list where an option belongs", "kafka.options", "linger.ms = [5]",
     "kafka.options.linger.ms (bridge.toml:10): must be text, a number, true or false"),
    # units and bounds
    ("a duration in a unit that doesn't exist", "mqtt", 'keepalive = "1 minute"',
     'mqtt.keepalive = "1 minute" (bridge.toml:3): must be a duration of 2s to 65535s, in whole seconds,'
     " written as a number and a unit, such as 200ms, 60s, 5min, 3h or 7d"),
    ("a size in a unit that doesn't exist", "mqtt", 'qos0_bytes = "1XB"',
     'mqtt.qos0_bytes = "1XB" (bridge.toml:3): must be a size of 0 to 4GB, written as a number and a unit,'
     " such as 64KiB, 16MB or 1GB"),
    ("keepalive switched off", "mqtt", "keepalive = 0",
     "mqtt.keepalive = 0 (bridge.toml:3): must be a duration of 2s to 65535s, in whole seconds"),
    ("half a second where MQTT counts in whole ones", "mqtt", 'keepalive = "60500ms"',
     'mqtt.keepalive = "60500ms" (bridge.toml:3): must be a duration of 2s to 65535s, in whole seconds'),
    ("an infinite time", "", "stop_timeout = inf", "stop_timeout = inf (bridge.toml:1): must be a duration of 0 to 600s"),
    ("a port beyond the last", "mqtt", "port = 65536",
     "mqtt.port = 65536 (bridge.toml:3): must be a whole number of 1 to 65535"),
    ("an empty client id", "mqtt", 'client_id = ""',
     'mqtt.client_id = "" (bridge.toml:3): must be text of 1 to 256 characters'),
    # single values with rules of their own
    ("a host where a URL belongs", "haproxy", 'stats = "haproxy:8081"',
     'haproxy.stats = "haproxy:8081" (bridge.toml:10): must be "auto", "" or an address that begins with http:// or'
     " https://"),
    ("a password in a URL", "emqx", 'key_file = "k"\napi = "http://key:secret@emq:18083"',
     'emqx.api = "http://***@emq:18083" (bridge.toml:11): holds a user or a password, which every log would show;'
     " use the other settings"),
    ("an API without a key", "emqx", 'api = "http://emq:18083"',
     "emqx.key_file: is missing: EMQX's API answers nobody without a key"),
    ("a user of a console that is not named", "haproxy", 'username = "admin"\npassword_file = "p"',
     'haproxy.username = "admin" (bridge.toml:10): does nothing without the address of the console in stats'),
    ("a URL as host", "mqtt", 'host = "mqtt://emq"',
     'mqtt.host = "mqtt://emq" (bridge.toml:2): must be a name or an address alone, without mqtt:// before it'
     ' or a path behind it; write host = "emq" under [mqtt]'),
    ("a URL with TLS and a port as host", "mqtt", 'host = "mqtts://emq:8883"',
     'mqtt.host = "mqtts://emq:8883" (bridge.toml:2): must be a name or an address alone, without mqtt:// before it'
     ' or a path behind it; write host = "emq" and port = 8883 under [mqtt], and enabled = true under [mqtt.tls]'),
    ("a host with its port", "mqtt", 'host = "emq:1883"',
     'mqtt.host = "emq:1883" (bridge.toml:2): must be a name or an address alone;'
     ' write host = "emq" and port = 1883 under [mqtt]'),
    ("an address of IPv6 with its port", "mqtt", 'host = "[::1]:1883"',
     'mqtt.host = "[::1]:1883" (bridge.toml:2): must be a name or an address alone;'
     ' write host = "::1" and port = 1883 under [mqtt]'),
    ("two hosts with their ports", "mqtt", 'host = "a:1883,b:1883"',
     'mqtt.host = "a:1883,b:1883" (bridge.toml:2): is no address of IPv6, and no name holds \':\';'
     " must be a name or an address alone, and the port is mqtt.port"),
    ("an empty host", "mqtt", 'host = ""', 'mqtt.host = "" (bridge.toml:2): must be text that is not empty'),
    ("brokers with blanks between them", "kafka", 'bootstrap_servers = "a:9092 b:9092"',
     'kafka.bootstrap_servers = "a:9092 b:9092" (bridge.toml:4): must be host:port, separated by commas;'
     ' "a:9092 b:9092" is not'),
    ("a route name with a blank", "routes", 'name = "a b"',
     'routes[0].name = "a b" (bridge.toml:8): must be 1 to 64 letters, digits, dots, dashes and underscores'),
    ("an unknown header", "routes", 'headers = ["mqtt.topik"]',
     'routes[0].headers[0] = "mqtt.topik" (bridge.toml:9): must be mqtt.topic, mqtt.qos, mqtt.retained,'
     " mqtt.duplicate, content-type, response-topic, correlation-data, user-properties"
     ' or "name={level}"; did you mean mqtt.topic?'),
    # settings that contradict each other
    ("a keepalive that can't hold the balancer's 3 h", "mqtt", 'keepalive = "3h"',
     'mqtt.keepalive = "3h" (bridge.toml:3): must be at most 2h: a hop ends a silent connection after 3h'
     " (mqtt.idle_limit). Only MQTT's pings reset the balancer's timers, TCP probes do not, and a ping may be late"),
    ("an idle limit that the default keepalive can't hold", "mqtt", 'idle_limit = "50s"',
     'mqtt.keepalive = "60s" (default): must be at most 33s: a hop ends a silent connection after 50s'
     " (mqtt.idle_limit). Only MQTT's pings reset the balancer's timers, TCP probes do not, and a ping may be late"),
    ("TCP probes that a ping is always ahead of", "mqtt.tcp", 'keepalive_idle = "45s"',
     'mqtt.keepalive = "60s" (default): must be more than keepalive_idle + keepalive_interval x keepalive_count'
     " of [mqtt.tcp], which is 60s: otherwise a PINGREQ is in flight before the probes have ended, and the"
     " kernel sends no probes while data is in flight"),
    ("a spool that is smaller than its dead letters may be", "spool", 'max_bytes = "100MB"',
     'dead_letters.max_bytes = "200MB" (default): must be at most spool.max_bytes, which is 100MB: dead letters are'
     " kept in the spool"),
    ("a spool that the largest message would never fit into", "kafka",
     'delivery = "exactly-once"\n[dead_letters]\nmax_bytes = "1MB"\n[spool]\nmax_bytes = "16MB"',
     'spool.max_bytes = "16MB" (bridge.toml:9): must be at least 17MB with kafka.delivery exactly-once: each message'
     " goes through the spool, and one may have 16MB (mqtt.max_packet_size)"),
    ("a first delay beyond the last", "mqtt.reconnect", 'min_delay = "3s"',
     'mqtt.reconnect.min_delay = "3s" (bridge.toml:10): is more than max_delay, which is 2s'),
    ("a password without a user", "mqtt", 'password_file = "/p"',
     'mqtt.password_file = "/p" (bridge.toml:3): does nothing without username'),
    ("a Kafka password without a user", "kafka", 'password_file = "/p"',
     'kafka.password_file = "/p" (bridge.toml:5): does nothing without sasl.username in [kafka.options]'),
    ("certificates without TLS", "mqtt.tls", 'ca_file = "/ca.pem"',
     'mqtt.tls.ca_file = "/ca.pem" (bridge.toml:10): does nothing without enabled = true'),
    ("a key for nothing that is dropped", "routes", 'action = "drop"',
     'routes[0].topic = "mqtt" (bridge.toml:8): does nothing where action = "drop"'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "line", "said"), [row[1:] for row in IN_THE_FILE], ids=[row[0] for row in IN_THE_FILE]
)
def test_the_file_has(machine: Machine, table: str, line: str, said: str) -> None:
    machine.write(with_setting(table, line))

    assert machine.problems() == [said]


ELSEWHERE = [
    ("a misspelt variable", {"BRIDGE_MQTT__HOSST": "x"}, (),
     "mqtt.hosst (BRIDGE_MQTT__HOSST): no such setting; did you mean mqtt.host?"),
    ("a variable of a misspelt table", {"BRIDGE_MQQT__PORT": "1"}, (),
     "BRIDGE_MQQT__PORT (environment): no such setting; did you mean BRIDGE_MQTT__PORT?"),
    ("a wrong value in the environment", {"BRIDGE_MQTT__PORT": "x"}, (),
     'mqtt.port = "x" (BRIDGE_MQTT__PORT): must be a whole number of 1 to 65535'),
    ("an empty variable", {"BRIDGE_MQTT__USERNAME": ""}, (),
     'mqtt.username = "" (BRIDGE_MQTT__USERNAME): must be text that is not empty'),
    ("a list that is no JSON", {"BRIDGE_ROUTES": "[{"}, (), 'routes (BRIDGE_ROUTES): must be a list of tables, in JSON, such as'
     ' [{"name": "all", "filter": "#", "topic": "mqtt"}]'),
    ("a table that is no JSON", {"BRIDGE_MQTT__TLS": "on"}, (), 'mqtt.tls (BRIDGE_MQTT__TLS): must be a table, in JSON, such as {"enabled": true}'),
    ("options that are no JSON", {"BRIDGE_KAFKA__OPTIONS": "linger.ms=3"}, (),
     'kafka.options (BRIDGE_KAFKA__OPTIONS): must be a table, in JSON, such as {"linger.ms": 5}'),
    ("an option that is refused, in the environment", {"BRIDGE_KAFKA__OPTIONS": '{"linger": {"ms": 5}, "acks": 1}'}, (),
     "kafka.options.acks = 1 (BRIDGE_KAFKA__OPTIONS): only all or -1 is allowed: the bridge acknowledges a message"
     " to EMQ when Kafka has confirmed it; all in-sync replicas must hold it by then"),
    ("a wrong flag", {}, ("--mqtt.keepalive", "1y"),
     'mqtt.keepalive = "1y" (--mqtt.keepalive): must be a duration of 2s to 65535s, in whole seconds,'
     " written as a number and a unit, such as 200ms, 60s, 5min, 3h or 7d"),
    ("an option that is refused, as a flag", {}, ("--kafka.options", "enable.idempotence=false"),
     'kafka.options.enable.idempotence = "false" (--kafka.options): only true is allowed: without idempotence a retry'
     " inside librdkafka duplicates and reorders messages"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "flags", "said"), [row[1:] for row in ELSEWHERE], ids=[row[0] for row in ELSEWHERE]
)
def test_there_is(machine: Machine, environment: dict[str, str], flags: tuple[str, ...], said: str) -> None:
    machine.write(WORKS)
    machine.set(environment)

    assert machine.problems(*flags) == [said]


def test_what_is_required_says_where_to_put_it(machine: Machine) -> None:
    machine.write("")

    assert machine.problems()[:2] == [
        "mqtt.host: required; write it into bridge.toml, set BRIDGE_MQTT__HOST or pass --mqtt.host",
        "kafka.bootstrap_servers: required; write it into bridge.toml, set BRIDGE_KAFKA__BOOTSTRAP_SERVERS"
        " or pass --kafka.bootstrap_servers",
    ]


def test_text_instead_of_a_table_whose_settings_have_no_default(machine: Machine) -> None:
    machine.write('mqtt = "emq"\nkafka = "kafka1"\nroutes = "all"\n')

    assert machine.problems() == [
        'mqtt (bridge.toml:1): must be a table; write host = "emq" under [mqtt], or mqtt = {host = "emq"}',
        'kafka (bridge.toml:2): must be a table; write bootstrap_servers = "kafka1:9092" under [kafka], or'
        ' kafka = {bootstrap_servers = "kafka1:9092"}',
        "routes (bridge.toml:3): must be a table; write [[routes]] above the settings of each route",
    ]


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("host =", "hosst =", ["mqtt.hosst (bridge.toml:2): no such setting; did you mean mqtt.host?"]),
        ("[mqtt]", "[mqqt]", ["mqqt (bridge.toml:1): no such setting; did you mean mqtt?"]),
        ("[kafka]", "[kafak]", ["kafak (bridge.toml:3): no such setting; did you mean kafka?"]),
        ("[[routes]]", "[[route]]", ["route (bridge.toml:5): no such setting; did you mean routes?"]),
        ("name =", "nmae =", ["routes[0].nmae (bridge.toml:6): no such setting; did you mean routes[0].name?"]),
        ("[kafka]\n", "", [
            "mqtt.bootstrap_servers (bridge.toml:3): no such setting; did you mean kafka.bootstrap_servers?"]),
        # Here the setting is missing indeed.
        ('[mqtt]\nhost = "emq"', "[mqqt]\nport = 1883", [
            "mqtt.host: required; write it into bridge.toml, set BRIDGE_MQTT__HOST or pass --mqtt.host",
            "mqqt (bridge.toml:1): no such setting; did you mean mqtt?"]),
    ],
)  # fmt: skip
def test_a_setting_under_a_misspelt_name_is_not_called_missing_as_well(
    machine: Machine, right: str, wrong: str, said: list[str]
) -> None:
    machine.write(WORKS.replace(right, wrong))

    assert machine.problems() == said


def test_a_variable_under_a_misspelt_name_is_not_called_missing_as_well(machine: Machine) -> None:
    machine.write(KAFKA + ROUTE)
    machine.set({"BRIDGE_MQQT__HOST": "emq"})

    assert machine.problems() == [
        "BRIDGE_MQQT__HOST (environment): no such setting; did you mean BRIDGE_MQTT__HOST?"
    ]


def test_without_a_file_that_comes_first_and_no_line_names_it_as_the_place(machine: Machine) -> None:
    there_is_none = (
        "there is no bridge.toml: name your settings with --config FILE, or let `sudo mqtt-kafka-bridge init`"
        " write a file that you can change"
    )
    assert machine.problems() == [there_is_none]

    machine.set({"BRIDGE_MQTT__HOST": "emq", "BRIDGE_ROUTES": '[{"name": "a", "filter": "#", "topic": "t"}]'})
    assert machine.problems() == [
        there_is_none,
        "kafka.bootstrap_servers: required; set BRIDGE_KAFKA__BOOTSTRAP_SERVERS or pass --kafka.bootstrap_servers",
    ]


def test_without_routes_an_example_is_shown(machine: Machine) -> None:
    machine.write(WORKS.replace(ROUTE, ""))

    (said,) = machine.problems()

    assert said.splitlines() == [
        "routes: at least one is required, for example:",
        "    [[routes]]",
        '    name = "temperatures"',
        '    filter = "sensors/{site}/{device}/temp"',
        '    topic = "iot.{site}"',
    ]


def test_a_route_needs_a_name_a_filter_and_a_topic(machine: Machine) -> None:
    machine.write(WORKS.replace(ROUTE, "[[routes]]\n"))
    assert machine.problems() == [
        "routes[0].name: required; write it into bridge.toml:5",
        "routes[0].filter: required; write it into bridge.toml:5",
    ]

    machine.write(WORKS.replace('topic = "mqtt"', ""))
    assert machine.problems() == ['routes[0].topic: is required, unless action = "drop"']


def test_two_routes_have_one_name(machine: Machine) -> None:
    machine.write(WORKS + ROUTE)

    assert machine.problems() == ['routes[1].name = "all" (bridge.toml:10): is the name of routes[0] already']


def test_all_that_is_wrong_is_said_at_once(machine: Machine) -> None:
    machine.write("[mqtt]\nport = 0\nhosst = 1\n" + ROUTE)
    machine.set({"BRIDGE_LOG__LEVEL": "loud"})

    assert [said.split(" (")[0].split(":")[0] for said in machine.problems("--stop_timeout", "x")] == [
        'stop_timeout = "x"',
        "mqtt.port = 0",
        "mqtt.hosst",
        "kafka.bootstrap_servers",
        'log.level = "loud"',
    ]


# -- the file as such ----------------------------------------------------------------------------------


def test_the_named_file_is_missing(machine: Machine) -> None:
    assert machine.problems("--config", "/nowhere/bridge.toml") == [
        "cannot read /nowhere/bridge.toml (--config): there is no file of that name;"
        " `sudo mqtt-kafka-bridge init --config /nowhere/bridge.toml` writes one that you can change"
    ]


def test_a_directory_is_named_as_the_file(machine: Machine) -> None:
    file = machine.write(WORKS)
    (said,) = machine.problems("--config", str(file.parent))
    assert said == f"cannot read {file.parent} (--config): it is a directory; name the file: bridge.toml"
    assert machine.read("--config", str(file)).settings


def test_the_file_may_not_be_read(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:  # tests may run as root, which may read everything
        raise PermissionError(13, "Permission denied")

    machine.write(WORKS)
    monkeypatch.setattr(Path, "open", refuse)

    assert machine.problems() == [
        "cannot read bridge.toml: permission denied (it must be readable for the user that the bridge runs as)"
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[mqtt]\nhost: emq\n",
            "bridge.toml:2 is not valid TOML: the sign between the name and the value must be =, and text needs"
            ' quotation marks; write host = "emq"',
        ),
        (
            "[mqtt]\n[mqtt]\n",
            "bridge.toml:2 is not valid TOML: [mqtt] is there already, in line 1; put the settings of both under"
            " one",
        ),
        ("[mqtt]\n= 5\n", "bridge.toml:2 is not valid TOML: Invalid statement"),
        (
            "[mqtt]\r\nhost = 127.0.0.1\r\n",
            'bridge.toml:2 is not valid TOML: text needs quotation marks; write host = "127.0.0.1"',
        ),
        (
            '[routes]\nname = "a"\n',
            "bridge.toml:1: [routes] needs two pairs of brackets, since there may be several routes; write [[routes]]"
            " above each of them",
        ),
    ],
)
def test_the_file_is_no_toml(machine: Machine, text: str, said: str) -> None:
    machine.write(text)

    assert machine.problems() == [said]


_ALONE = "; must be a name or an address alone, and the port is mqtt.port"


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (" emq", "has a space or a line break around it; leave it out"),
        ("emq 1", "holds a space or a control character, which no name and no address has"),
        ("999.1.1.1", "is no address: it takes four numbers from 0 to 255, without zeros before them"),
        ("10.0.0", "is no address: it takes four numbers from 0 to 255, without zeros before them"),
        (
            "::1:1883",
            "ends in what looks like a port; write ::1, and the port in its own place, or"
            " 0000:0000:0000:0000:0000:0000:0001:1883 if that is the address",
        ),
        ("fe80::1%", "has no name of an interface behind the %"),
        ("emq..lan", "is no name of a host: each part between two dots has 1 to 63 characters"),
    ],
)
def test_a_host_that_can_never_be_reached(machine: Machine, host: str, said: str) -> None:
    machine.write(WORKS.replace('"emq"', json.dumps(host)))

    assert machine.problems() == [f'mqtt.host = "{host}" (bridge.toml:2): {said}{_ALONE}']


@pytest.mark.parametrize(
    "host", ["emq", "emq_1.lan", "bücher.example", "::1", "fe80::1%lo", "2001:db8::1:2", "10.0.0.9", "emq."]
)
def test_a_host_that_may_be_reached(machine: Machine, host: str) -> None:
    machine.write(WORKS.replace('"emq"', json.dumps(host, ensure_ascii=False)))

    assert machine.read().settings.mqtt.host == host


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        ("kafka1:99999", 'the port of "kafka1:99999" is not one of 1 to 65535'),
        ("kafka1:9092,kafka2:0", 'the port of "kafka2:0" is not one of 1 to 65535'),
        (
            "10.0.0.256:9092",
            'the host of "10.0.0.256:9092" is no address: it takes four numbers from 0 to 255, without zeros'
            " before them",
        ),
        ("[kafka1]:9092", '"[kafka1]:9092" is not'),
        ("::1:9092", '"::1:9092" is not'),
    ],
)
def test_a_kafka_broker_that_can_never_be_reached(machine: Machine, servers: str, said: str) -> None:
    machine.write(WORKS.replace("kafka1:9092", servers))

    (problem,) = machine.problems()
    assert "must be host:port, separated by commas" in problem
    assert problem.endswith(said)


@pytest.mark.parametrize("servers", ["[fe80::1%lo]:9092", "[::1]:9092,kafka2:9093", "10.0.0.9:65535"])
def test_a_kafka_broker_that_may_be_reached(machine: Machine, servers: str) -> None:
    machine.write(WORKS.replace("kafka1:9092", servers))

    assert machine.read().settings.kafka.bootstrap_servers == servers


@pytest.mark.parametrize(
    ("table", "name", "value"),
    [
        ("mqtt", "client_id", '"a\\u0000b"'),
        ("mqtt", "password_file", '"/a\\u0000b"'),
        ("mqtt.tls", "ca_file", '"/a\\u0000b"'),
        ("kafka.options", "client.rack", '"a\\u0000b"'),
    ],
)
def test_a_null_character_is_refused_wherever_a_string_of_c_comes_of_it(
    machine: Machine, table: str, name: str, value: str
) -> None:
    machine.write(with_setting(table, f'"{name}" = {value}'))

    said = [line for line in machine.problems() if name in line]
    assert len(said) == 1, said
    assert "holds a null character" in said[0]


@pytest.mark.parametrize("client_id", ["a\udcff", "a\x1fb"])
def test_a_client_id_that_a_broker_may_not_take_is_refused(machine: Machine, client_id: str) -> None:
    machine.set({"BRIDGE_MQTT__CLIENT_ID": client_id})
    machine.write(WORKS)

    (said,) = machine.problems()
    assert said.startswith("mqtt.client_id = ")


_SAVE = "save it as UTF-8, or: iconv -f"


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-16", f"it is UTF-16, as its first bytes say ({_SAVE} UTF-16 -t UTF-8"),
        ("utf-32", f"it is UTF-32, as its first bytes say ({_SAVE} UTF-32 -t UTF-8"),
        ("utf-16-le", "it is UTF-16LE without a byte-order mark"),
        ("utf-16-be", "it is UTF-16BE without a byte-order mark"),
        ("latin-1", "line 4 is not UTF-8: byte 0xfc, as in a file in Latin-1 or Windows-1252"),
    ],
)
def test_a_file_in_another_encoding_is_told_which_it_is_and_what_to_do(
    machine: Machine, encoding: str, said: str
) -> None:
    machine.file.write_bytes(WORKS.replace('"kafka1', '"küche').encode(encoding))

    (problem,) = machine.problems()
    assert problem.startswith(f"cannot read bridge.toml: {said}")


def test_a_file_with_a_byte_order_mark_and_the_line_ends_of_windows_is_read(machine: Machine) -> None:
    machine.file.write_bytes(WORKS.replace("\n", "\r\n").encode("utf-8-sig"))

    assert machine.read().settings.mqtt.host == "emq"


def test_the_file_is_no_text(machine: Machine) -> None:
    machine.file.write_bytes(b"\xff\xfe")

    (said,) = machine.problems()

    assert said.startswith(
        "cannot read bridge.toml: it is UTF-16, as its first bytes say (save it as UTF-8, or: iconv -f UTF-16"
    )
