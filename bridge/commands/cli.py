"""Runs the command line: prints --help, starts each command, returns the exit status."""

import argparse
import logging
import os
import re
import shutil
import sys
import textwrap
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from bridge import __version__, program
from bridge.commands import arguments, invocation, signals
from bridge.errors import BridgeError, ConfigurationError, WrongRoutes
from bridge.observe.printable import printable
from bridge.settings import Settings, problems
from bridge.settings.describe import OPTIONS
from bridge.settings.flags import Flags
from bridge.settings.layers import Layers
from bridge.settings.load import DEFAULT_FILE, Configuration, load
from bridge.settings.section import Key, nearest
from bridge.settings.show import as_toml

SUCCESS, FAILURE, MISUSE = 0, 1, 2
CREDENTIAL_STORES = ("/etc/credstore", "/run/credstore")  # systemd.exec(5)
_WITH_KAFKA = (
    arguments.CONFIG,
    arguments.CHECK,
    arguments.SERVICE,
    arguments.REPLAY,
    arguments.TOPICS,
    arguments.CONSUME,
)


_USAGE = """bridge [--config FILE] [--mqtt.host HOST ...]  the service
       bridge --dry-run [--count N] [--json]         show what would be produced
       bridge init [--mqtt.host HOST[:PORT] --kafka.bootstrap_servers LIST]
                                                     write a starter file
       bridge config                                 show the settings in force
       bridge check [--offline] [--json] [--strict] [--haproxy-cfg FILE]
                    [--send [TOPIC]]                 examine chain and machine
       bridge top [--once] [--json] [--url URL]      show the service's state
       bridge topics [--create] [--json]             show or create topics
       bridge consume [TOPIC] [--from-beginning] [--count N] [--json]
                                                     show what is in Kafka
       bridge spool status [--json] [--watch]        show messages on disk
       bridge dead-letters list|show|export|replay|purge [ID ...]
                                                     undeliverable messages
       bridge --version"""

_DESCRIPTION = """\
Takes messages from EMQ, or another MQTT broker, to Kafka. Acknowledges a
message only when Kafka has it on all in-sync replicas, or, while Kafka is late,
when this machine's disk has synced it."""

_EPILOG = """\
The first of these places that has a setting decides its value:
  1. a flag             --mqtt.keepalive 60s
  2. the environment    BRIDGE_MQTT__KEEPALIVE=60s
  3. the file           keepalive = "60s" in its table [mqtt]

bridge COMMAND --help shows the flags of one command alone.

exit status:
  0  done, or stopped on request
  1  failed, or the chain is broken
  2  the command line or the settings are wrong; each line names what is allowed

Debian's iproute2 has a command of the same name in /usr/sbin. In scripts and
services call the bridge by its other name, mqtt-kafka-bridge."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line `words` (by default the process's own). Returns the exit status."""
    try:
        return _run(sys.argv[1:] if words is None else words)
    except ConfigurationError as error:
        return _complain(error.problems, MISUSE)
    except BridgeError as error:
        return _complain([str(error)], FAILURE)
    except KeyboardInterrupt:  # Ctrl-C: a traceback would tell a person nothing
        return FAILURE
    except BrokenPipeError:  # the reader of our output, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SUCCESS


def _run(words: Sequence[str]) -> int:
    parser, flags = command_line()
    if words and arguments.is_command(words[0]) and not {"-h", "--help"}.isdisjoint(words):
        sys.stdout.write(_help_of(parser, words[0]))
        return SUCCESS
    options, rest = parser.parse_known_args(words)
    command = arguments.command(options, _words(parser, rest))
    if command.name != arguments.SERVICE:
        signals.let_through()
        # Else Python prints what paho and librdkafka log. The commands' own sentences tell what matters.
        logging.getLogger().addHandler(logging.NullHandler())
    program.use(invocation.program(options.config, is_service=command.name == arguments.SERVICE))
    if command.name == arguments.INIT:
        from bridge.commands.init import init

        return init(flags.layer(options), options.config)
    configuration = load(
        flags.layer(options),
        options.config,
        without_kafka=options.dry_run,
        without_chain=options.url is not None,
    )
    try:
        return _start(command, options, flags, configuration)
    except WrongRoutes as error:
        raise problems.located(error, configuration.layers, configuration.settings.routes) from None


