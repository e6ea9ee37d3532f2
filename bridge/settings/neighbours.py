"""[haproxy] and [emqx]: where the bridge asks its neighbours what one machine can't see."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from bridge.settings.host import why_bad_host
from bridge.settings.mqtt import BALANCERS_PORTS
from bridge.settings.section import Allowed, Section, Wrong

_URL = "an address that begins with http:// or https://"
_AUTO = "auto"
_STATS = f'"{_AUTO}", "" or {_URL}'


def _url(value: str, allowed: str = _URL) -> str:
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Wrong(((), f"must be {allowed}, with a port of 0 to 65535")) from None
    if parts.scheme not in ("http", "https") or not host:
        raise Wrong(((), f"must be {allowed}"))
    if "@" in parts.netloc:
        raise Wrong(((), "holds a user or a password, which every log would show; use the other settings"))
    if port == 0:
        raise Wrong(((), f"must be {allowed}, with a port above 0"))
    if parts.fragment or not value.isascii() or any(character.isspace() for character in value):
        raise Wrong(((), f"must be {allowed}, in ASCII, without spaces and without #"))
    if why := why_bad_host(host):
        raise Wrong(((), f"must be {allowed}; its host {why}"))
    return value


def _stats(value: str) -> str:
    return value if value in ("", _AUTO) else _url(value, _STATS)


class HaproxySettings(Section):
    stats: Annotated[str, AfterValidator(_stats), Allowed(_STATS)] = Field(
        default=_AUTO,
        description="Where HAProxy tells the state of each EMQ node: its Prometheus endpoint, or its console"
        ' as CSV (http://HOST:8081/haproxy?stats;csv). With "auto" the bridge asks port 8081 of mqtt.host,'
        " as in the shipped haproxy.cfg, if mqtt.port is 1884 or 8884. With an empty text it asks nobody.",
    )
    backend: str = Field(
        default="mqtt-kafka",
        min_length=1,
        description="The section of haproxy.cfg whose servers are the EMQ nodes.",
    )
    username: str | None = Field(
        default=None, min_length=1, description="User of the console. The Prometheus endpoint needs none."
    )
    password_file: Path | None = Field(
        default=None,
        description="File with the console's password. The bridge reads the file each time it asks.",
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.password_file and self.username is None:
            yield "password_file", "does nothing without username"
        if self.username and not self.password_file:
            yield "username", "does nothing without password_file"
        if self.username and self.stats in ("", _AUTO):
            yield "username", "does nothing without the address of the console in stats"

    def address(self, mqtt_host: str, mqtt_port: int) -> str:
        """The URL to ask; empty: none."""
        if self.stats != _AUTO:
            return self.stats
        if mqtt_port not in BALANCERS_PORTS:
            return ""
        host = f"[{mqtt_host}]" if ":" in mqtt_host else mqtt_host
        return f"http://{host}:8081/metrics?scope=server"

    @property
    def is_a_guess(self) -> bool:
        """Whether nobody has said that HAProxy answers at `address`."""
        return self.stats == _AUTO


class EmqxSettings(Section):
    api: Annotated[str | None, AfterValidator(lambda value: value and _url(value)), Allowed(_URL)] = Field(
        default=None,
        min_length=1,
        description="EMQX's HTTP API, which tells how many messages wait in the bridge's session: on EMQX 5"
        " http://HOST:18083 of a node, or port 8080 of the balancer; on 4.x http://HOST:8081 of a node.",
    )
    key_file: Path | None = Field(
        default=None,
        description="File with one line: the API key, a colon and the secret key; on EMQX 4.x the AppID, a"
        " colon and the AppSecret. The bridge reads the file each time it asks. Without this setting the"
        " bridge uses $CREDENTIALS_DIRECTORY/emqx-key, if systemd provides that file.",
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.api and not self.key_file:
            yield "key_file", "is missing: EMQX's API answers nobody without a key"
        if self.key_file and not self.api:
            yield "key_file", "does nothing without api"
