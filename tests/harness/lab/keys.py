"""The keys of the live view, and what each asks for. Pure."""

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

# What a host's condition leaves to be done. A broker of somebody else that HAProxy calls down may be dead
# or hung: only one of the two can be done, and its own command says which.
_SMALL = {"up": "kill", "hung": "kill", "starts": "kill", "down": "start", "unknown": "kill"}
_CAPITAL = {"up": "hang", "hung": "resume", "starts": "hang", "down": "resume", "unknown": "hang"}


def words(key: str, conditions: Mapping[str, str]) -> list[str] | None:
    """What a second terminal would ask for: ["kill", "emq1"]; None for a key that is no host's."""
    if (host := HOSTS.get(key.lower())) is None:
        return None
    verbs = _SMALL if key.islower() else _CAPITAL
    return [verbs[conditions[host]], host]
