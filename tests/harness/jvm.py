"""How the harness runs a Java program beside everything else on a small machine."""

import os
from pathlib import Path

from tests.harness import kit


def command(jars: Path, *arguments: str | os.PathLike[str]) -> list[str | os.PathLike[str]]:
    """Java with all `jars` of a directory; `arguments` are its further options, the program, and its own."""
    # Sorted, because a class data archive holds for one order of the class path only.
    path = os.pathsep.join(sorted(str(jar) for jar in jars.glob("*.jar")))
    return [
        kit.java(),
        "-Xmx256m",
        # Two cores for everything: the cheapest collector and compiler win.
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Xshare:auto",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        "-Djava.net.preferIPv4Stack=true",
        *("-cp", path),
        *arguments,
    ]
