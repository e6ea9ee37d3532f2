"""The entry point: `python -m bridge`, and the commands `bridge` and `mqtt-kafka-bridge`."""

import gc
import sys

from bridge.commands import signals


def main() -> int:
    """Run the process's command line. Returns the exit status."""
    # Modules and settings are in few reference cycles. With 10,000 routes Python would spend a fourth of the
    # start looking for cycles among them.
    gc.set_threshold(100_000)
    signals.hold_back()  # before the imports below, which take most of a second on a Pi

    from bridge.commands import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
