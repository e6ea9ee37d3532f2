"""What librdkafka says to [kafka.options]: clients are built as the service builds them, without any address.

So a wrong option is found by `bridge config` and before the service starts, and not by the service. A file
that can't be used is no wrong option: a service that lacks one starts, and waits for it.
"""

import re
from collections.abc import Callable, Iterator
from logging import getLogger
from string import ascii_lowercase
from typing import Any

from confluent_kafka import KafkaException, Producer

from bridge.kafka import dead_letter_topic, error_verdicts
from bridge.kafka.options import BATCH_SIZE, producer_options_of
from bridge.settings import KafkaSettings
from bridge.settings.section import nearest

_NUMBER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|\d+)")
# The only setting of a producer that is a number and need not be whole, by both of its names.
_FRACTIONS = ("linger.ms", "queue.buffering.max.ms")
_NAMED = re.compile(r'property:? "([^"]+)"')
_UNKNOWN = "No such configuration property"
_INVALID = "Invalid value"

# librdkafka tells the range of a number, but not which words a setting allows. A test asks librdkafka whether
# it takes each of these. (docs: librdkafka's CONFIGURATION.md)
_COMPRESSION = ("none", "gzip", "snappy", "lz4", "zstd")
WORDS: dict[str, tuple[str, ...]] = {
    "security.protocol": ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    "compression.type": _COMPRESSION,
    "compression.codec": _COMPRESSION,
    "partitioner": ("random", "consistent", "consistent_random", "murmur2", "murmur2_random", "fnv1a",
                    "fnv1a_random"),
    "broker.address.family": ("any", "v4", "v6"),
    "client.dns.lookup": ("use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"),
    "metadata.recovery.strategy": ("none", "rebootstrap"),
    "ssl.endpoint.identification.algorithm": ("none", "https"),
    "sasl.oauthbearer.method": ("default", "oidc"),
    "sasl.oauthbearer.grant.type": ("client_credentials", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
    "sasl.oauthbearer.assertion.algorithm": ("RS256", "ES256"),
}  # fmt: skip


def wrong_options(settings: KafkaSettings, dead_letters: bool) -> Iterator[tuple[str, str]]:
    """Yield the name of each option that is wrong, and why. Empty: librdkafka does not tell which it is.

    `dead_letters`: they are produced to a topic too.
    """
    given = settings.client_options()
    found = {name: why for name, value in given.items() if (why := _no_number(name, str(value)))}
    yield from found.items()
    left = {name: value for name, value in given.items() if name not in found}
    if settings.sasl_username:
        left.setdefault("sasl.password", "left out")
    clients: list[dict[str, Any]] = [{}, dead_letter_topic.OPTIONS] if dead_letters else [{}]
    said: set[str] = set()
    for own in clients:
        while why := _refusal(left, own):
            if (name := error_verdicts.unusable_file(why)) and name in left:
                left = _without(name, left)
                continue
            name = _culprit(left, own, why)
            if name not in said:
                said.add(name)
                yield name, f"librdkafka refuses it: {_in_the_users_words(why, name)}{_way_out(why, name)}"
            left = _without(name, left)
            if not name:
                break


def _way_out(why: str, name: str) -> str:
    if why.startswith(_UNKNOWN):
        return f"; did you mean {meant}?" if (meant := _meant_by(name)) else ""
    if why.startswith(_INVALID) and (words := WORDS.get(name)):
        *others, last = [f'"{word}"' for word in words]
        return f"; must be {', '.join(others)} or {last}"
    return ""


def _meant_by(name: str) -> str:
    """A name that librdkafka knows, and that differs by one character. It has no list to read: ask it."""
    letters = f"{ascii_lowercase}."
    parts = [(name[:cut], name[cut:]) for cut in range(len(name) + 1)]
    close = [before + after[1:] for before, after in parts if after]
    close += [before + after[1] + after[0] + after[2:] for before, after in parts if len(after) > 1]
    close += [before + letter + after[1:] for before, after in parts if after for letter in letters]
    close += [before + letter + after for before, after in parts for letter in letters]
    known: Callable[[str], bool] = lambda other: other != name and _is_known(other)  # noqa: E731
    return nearest(name, [other for other in dict.fromkeys(close) if known(other)]) or ""


def _is_known(name: str) -> bool:
    """librdkafka takes options in their order, and builds no client where it does not know one of them."""
    try:
        Producer({name: "", "log_level": 0, "no such": ""})
    except KafkaException as error:
        return not str(error.args[0].str()).startswith(f'{_UNKNOWN}: "{name}"')
    return False


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