def _start(
    command: arguments.Command, options: argparse.Namespace, flags: Flags, configuration: Configuration
) -> int:
    settings = configuration.settings
    if command.name in _WITH_KAFKA:
        _require_options(configuration)
    # paho, librdkafka and rich take long to import, so each command imports only what it needs.
    if command.name == arguments.CONFIG:
        return _show(configuration)
    if command.name == arguments.CHECK:
        from bridge.commands.check.doctor import check
        from bridge.commands.check.outcome import Site

        site = Site(
            settings,
            options.client_id or f"{settings.mqtt.client_id}-check",
            (options.config or DEFAULT_FILE).absolute(),
            haproxy_cfg=options.haproxy_cfg,
            send=options.send,
            offline=options.offline,
        )
        return check(site, print, as_json=options.json, strict=options.strict)
    if command.name == arguments.DRY_RUN:
        from bridge.commands.dry_run import dry_run

        return dry_run(settings, options.count, options.json, options.client_id)
    if command.name == arguments.SERVICE:
        from bridge import app
        from bridge.routing.router import Router

        def read_again() -> tuple[Settings, Router]:
            """Raises BridgeError where the service could not start with what it reads."""
            again = load(flags.layer(options), options.config)
            _require_options(again)
            try:
                router = Router(again.settings.routes)
                router.require_protocol(again.settings.mqtt.protocol)
            except WrongRoutes as error:
                raise problems.located(error, again.layers, again.settings.routes) from None
            return again.settings, router

        return app.run(settings, read_again)
    if command.name == arguments.SPOOL_STATUS:
        from bridge.commands.spool_status import spool_status

        return spool_status(settings, options.json, options.watch)
    if command.name == arguments.TOP:
        from bridge.commands.running import running
        from bridge.commands.top import top

        return top(running(settings, options.url), options.json, options.once)
    if command.name == arguments.TOPICS:
        from bridge.commands.topics import Creation, topics

        creation = Creation(options.partitions, options.replicas, options.min_insync, options.yes)
        return topics(settings, creation if options.create else None, options.json)
    if command.name == arguments.CONSUME:
        from bridge.commands.consume import Wish, consume

        wish = Wish(command.kafka_topic, options.from_beginning, options.count, options.json)
        return consume(settings, wish)
    from bridge.commands import dead_letters

    if command.name == arguments.REPLAY:
        return dead_letters.replay(settings, command.selection, options.to, options.json)
    if command.name == arguments.PURGE:
        return dead_letters.purge(settings, command.selection, options.yes, options.json)
    if command.name == arguments.SHOW:
        return dead_letters.show_letter(settings, command.selection, options.json)
    if command.name == arguments.EXPORT:
        return dead_letters.export_letters(settings, command.selection)
    return dead_letters.list_letters(settings, command.selection, options.json)


def _require_options(configuration: Configuration) -> None:
    """Raises ConfigurationError where librdkafka refuses an option: what one command accepts all accept."""
    settings, layers = configuration.settings, configuration.layers
    if not settings.kafka.options:
        return
    from bridge.kafka.option_check import wrong_options

    found = wrong_options(settings.kafka, dead_letters=settings.dead_letters.topic is not None)
    if lines := [f"{_option(name, layers)}: {why}" for name, why in found]:
        raise ConfigurationError(lines)


def _option(name: str, layers: Layers) -> str:
    return problems.head((*OPTIONS, name) if name else OPTIONS, layers)


