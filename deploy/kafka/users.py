"""Creates a user of Kafka's, with a password and with the rights that the bridge needs, for install.sh kafka.

    users.py DIRECTORY HOST NAME     DIRECTORY has the certificate of the node HOST, which may do that

It writes the password, which it makes; nothing if there is a user of this name. Kafka gets a salted hash
of the password. Exit status 1, with one sentence, if Kafka refuses.
"""

import hashlib
import secrets
import struct
import sys
from collections.abc import Callable

import protocol
from protocol import Answer, Certificate, Unreachable

RIGHTS = {
    "READ": 3,
    "WRITE": 4,
    "DESCRIBE": 8,
    "DESCRIBE_CONFIGS": 10,
    "CREATE": 5,
}  # docs/how-to/prepare-kafka.md says why

_DESCRIBE_USERS, _ALTER_USERS, _CREATE_ACLS = (50, 0), (51, 0), (30, 3)  # API key and version
_TOPIC, _LITERAL, _ALLOW = 2, 3, 3
_SCRAM_SHA_512, _ITERATIONS = 2, 8192
_NO_SUCH_USER = 91


class Refused(Exception):
    """Kafka does not do it. The text is Kafka's own."""


def exists(host: str, certificate: Certificate, name: str) -> bool:
    body = _many(_text(name) + b"\0") + b"\0"
    answer = protocol.ask(host, certificate, _DESCRIBE_USERS, body, True)

    def user() -> tuple[int, str]:
        answer.compact_text()
        result = answer.number("h"), answer.compact_text()
        answer.compact_many(lambda: (answer.number("b"), answer.number("i"), answer.skip_tags()))
        answer.skip_tags()
        return result

    answer.number("i")
    whole = answer.number("h"), answer.compact_text()
    codes = [whole] if whole[0] else answer.compact_many(user)
    if any(code == _NO_SUCH_USER for code, _ in codes):
        return False
    _succeeded(codes)
    return True


def create(host: str, certificate: Certificate, name: str, password: str) -> None:
    salt = secrets.token_bytes(32)
    salted = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    user = (
        _text(name) + struct.pack(">bi", _SCRAM_SHA_512, _ITERATIONS) + _bytes(salt) + _bytes(salted) + b"\0"
    )
    answer = protocol.ask(host, certificate, _ALTER_USERS, _many() + _many(user) + b"\0", True)

    def result() -> tuple[int, str]:
        answer.compact_text()
        return _result(answer)

    _succeeded(_results(answer, result))


def allow(host: str, certificate: Certificate, name: str) -> None:
    """Give the user RIGHTS on each topic. Kafka keeps those that it has already."""
    topics = struct.pack(">b", _TOPIC) + _text("*") + struct.pack(">b", _LITERAL)
    whom = _text(f"User:{name}") + _text("*")
    rights = [topics + whom + struct.pack(">bbB", code, _ALLOW, 0) for code in RIGHTS.values()]
    answer = protocol.ask(host, certificate, _CREATE_ACLS, _many(*rights) + b"\0", True)
    _succeeded(_results(answer, lambda: _result(answer)))


def _results(answer: Answer, read: Callable[[], object]) -> list[tuple[int, str]]:
    answer.number("i")
    return answer.compact_many(read)


def _result(answer: Answer) -> tuple[int, str]:
    result = answer.number("h"), answer.compact_text()
    answer.skip_tags()
    return result


def _succeeded(results: list[tuple[int, str]]) -> None:
    for code, said in results:
        if code:
            raise Refused(f"Kafka refuses: {said or f'error {code}'}")


def _many(*items: bytes) -> bytes:
    return bytes([len(items) + 1]) + b"".join(items)


def _text(text: str) -> bytes:
    return _bytes(text.encode())


def _bytes(content: bytes) -> bytes:
    return bytes([len(content) + 1]) + content  # up to 126 bytes: a longer length would take two


def main(directory: str, host: str, name: str) -> int:
    try:
        certificate = protocol.certificate(directory)
        allow(host, certificate, name)
        if not exists(host, certificate, name):
            password = secrets.token_urlsafe(24)
            create(host, certificate, name, password)
            sys.stdout.write(f"{password}\n")
    except (OSError, Refused, Unreachable, struct.error) as error:
        sys.stdout.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
