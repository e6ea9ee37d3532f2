"""The examples on the pages about routing match the bridge's behaviour."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from bridge.message import Message, Properties
from bridge.routing.router import Router
from bridge.settings import STANDARD_HEADERS, RouteSettings
from tests.artefacts import pages

DOCS = Path(__file__).parents[2] / "docs"
HOW_TO, SMART_HOME = DOCS / "how-to" / "route-messages.md", DOCS / "how-to" / "smart-home.md"
REFERENCE = (DOCS / "reference" / "routing.md").read_text()

EXAMPLES = [*pages.examples(HOW_TO), *pages.examples(SMART_HOME)]


def router(toml: str) -> Router:
    return Router([RouteSettings.model_validate(route) for route in tomllib.loads(toml)["routes"]])


def outcome(routes: Router, topic: str) -> str:
    plan = routes.plan(topic.encode())
    if plan.action == "drop":
        return f"{topic} -> dropped by {plan.route}"
    return f"{topic} -> {plan.kafka_topic} | {plan.key.decode()}"


def test_every_task_has_an_example() -> None:
    titles = [title for title, _, _ in pages.examples(HOW_TO)]
    assert titles == re.findall(r"^## (.+)$", HOW_TO.read_text(), re.MULTILINE)


def test_the_recipes_for_a_smart_home_fit_into_one_file() -> None:
    """A broker of MQTT 3.1.1 can serve all of them too: no two filters overlap."""
    assert router("\n".join(toml for _, toml, _ in pages.examples(SMART_HOME))).needs_mqtt5 is None


@pytest.mark.parametrize(
    ("toml", "lines"), [pytest.param(t, lines, id=title) for title, t, lines in EXAMPLES]
)
def test_the_routes_of_a_task_do_what_the_page_says(toml: str, lines: str) -> None:
    routes = router(toml)
    for line in lines.splitlines():
        assert outcome(routes, line.partition(" -> ")[0]) == line


def test_the_reference_lists_all_standard_headers() -> None:
    table = REFERENCE.partition("## headers")[2].partition("## ")[0]
    assert tuple(re.findall(r"^\| `([a-z.-]+)` \|", table, re.MULTILINE)) == STANDARD_HEADERS


def test_the_envelope_of_the_reference_is_the_bridges() -> None:
    (shown,) = re.findall(r"^```json\n(.*?)^```$", REFERENCE, re.DOTALL | re.MULTILINE)
    properties = Properties(
        payload_format=1,
        message_expiry=60,
        content_type="text/plain",
        response_topic="replies/1",
        correlation_data=b"\xff",
        user=(("site", "kitchen"), ("site", "attic")),
    )
    message = Message.of(b"sensors/kitchen/temp", 1 << 1, 7, properties, b"21.5")
    message.timestamp = 1795369709000
    value = (
        router('[[routes]]\nname = "a"\nfilter = "#"\ntopic = "a"\nenvelope = "json"')
        .plan(message.topic)
        .value(message)
    )
    assert list(json.loads(shown).items()) == list(json.loads(value).items())


@pytest.mark.parametrize(
    ("written", "subscribed"), re.findall(r"^\| `(\S*\{\S+)` \| `(\S+)` \|", REFERENCE, re.MULTILINE)
)
def test_the_filters_of_the_reference_subscribe_what_it_says(written: str, subscribed: str) -> None:
    (only,) = Router([RouteSettings(name="a", filter=written, topic="a")]).subscriptions
    assert only.filter == subscribed
