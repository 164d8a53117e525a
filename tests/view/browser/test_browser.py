"""The page in a real browser: every panel of every system, scrubbed, compared, talked to, bundled, and lied to."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fixture_runs import HOSTILE
from view_server import serving

from unrolled.runs import Run

PANELS = {
    "cortex-ra25": {"raster", "lines", "bars", "heatmap", "record", "metrics"},
    "curvature-text": {"lines", "scatter", "raster", "metrics"},
    "debate-fixture": {"graph", "bars", "transcript"},
    "latent-superposition": {"frontier", "lens", "lines", "metrics"},
    "looped-fixture": {"heatmap", "lens", "lines", "metrics"},
    "looped-speed": {"lines"},
    "sbml-networks": {"lines", "phase"},
    "game-fixture": {"lines", "talk", "frames", "metrics"},
    "my-own-system": {"record", "reading", "metrics"},
    "every-kind": {"bars", "frames", "frontier", "graph", "heatmap", "lens", "lines", "phase", "raster", "scatter", "table", "talk", "transcript"},
}  # fmt: skip

BLANK = """node => {
  const empty = (c) => {
    const other = document.createElement('canvas');
    [other.width, other.height] = [c.width, c.height];
    return c.toDataURL() === other.toDataURL();
  };
  const drawn = [...node.querySelectorAll('canvas')].some(c => c.width && c.height && !empty(c));
  return !(drawn || node.querySelector('table, ol > li, input, dl'));
}"""

CLICK = """most => {
  const all = document.querySelectorAll('section.panel[data-kind]:not([data-kind=talk]) .body button');
  for (const button of [...all].slice(0, most)) if (button.isConnected && !button.disabled) button.click();
  for (const select of document.querySelectorAll('section.panel .body select'))
    for (const option of [...select.options].reverse()) {
      select.value = option.value;
      select.dispatchEvent(new Event('change'));
    }
  for (const summary of [...document.querySelectorAll('section.panel .panel-details summary')].slice(0, 20)) summary.click();
}"""

TROUBLE = "section.panel .panel-error[role=alert], section.panel .problem"


def until(page, told: str, arg=None, seconds: float = 15.0):
    """Wait for an expression of the page to be true. (Its policy forbids `wait_for_function`, which evaluates text.)"""
    end = time.monotonic() + seconds
    while not page.evaluate(told, arg):
        assert time.monotonic() < end, f"never true: {told}"
        page.wait_for_timeout(40)


def seen(page, kind: str, text: str, board: int = 1):
    """Wait until the canvas of a panel says a text to those who cannot see it."""
    until(page, f"""document.querySelectorAll('article.board')[{board - 1}]?.querySelector('section[data-kind={kind}] canvas')
        ?.getAttribute('aria-label').includes({text!r})""")  # fmt: skip


def reference(root: Path, study: str) -> str:
    return f"{study}/{next(path.name for path in sorted((root / study).iterdir()) if path.is_dir())}"


def look(page, home, **wanted):
    """Open the page at a state, and wait for its first panel."""
    page.goto(home + "#" + "&".join(f"{key}={value}" for key, value in wanted.items()))
    page.wait_for_selector("section.panel")


def built(page):
    """All panels, each brought near the window and drawn; the sections."""
    sections = page.locator("section.panel")
    for k in range(sections.count()):
        sections.nth(k).evaluate("node => node.scrollIntoView()")
        sections.nth(k).locator(".body > *").first.wait_for(state="attached")
    page.wait_for_timeout(150)  # two frames and an answer from this machine
    return sections


@pytest.mark.parametrize("study", PANELS)
def test_every_panel_draws_scrubs_and_answers_to_clicks(study, runs, address, open_page):
    page = open_page(address)
    look(page, address, run=reference(runs, study))
    until(
        page,
        "document.querySelectorAll('section.panel[data-kind]').length === document.querySelectorAll('section.panel').length",
    )
    kinds = set(page.eval_on_selector_all("section.panel", "all => all.map(n => n.dataset.kind)"))
    assert kinds >= PANELS[study]
    for one in built(page).all():
        label = one.get_attribute("aria-label")
        deadline = time.monotonic() + 10
        while one.evaluate(BLANK) and time.monotonic() < deadline:
            page.wait_for_timeout(50)
        assert not one.evaluate(BLANK), f"{label} shows nothing"
    assert page.locator(TROUBLE).all_inner_texts() == []
    mute = """[...document.querySelectorAll('button, input, select, summary, [role=region], [tabindex="0"]')]
        .filter(n => !(n.getAttribute('aria-label') || n.innerText || n.labels?.length || n.closest('[aria-label]:not(body)')))
        .map(n => n.outerHTML.slice(0, 80))"""
    assert page.evaluate(mute) == [], "controls that a screen reader cannot name"
    unnamed = page.eval_on_selector_all(
        "section.panel canvas[role=img]", "all => all.filter(n => !n.getAttribute('aria-label')).length"
    )
    assert unnamed == 0, "canvases without a name"
    # Each panel: its buttons, its choices, its table of values; then through time.
    page.evaluate(CLICK, 60)
    page.wait_for_timeout(300)
    page.evaluate("window.scrollTo(0, 0)")
    for key in ("End", "Home", "ArrowRight"):
        page.locator("body").press(key)
    page.wait_for_timeout(200)
    assert page.locator(TROUBLE).all_inner_texts() == []
    empty = "[...document.querySelectorAll('section.panel .panel-details[open]')].filter(d => !d.querySelector('td')).length"
    until(page, f"{empty} === 0")


def test_the_scrubber_moves_panels_and_the_address(runs, address, open_page):
    page = open_page(address)
    look(page, address, run=reference(runs, "debate-fixture"))
    graph = page.locator("section[data-kind=graph] canvas")
    graph.wait_for()
    seen(page, "graph", "round 0")
    page.locator("body").press("ArrowRight")
    page.locator("body").press("ArrowRight")
    seen(page, "graph", "round 2")
    until(page, "location.hash.includes('t=2')")
    page.reload()
    seen(page, "graph", "round 2")
    # A click in a panel moves all of them.
    page.locator("section[data-kind=transcript] .panel-link", has_text="round 4").first.click()
    seen(page, "graph", "round 4")
    assert "round 4" in page.locator("section[data-kind=bars] canvas").get_attribute("aria-label")
    page.get_by_role("button", name="Play").click()
    seen(page, "graph", "round 5")


def test_two_runs_side_by_side_follow_one_scrubber(runs, address, open_page):
    page = open_page(address)
    first, second = reference(runs, "debate-fixture"), reference(runs, "every-kind")
    look(page, address, run=first, **{"with": second})
    page.wait_for_selector("article.board:nth-of-type(2) section[data-kind=graph] canvas")
    page.wait_for_selector("article.board:nth-of-type(1) section[data-kind=graph] canvas")
    page.locator("body").press("ArrowRight")
    page.locator("body").press("ArrowRight")
    page.locator("body").press("ArrowRight")
    both = "[...document.querySelectorAll('section[data-kind=graph] canvas')].filter(c => c.getAttribute('aria-label').includes('round 3')).length === 2"
    until(page, both)
    page.get_by_role("button", name=re.compile("Stop comparing")).click()
    until(page, "document.querySelectorAll('article.board').length === 1")


def test_hostile_words_stay_words(runs, address, open_page):
    page = open_page(address)
    look(page, address, run=reference(runs, "every-kind"))
    built(page)
    assert "taken" not in page.title()
    assert (
        page.evaluate(
            "document.querySelectorAll('section.panel script, section.panel img, section.panel style').length"
        )
        == 0
    )
    said = page.locator("section[data-kind=transcript]")
    shown = said.inner_text()
    assert HOSTILE[0] in shown
    assert "⟨U+202E⟩gnirts" in shown
    assert "⟨U+0007⟩bell" in shown
    assert not set(shown) & set("\u202e\u202c\u2066\u2069\u200b\u0007")
    assert len(shown) < 20_000, "a line of a megabyte is folded"
    said.get_by_role("button", name=re.compile("show more")).click()
    assert 20_000 < len(said.inner_text()) < 60_000, "and never shown whole"


def test_talking_says_why_when_nobody_is_there(runs, address, open_page):
    page = open_page(address)
    page.watch.refused = ("error: Failed to load resource",)
    look(page, address, run=reference(runs, "every-kind"))
    talk = page.locator("section[data-kind=talk]")
    talk.scroll_into_view_if_needed()
    talk.locator("input").fill("<b>go left</b>")
    talk.locator("form button").click()
    talk.locator("li.failed").wait_for()
    assert "<b>go left</b>" in talk.inner_text()
    assert talk.locator("b").count() == 0
    assert talk.locator("form button").is_enabled()


def test_talking_to_a_trained_network(runs, address, open_page):
    page = open_page(address)
    look(page, address, run=reference(runs, "game-fixture"))
    talk = page.locator("section[data-kind=talk]")
    talk.evaluate("node => node.scrollIntoView()")
    talk.locator("input").fill("stay balanced")
    talk.locator("form button").click()
    talk.locator(".talk-panel").first.wait_for(timeout=60_000)
    assert talk.locator("li").count() == 2, "a question and its answer"
    assert talk.locator(".talk-panel .u-over").count() == 1, "concentrations"
    assert talk.locator(".talk-panel").filter(has_text="phase portrait").locator("canvas").count() == 1
    pictures = talk.locator(".talk-panel figure canvas")
    assert pictures.count() == 2, "the pole before and after"
    assert pictures.first.evaluate("c => c.width * c.height") > 1000
    # What it cannot do, it says; and what was asked stays text.
    talk.locator("input").fill("<img src=x onerror=alert(1)>")
    talk.locator("form button").click()
    until(
        page, "document.querySelectorAll('section[data-kind=talk] li:not(.waiting)').length === 4", seconds=60
    )
    assert talk.locator("img").count() == 0
    assert "<img src=x" in talk.inner_text()
    assert talk.locator("li.failed").count() == 0


def test_what_is_damaged_is_named_and_the_rest_is_shown(tmp_path, open_page):
    with Run.create("damaged", {"preset": "none", "seed": 0}, root=tmp_path) as run:
        for step in range(20):
            run.log(step=step, loss=1 / (step + 1))
        run.save_exhibit("good", "lines", title="good", t=[0, 1], arrays={"a": [1.0, 2.0]})
        run.save_exhibit("cut", "lines", title="cut", t=[0, 1], arrays={"a": [1.0, 2.0]})
        run.save_exhibit("torn", "table", title="torn", data={"columns": ["a"], "rows": [[1]]})
    parquet = run.path / "metrics.parquet"
    parquet.write_bytes(parquet.read_bytes()[: parquet.stat().st_size // 2])
    cut = run.path / "exhibits" / "cut.safetensors"
    cut.write_bytes(cut.read_bytes()[:-3])
    (run.path / "exhibits" / "torn.json").write_text('{"kind": "table", "data": {"columns"')
    (run.path / "exhibits" / "strange.json").write_text(
        json.dumps({"kind": "bars", "title": "strange", "data": {}, "arrays": {}, "t": None})
    )
    (run.path / "claims.json").write_text("{")
    with serving(tmp_path) as home:
        page = open_page(home)
        page.watch.refused = ("error: Failed to load resource",)
        look(page, home, run=f"damaged/{run.id}")
        page.locator("section[data-source='exhibits/good'] canvas").wait_for()
        page.wait_for_timeout(500)
        built(page)
        told = page.locator(".problem, .panel-error").all_inner_texts()
        assert len(told) >= 4, told
        assert not any("Traceback" in text or "undefined" in text for text in told), told
        page.close()


def test_a_folder_without_permission_is_passed_over(tmp_path, open_page):
    """In a server of its own, which has laid down the powers of root."""
    for seed in range(3):
        with Run.create("several", {"preset": "none", "seed": seed}, root=tmp_path) as run:
            run.log(step=0, loss=1.0)
    closed = run.path
    command = [
        sys.executable,
        "-c",
        f"from pathlib import Path; from unrolled.view import server; server.serve(Path({str(tmp_path)!r}), port=0, ready=lambda a: print(a, flush=True))",
    ]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    closed.chmod(0)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        home = process.stdout.readline().strip()
        page = open_page(home)
        page.goto(home)
        until(page, "document.querySelectorAll('#runs a[href], #runs li').length >= 2")
        open_one = next(path for path in sorted((tmp_path / "several").iterdir()) if path != closed)
        look(page, home, run=f"several/{open_one.name}")
        page.locator("section[data-kind=metrics]").wait_for()
        page.close()
    finally:
        closed.chmod(0o755)
        process.terminate()
        process.wait(10)


def test_a_thousand_runs(tmp_path, open_page):
    for k in range(1000):
        folder = tmp_path / f"study-{k % 7}" / f"20260101-{k:06d}-0123abcd"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"preset": "tiny" if k % 2 else "small", "seed": k}))
        (folder / "status.json").write_text(
            json.dumps({"state": "finished", "created": 1.7e9 + k, "time": 1.7e9 + k})
        )
    with serving(tmp_path) as home:
        page = open_page(home)
        page.goto(home)
        page.get_by_text("1000 runs").wait_for()
        page.locator("#runs input").first.fill("study-3")
        until(page, "/14[23] (of|runs)/.test(document.querySelector('#runs').innerText)")
        page.close()


def test_a_thinned_curve_still_tells_the_value_itself(tmp_path, open_page):
    values = torch.rand(50_000, generator=torch.Generator().manual_seed(0))
    with Run.create("long", {"preset": "none", "seed": 0}, root=tmp_path) as run:
        run.save_exhibit("lines", "lines", title="long", unit="cycle", t=range(50_000), arrays={"a": values})
    with serving(tmp_path) as home:
        page = open_page(home)
        look(page, home, run=f"long/{run.id}", unit="cycle", t=12_345)
        page.locator("section[data-kind=lines] .u-over").wait_for()
        until(
            page,
            f"Math.abs(Number(document.querySelector('.panel-now').textContent) - {float(values[12_345])}) < 1e-4",
        )
        page.locator("section[data-kind=lines] .panel-button", has_text="closer").click()
        page.locator("section[data-kind=lines] .panel-details summary").click()
        page.locator("section[data-kind=lines] td").first.wait_for()
        page.close()


def test_a_live_run_streams_and_a_killed_one_is_lost(tmp_path, open_page):
    with Run.create("live", {"preset": "none", "seed": 0}, root=tmp_path) as run, serving(tmp_path) as home:
        run.log(step=0, loss=3.0)
        run.log(step=1, loss=2.0)
        page = open_page(home)
        look(page, home, run=f"live/{run.id}")
        page.locator("section[data-kind=metrics] .u-over").wait_for()
        assert "running" in page.locator("article.board header").inner_text()
        for step in range(2, 12):
            run.log(step=step, loss=1.0 / step)
        run.save_exhibit("later", "table", title="came later", data={"columns": ["a"], "rows": [["hello"]]})
        page.locator("section[data-kind=table]", has_text="hello").wait_for()
        until(page, "document.querySelector('.scrubber output')?.innerText.includes('/ 11')")
        page.close()
    code = (
        "import os, signal; from unrolled.runs import Run\n"
        f"run = Run.create('killed', {{'preset': 'none', 'seed': 1}}, root={str(tmp_path)!r})\n"
        "run.log(step=0, loss=1.0); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    with serving(tmp_path) as home:
        page = open_page(home)
        look(page, home, run=reference(tmp_path, "killed"))
        page.get_by_text("This run is lost").wait_for()
        page.close()


def test_nothing_sticks_out(runs, address, open_page):
    for study in ("looped-fixture", "every-kind"):
        page = open_page(address, width=380)
        look(page, address, run=reference(runs, study))
        for width in (380, 800, 1600):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(300)
            built(page)
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{study} is {wide} px wide on {width}"
        page.close()


def test_dark_and_light_redraw(runs, address, open_page):
    page = open_page(address)
    look(page, address, run=reference(runs, "cortex-ra25"))
    built(page)
    before = page.evaluate("document.querySelector('section[data-kind=raster] canvas').toDataURL()")
    page.get_by_role("button", name=re.compile("Colours")).click()
    page.get_by_role("button", name=re.compile("Colours")).click()
    until(
        page,
        "was => document.querySelector('section[data-kind=raster] canvas').toDataURL() !== was",
        arg=before,
    )


def test_the_bundle_opens_from_the_disk(runs, tmp_path, open_page):
    from unrolled.view import bundle

    wanted = [
        Run.open(runs / reference(runs, study))
        for study in ("debate-fixture", "looped-fixture", "my-own-system", "every-kind")
    ]
    index = bundle.write(wanted, tmp_path / "site")
    home = (tmp_path / "site").as_uri()
    page = open_page(home)
    for run in wanted:
        page.goto(f"{index.as_uri()}#run={run.study}/{run.id}")
        page.reload()
        page.wait_for_selector("section.panel")
        built(page)
        assert page.locator(TROUBLE).all_inner_texts() == []
        page.evaluate("window.scrollTo(0, 0)")
        page.locator("body").press("ArrowRight")
        page.wait_for_timeout(100)
    assert "taken" not in page.title()
