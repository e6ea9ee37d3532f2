"""Checks of the settings and of the files that they name."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from bridge.commands.check.outcome import Outcome, Site, failed, good, skipped, warning
from bridge.routing import advice, routes
from bridge.settings import Settings
from bridge.status.spoken import count

_SECRET_FILES = {"ssl.key.location": "kafka.options", "ssl.keystore.location": "kafka.options"}
_OTHERS_READ, _OTHERS_WRITE = stat.S_IROTH, stat.S_IWOTH


def warnings(site: Site) -> Iterator[Outcome]:
    """The settings were loaded before any check, so wrong ones never come here."""
    settings = site.settings
    yield good(f"all settings are valid; {count(len(settings.routes), 'route')}")
    checked = [routes.check(entry) for entry in settings.routes]
    for text in [*settings.warnings(), *advice.warnings(settings.routes, checked)]:
        yield warning(text)


def files(site: Site) -> Iterator[Outcome]:
    """Who may read the settings file and the files with secrets."""
    settings, file = site.settings, site.settings_file
    if file.is_file():
        in_clear = settings.mqtt.password is not None or "sasl.password" in settings.kafka.options
        yield permissions(str(file), file.stat().st_mode, secret=in_clear)
    for name, path in secret_files(settings):
        try:
            mode = path.stat().st_mode
            if not os.access(path, os.R_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            if isinstance(error, PermissionError) and os.geteuid() != 0:
                yield skipped(f"{name} = {path}: {why} for this user; run the check as root")
            else:
                yield failed(f"{name} = {path}: {why}", "create the file, or correct the setting")
        else:
            yield permissions(f"{name} = {path}", mode, secret=True)


def secret_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    named = {
        "mqtt.password_file": settings.mqtt.password_file,
        "mqtt.tls.key_file": settings.mqtt.tls.key_file,
        "kafka.password_file": settings.kafka.password_file,
        "haproxy.password_file": settings.haproxy.password_file,
        "emqx.key_file": settings.emqx.key_file,
        "http.password_file": settings.http.password_file,
        "http.key_file": settings.http.key_file,
    }
    named |= {
        f'kafka.options."{name}"': Path(str(settings.kafka.options[name]))
        for name in _SECRET_FILES
        if name in settings.kafka.options
    }
    for name, path in named.items():
        if path is not None:
            yield name, path


def permissions(name: str, mode: int, *, secret: bool) -> Outcome:
    """Judge the mode of a file. `secret`: it holds a password or a private key."""
    octal = f"{stat.S_IMODE(mode):04o}"
    if mode & _OTHERS_WRITE:
        return failed(f"{name}: every user of this machine may change it (mode {octal})", "chmod o-rwx FILE")
    if secret and mode & _OTHERS_READ:
        return warning(f"{name}: every user of this machine may read this secret (mode {octal})")
    return good(f"{name}: mode {octal}")
