"""Asks the network about the address that two HAProxy machines share, for install.sh haproxy. Needs root.

    address.py find VIP NODE,NODE [kept]
        May the two machines share it? Writes the interface, the own address of this machine and of the other,
        and "there" or "away" for the other. kept: keepalived may have given this machine the shared address.
    address.py holder VIP INTERFACE OTHER
        Who has it: here, other, both, nobody, or the MAC address of a third machine.
    address.py serves OTHER
        Does HAProxy answer on the other machine? By the exit status.

What is wrong is one sentence. Exit status: 0 yes, 1 no, 2 the command line is wrong.
"""

import ipaddress
import json
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface

YES, NO, MISUSE = 0, 1, 2

PATIENCE = 1.3  # seconds for answers by ARP, and for two VRRP messages of the other machine
AGAIN = 0.4  # seconds until the question is repeated
CONSOLE = 8081
_ARP, _VRRP = 0x0806, 112  # EtherType, IP protocol
_ARP_PACKET = struct.Struct("!HHBBH6s4s6s4s")


class Wrong(Exception):
    """A sentence for the person who called install.sh."""

    status = NO


class Misuse(Wrong):
    status = MISUSE


@dataclass(frozen=True)
class Interface:
    name: str
    kind: str  # "ether", "loopback", ...
    addresses: tuple[IPv4Interface, ...]


@dataclass
class Heard:
    """What the network answered."""

    owners: dict[IPv4Address, set[str]] = field(default_factory=dict)  # address -> MAC addresses
    shared: set[IPv4Address] | None = None  # what the other machine shares by VRRP; None: it sends no VRRP


def find(vip: str, nodes: str, kept: str = "") -> int:
    shared = _address("--vip", vip)
    listed = [_address("--nodes", each) for each in nodes.split(",") if each]
    if len(listed) != 2:
        raise Misuse(
            f"--nodes {nodes}: --vip takes two HAProxy machines, and each has an address of its own:"
            " --nodes ADDRESS,ADDRESS"
        )
    if listed[0] == listed[1]:
        raise Misuse(f"--nodes names {listed[0]} twice")
    if shared in listed:
        raise Misuse(
            f"--vip {shared} is in --nodes too: each machine keeps an address of its own, and shares another"
        )
    interface, own = _place(shared, listed, bool(kept))
    (other,) = (each for each in listed if each != own.ip)
    for option, each in (("--vip", shared), ("--nodes", other)):
        if each not in own.network:
            raise Wrong(
                f"{option} {each} is not in {own.network}, the network of {own.ip} on {interface}:"
                " an address moves only between machines of its own network"
            )
        if each in (own.network.network_address, own.network.broadcast_address):
            raise Wrong(f"{option} {each} is the address of a whole network: take one of a machine")
    heard = ask(interface, [shared, other], other)
    _may_share(shared, other, heard)
    _say(f"{interface} {own.ip} {other} {'there' if other in heard.owners else 'away'}")
    return YES


def _address(option: str, text: str) -> IPv4Address:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise Misuse(f"{option} {text}: must be an address, such as 172.30.1.10, not a name") from None
    if not isinstance(found, IPv4Address):
        raise Misuse(
            f"{option} {text}: install.sh sets keepalived up for IPv4 alone: give an IPv4 address"
            " (HAProxy itself serves IPv6 too, without --vip)"
        )
    return found


def _place(shared: IPv4Address, nodes: Sequence[IPv4Address], kept: bool) -> tuple[str, IPv4Interface]:
    """The interface of this machine and its own address there."""
    interfaces = _interfaces()
    if not kept and any(shared == each.ip for interface in interfaces for each in interface.addresses):
        raise Wrong(
            f"{shared} is this machine's own address: give it the one that --nodes names for it, and leave"
            f" {shared} to keepalived"
        )
    found = [
        (interface, each) for interface in interfaces for each in interface.addresses if each.ip in nodes
    ]
    if not found:
        own = [
            str(each.ip)
            for interface in interfaces
            for each in interface.addresses
            if not each.ip.is_loopback
        ]
        raise Wrong(
            f"none of --nodes {','.join(map(str, nodes))} is this machine, which has"
            f" {' '.join(own) or 'no address'}: correct them"
        )
    if len(found) > 1:
        raise Wrong(
            f"both of --nodes {','.join(map(str, nodes))} are this machine: name the other"
            " machine's own address"
        )
    ((interface, own_address),) = found
    if interface.kind != "ether":
        raise Wrong(
            f"{interface.name} is no Ethernet and no Wi-Fi, and has no ARP, by which the address moves: name"
            " the addresses of another interface by --nodes"
        )
    return interface.name, own_address


