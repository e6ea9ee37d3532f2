"""Runs the command line, which is in command_line.py."""

import signal
import sys

if __name__ == "__main__":
    # Importing the Kafka client takes a moment: until then Ctrl-C ends the program without a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from tests.harness.lab.command_line import main

    sys.exit(main())
