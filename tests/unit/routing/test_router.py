"""Routes: their subscriptions, the records that they make, and the errors at start."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from bridge.errors import ConfigurationError, Unroutable
from bridge.message import DUP, RETAIN, Message, Properties
from bridge.routing.plan import encoded_size
from bridge.routing.router import MAX_IDENTIFIER, MEANING, Router
from bridge.settings import STANDARD_HEADERS, RouteSettings

QOS1 = 1 << 1


def route(name: str, pattern: str, topic: str = "out", **more: Any) -> RouteSettings:
    return RouteSettings(name=name, filter=pattern, topic=topic, **more)


def drop(name: str, pattern: str) -> RouteSettings:
    return RouteSettings(name=name, filter=pattern, action="drop")


def message(
    topic: str, payload: bytes = b"21.5", flags: int = QOS1, properties: Properties | None = None
) -> Message:
    return Message.of(topic.encode(), flags, 7, properties, payload)


def subscribed(*routes: RouteSettings, **more: Any) -> list[str]:
    return [subscription.filter for subscription in Router(routes, **more).subscriptions]


def problems(*routes: RouteSettings) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        Router(routes)
    return caught.value.problems


def test_where_routes_lead_is_pinned_for_what_is_on_disk() -> None:
    """If one of these must change, raise routing.MEANING: a start compares MEANING and the routes to decide
    whether to move the messages on disk. Without a change an upgrade must not read gigabytes.
    """
    router = Router(
        [
            route("a", "a/{site}/{rest#}", "iot.{site}"),
            drop("b", "b/#"),
            route("bare", "d/{x}", "{x}"),
            route("rest", "#", "mqtt.{topic}"),
        ]
    )
    topics = (b"a/kitchen/x/y", b"b/c", b"c/d e", b"$SYS/x", b"..", b"d/__x")
    assert [router.destination(topic)[0] for topic in topics] == [
        "iot.kitchen",
        "",
        "mqtt.c.d-e",
        "",
        "mqtt...",
        "",
    ]
    assert MEANING == 2


class TestNames:
    def test_a_named_level_is_subscribed_as_plus(self) -> None:
        assert subscribed(route("a", "sensors/{site}/{device}/temp")) == ["sensors/+/+/temp"]

    def test_a_named_rest_is_subscribed_as_hash(self) -> None:
        assert subscribed(route("a", "sensors/{site}/{rest#}")) == ["sensors/+/#"]

    def test_names_make_the_kafka_topic_the_key_and_headers(self) -> None:
        router = Router(
            [
                route(
                    "a",
                    "sensors/{site}/{device}/temp",
                    "iot.{site}",
                    key="{device}",
                    headers=["where={site}/{device}"],
                )
            ]
        )
        plan = router.plan(b"sensors/kitchen/d1/temp")
        assert (plan.kafka_topic, plan.key) == ("iot.kitchen", b"d1")
        assert plan.headers(message("sensors/kitchen/d1/temp")) == [("where", b"kitchen/d1")]

    @pytest.mark.parametrize(("topic", "rest"), [("a", b""), ("a/", b""), ("a/b", b"b"), ("a/b//c", b"b//c")])
    def test_a_named_rest_is_all_that_the_hash_stands_for(self, topic: str, rest: bytes) -> None:
        assert Router([route("a", "a/{rest#}", key="{rest}")]).plan(topic.encode()).key == rest

    def test_a_rest_in_a_kafka_topic_has_its_slashes_mapped(self) -> None:
        assert Router([route("a", "a/{rest#}", "x.{rest}")]).plan(b"a/b/c").kafka_topic == "x.b.c"

    def test_topic_is_the_whole_mqtt_topic(self) -> None:
        plan = Router([route("all", "#", "mqtt.{topic}", key="{topic}")]).plan(b"a/b")
        assert (plan.kafka_topic, plan.key) == ("mqtt.a.b", b"a/b")

    def test_the_key_is_the_mqtt_topic_unless_the_route_has_one(self) -> None:
        assert Router([route("a", "a/+")]).plan("a/ü".encode()).key == "a/ü".encode()

    def test_an_empty_level_makes_an_empty_key(self) -> None:
        assert Router([route("a", "a/{device}", key="{device}")]).plan(b"a/").key == b""

    def test_a_brace_is_written_twice(self) -> None:
        assert Router([route("a", "a/{d}", key='{{"d":{d}}}')]).plan(b"a/1").key == b'{"d":1}'


class TestWhichRoute:
    def test_the_first_route_that_matches_takes_the_message(self) -> None:
        router = Router([route("narrow", "a/b"), route("wide", "a/#")])
        assert [router.plan(topic).route for topic in (b"a/b", b"a/c", b"a")] == ["narrow", "wide", "wide"]

    def test_a_drop_route_takes_what_others_subscribed(self) -> None:
        plan = Router([drop("noise", "a/debug"), route("rest", "a/#")]).plan(b"a/debug")
        assert (plan.route, plan.action) == ("noise", "drop")

    def test_a_catch_all_leaves_the_brokers_own_topics(self) -> None:
        with pytest.raises(Unroutable, match="no route"):
            Router([route("all", "#")]).plan(b"$SYS/broker/uptime")

    def test_a_topic_that_no_route_matches_is_unroutable(self) -> None:
        with pytest.raises(Unroutable, match="no route"):
            Router([route("a", "a/+")]).plan(b"b/c")

    def test_a_topic_that_is_not_utf_8_is_unroutable(self) -> None:
        with pytest.raises(Unroutable, match="UTF-8"):
            Router([route("all", "#")]).plan(b"a/\xff")

    def test_a_shared_filter_is_matched_without_its_group(self) -> None:
        assert Router([route("a", "$share/bridges/a/{b}", key="{b}")]).plan(b"a/x").key == b"x"

    def test_retained_messages_are_kept_unless_the_route_skips_them(self) -> None:
        router = Router([route("keep", "a"), route("skip", "b", retained="skip")])
        assert [router.plan(topic).skip_retained for topic in (b"a", b"b")] == [False, True]


class TestKafkaTopics:
    def test_what_kafka_does_not_allow_in_a_level_becomes_a_hyphen(self) -> None:
        plan = Router([route("z", "zigbee2mqtt/{name}", "zigbee.{name}")]).plan(
            "zigbee2mqtt/Küche links".encode()
        )
        assert plan.kafka_topic == "zigbee.K-che-links"

    def test_topics_that_come_together_by_that_are_told_apart_by_key_and_header(self) -> None:
        router = Router([route("z", "z/{name}", "z.{name}")])
        plans = [router.plan(topic) for topic in (b"z/a b", b"z/a:b")]
        assert plans[0].kafka_topic == plans[1].kafka_topic
        assert plans[0].key != plans[1].key
        assert plans[0].headers(message("z/a b"))[0] == ("mqtt.topic", b"z/a b")

    @pytest.mark.parametrize(
        ("topic", "why"),
        [
            ("/x", "empty"),
            ("./x", "'.'"),
            ("../x", "'..'"),
            ("a" * 250 + "/x", "250"),
            ("__consumer_offsets/x", "itself"),
        ],
    )
    def test_levels_that_make_no_legal_kafka_topic_are_unroutable(self, topic: str, why: str) -> None:
        with pytest.raises(
            Unroutable, match=f'route "a" makes no legal Kafka topic from this MQTT topic: .*{why}'
        ):
            Router([route("a", "{site}/x", "{site}")]).plan(topic.encode())


class TestHeaders:
    def test_by_default_topic_qos_and_flags_are_carried(self) -> None:
        plan = Router([route("a", "a/b")]).plan(b"a/b")
        assert plan.headers(message("a/b", flags=QOS1)) == [
            ("mqtt.topic", b"a/b"),
            ("mqtt.qos", b"1"),
            ("mqtt.retained", b"false"),
            ("mqtt.duplicate", b"false"),
        ]
        assert plan.headers(message("a/b", flags=DUP | 2 << 1 | RETAIN))[1:] == [
            ("mqtt.qos", b"2"),
            ("mqtt.retained", b"true"),
            ("mqtt.duplicate", b"true"),
        ]

    def test_the_same_list_serves_all_messages_with_the_same_flags(self) -> None:
        plan = Router([route("a", "a")]).plan(b"a")
        assert plan.headers(message("a")) is plan.headers(message("a")) is plan.by_flags[QOS1]

    def test_a_publisher_that_sends_all_flags_takes_no_more_memory_than_a_plan_is_counted_with(self) -> None:
        plan, again = (Router([route("a", "a")]).plan(b"a") for _ in range(2))
        flags = [qos << 1 | bits for qos in (0, 1, 2) for bits in (0, RETAIN, DUP, DUP | RETAIN)]
        for each in flags:
            assert plan.headers(message("a", flags=each)) == again.headers(message("a", flags=each))
        for each in reversed(flags):
            assert dict(plan.headers(message("a", flags=each)))["mqtt.qos"] == b"%d" % (each >> 1 & 3)
        assert sum(each is not None for each in plan.by_flags) == 4

    def test_only_listed_headers_are_carried_in_their_order(self) -> None:
        plan = Router([route("a", "a", headers=["mqtt.qos", "mqtt.topic"])]).plan(b"a")
        assert plan.headers(message("a", properties=Properties(user=(("x", "y"),), content_type="t"))) == [
            ("mqtt.qos", b"1"),
            ("mqtt.topic", b"a"),
        ]

    @pytest.mark.parametrize("name", STANDARD_HEADERS)
    def test_each_standard_header_can_be_carried(self, name: str) -> None:
        properties = Properties(
            content_type="t", response_topic="r", correlation_data=b"c", user=(("u", "v"),)
        )
        plan = Router([route("a", "a", headers=[name])]).plan(b"a")
        ((found, _),) = plan.headers(message("a", properties=properties))
        assert found == ("u" if name == "user-properties" else name)

    def test_no_headers_at_all(self) -> None:
        assert Router([route("a", "a", headers=[])]).plan(b"a").headers(message("a")) == []

    def test_mqtt_5_properties_are_carried_and_user_properties_keep_order_and_repeats(self) -> None:
        properties = Properties(
            content_type="application/json",
            response_topic="reply/ü",
            correlation_data=b"\x00\xff",
            user=(("b", "1"), ("a", "2"), ("b", "")),
        )
        headers = Router([route("a", "a")]).plan(b"a").headers(message("a", properties=properties))
        assert headers[:3] == [("b", b"1"), ("a", b"2"), ("b", b"")]
        assert headers[-3:] == [
            ("content-type", b"application/json"),
            ("response-topic", "reply/ü".encode()),
            ("correlation-data", b"\x00\xff"),
        ]

    def test_a_publisher_cannot_pose_as_another_topic(self) -> None:
        forged = Properties(user=(("mqtt.topic", "other"),))
        headers = Router([route("a", "a")]).plan(b"a").headers(message("a", properties=forged))
        assert dict(headers)["mqtt.topic"] == b"a"  # the last header wins, as in Kafka's lastHeader()

    def test_properties_of_one_message_do_not_show_on_the_next(self) -> None:
        plan = Router([route("a", "a")]).plan(b"a")
        before = list(plan.headers(message("a")))
        plan.headers(message("a", properties=Properties(user=(("x", "y"),), content_type="t")))
        assert plan.headers(message("a")) == before

    def test_the_overhead_is_enough_for_key_and_headers_with_any_flags(self) -> None:
        plan = Router([route("a", "a/{b}", headers=["mqtt.topic", "mqtt.retained", "ü={b}"])]).plan(
            b"a/" + b"x" * 200
        )
        for flags in range(16):
            assert plan.overhead >= len(plan.key) + encoded_size(plan.headers(message("a", flags=flags)))

    @pytest.mark.parametrize(
        ("headers", "size"),
        [([], 0), ([("", b"")], 2), ([("ab", b"c")], 5), ([("ü", b"x" * 63)], 67), ([("a", b"x" * 64)], 68)],
    )
    def test_header_sizes_are_those_of_kafkas_record_format(
        self, headers: list[tuple[str, bytes]], size: int
    ) -> None:
        assert encoded_size(headers) == size


class TestValue:
    def test_the_value_is_the_payload_itself(self) -> None:
        sent = message("a", b"\x00\xff")
        plan = Router([route("a", "a")]).plan(b"a")
        assert plan.raw
        assert plan.value(sent) is sent.payload

    def test_an_envelope_holds_the_message_as_one_json_object(self) -> None:
        sent = message("a/ü", b'{"t": 21.50}', DUP | QOS1)
        sent.timestamp = 1795369709000
        plan = Router([route("a", "a/+", envelope="json")]).plan(sent.topic)
        assert not plan.raw
        assert json.loads(plan.value(sent)) == {
            "topic": "a/ü",
            "qos": 1,
            "retained": False,
            "duplicate": True,
            "timestamp": 1795369709000,
            "properties": {},
            "payload": '{"t": 21.50}',
        }

    def test_an_envelope_without_a_trusted_clock_has_no_timestamp(self) -> None:
        sent = message("a")
        sent.timestamp = -1
        assert (
            json.loads(Router([route("a", "a", envelope="json")]).plan(b"a").value(sent))["timestamp"] is None
        )

    def test_an_envelope_holds_a_binary_payload_as_base64(self) -> None:
        value = json.loads(
            Router([route("a", "a", envelope="json")]).plan(b"a").value(message("a", b"\xff\x00"))
        )
        assert value["payload_base64"] == "/wA="
        assert "payload" not in value

    def test_an_envelope_holds_the_properties_that_came(self) -> None:
        properties = Properties(
            payload_format=1,
            message_expiry=60,
            content_type="t",
            response_topic="r",
            correlation_data=b"\xff",
            user=(("a", "1"), ("a", "2")),
            subscription_ids=(5,),
        )
        value = (
            Router([route("a", "a", envelope="json")]).plan(b"a").value(message("a", properties=properties))
        )
        assert json.loads(value)["properties"] == {
            "payload_format": 1,
            "message_expiry": 60,
            "content_type": "t",
            "response_topic": "r",
            "correlation_data_base64": "/w==",
            "user": [["a", "1"], ["a", "2"]],
        }


class TestSubscriptions:
    def test_what_a_wider_filter_brings_is_not_subscribed_again(self) -> None:
        assert subscribed(route("a", "a/b"), route("b", "b"), route("c", "a/#")) == ["b", "a/#"]

    def test_the_wider_filter_has_the_highest_qos_of_what_it_covers(self) -> None:
        (only,) = Router([route("a", "a/b", qos=2), route("c", "a/#", qos=0)]).subscriptions
        assert (only.filter, only.qos) == ("a/#", 2)

    def test_a_drop_route_subscribes_nothing(self) -> None:
        assert subscribed(drop("d", "a/+/c"), route("a", "a/b/#")) == ["a/b/#"]

    def test_a_share_is_subscribed_with_its_group_and_plain_levels(self) -> None:
        assert subscribed(route("a", "$share/g/a/{b}")) == ["$share/g/a/+"]

    def test_a_filter_covers_nothing_of_another_group(self) -> None:
        assert subscribed(route("a", "$share/g/a/b"), route("b", "a/#")) == ["$share/g/a/b", "a/#"]

    def test_no_identifiers_where_nothing_overlaps(self) -> None:
        router = Router([route("a", "a/+"), route("b", "b/+")])
        assert [s.identifier for s in router.subscriptions] == [None, None]
        assert router.needs_mqtt5 is None

    def test_filters_that_overlap_get_identifiers_and_the_routes_are_named(self) -> None:
        router = Router([route("apart", "x"), route("left", "a/+"), route("right", "+/b")])
        apart, left, right = (s.identifier for s in router.subscriptions)
        assert apart is None
        assert left is not None
        assert right is not None
        assert left != right
        assert 1 <= min(left, right) <= max(left, right) <= MAX_IDENTIFIER
        assert router.needs_mqtt5 == ("left", "right")

    def test_identifiers_are_the_same_at_every_start(self) -> None:
        routes = [route("left", "a/+"), route("right", "+/b")]
        assert Router(routes).subscriptions == Router(routes).subscriptions

    def test_a_refused_filter_is_replaced_by_what_it_covered(self) -> None:
        routes = (route("a", "a/b"), route("b", "b"), route("all", "#"))
        assert subscribed(*routes) == ["#"]
        assert subscribed(*routes, refused={"#"}) == ["a/b", "b"]

    def test_without_shares_the_rest_is_subscribed_plainly(self) -> None:
        assert subscribed(route("a", "$share/g/a/b"), route("b", "a/#"), shared=False) == ["a/#"]


class TestCopies:
    """Brokers that send one copy for each subscription: the bridge produces exactly one."""

    @staticmethod
    def taken(router: Router, topic: str) -> list[str]:
        plan = router.plan(topic.encode())
        return [
            s.filter
            for s in router.subscriptions
            if plan.takes(message(topic, properties=Properties(subscription_ids=(s.identifier or 0,))))
        ]

    def test_the_copy_of_the_first_matching_route_is_taken(self) -> None:
        router = Router([route("left", "a/+"), route("right", "+/b")])
        assert self.taken(router, "a/b") == ["a/+"] == [router.plan(b"a/b").subscription]

    def test_the_copy_of_the_filter_that_covers_the_route_is_taken(self) -> None:
        router = Router([route("one", "a/+"), route("right", "+/b"), route("wide", "a/#")])
        assert [s.filter for s in router.subscriptions] == ["+/b", "a/#"]
        assert router.plan(b"a/b").route == "one"
        assert self.taken(router, "a/b") == ["a/#"]

    def test_the_copy_of_the_routes_own_share_is_taken(self) -> None:
        # Each member of a group gets the plain copy: producing that would duplicate the message per member.
        router = Router(
            [route("shared", "$share/g/a/+"), route("plain", "+/b/#"), route("wide", "$share/g/a/#")]
        )
        assert [s.filter for s in router.subscriptions] == ["+/b/#", "$share/g/a/#"]
        assert self.taken(router, "a/b") == ["$share/g/a/#"]

    def test_a_shared_and_a_plain_filter_that_overlap_deliver_one_message(self) -> None:
        router = Router([route("shared", "$share/g/a/b"), route("plain", "a/#")])
        assert router.needs_mqtt5 == ("shared", "plain")
        assert self.taken(router, "a/b") == ["$share/g/a/b"]

    def test_one_copy_for_all_subscriptions_is_taken(self) -> None:
        router = Router([route("left", "a/+"), route("right", "+/b")])
        both = Properties(subscription_ids=tuple(s.identifier for s in router.subscriptions if s.identifier))
        assert router.plan(b"a/b").takes(message("a/b", properties=both))

    @pytest.mark.parametrize("properties", [None, Properties(), Properties(subscription_ids=(12345,))])
    def test_a_copy_of_unknown_origin_is_taken(self, properties: Properties | None) -> None:
        plan = Router([route("left", "a/+"), route("right", "+/b")]).plan(b"a/b")
        assert plan.takes(message("a/b", properties=properties))

    @pytest.mark.parametrize("old", [["right", "left"], ["left"]])
    def test_a_copy_that_was_queued_under_other_routes_is_taken(self, old: list[str]) -> None:
        filters = {"left": "a/+", "right": "+/b", "more": "a/b/#"}
        before = Router([*(route(name, filters[name]) for name in old), route("more", "a/b/#")])
        plan = Router([route(name, pattern) for name, pattern in filters.items()]).plan(b"a/b")
        for subscription in before.subscriptions:
            queued = Properties(subscription_ids=(subscription.identifier or 0,))
            assert plan.takes(message("a/b", properties=queued))

    def test_no_copy_is_expected_of_a_refused_filter(self) -> None:
        routes = [route("left", "a/+"), route("right", "+/b")]
        router = Router(routes, refused={"a/+"})
        plan = router.plan(b"a/b")
        assert (plan.route, plan.subscription) == ("left", "+/b")
        for identifier in [None, *(s.identifier for s in Router(routes).subscriptions)]:
            ids = () if identifier is None else (identifier,)
            assert plan.takes(message("a/b", properties=Properties(subscription_ids=ids)))

    def test_what_is_refused_later_makes_the_router_that_a_start_with_it_would_make(self) -> None:
        routes = [
            route("left", "a/+"),
            route("right", "+/b"),
            route("more", "c/+", qos=2),
            route("wide", "c/#"),
        ]
        bare = Router(routes)
        for refused in ({"c/#"}, {"a/+"}, {"a/+", "c/#"}):
            later, at_start = bare.without(refused), Router(routes, refused=refused)
            assert later.subscriptions == at_start.subscriptions
            assert later.needs_mqtt5 == at_start.needs_mqtt5
            assert later.without(refused) is later
            assert later.without(()) is bare


class TestRefusedAtStart:
    def test_a_route_that_never_gets_a_message(self) -> None:
        assert problems(route("wide", "a/#"), route("late", "a/{b}")) == (
            'route "late": filter = "a/{b}": gets nothing, because route "wide" before it takes all its '
            "messages; move this route up or remove it",
        )

    def test_all_problems_are_told_at_once(self) -> None:
        assert (
            len(problems(route("a", "a/#/b"), route("b", "b", "no/slash"), route("c", "c", key="{x}"))) == 3
        )

    def test_nothing_that_produces(self) -> None:
        assert "none of them produces" in problems(drop("d", "#"))[0]

    @pytest.mark.parametrize(
        ("wrong", "line"),
        [
            (lambda: route("r", "a/#/b"), "filter = \"a/#/b\": '#' is allowed only at the end"),
            (lambda: route("r", "a/{b-c}"), "a name is made of letters a-z, digits and _"),
            (lambda: route("r", "a/{b#}/c"), "'#' is allowed only at the end"),
            (lambda: route("r", "{a}/{a}"), "{a} occurs twice"),
            (lambda: route("r", "{topic}/x"), "{topic} is the whole MQTT topic already"),
            (lambda: route("r", "$share/g"), "$share/<group>/<filter>"),
            (lambda: drop("r", "$share/g/a"), 'action = "drop" subscribes nothing; write "a"'),
            (lambda: route("r", "{a}/x", "iot.{b}"), 'topic = "iot.{b}": unknown {b}; known: {a}, {topic}'),
            (lambda: route("r", "x", "iot.{"), "a brace has no partner"),
            (lambda: route("r", "x", "iot.{}"), "only a {name} is allowed in braces"),
            (lambda: route("r", "{a}", "iot.{a:>9}"), "only a {name} is allowed in braces"),
            (lambda: route("r", "x", "iot/x"), "Kafka does not allow '/'"),
            (lambda: route("r", "{a}", "iot/{a}"), "Kafka does not allow '/'"),
            (lambda: route("r", "x", ".."), "Kafka does not allow '..'"),
            (lambda: route("r", "x", "__consumer_offsets"), "Kafka uses this name itself"),
            (lambda: route("r", "x", key="{y}"), 'key = "{y}": unknown {y}; known: {topic}'),
            (lambda: route("r", "x", key=""), "leave it out to get the MQTT topic as the key"),
            (lambda: route("r", "x", headers=["a={y}"]), "unknown {y}"),
            (lambda: route("r", "x", headers=["a\ud800=y"]), r'headers = "a\ud800=y": it is not valid UTF-8'),
            (lambda: route("r", "x", key="\udc80"), r'key = "\udc80": it is not valid UTF-8'),
            (lambda: route("r", "x", headers=["mqtt.qos", "mqtt.qos=1"]), "mqtt.qos is listed twice"),
        ],
    )
    def test_a_setting_that_would_not_work_is_told_with_the_way_out(
        self, wrong: Callable[[], RouteSettings], line: str
    ) -> None:
        (told,) = problems(wrong())
        assert told.startswith('route "r": ')
        assert line in told


# -- what a device may not choose --------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["{x}", "_{x}"])
def test_no_placeholder_makes_a_topic_of_kafkas_own(template: str) -> None:
    router = Router([route("any", "{x}/#", template)])
    with pytest.raises(Unroutable, match="begins with __"):
        router.plan(b"__amazon_msk_canary/a")
    assert router.plan(b"kitchen/a").kafka_topic == template.format(x="kitchen")


def test_who_writes_it_out_may_have_it() -> None:
    assert Router([route("any", "{x}/#", "__own.{x}")]).plan(b"a/b").kafka_topic == "__own.a"


def test_a_nul_does_not_cut_a_header_short() -> None:
    plan = Router([route("any", "#")]).plan(b"a")
    found = plan.headers(message("a", properties=Properties(user=(("a\0b", "v"), ("c", "w")))))
    assert found[:2] == [("a\N{REPLACEMENT CHARACTER}b", b"v"), ("c", b"w")]


def test_a_nul_in_the_name_of_an_own_header_is_refused() -> None:
    assert "NUL" in problems(route("any", "#", headers=["a\0b={topic}"]))[0]


# -- a name takes a part of a level ------------------------------------------------------------------------

TTN = "v3/{app}@{tenant}/devices/{device}/up"


def test_a_name_takes_a_part_of_a_level_as_the_things_network_has_it() -> None:
    router = Router([route("ttn", TTN, "ttn.{tenant}", key="{app}/{device}"), route("rest", "v3/#", "rest")])
    plan = router.plan(b"v3/my-app@ttn/devices/d1/up")
    assert (plan.route, plan.kafka_topic, plan.key) == ("ttn", "ttn.ttn", b"my-app/d1")
    assert [each.filter for each in router.subscriptions] == ["v3/#"]


def test_a_part_of_a_level_is_subscribed_as_plus_and_what_does_not_fit_goes_to_the_next_route() -> None:
    assert subscribed(route("ttn", TTN)) == ["v3/+/devices/+/up"]
    router = Router([route("ttn", TTN), route("rest", "v3/{x}/devices/{y}/up", "rest")])
    assert router.plan(b"v3/plain/devices/d1/up").route == "rest"
    assert router.plan(b"v3/@ttn/devices/d1/up").route == "rest"  # a name takes at least one character


def test_what_fits_no_route_is_unroutable() -> None:
    with pytest.raises(Unroutable, match="no route has a filter that matches"):
        Router([route("ttn", TTN)]).plan(b"v3/plain/devices/d1/up")


@pytest.mark.parametrize(
    ("first", "second", "gets_nothing"),
    [
        ("a/{x}@{y}", "a/{z}", False),
        ("a/{x}@{y}", "a/{p}@{q}", True),
        ("a/{x}@{y}", "a/p@q", True),
        ("a/{x}@{y}", "a/pq", False),
        ("a/{x}@{y}", "a/{x}-{y}", False),
        ("a/{z}", "a/{x}@{y}", True),
    ],
)
def test_a_route_that_gets_nothing_is_found_with_parts_of_levels_too(
    first: str, second: str, gets_nothing: bool
) -> None:
    routes = [route("first", first), route("second", second)]
    if gets_nothing:
        assert "gets nothing" in problems(*routes)[0]
    else:
        Router(routes)


@pytest.mark.parametrize(
    ("filter_", "why"),
    [
        ("a/{x}{y}", "two names need text between them"),
        ("a/b-{x#}", "stands for '#', which takes whole levels"),
        ("a/+{x}", "'+' and '#' take a whole level"),
        ("a/{x}@{x}", "{x} occurs twice"),
        ("a/{x}@{topic}", "{topic} is the whole MQTT topic already"),
        ("$x{y}/b", "matches no topic that begins with '$'"),
        ("a/b{", "a brace has no partner"),
    ],
)
def test_what_no_level_can_be_split_into(filter_: str, why: str) -> None:
    (said,) = problems(route("r", filter_))
    assert why in said


# -- names of Kafka's own ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "mqtt"), [("{x}", "a/__consumer_lag"), ("_{x}", "a/_schemas"), ("{x}", "a/__x")]
)
def test_a_placeholder_never_makes_a_name_of_kafka_s_own(topic: str, mqtt: str) -> None:
    with pytest.raises(Unroutable, match="begins with __"):
        Router([route("r", "a/{x}", topic)]).plan(mqtt.encode())


def test_text_of_a_route_may_begin_with_two_underscores() -> None:
    assert Router([route("r", "a/{x}", "__own.{x}")]).plan(b"a/b").kafka_topic == "__own.b"


# -- an empty payload --------------------------------------------------------------------------------------


@pytest.mark.parametrize("envelope", ["none", "json"])
def test_an_empty_payload_is_kafka_s_null_where_the_route_makes_tombstones(envelope: str) -> None:
    plan = Router([route("r", "a/{x}", empty="tombstone", envelope=envelope)]).plan(b"a/b")
    assert not plan.raw
    assert plan.value(message("a/b", b"")) is None
    assert plan.value(message("a/b", b"1")) is not None


def test_an_empty_payload_is_an_empty_value_unless_the_route_says_otherwise() -> None:
    plan = Router([route("r", "a/{x}")]).plan(b"a/b")
    assert plan.raw
    assert plan.value(message("a/b", b"")) == b""


def test_only_an_empty_payload_is_skipped() -> None:
    plan = Router([route("r", "a/{x}", empty="skip")]).plan(b"a/b")
    assert plan.skips(message("a/b", b""))
    assert not plan.skips(message("a/b", b"0"))


def test_a_null_character_in_a_user_property_s_name_is_replaced() -> None:
    plan = Router([route("r", "a/{x}", headers=["user-properties"])]).plan(b"a/b")
    properties = Properties(user=(("si\0te", "a\0b"),))
    assert plan.headers(message("a/b", properties=properties)) == [("si\ufffdte", b"a\0b")]


def test_a_kafka_topic_that_is_remembered_is_that_of_its_own_route_and_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.routing.plan._KAFKA_TOPICS", 3)
    router = Router(
        [
            RouteSettings(name="one", filter="a/{x}/{y}/{z}", topic="one.{y}.{x}", key="{z}"),
            RouteSettings(name="two", filter="b/{x}/{y}", topic="two.{x}.{y}"),
        ]
    )
    for _ in range(2):
        for x, y in [("1", "2"), ("2", "1"), ("12", ""), ("", "12"), ("a b", "c"), ("a.b", "c")]:
            first = router.plan(f"a/{x}/{y}/key".encode())
            assert first.kafka_topic == f"one.{y}.{x}".replace(" ", "-")
            assert first.key == b"key"
            second = router.plan(f"b/{x}/{y}".encode())
            assert second.kafka_topic == f"two.{x}.{y}".replace(" ", "-")
    assert len(router._kafka_topics) <= 3