def _may_share(shared: IPv4Address, other: IPv4Address, heard: Heard) -> None:
    owners, others = heard.owners.get(shared, set()), heard.owners.get(other, set())
    if third := sorted(owners - others):
        raise Wrong(
            f"--vip {shared} is taken: the machine with the MAC address {third[0]} has it, and is not"
            f" {other}: give that machine another address, or take another one here"
        )
    if heard.shared is not None and shared not in heard.shared:
        raise Wrong(
            f"{other} shares {', '.join(map(str, sorted(heard.shared)))}, and this machine would share"
            f" {shared}: give the same --vip on both; to change it, first on {other}:"
            " sudo systemctl stop keepalived"
        )
    if owners and heard.shared is None:
        raise Wrong(
            f"{other} has {shared}, and sends no VRRP: if it is the own address of that machine, give"
            " the machine another one; else let VRRP (IP protocol 112) through the firewalls of both"
        )


def holder(vip: str, interface: str, other: str) -> int:
    shared, another = IPv4Address(vip), IPv4Address(other)
    here = any(shared == each.ip for found in _interfaces() for each in found.addresses)
    heard = ask(interface, [shared, another])
    owners, others = heard.owners.get(shared, set()), heard.owners.get(another, set())
    third = sorted(owners - others)
    if third:
        _say(third[0])
    elif here:
        _say("both" if owners else "here")
    else:
        _say("other" if owners else "nobody")
    return YES


def serves(other: str) -> int:
    try:
        with socket.create_connection((other, CONSOLE), timeout=2.0) as client:
            client.settimeout(2.0)
            client.sendall(b"GET /haproxy?stats HTTP/1.0\r\n\r\n")
            return YES if client.recv(5) == b"HTTP/" else NO
    except OSError:
        return NO


def ask(interface: str, wanted: Sequence[IPv4Address], other: IPv4Address | None = None) -> Heard:
    """Ask by ARP who has the wanted addresses, without an address of one's own (RFC 5227: no table changes).

    Meanwhile listen to the VRRP messages of the other machine. Returns as soon as nothing more can come.
    """
    heard = Heard()
    arp = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP))
    vrrp = socket.socket(socket.AF_INET, socket.SOCK_RAW, _VRRP)
    with closing(arp), closing(vrrp):
        arp.bind((interface, _ARP))
        own = arp.getsockname()[4]
        ends, due = time.monotonic() + PATIENCE, 0.0
        while (now := time.monotonic()) < ends:
            if now >= due:
                due = now + AGAIN
                for address in wanted:
                    arp.send(_question(own, address))
            ready, _, _ = select.select([arp, vrrp], [], [], max(0.0, min(ends, due) - now))
            if arp in ready:
                _note_arp(arp.recv(2048), own, wanted, heard)
            if vrrp in ready:
                packet, (source, _) = vrrp.recvfrom(2048)
                if other is not None and source == str(other):
                    _note_vrrp(packet, heard)
            if other is None and heard.owners.keys() >= set(wanted):
                break
    return heard


def _question(own: bytes, address: IPv4Address) -> bytes:
    header = b"\xff" * 6 + own + _ARP.to_bytes(2, "big")
    return header + _ARP_PACKET.pack(1, 0x0800, 6, 4, 1, own, bytes(4), bytes(6), address.packed)


def _note_arp(frame: bytes, own: bytes, wanted: Sequence[IPv4Address], heard: Heard) -> None:
    """Questions tell the sender's address too."""
    if len(frame) < 14 + _ARP_PACKET.size:
        return
    _, kind, _, _, _, mac, source, _, _ = _ARP_PACKET.unpack_from(frame, 14)
    address = IPv4Address(source)
    if kind == 0x0800 and mac != own and address in wanted:
        heard.owners.setdefault(address, set()).add(mac.hex(":"))


def _note_vrrp(packet: bytes, heard: Heard) -> None:
    message = packet[(packet[0] & 15) * 4 :]
    if len(message) < 8 or message[0] & 15 != 1:  # no advertisement
        return
    count, addresses = message[3], message[8:]
    heard.shared = {
        IPv4Address(addresses[at : at + 4]) for at in range(0, 4 * count, 4) if addresses[at + 3 :]
    }
    if message[2] == 0:  # priority 0: the other machine gives the addresses away just now
        heard.shared = None


def _interfaces() -> list[Interface]:
    command = ["ip", "-json", "address"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    return [
        Interface(
            each["ifname"],
            each["link_type"],
            tuple(
                IPv4Interface(f"{one['local']}/{one['prefixlen']}")
                for one in each["addr_info"]
                if one["family"] == "inet"
            ),
        )
        for each in json.loads(said)
    ]


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")


def main(command: str, *words: str) -> int:
    answers: dict[str, Callable[..., int]] = {"find": find, "holder": holder, "serves": serves}
    try:
        return answers[command](*words)
    except Wrong as error:
        _say(error)
        return error.status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