def _show(configuration: Configuration) -> int:
    from bridge.routing import advice
    from bridge.routing.router import Router

    settings = configuration.settings
    _require_password(settings)
    router = Router(settings.routes)  # this line finds wrong routes
    router.require_protocol(settings.mqtt.protocol)
    sys.stdout.write(as_toml(configuration, _places(settings)))
    sys.stdout.flush()
    for warning in [*settings.warnings(), *advice.warnings(settings.routes, router.routes)]:
        sys.stderr.write(f"bridge: warning: {printable(warning)}\n")
    return SUCCESS


_LETTERS = "sudo mqtt-kafka-bridge dead-letters list"


def _places(settings: Settings) -> dict[Key, str]:
    """What is where on disk, by the table that is about it."""
    from bridge.spool.store import Store

    file = printable(str(settings.spool_directory.absolute() / Store.FILE))
    return {
        ("spool",): f"messages that wait for Kafka are in {file}",
        ("dead_letters",): f"dead letters are in {file}, too; {program.typed(_LETTERS)} shows them",
    }


def _require_password(settings: Settings) -> None:
    """Raises ConfigurationError where the service would have no password for Kafka, as far as can be seen."""
    if not settings.kafka.sasl_username or _systemd_brings("kafka-password"):
        return
    from bridge.kafka.options import client_options

    try:
        client_options(settings.kafka)
    except ConfigurationError:
        raise
    except BridgeError:  # the service starts, and waits until the file can be read
        return


def _systemd_brings(credential: str) -> bool:
    """Whether the unit's LoadCredential= may find it. The service alone gets what is in these directories."""
    for directory in CREDENTIAL_STORES:
        try:
            names = os.listdir(directory)
        except PermissionError:
            return True
        except OSError:
            continue
        if any(name.startswith("mqtt-kafka-bridge") and name.endswith(credential) for name in names):
            return True
    return False


class _Help(RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=min(shutil.get_terminal_size().columns, 100) - 2)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)  # does not break paths and names


def _help_of(parser: ArgumentParser, command: str) -> str:
    """The help of one command: its usage and its own flags. `bridge --help` has everything."""
    forms = re.split(r"\n +(?=bridge )", _USAGE)
    wanted = {"--config", *arguments.flags_of(command)}
    shown = _Help(parser.prog)
    shown.add_usage("\n       ".join(form for form in forms if form.split()[1] == command), [], [])
    shown.add_text(
        next(
            (each.description for each in parser._action_groups if (each.title or "").startswith(command)), ""
        )
    )
    shown.start_section("options")
    shown.add_arguments([each for each in parser._actions if not wanted.isdisjoint(each.option_strings)])
    shown.end_section()
    shown.add_text("Each setting is a flag too: bridge --help lists them, and the exit statuses.")
    return shown.format_help()


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message} (see bridge --help)")


def command_line() -> tuple[ArgumentParser, Flags]:
    """The parser with all its flags, and the Flags object that reads the settings from them."""
    parser = _Parser(
        prog="bridge",
        usage=_USAGE,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mqtt-kafka-bridge {__version__}")
    parser.add_argument("--config", metavar="FILE", type=Path, help=f"settings (default {DEFAULT_FILE})")
    arguments.add_flags(parser)
    return parser, Flags(parser)


def _words(parser: ArgumentParser, rest: Sequence[str]) -> Sequence[str]:
    """The words that remain on the command line. Raises ConfigurationError if one is an unknown flag."""
    for word in rest:
        flag = word.partition("=")[0]
        if flag.startswith("-"):
            meant = nearest(flag, parser._option_string_actions)
            parser.error(f"{flag}: no such flag{f'; did you mean {meant}?' if meant else ''}")
    return rest


def _complain(problems: Sequence[str], status: int) -> int:
    for problem in problems:
        # An example has lines of its own, which begin with blanks. All other line breaks are escaped.
        text = "\n    ".join(map(printable, problem.split("\n    ")))
        sys.stderr.write(f"bridge: {text}\n")
    return status
