"""Make docs/images/view-<system>.png anew: `python tests/view/browser/screenshots.py [SYSTEM...]`.

The runs are those of the browser tests, some of them a little larger. Each image stays below 150 kB.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

LARGEST = 150_000  # bytes
IMAGES = Path(__file__).parents[3] / "docs" / "images"
LM = {
    "width": 48,
    "heads": 4,
    "steps": 200,
    "batch": 8,
    "context": 40,
    "text_bytes": 1_000_000,
    "loops": 3,
    "curve": (1, 2, 3, 4, 5),
    "shown": 36,
}
WIDTH, HEIGHT = 1400, 980


def made(system: str, root: Path) -> tuple[Path, str, list[str]]:
    """A system's run, the time to show (its unit and value), and the panels that are to be in the picture, by their kinds."""
    import fixture_runs as fixtures

    if system == "cortex":
        return (
            fixtures.study("cortex-ra25", root, epochs=6, hidden=10, trials=16),
            "unit=cycle&t=165",
            ["raster"],
        )
    if system == "optim":
        return (
            fixtures.study("curvature-text", root, steps=80, warmup=8, probe_every=4),
            "unit=step&t=40",
            ["lines"],
        )
    if system == "debate":
        return fixtures.study("debate-recorded", root, questions=12, shuffles=20), "unit=round&t=2", ["graph"]
    if system == "looped":
        return fixtures.study("looped-lm", root, **LM), "unit=loop&t=3", ["heatmap"]
    if system == "latent":
        return fixtures.study("latent-superposition", root), "unit=thought&t=2", ["frontier"]
    if system == "languagegame":
        return fixtures.study("game-cartpole", root, steps=60_000, wide=()), "unit=moment&t=40", ["talk"]
    raise SystemExit(f"no system {system!r}; there are {', '.join(SYSTEMS)}")


SYSTEMS = ("cortex", "optim", "debate", "languagegame", "looped", "latent")


def main(wanted: list[str]) -> None:
    """Draw and save."""
    from PIL import Image
    from playwright.sync_api import sync_playwright
    from view_server import serving

    from conftest import CHROMIUM, FLAGS

    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder)
        runs = {system: made(system, root) for system in wanted}
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with serving(root) as home:
            for system, (path, time, kinds) in runs.items():
                page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, reduced_motion="reduce")
                page.goto(f"{home}#run={path.parent.name}/{path.name}&{time}")
                page.locator(f"section[data-kind={kinds[0]}] .body > *").first.wait_for()
                page.evaluate("document.querySelector('.claims details')?.removeAttribute('open')")
                if kinds[0] == "talk":
                    talk = page.locator("section[data-kind=talk]")
                    talk.locator("button.panel-name").first.click()
                    talk.locator(".talk-panel canvas").first.wait_for(timeout=60_000)
                page.wait_for_timeout(1200)
                file = IMAGES / f"view-{system}.png"
                page.screenshot(path=file)
                page.close()
                with Image.open(file) as image:
                    image = image.convert("RGB")
                image.save(file, optimize=True)
                if file.stat().st_size > LARGEST:
                    image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
                        file, optimize=True
                    )
                size = file.stat().st_size
                print(f"{file.relative_to(IMAGES.parents[1])}: {size // 1000} kB")
                if size > LARGEST:
                    raise SystemExit(f"{file.name} has {size} bytes, the most is {LARGEST}")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:] or list(SYSTEMS))
