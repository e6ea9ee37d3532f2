"""A Debian package that stands for EMQX's own, which can't be had here.

It has the names, places, owners and modes of EMQX's package, and its scripts do what those of EMQX's package
do (deploy/packages/deb of emqx/emqx), so that install.sh emqx meets the same machine.
"""

import shutil
import subprocess
from pathlib import Path

_CONF_5 = """\
node {
  name = "emqx@127.0.0.1"
  cookie = "emqxsecretcookie"
  data_dir = "/var/lib/emqx"
}

cluster {
  name = emqxcl
  discovery_strategy = manual
}
"""
_CONF_4 = """\
cluster.name = emqxcl
cluster.discovery = manual
cluster.autoclean = 5m
node.name = emqx@127.0.0.1
node.cookie = emqxsecretcookie
listener.tcp.external = 0.0.0.0:1883
zone.external.max_mqueue_len = 1000
"""
_ACL = """\
{allow, {ipaddr, "127.0.0.1"}, all, ["$SYS/#", "#"]}.
{deny, all, subscribe, ["$SYS/#", {eq, "#"}, {eq, "+/#"}]}.
{allow, all}.
"""
_UNIT = """\
[Unit]
Description=emqx daemon
After=network.target

[Service]
User=emqx
Group=emqx
%s
Environment=HOME=/var/lib/emqx
Restart=on-failure
RestartSec=%ds

[Install]
WantedBy=multi-user.target
"""
_UNIT_5 = _UNIT % ("Type=simple\nExecStart=/usr/bin/env python3 /usr/bin/emqx foreground", 120)
_UNIT_4 = _UNIT % ("Type=forking\nExecStart=/usr/bin/env python3 /usr/bin/emqx start", 5)
_AFTER_INSTALL = """\
#!/bin/sh
set -e
id emqx >/dev/null 2>&1 || useradd --system --home-dir /var/lib/emqx --no-create-home --shell /bin/bash emqx
chown -R emqx:emqx /var/lib/emqx /var/log/emqx /etc/emqx
chmod 0755 /etc/emqx
chmod 0644 /etc/emqx/*
ln -sf /usr/lib/emqx/bin/emqx /usr/bin/emqx
! systemctl status --no-pager >/dev/null || systemctl enable emqx
"""
_AFTER_REMOVAL = """\
#!/bin/sh
set -e
case $1 in
remove) rm /usr/bin/emqx ;;
purge)
    pkill -9 -u emqx || true
    rm -rf /var/lib/emqx /var/log/emqx /etc/emqx
    ! id emqx >/dev/null 2>&1 || userdel emqx
    ;;
esac
"""


def emqx_package(
    directory: Path, version: str, *, name: str = "emqx", architecture: str = "", depends: str = "libc6"
) -> Path:
    """Build NAME-VERSION-debian12-ARCHITECTURE.deb, as its makers call it.

    A version that ends with .99 does not run.
    """
    if not architecture:
        command = ["dpkg", "--print-architecture"]
        architecture = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    is_4 = version.startswith("4.")
    root = directory / f"{name}-{version}-{architecture}"
    files = {
        "DEBIAN/control": f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n"
        f"Maintainer: nobody <nobody@example.org>\nDepends: {depends}\nDescription: stands for EMQX\n",
        "DEBIAN/conffiles": "/etc/emqx/emqx.conf\n/etc/emqx/acl.conf\n",
        "DEBIAN/postinst": _AFTER_INSTALL,
        "DEBIAN/postrm": _AFTER_REMOVAL,
        "etc/emqx/emqx.conf": f"## {version}\n{_CONF_4 if is_4 else _CONF_5}",
        "etc/emqx/acl.conf": _ACL,
        "lib/systemd/system/emqx.service": _UNIT_4 if is_4 else _UNIT_5,
        "usr/lib/emqx/releases/version": f"{version}\n",
        "usr/lib/emqx/bin/emqx": (Path(__file__).parent / "node.py").read_text(),
        "var/lib/emqx/loaded_plugins": "",
        "var/log/emqx/emqx.log.1": "",
    }
    for place, text in files.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    for place in ("DEBIAN/postinst", "DEBIAN/postrm", "usr/lib/emqx/bin/emqx"):
        (root / place).chmod(0o755)
    target = directory / f"{name}-{version}-debian12-{architecture}.deb"
    build = ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", root, target]
    subprocess.run(build, check=True, capture_output=True)
    shutil.rmtree(root)
    return target
