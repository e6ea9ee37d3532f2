"""Checks of the running service: its own words, and what has changed since it started."""

import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from bridge.commands.check.outcome import Level, Outcome, Site, failed, good, skipped, warning
from bridge.commands.invocation import unit_of
from bridge.commands.running import NoAnswer, read, running
from bridge.program import SERVICE
from bridge.settings.load import DEFAULT_FILE
from bridge.status.finding import Diagnosis
from bridge.status.spoken import duration

_TIMEOUT = 3.0  # seconds for systemctl
_BOOTED = Path("/run/systemd/system")  # sd_booted(3)
_SHOWN = "LoadState,ActiveState,NeedDaemonReload,FragmentPath,DropInPaths,ExecMainStartTimestamp"
_CLOCK_MARGIN = 2.0  # seconds


def read_status(site: Site) -> None:
    """Ask the running service for /status.json, and keep the answer in the site."""
    try:
        where = running(site.settings)
        site.status = read(where.ask(), where)
        site.page = where.url.replace("/status.json", "/runbook")
    except NoAnswer as error:
        site.no_status = str(error)


def answers(site: Site) -> Iterator[Outcome]:
    if snapshot := site.snapshot:
        yield good(f"version {snapshot.version} has run for {duration(snapshot.uptime)}")
    elif _unit(site).get("ActiveState") == "active":
        yield failed(f"the unit is active, but {site.no_status}")
    else:
        yield skipped(site.no_status)


def diagnosis(site: Site) -> Iterator[Outcome]:
    if site.status is None:
        yield skipped("the service gives no diagnosis")
    else:
        yield from diagnosis_verdict(site.status.diagnosis)


def diagnosis_verdict(found: Diagnosis) -> Iterator[Outcome]:
    """Pass on the service's own diagnosis."""
    if not found.findings:
        yield good(found.sentence)
    for each in found.findings:
        judged = Level.FAILED if each.level == "broken" else Level.WARNING
        yield Outcome(judged, f"{each.host}: {each.what}", each.remedy, each.runbook)


def unit(site: Site) -> Iterator[Outcome]:
    shown = _unit(site)
    if shown.get("LoadState") != "loaded":
        yield skipped("the service is no systemd unit of this machine")
    elif shown.get("ActiveState") != "active":
        yield failed(
            f"{unit_name(site.settings_file)} is {shown.get('ActiveState')}",
            f"sudo systemctl start {unit_name(site.settings_file)}",
        )
    else:
        names = [shown["FragmentPath"], *shown.get("DropInPaths", "").split()]
        files = [Path(name) for name in names if name]
        changed = _newer(files, _started(site, shown))
        yield unit_verdict(unit_name(site.settings_file), shown.get("NeedDaemonReload") == "yes", changed)


def unit_verdict(unit: str, needs_reload: bool, changed: list[str]) -> Outcome:
    """`needs_reload`: systemd's NeedDaemonReload. `changed`: files newer than the service's start."""
    if needs_reload:
        return warning(
            "the unit's file changed, and systemd has not read it",
            f"sudo systemctl daemon-reload, then sudo systemctl restart {unit}",
        )
    if changed:
        return warning(
            f"changed since the service started: {', '.join(changed)}", f"sudo systemctl restart {unit}"
        )
    return good("the unit has not changed since the service started")


def settings_file(site: Site) -> Iterator[Outcome]:
    started = _settings_read(site, _unit(site))
    if site.snapshot and site.snapshot.restart_wanted:
        wanted = ", ".join(site.snapshot.restart_wanted)
        yield warning(f"the service has read changes that need a restart: {wanted}", "systemctl restart")
    elif started is None:
        yield skipped("it is not known when the service started")
    elif not site.settings_file.is_file():
        yield skipped(f"{site.settings_file} does not exist")
    elif _newer([site.settings_file], started):
        yield warning(f"{site.settings_file} changed after the service read it")
    else:
        yield good(f"the service has read {site.settings_file} as it is")


def unit_name(settings_file: Path) -> str:
    """The unit that reads this settings file."""
    return unit_of(settings_file) or SERVICE


def _unit(site: Site) -> dict[str, str]:
    """What systemd knows of the unit; empty: no systemd runs, or the settings are not those of a unit."""
    if not _BOOTED.is_dir() or site.settings_file.parent != DEFAULT_FILE.parent:
        return {}
    words = ["systemctl", "show", "--timestamp=unix", f"--property={_SHOWN}", unit_name(site.settings_file)]
    try:
        answer = subprocess.run(  # noqa: S603
            words, capture_output=True, text=True, timeout=_TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(line.split("=", 1) for line in answer.stdout.splitlines() if "=" in line)


def _settings_read(site: Site, shown: Mapping[str, str]) -> float | None:
    """When the service read its settings, in seconds since 1970; None: unknown."""
    snapshot = site.snapshot
    if snapshot is None or snapshot.reloaded_age is None:
        return _started(site, shown)
    return time.time() - snapshot.reloaded_age


def _started(site: Site, shown: Mapping[str, str]) -> float | None:
    """When the service started, in seconds since 1970; None: unknown."""
    if snapshot := site.snapshot:
        return time.time() - snapshot.uptime
    stamp = shown.get("ExecMainStartTimestamp", "").removeprefix("@")
    return float(stamp) if stamp.isdigit() else None


def _newer(files: list[Path], than: float | None) -> list[str]:
    if than is None:
        return []
    return [str(file) for file in files if file.exists() and file.stat().st_mtime > than + _CLOCK_MARGIN]
