"""What is wrong on the bridge's own machine: the service, its disk, its clock, its certificates. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime

from bridge.status.finding import Finding, broken, warning
from bridge.status.snapshot import Snapshot
from bridge.status.spoken import count, duration, listed, sentence
from bridge.status.whereabouts import behind_the_bridge, kafka_is_live, mqtt_address, quoted
from bridge.units import size

STUCK_AFTER = 10.0  # seconds without a new snapshot
_SPOOL_FILLS = 3600.0  # seconds until the spool is full
_EXPIRES_SOON = 14 * 86400.0  # seconds
_DROPPED_LATELY = 600.0  # seconds for which dropped QoS 0 messages are shown
_ERROR_LATELY = 3600.0  # seconds for which an ERROR without a state of its own is shown
_FULL_DISK = ("disk is full", "no space left", "spool.keep_free", "quota")
_HERE = "the bridge's machine"  # whoever reads this may sit at another one
_SERVICE = "mqtt-kafka-bridge"

# ERRORs whose cause no other field of the snapshot shows.
_ERRORS = {
    "service.no_thread": "Raise TasksMax= of the unit.",
    "mqtt.state_unwritable": "Make state_directory writable for the service's user.",
    "spool.unreadable": "Check the disk with `dmesg`, then restart the bridge.",
    "spool.damaged": "Stop the bridge, copy the spool's directory, and replace the disk or card.",
    "spool.set_aside": "Replace the disk or card if it fails, then recover the old database with sqlite3.",
}


def stuck(age: float) -> Iterator[Finding]:
    """`age`: seconds since the snapshot was made."""
    if age > STUCK_AFTER:
        yield broken(
            "bridge-stuck",
            _HERE,
            f"The bridge has stopped working: its loop has not turned for {duration(age)}."
            " What is shown here is as old. Messages that the bridge has not acknowledged wait in EMQ's"
            " queue; none that it acknowledged is lost.",
            f"Restart it: sudo systemctl restart {_SERVICE}. Under systemd the watchdog does this by itself.",
        )


def stopping(s: Snapshot) -> Iterator[Finding]:
    if s.state == "stopping":
        yield warning(
            "stopping",
            _HERE,
            f"The bridge is stopping; {count(s.flow.in_flight, 'message')} not yet confirmed by Kafka. EMQ"
            " keeps what comes meanwhile, up to the limit of its queue.",
            f"If the stop was not meant, start the bridge again: sudo systemctl start {_SERVICE}.",
        )


def starting(s: Snapshot) -> Iterator[Finding]:
    if s.state == "starting":
        yield warning(
            "starting",
            _HERE,
            f"The bridge has been starting for {duration(s.uptime)}: it connects to EMQ behind"
            f" {mqtt_address(s)} and to Kafka at {s.kafka.bootstrap_servers}.",
            "Wait some seconds. If this lasts for more than a minute, run `sudo mqtt-kafka-bridge check`.",
        )


def disk(s: Snapshot) -> Iterator[Finding]:
    """The spool takes no messages, or soon will not."""
    spool, reason = s.spool, s.spool.reason.lower()
    free = f"{size(spool.disk_free)} free, of which {size(spool.disk_keep_free)} stay free (spool.keep_free)"
    room = (
        f"Make room on the disk of {spool.path}: `df -h {spool.path}`, `sudo journalctl --vacuum-size=100M`."
    )
    all_go_there = s.kafka.transactions is not None
    if spool.state in ("full", "unusable"):
        if all_go_there:
            effect = (
                "With delivery exactly-once every message goes through it, so the bridge takes none."
                f" {behind_the_bridge(s)} What is on disk already is safe."
            )
            make = broken
        elif kafka_is_live(s) and not s.waiting_total:
            effect = (
                "Messages still flow, because Kafka confirms them; but if Kafka fails now, they wait in EMQ's"
                " queue alone."
            )
            make = warning
        else:
            effect = (
                f"The bridge acknowledges only what Kafka confirms. {behind_the_bridge(s)} What is on disk"
                " already is safe."
            )
            make = broken
        if any(words in reason for words in _FULL_DISK) or (
            spool.state == "full" and not reason and spool.disk_free <= spool.disk_keep_free
        ):
            yield make(
                "disk-full",
                _HERE,
                f"The disk of the bridge's machine is full ({spool.path}: {free}){quoted(spool.reason)}."
                f" {effect}",
                f"{room} The bridge notices that by itself.",
            )
        elif spool.state == "full":
            yield make(
                "spool-full",
                _HERE,
                f"The bridge's spool is full by its own limit: {size(spool.bytes_used)} of"
                f" spool.max_bytes = {size(spool.bytes_limit)} hold {count(spool.messages, 'message')}."
                f" {effect}",
                "Bring Kafka back, which empties the spool. Until then raise spool.max_bytes and restart the"
                " bridge, if the disk has room.",
            )
        else:
            yield make(
                "spool-unusable",
                _HERE,
                f"The bridge can't use its spool in {spool.path} on its machine{quoted(spool.reason)}."
                f" {effect}",
                sentence(spool.way_out)
                or "See the runbook for this reason; `dmesg` shows whether the disk or card fails.",
            )
    elif spool.bytes_limit and spool.disk_keep_free and spool.disk_free <= spool.disk_keep_free:
        yield warning(
            "disk-full",
            _HERE,
            f"The disk of the bridge's machine is full ({spool.path}: {free})."
            f" {'The' if all_go_there else 'If Kafka fails now, the'} spool can take no messages.",
            room,
        )
    elif spool.full_in is not None and spool.full_in < _SPOOL_FILLS:
        yield warning(
            "spool-fills",
            _HERE,
            f"The bridge's spool is full in about {duration(spool.full_in)}:"
            f" {count(spool.messages, 'message')} wait there for Kafka, {size(spool.bytes_used)} of"
            f" {size(spool.bytes_limit)}. Then messages wait in EMQ's queue alone.",
            "Bring Kafka back before that. Or make room: a larger spool.max_bytes (needs a restart), or more"
            " free disk.",
        )


def unaccounted(s: Snapshot) -> Iterator[Finding]:
    if s.flow.unaccounted:
        yield broken(
            "messages-unaccounted",
            _HERE,
            f"The bridge's sums do not add up: {count(abs(s.flow.unaccounted), 'message')} unaccounted for."
            " This is a defect of the bridge.",
            "Report it with the log and with `sudo mqtt-kafka-bridge top --json`. Then restart the bridge.",
        )


def dead_letters(s: Snapshot) -> Iterator[Finding]:
    letters, removed = s.spool.dead_letters, s.flow.dead_letters_removed
    if removed:
        yield warning(
            "dead-letters-removed",
            _HERE,
            f"The bridge removed {count(removed, 'dead letter')} for good since its start, because a limit"
            f" was reached. Dead letters left: {letters:,}.",
            "Cure the reason that `sudo mqtt-kafka-bridge dead-letters list` shows. Raise"
            " dead_letters.max_bytes or dead_letters.max_age, as far as the disk allows.",
        )
    if letters:
        reasons = s.flow.dead_lettered
        most = max(reasons, key=lambda reason: reasons[reason]) if any(reasons.values()) else ""
        yield warning(
            "dead-letters",
            _HERE,
            f"{count(letters, 'message')} can't be delivered as {'it is' if letters == 1 else 'they are'}"
            f"{f'; since the start most became so for this reason: {most}' if most else ''}. The bridge keeps"
            f" {'it' if letters == 1 else 'them'} whole on its disk as dead letters.",
            "See why with `sudo mqtt-kafka-bridge dead-letters list`, cure the reason, then send them again:"
            " `sudo mqtt-kafka-bridge dead-letters replay`.",
        )


def dropped(s: Snapshot) -> Iterator[Finding]:
    ages = [each.age for each in s.lately if each.event == "qos0.dropped"]
    number = sum(s.flow.dropped.values())
    if number and ages and min(ages) <= _DROPPED_LATELY:
        yield warning(
            "qos0-dropped",
            _HERE,
            f"The bridge has dropped {count(number, 'QoS 0 message')} since its start, the last"
            f" {duration(min(ages))} ago: more waited than mqtt.qos0_messages and qos0_bytes allow.",
            "Repair what keeps Kafka and the disk from taking messages. Publish important messages at QoS 1.",
        )


def certificates(s: Snapshot) -> Iterator[Finding]:
    now = _unix_time(s)
    if now is None:
        return
    for certificate in sorted(s.certificates, key=lambda each: each.expires_at):
        left = certificate.expires_at - now
        remedy = "Renew it on the host that it belongs to; the runbook says how."
        if left <= 0:
            yield broken(
                "certificate-expired",
                certificate.whose,
                f"The certificate {certificate.whose} expired {duration(-left)} ago. The connection that is"
                " up goes on; no new one succeeds.",
                remedy,
            )
        elif left < _EXPIRES_SOON:
            yield warning(
                "certificate-expires",
                certificate.whose,
                f"The certificate {certificate.whose} expires in {duration(left)}. After that no new"
                " connection succeeds.",
                remedy,
            )


def clock(s: Snapshot) -> Iterator[Finding]:
    if not s.clock_trusted:
        yield warning(
            "clock-wrong",
            _HERE,
            "The bridge's clock can't be trusted, so records get no timestamp in Kafka. Messages flow.",
            "Wait a minute or two for the network time. If this lasts, look with `timedatectl`.",
        )


def reload(s: Snapshot) -> Iterator[Finding]:
    if s.reload_trouble:
        yield warning(
            "reload-refused",
            _HERE,
            f"The last reload of the settings changed nothing{quoted(s.reload_trouble)}. The bridge goes on"
            " with the settings that it had.",
            "Correct the settings file (`sudo mqtt-kafka-bridge config` names each mistake), then:"
            f" sudo systemctl reload {_SERVICE}.",
        )


def restart(s: Snapshot) -> Iterator[Finding]:
    if s.restart_wanted:
        yield warning(
            "restart-wanted",
            _HERE,
            "The last reload of the settings found changes that need a restart:"
            f" {listed(s.restart_wanted, 8)}."
            " The bridge goes on with the old values.",
            f"Restart the bridge: sudo systemctl restart {_SERVICE}. EMQ keeps what comes meanwhile.",
        )


def errors(s: Snapshot) -> Iterator[Finding]:
    """ERRORs of the last hour that only the log knows."""
    for each in s.lately:
        if each.event in _ERRORS and each.age <= _ERROR_LATELY:
            yield warning(
                "error-logged",
                _HERE,
                f"{duration(each.age)} ago the bridge logged the error {each.event}: {sentence(each.text)}",
                _ERRORS[each.event],
            )


def _unix_time(s: Snapshot) -> float | None:
    """The time at which the snapshot was made, in seconds since 1970; None if the clock can't be trusted."""
    if not s.clock_trusted:
        return None
    try:
        made = datetime.fromisoformat(s.made_at)
        return (made if made.tzinfo else made.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
