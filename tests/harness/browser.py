"""A real Chromium that shows the page: what it drew, what it asked for, what it complained about."""

import contextlib
import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

from tests.harness import kit
from tests.harness.kit import KitError

AXE = "axe-core@4.14.1"
_AXE_SHA256 = "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"  # of npm's package

Scheme = Literal["light", "dark"]


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium. It talks to nobody by itself."""
    if not (path := shutil.which("chromium")):
        raise KitError("no chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-background-networking"]
        )
        try:
            yield browser
        finally:
            browser.close()


class Screen:
    """One open page. `asked` are the URLs of its requests, `complaints` its errors."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self._has_axe = False
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    @property
    def text(self) -> str:
        """What a person can read, without colours and drawings."""
        return self.page.inner_text("body")

    @property
    def sentence(self) -> str:
        return " ".join(self.page.inner_text("#verdict .sentence").split())

    def look(self, width: int, scheme: Scheme) -> None:
        """Look at the page in a window of `width` pixels, with a light or a dark system."""
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")

    def picture(self, file: Path) -> None:
        self.page.screenshot(path=file, full_page=True)

    def is_wider_than_the_window(self) -> bool:
        width: bool = self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
        return width

    def axe(self) -> list[str]:
        """What axe-core finds wrong, one line each. axe runs outside of the page's CSP."""
        if not self._has_axe:
            session = self.page.context.new_cdp_session(self.page)
            session.send("Runtime.evaluate", {"expression": axe_source()})
            self._has_axe = True
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{each['id']}: {node['html']} {node['failureSummary']}"
            for each in found["violations"]
            for node in each["nodes"]
        ]


@contextlib.contextmanager
def screen(browser: Browser, url: str) -> Iterator[Screen]:
    """Open the page in a context of its own, and wait until it has drawn a state."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    try:
        made = Screen(context.new_page())
        made.page.goto(url)
        made.page.wait_for_selector("#verdict .sentence")
        yield made
    finally:
        context.close()


def axe_source() -> str:
    """axe.min.js of npm's package, whose hash is checked. Downloaded once, into the harness's cache."""
    packed = kit.cache() / "axe-core-4.14.1.tgz"
    if not packed.exists():
        packed.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "pack", "--silent", AXE], cwd=packed.parent, check=True, stdout=subprocess.DEVNULL
        )
    data = packed.read_bytes()
    if hashlib.sha256(data).hexdigest() != _AXE_SHA256:
        raise KitError(f"{packed} is not {AXE}: remove the file")
    with tarfile.open(fileobj=io.BytesIO(data)) as files:
        source = files.extractfile("package/axe.min.js")
        assert source is not None
        return source.read().decode()
