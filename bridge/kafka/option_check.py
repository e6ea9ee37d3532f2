"""What librdkafka says to [kafka.options]: clients are built as the service builds them, without any address.

So a wrong option is found by `bridge config` and before the service starts, and not by the service. Files
and passwords are left out: a service that lacks one starts, and waits for it.
"""

import re
from collections.abc import Iterator
from logging import getLogger
from typing import Any

from confluent_kafka import KafkaException, Producer

from bridge.kafka import dead_letter_topic
from bridge.kafka.options import BATCH_SIZE, producer_options_of
from bridge.settings import KafkaSettings

_NUMBER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|\d+)")
# The only setting of a producer that is a number and need not be whole, by both of its names.
_FRACTIONS = ("linger.ms", "queue.buffering.max.ms")
_NAMED = re.compile(r'property:? "([^"]+)"')
_FILES = re.compile(r"ssl\..*(location|pem|password)|ssl\.engine\..*|.*\.(private\.key|assertion)\..*")


def wrong_options(settings: KafkaSettings, dead_letters: bool) -> Iterator[tuple[str, str]]:
    """Yield the name of each option that is wrong, and why. Empty: librdkafka does not tell which it is.

    `dead_letters`: they are produced to a topic too.
    """
    given = settings.client_options()
    found = {name: why for name, value in given.items() if (why := _no_number(name, str(value)))}
    yield from found.items()
    left = {name: value for name, value in given.items() if name not in found and not _FILES.fullmatch(name)}
    if settings.sasl_username:
        left["sasl.password"] = "left out"
    clients: list[dict[str, Any]] = [{}, dead_letter_topic.OPTIONS] if dead_letters else [{}]
    said: set[str] = set()
    for own in clients:
        while why := _refusal(left, own):
            name = _culprit(left, own, why)
            if name not in said:
                said.add(name)
                yield name, f"librdkafka refuses it: {_in_the_users_words(why, name)}"
            left = _without(name, left)
            if not name:
                break


def _culprit(options: dict[str, Any], own: dict[str, Any], why: str) -> str:
    """Without it librdkafka says something else, or nothing. Those that its text names come first."""
    likely = sorted(options, key=lambda name: name not in why)
    return next((name for name in likely if _refusal(_without(name, options), own) != why), "")


def _without(name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {each: value for each, value in options.items() if each != name}


def _refusal(options: dict[str, Any], own: dict[str, Any]) -> str:
    """What librdkafka says; empty: it takes them."""
    quiet = {"log_level": 0, "logger": getLogger("librdkafka.options")}  # nobody polls it: it stays silent
    try:
        client = Producer({**quiet, **producer_options_of(options, BATCH_SIZE), **own})
    except KafkaException as error:
        return str(error.args[0].str()).strip()
    client.close()
    return ""


def _no_number(name: str, text: str) -> str:
    """librdkafka takes "64KB" for 64."""
    if not text[:1].isdigit() or _NUMBER.fullmatch(text):
        return ""
    try:
        Producer({name: "x", "log_level": 0}).close()
    except KafkaException as error:
        if str(error.args[0].str()).startswith("Invalid value for") and not _is_fraction(name, text):
            return "must be a whole number, without a unit"
    return ""


def _is_fraction(name: str, text: str) -> bool:
    return name in _FRACTIONS and re.fullmatch(r"\d+\.\d*", text) is not None


def _in_the_users_words(why: str, name: str) -> str:
    """librdkafka names a setting by another one of its names."""
    why = why.removeprefix("Failed to create producer: ")
    return _NAMED.sub(f'property "{name}"', why) if name else why
