"""Signals that come before the process knows its command. By the kernel's default each would end it.

Imports nothing slow: the entry point calls `hold_back` before all other imports.
"""

import signal

_THESE = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def hold_back() -> None:
    """Let the signals wait. The service takes them once its loop runs (app.py)."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _THESE)


def let_through() -> None:
    """For all other commands: they end when their terminal closes, also where it has closed meanwhile."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _THESE)
