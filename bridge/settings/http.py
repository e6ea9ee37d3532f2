"""[http]: where the bridge shows its state: the page, /status.json, /metrics, /livez and /readyz."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from bridge.settings.host import why_bad_host
from bridge.settings.section import Allowed, Section, Wrong

_ADDRESS = 'an address and a port such as 127.0.0.1:9464 or [::1]:9464, or "" for no page'


def address(listen: str) -> tuple[str, int]:
    """Host (IPv6 without brackets) and port of `listen`. Raises Wrong."""
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65535:
        raise Wrong(((), f"must be {_ADDRESS}"))
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise Wrong(((), f"must be {_ADDRESS}: an address of IPv6 needs brackets"))
    host = host.removeprefix("[").removesuffix("]")
    if why := why_bad_host(host):
        raise Wrong(((), f"must be {_ADDRESS}; its host {why}"))
    return host, int(port)


def _listen(value: str) -> str:
    if value:
        address(value)
    return value


def _names(value: list[str]) -> list[str]:
    for name in value:
        if ":" in name or "/" in name:
            raise Wrong(((), f"{name!r} must be a name alone, without http:// and without a port"))
        if not name or (why := why_bad_host(name)):
            raise Wrong(((), f"{name!r} {why if name else 'is empty'}"))
    return value


class HttpSettings(Section):
    listen: Annotated[str, AfterValidator(_listen), Allowed(_ADDRESS)] = Field(
        default="127.0.0.1:9464",
        description="Where the page, /status.json, /metrics, /livez and /readyz are. The default serves this"
        " machine alone; 0.0.0.0:9464 serves the whole network. Several bridges on one machine need a port"
        " each.",
    )
    hosts: Annotated[list[str], AfterValidator(_names), Allowed("a list of names")] = Field(
        default=[],
        description="Further names of this machine that browsers may use. Its addresses, its own name and"
        " localhost always work. Under any other name the bridge answers 403: a foreign page could read the"
        " state through a name that it points here.",
    )
    username: str | None = Field(
        default=None,
        min_length=1,
        description="User that every request must give (HTTP basic authentication). Without it anyone who"
        " reaches the address may read.",
    )
    password_file: Path | None = Field(
        default=None,
        description="File with the password of http.username. The bridge reads the file at each request.",
    )
    cert_file: Path | None = Field(
        default=None,
        description="Certificate to show to browsers, PEM; with it the page is at https:// alone. The bridge"
        " notices that the file was replaced.",
    )
    key_file: Path | None = Field(
        default=None,
        description="Private key of cert_file, PEM. Not needed if cert_file contains the key too.",
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.username and not self.password_file:
            yield "username", "does nothing without password_file"
        if self.password_file and not self.username:
            yield "password_file", "does nothing without username"
        if self.username and ":" in self.username:
            yield "username", "holds a colon, which HTTP basic authentication does not allow"
        if self.key_file and not self.cert_file:
            yield "key_file", "does nothing without cert_file"
        if not self.listen:
            for name in ("hosts", "username", "cert_file"):
                if getattr(self, name):
                    yield name, "does nothing without listen"

    def warnings(self) -> Iterator[str]:
        if self.username and not self.cert_file and not _is_loopback(address(self.listen)[0]):
            yield (
                "http.username without http.cert_file: the password crosses the network unencrypted"
                " (set http.cert_file, or listen on 127.0.0.1 behind a TLS proxy)"
            )


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
