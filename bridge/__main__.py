"""Runs the command line: `python -m bridge`."""

import sys

from bridge.commands.cli import main

sys.exit(main())
