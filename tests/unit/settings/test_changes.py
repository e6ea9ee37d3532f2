"""Which settings differ between two readings of the same places."""

from bridge.settings import Settings
from bridge.settings.changes import TAKEN_WHILE_RUNNING, changes
from bridge.settings.describe import dotted, walk


def settings(**more: object) -> Settings:
    given = {
        "mqtt": {"host": "h"},
        "kafka": {"bootstrap_servers": "k:9092"},
        "routes": [{"name": "r", "filter": "a/#", "topic": "t"}],
    }
    return Settings(**(given | more))


def test_equal_settings_have_no_changes() -> None:
    assert changes(settings(), settings()) == []


def test_each_changed_setting_is_named_and_all_routes_are_one() -> None:
    after = settings(
        mqtt={"host": "h", "username": "u", "password": "p"},
        kafka={"bootstrap_servers": "k:9092", "options": {"linger.ms": 5}},
        routes=[{"name": "r", "filter": "b/#", "topic": "t"}],
        log={"level": "debug"},
    )
    found = changes(settings(), after)
    assert sorted(found) == [
        "kafka.options.linger.ms",
        "log.level",
        "mqtt.password",
        "mqtt.username",
        "routes",
    ]


def test_what_a_running_service_takes_over_exists() -> None:
    assert {dotted(key) for key, _ in walk()} >= TAKEN_WHILE_RUNNING
