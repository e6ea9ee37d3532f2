"""The keys of the live view, and the request of each. Pure."""

from collections.abc import Mapping

HOSTS = {
    "a": "haproxy",
    "b": "emq1",
    "c": "emq2",
    "d": "bridge",
    "e": "kafka1",
    "f": "kafka2",
    "g": "kafka3",
}
"""In the order of the chain: a small letter kills or starts, a capital hangs or resumes."""

SEND, QUIT = "m", "q"

# The request that a key makes in each condition of its host. A broker of the user that HAProxy calls down may
# be dead or hung: only one of start and resume is right, and the error of the user's command says which.
_SMALL = {"up": "kill", "hung": "kill", "starts": "kill", "down": "start", "unknown": "kill"}
_CAPITAL = {"up": "hang", "hung": "resume", "starts": "hang", "down": "resume", "unknown": "hang"}


def key(verb: str, host: str) -> str:
    """The key that makes this request; "": none does, as for all hosts of a kind."""
    for letter, name in HOSTS.items():
        if name == host:
            return letter if verb in _SMALL.values() else letter.upper()
    return ""


def words(key: str, conditions: Mapping[str, str]) -> list[str] | None:
    """The words of a key's request, such as ["kill", "emq1"]; None for a key of no host."""
    if (host := HOSTS.get(key.lower())) is None:
        return None
    verbs = _SMALL if key.islower() else _CAPITAL
    return [verbs[conditions[host]], host]
