"""A host by name or address: what can never resolve is refused before anything connects. Pure."""

import ipaddress
import re

# What follows a colon where somebody wrote an address and its port: 1883 of "::1:1883" is a group of IPv6.
_PORTS = {"1883", "1884", "8080", "8083", "8084", "8883", "8884", "9092", "9093"}


def why_bad_host(host: str) -> str | None:
    """What is wrong with a name or an address (IPv6 without brackets), or None.

    >>> why_bad_host("999.1.1.1")
    'is no address: it takes four numbers from 0 to 255, without zeros before them'
    """
    if host != host.strip():
        return "has a space or a line break around it; leave it out"
    if any(character.isspace() or not character.isprintable() for character in host):
        return "holds a space or a control character, which no name and no address has"
    if ":" in host:
        return _why_bad_ipv6(host)
    if host.rpartition(".")[2].isdigit() and host.isascii():
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            return "is no address: it takes four numbers from 0 to 255, without zeros before them"
        return None
    try:
        host.encode("idna")
    except UnicodeError:
        return "is no name of a host: each part between two dots has 1 to 63 characters"
    return None


def _why_bad_ipv6(host: str) -> str | None:
    address, percent, zone = host.partition("%")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return "is no address of IPv6, and no name holds ':'"
    if percent and not re.fullmatch(r"[A-Za-z0-9._-]+", zone):
        return "has no name of an interface behind the %"
    before, _, last = address.rpartition(":")
    if last in _PORTS and "::" in before:
        try:
            whole = ipaddress.IPv6Address(before)
        except ValueError:
            return None
        exploded = ipaddress.IPv6Address(address).exploded
        instead = f"write {whole}, and the port in its own place"
        return f"ends in what looks like a port; {instead}, or {exploded} if that is the address"
    return None
