#!/usr/bin/env python3
"""Stands for EMQX on a test machine: its command, its ports, what it says of its cluster. It is no broker.

It does what install.sh emqx relies on, as the scripts of EMQX 5.8 and 4.4 do: it takes node.name and the
seeds from /etc/emqx/emqx.conf, the cookie from the service's environment, and runs commands as the user emqx
with an environment of their own. Nodes with the same cookie see each other.
"""

import hashlib
import os
import re
import shlex
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

ETC = Path("/etc/emqx")
VERSION = Path("/usr/lib/emqx/releases/version").read_text().strip()
IS_4 = VERSION.startswith("4.")
COOKIE = "EMQX_NODE_COOKIE" if IS_4 else "EMQX_NODE__COOKIE"
DEVICES, CLUSTER, MESSAGES, DASHBOARD = 1883, 4370, 5370, 18083


def settings(file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    inside: list[str] = []
    for line in file.read_text().splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if include := re.fullmatch(r'include "(.*)"', line):
            found |= settings(file.parent / include[1])
        elif opening := re.fullmatch(r"([\w.]+) \{", line):
            inside.append(opening[1])
        elif line == "}":
            inside.pop()
        elif value := re.fullmatch(r"([\w.]+) = (.+)", line):
            found[".".join([*inside, value[1]])] = value[2].strip('"')
        else:
            sys.exit(f"syntax error before: {line}")
    return found


class Node:
    def __init__(self) -> None:
        ours = settings(ETC / "emqx.conf")
        self.name = ours["node.name"]
        self.cookie = hashlib.sha256(os.environ.get(COOKIE, ours["node.cookie"]).encode()).hexdigest()
        seeds = re.findall(r"emqx@[\w.-]+", ours.get("cluster.static.seeds", ""))
        self.seen = {seed: 0.0 for seed in seeds if seed != self.name}

    def run(self) -> None:
        if VERSION.endswith(".99"):
            sys.exit("this version does not run")
        socketserver.ThreadingTCPServer.allow_reuse_address = True
        for port, handler in ((DEVICES, Device), (MESSAGES, Device), (DASHBOARD, Device), (CLUSTER, Peer)):
            server = socketserver.ThreadingTCPServer(("0.0.0.0", port), handler)
            server.node = self
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
        while True:
            for name in self.seen:
                if ask(name.partition("@")[2], f"{self.name} {self.cookie}") == name:
                    self.seen[name] = time.monotonic()
            time.sleep(0.3)

    def status(self) -> str:
        up = sorted(
            [self.name, *(name for name, at in self.seen.items() if time.monotonic() - at < 2.0 and at)]
        )
        down = sorted(name for name, at in self.seen.items() if at and name not in up)
        running, stopped = (",".join(f"'{name}'" for name in names) for names in (up, down))
        status = f"#{{running_nodes => [{running}],\n                  stopped_nodes => [{stopped}]}}"
        return f"Cluster status: {status}"


class Device(socketserver.BaseRequestHandler):
    """Satisfies HAProxy's check: answers CONNECT with CONNACK 2 (refused)."""

    def handle(self) -> None:
        while self.request.recv(1000):
            self.request.sendall(bytes.fromhex("20020002"))


class Peer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        node = self.server.node
        asked = self.rfile.readline().decode().split()
        if asked == ["status"]:
            self.wfile.write(node.status().encode())
        elif len(asked) == 2 and asked[1] == node.cookie:
            self.wfile.write(node.name.encode())


def ask(host: str, question: str) -> str:
    try:
        with socket.create_connection((host, CLUSTER), timeout=1.0) as connection:
            connection.sendall(f"{question}\n".encode())
            return connection.makefile().read()
    except OSError:
        return ""


def main() -> None:
    command = " ".join(sys.argv[1:])
    if os.geteuid() == 0:  # as EMQX's own script
        os.execvp("su", ["su", "-", "emqx", "-c", shlex.join(["/usr/bin/emqx", *sys.argv[1:]])])
    if command == "foreground" and not IS_4:
        Node().run()
    elif command == "start" and IS_4:
        subprocess.Popen([sys.executable, __file__, "run"], start_new_session=True)
        by = time.monotonic() + 15.0
        while not ask("127.0.0.1", "status"):
            if time.monotonic() > by:
                sys.exit(f"EMQX {VERSION} failed to start within 15 seconds")
            time.sleep(0.1)
    elif command == "run" and IS_4:
        Node().run()
    elif command == "check_config" and not IS_4:
        settings(ETC / "emqx.conf")
    elif command == "ctl cluster status":
        if not (said := ask("127.0.0.1", "status")):
            sys.exit("Node is not responding to pings.")
        print(said)  # noqa: T201
    else:
        sys.exit(f"emqx {VERSION} has no command {command!r}")


if __name__ == "__main__":
    main()
