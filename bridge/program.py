"""How people call the bridge on this machine, so that each command in a text can be typed as it stands. Pure.

Texts name the commands of the installed service: `sudo mqtt-kafka-bridge check`. In a checkout, or after pip
install, no such program exists: there `typed` puts the program and the settings file of this process.
"""

import re
from dataclasses import dataclass

INSTALLED = "sudo mqtt-kafka-bridge"
SERVICE = "mqtt-kafka-bridge"

_COMMAND = re.compile(
    rf"\b{INSTALLED} (check|config|topics --create|topics|top --json|top|spool status|"
    r"dead-letters (?:list|show|export|replay|purge))(?![\w-])"
)
_SYSTEMCTL = re.compile(rf"(sudo )?systemctl (start|restart|reload|status) {SERVICE}(?![\w@-])")
_LOG = re.compile(rf"(sudo )?journalctl -u {SERVICE}(?![\w@-])")


@dataclass(frozen=True, slots=True)
class Program:
    """`command`: what is typed, such as "sudo mqtt-kafka-bridge" or ".venv/bin/bridge".

    `config`: the flag for the settings, such as " --config bridge.toml"; "": the default file has them.
    `unit`: the systemd unit that runs the bridge; "": none does.
    """

    command: str = INSTALLED
    config: str = ""
    unit: str = SERVICE

    def typed(self, text: str) -> str:
        """`text` with its commands as they are typed here."""
        text = _COMMAND.sub(lambda found: f"{self.command} {found[1]}{self.config}", text)
        if not self.unit:
            text = _LOG.sub("the terminal that the bridge runs in", text)
            return _SYSTEMCTL.sub(self._by_hand, text)
        text = _LOG.sub(lambda found: f"{found[1] or ''}journalctl -u {self.unit}", text)
        return _SYSTEMCTL.sub(lambda found: f"{found[1] or ''}systemctl {found[2]} {self.unit}", text)

    @property
    def settings_file(self) -> str:
        """The settings file that `config` names; empty: the default one."""
        return self.config.removeprefix(" --config ")

    @property
    def service(self) -> str:
        """The command that runs the bridge."""
        return f"{self.command}{self.config}"

    def _by_hand(self, found: re.Match[str]) -> str:
        return {
            "start": self.service,
            "restart": f"end it (Ctrl-C), then {self.service}",
            "reload": "send it SIGHUP (kill -HUP and its process id)",
            "status": "ps aux | grep bridge",
        }[found[2]]


AS_INSTALLED = Program()
_here = AS_INSTALLED


def here() -> Program:
    """The program that this process was started as."""
    return _here


def use(program: Program) -> None:
    global _here
    _here = program


def typed(text: str) -> str:
    """`text` with its commands as they are typed on this machine."""
    return _here.typed(text)
