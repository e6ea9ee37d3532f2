"""Reads from an haproxy.cfg how long HAProxy lets a connection to a port be silent. Pure.

Source: HAProxy's configuration manual, sections 2.5 (time format), 4 (proxies), "timeout tunnel". A section
takes a value from `from NAME`, or without that from the last `defaults` section before it.
"""

import re
import shlex
from dataclasses import dataclass, field

_PROXIES = ("defaults", "listen", "frontend", "backend")
_SECTIONS = (*_PROXIES, "global", "userlist", "peers", "resolvers", "program", "mailers", "cache", "ring")
_TIME = re.compile(r"(\d+)(us|ms|s|m|h|d)?")
_FACTORS = {"us": 1e-6, "ms": 1e-3, "": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_VARIABLE = re.compile(r"\$\{[A-Za-z0-9_]+-?([^}]*)\}")


@dataclass
class _Proxy:
    kind: str
    name: str
    parent: "_Proxy | None"
    timeouts: dict[str, float] = field(default_factory=dict)
    ports: set[int] = field(default_factory=set)
    backends: list[str] = field(default_factory=list)

    def timeout(self, name: str) -> float | None:
        if name in self.timeouts:
            return self.timeouts[name]
        return self.parent.timeout(name) if self.parent else None


def silence(text: str, port: int) -> dict[str, float | None] | None:
    """Seconds by the name of the timeout, for the proxies that serve `port`. None: no proxy binds it.

    A value is None where the file sets no timeout, which means that HAProxy never ends a silent connection.
    """
    proxies = _parsed(text)
    entry = next((proxy for proxy in proxies if port in proxy.ports), None)
    if entry is None:
        return None
    behind = [proxy for proxy in proxies if proxy.kind == "backend" and proxy.name in entry.backends]
    servers = behind or [entry]
    if tunnels := [seconds for proxy in servers if (seconds := proxy.timeout("tunnel")) is not None]:
        return {"timeout tunnel": min(tunnels)}  # it replaces the other two once both sides are connected
    limits = [seconds for proxy in servers if (seconds := proxy.timeout("server")) is not None]
    return {"timeout client": entry.timeout("client"), "timeout server": min(limits, default=None)}


def _parsed(text: str) -> list[_Proxy]:
    proxies: list[_Proxy] = []
    defaults: dict[str, _Proxy] = {}
    last_defaults: _Proxy | None = None
    now: _Proxy | None = None
    for line in text.splitlines():
        words = _words(line)
        if not words or words[0].startswith("."):
            continue
        if words[0] in _SECTIONS:
            now = None
            if words[0] in _PROXIES:
                name = words[1] if len(words) > 1 and words[1] != "from" else ""
                named = words[words.index("from") + 1] if "from" in words[:-1] else ""
                above = defaults.get(named) if named else None if words[0] == "defaults" else last_defaults
                now = _Proxy(words[0], name, above)
                proxies.append(now)
                if words[0] == "defaults":
                    defaults[name] = last_defaults = now
        elif now and words[0] == "timeout" and len(words) > 2 and (found := _TIME.fullmatch(words[2])):
            now.timeouts[words[1]] = int(found[1]) * _FACTORS[found[2] or ""]
        elif now and words[0] == "bind" and len(words) > 1:
            now.ports |= {int(port) for port in re.findall(r":(\d+)(?=,|$)", words[1])}
        elif now and words[0] in ("default_backend", "use_backend") and len(words) > 1:
            now.backends.append(words[1])
    return proxies


def _words(line: str) -> list[str]:
    line = _VARIABLE.sub(r"\1", line)
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # a quote without its partner
        return line.split()
