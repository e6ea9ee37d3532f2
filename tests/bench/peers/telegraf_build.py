"""Builds Telegraf from the Go proxy with the few plugins that the bench needs, once, in minutes."""

import os
import shutil
import sys
from pathlib import Path

from tests.harness import kit
from tests.harness.conditions import NotInTime
from tests.harness.process import Process

VERSION = "1.37.2"

PLUGINS = ("inputs.mqtt_consumer", "parsers.binary", "outputs.kafka", "serializers.binary")
_DEADLINE = 3600.0  # seconds: two minutes on two fast cores, a Raspberry Pi takes much longer


def program() -> Path:
    """Telegraf's program, which is built now if it is missing. Raises KitError if that fails."""
    target = kit.cache() / f"telegraf-{VERSION}"
    if not target.exists():
        if not shutil.which("go"):
            raise kit.KitError(f"no go to build Telegraf {VERSION} with: install Go 1.25")
        work = kit.cache() / "telegraf.build"  # kept after a failure: the next build continues from it
        work.mkdir(parents=True, exist_ok=True)
        _build(work)
        (work / "telegraf").rename(target)
        shutil.rmtree(work)
    return target


def _build(work: Path) -> None:
    command = ["go", "install", "-ldflags", "-s -w", "-tags", ",".join(("custom", *PLUGINS))]
    env = {
        "GOBIN": str(work),
        "GOMODCACHE": str(work / "modules"),
        "GOCACHE": str(work / "objects"),
        "GOFLAGS": "-modcacherw -trimpath",
        "CGO_ENABLED": "0",
    }
    build = Process(
        f"the building of Telegraf {VERSION}",
        [*command, f"github.com/influxdata/telegraf/cmd/telegraf@v{VERSION}"],
        log=kit.cache() / "telegraf.log",
        cwd=work,
        env={**os.environ, **env},
    )
    sys.stderr.write(f"bench: builds Telegraf {VERSION} from the Go proxy: minutes, once ...\n")
    build.log.unlink(missing_ok=True)
    build.start()
    try:
        build.wait_end(_DEADLINE)
    except (NotInTime, RuntimeError) as error:
        raise kit.KitError(str(error)) from error
    finally:
        build.kill9()
