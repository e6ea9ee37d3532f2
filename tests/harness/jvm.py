"""The command with which the harness runs a Java program on a small, shared machine."""

import os
from pathlib import Path

from tests.harness import kit


def command(jars: Path, *arguments: str | os.PathLike[str]) -> list[str | os.PathLike[str]]:
    """Java with all `jars` of a directory. `arguments`: more JVM options, the class, its arguments."""
    # Sorted, because a class data archive is valid for one order of the class path only.
    path = os.pathsep.join(sorted(str(jar) for jar in jars.glob("*.jar")))
    return [
        kit.java(),
        "-Xmx256m",
        # All programs share two cores, so use the cheapest collector and compiler.
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Xshare:auto",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        "-Djava.net.preferIPv4Stack=true",
        *("-cp", path),
        *arguments,
    ]
