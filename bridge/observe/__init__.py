"""The bridge's log, and its notifications to systemd.

Decided here: which events there are, at which level (events.py), how a log line looks (logging.py), and
when systemd is notified that the service is ready or alive (systemd.py).
Not here: when something is logged; each room does that itself.

Start with `events.Event`.
"""

import importlib
import sys


def _import_structlog_without_rich() -> None:
    """Save the service 4 MB: structlog imports rich if it can, for tracebacks that we don't show."""
    if "rich" in sys.modules or "structlog" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment] # makes Python refuse to import rich
    try:
        importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]


_import_structlog_without_rich()
