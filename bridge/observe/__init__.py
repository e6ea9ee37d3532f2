"""What the bridge says about itself: events.py is the list of what it can say, logging.py how it is said."""

import importlib
import sys


def _import_structlog_without_rich() -> None:
    """Save the service 4 MB: structlog imports rich where it finds it, for tracebacks that we don't show."""
    if "rich" in sys.modules or "structlog" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment] # Python's way to say: can't be imported
    try:
        importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]


_import_structlog_without_rich()
