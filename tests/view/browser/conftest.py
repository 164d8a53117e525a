"""A browser, a server over runs of every system, and pages that may neither complain nor call anybody else."""

import fcntl
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # helpers shared by these tests

CHROMIUM = os.environ.get("UNROLLED_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip


def missing(why: str) -> None:
    """No browser: an error where one is required, a skip that says why elsewhere."""
    if os.environ.get("CI") or os.environ.get("UNROLLED_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{why}; on Debian: apt-get install chromium, and pip install playwright", pytrace=False)
    pytest.skip(why)


@pytest.fixture(scope="session")
def browser():
    if not Path(CHROMIUM).exists():
        missing(f"no browser at {CHROMIUM} (UNROLLED_CHROMIUM names another place)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        missing(f"playwright is not installed ({error})")
        raise
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@pytest.fixture(scope="session")
def runs(browser, tmp_path_factory):
    """The folder of fixture runs; several workers of pytest make it once."""
    from fixture_runs import all_of_them

    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (base / "view-runs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / "view-runs.done").exists():
            all_of_them(base / "view-runs")
            (base / "view-runs.done").touch()
    return base / "view-runs"


@pytest.fixture(scope="session")
def address(runs):
    from view_server import serving

    with serving(runs) as made:
        yield made


class Watch:
    """What a page did that it should not have."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.refused: tuple[str, ...] = ()
        """beginnings of complaints that a test expects"""

    def follow(self, page) -> None:
        page.on(
            "console",
            lambda m: m.type in ("error", "warning") and self.complaints.append(f"{m.type}: {m.text}"),
        )
        page.on("pageerror", lambda error: self.complaints.append(f"thrown: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))

    def check(self, home: str) -> None:
        """No complaint but those expected, no request but to `home`."""
        bad = [text for text in self.complaints if not text.startswith(self.refused or ("\0",))]
        assert not bad, bad
        away = [url for url in self.requests if not url.startswith((home, "data:", "blob:"))]
        assert not away, f"requests to somebody else: {away}"


@pytest.fixture
def open_page(browser):
    """Opens pages, 1200 px wide by default; each is held to silence at the end."""
    contexts, watches = [], []

    def make(home: str, *, width: int = 1200, height: int = 900, dark: bool = False):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.watch = Watch()
        page.watch.follow(page)
        contexts.append(context)
        watches.append((page.watch, home))
        return page

    yield make
    for context in contexts:
        context.close()
    for watch, home in watches:
        watch.check(home)
