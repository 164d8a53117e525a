"""The page around the panels: keys, play, history, filters, the drawer on a phone, colours, an address that leads nowhere."""

import pytest
from test_browser import until
from view_server import serving

from unrolled.runs import Run


@pytest.fixture
def home(root, make_run):
    """Two small runs, and one that was never started."""
    make_run(root, seed=0)
    make_run(root, seed=1, study="other-walk", steps=20)
    Run.create("toy-broken", {"preset": "small", "seed": 7}, root=root).end(
        "failed", ValueError("<i>why</i>")
    )
    with serving(root) as made:
        yield made


def told(page):
    return page.locator(".when").inner_text()


def opened(page, home, study="toy-walk"):
    page.goto(home)
    page.locator("#runs a", has_text=study).click()
    page.wait_for_selector(".scrubber:visible")
    until(page, "document.querySelector('.when').textContent.startsWith('cycle')")


def test_keys_move_the_clock_and_leave_fields_alone(home, open_page):
    page = open_page(home)
    opened(page, home)
    assert told(page) == "cycle 0 / 78"
    for key, where in (
        ("ArrowRight", 2),
        ("Shift+ArrowRight", 22),
        ("ArrowLeft", 20),
        ("PageDown", 28),
        ("End", 78),
        ("Home", 0),
    ):
        page.keyboard.press(key)
        assert told(page) == f"cycle {where} / 78"
    page.keyboard.press("/")
    page.keyboard.type("walk ]")
    page.keyboard.press("Home")
    assert page.locator("#search").input_value() == "walk ]"
    assert told(page) == "cycle 0 / 78"
    page.locator("h1").click()
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()


def test_play_goes_to_the_end_and_stops(home, open_page):
    page = open_page(home)
    opened(page, home)
    page.locator(".scrubber select[aria-label=Speed]").select_option("4")
    page.locator("h1").click()
    page.keyboard.press(" ")
    assert page.get_by_role("button", name="Pause").is_visible()
    until(page, "document.querySelector('.when').textContent === 'cycle 78 / 78'", seconds=30)
    page.get_by_role("button", name="Play", exact=True).wait_for()
    page.keyboard.press(" ")  # and from the beginning
    until(page, "document.querySelector('.when').textContent !== 'cycle 78 / 78'")


def test_an_address_brings_back_what_was_seen(home, open_page):
    page = open_page(home)
    opened(page, home)
    page.keyboard.press("End")
    until(page, "location.hash.includes('t=78')")
    address = page.url
    other = open_page(home)
    other.goto(address)
    until(other, "document.querySelector('.when')?.textContent === 'cycle 78 / 78'")


def test_back_and_forward(home, open_page):
    page = open_page(home)
    opened(page, home)
    opened_at = page.url
    page.locator("#runs a", has_text="other-walk").click()
    until(page, "document.querySelector('h1')?.textContent.includes('other-walk')")
    page.go_back()
    until(page, "document.querySelector('h1')?.textContent.includes('toy-walk')")
    assert page.url.split("&")[0] == opened_at.split("&")[0]
    page.go_forward()
    until(page, "document.querySelector('h1')?.textContent.includes('other-walk')")


def test_before_a_run_is_chosen_the_page_says_how(home, open_page):
    page = open_page(home, width=800)
    page.goto(home)
    page.get_by_text("Choose a run from the list").wait_for()
    page.get_by_role("button", name="Show the list").click()
    page.locator("#search").wait_for()


def test_an_empty_folder_says_how_to_make_a_run(tmp_path, open_page):
    with serving(tmp_path) as made:
        page = open_page(made)
        page.goto(made)
        page.get_by_text("There are no runs here yet").wait_for()
        page.close()


def test_the_log_of_a_run_does_not_stretch_its_system_s_clock(root, open_page):
    import torch

    from unrolled.core import Trajectory

    with Run.create("toy-steps", {"preset": "tiny", "seed": 0}, root=root) as run:
        run.save_trajectory(Trajectory.from_records(torch.arange(11), {"x": torch.rand(11)}))
        for step in range(0, 5000, 1000):
            run.log(step=step, loss=1.0)
    with serving(root) as made:
        page = open_page(made)
        page.goto(f"{made}#run=toy-steps/{run.id}")
        until(page, "document.querySelector('.when')?.textContent === 'step 0 / 10'")
        page.wait_for_selector("section[data-kind=metrics]")
        page.wait_for_timeout(300)
        assert told(page) == "step 0 / 10"
        page.close()


def test_filters_and_words_narrow_the_list(home, open_page):
    page = open_page(home)
    page.goto(home)
    rows = page.locator(".list li:visible")
    page.get_by_text("3 runs").wait_for()
    page.locator("select[aria-label=System]").select_option("toy")
    assert rows.count() == 2
    page.locator("select[aria-label=Status]").select_option("failed")
    assert rows.count() == 1
    until(page, "location.hash.includes('status=failed')")
    page.reload()
    page.get_by_text("1 of 3 runs").wait_for()
    page.locator("select[aria-label=Status]").select_option("")
    page.locator("select[aria-label=System]").select_option("")
    page.locator("#search").fill("walk tiny SEED=1")
    assert rows.count() == 1


def test_a_failed_run_says_why_and_how_to_go_on(home, open_page):
    page = open_page(home)
    page.goto(home)
    page.locator("#runs a", has_text="toy-broken").click()
    assert page.locator(".problem.failed").inner_text() == "ValueError: <i>why</i>"
    assert "unrolled resume" in page.locator("article").inner_text()


def test_an_address_that_leads_nowhere_says_so(home, open_page):
    page = open_page(home)
    page.watch.refused = ("error: Failed to load resource",)
    page.goto(f"{home}#run=nothing/here&t=3")
    page.get_by_role("alert").wait_for()
    assert "there is no run nothing/here" in page.get_by_role("alert").inner_text()
    page.locator("#runs a", has_text="toy-walk").click()
    page.wait_for_selector("section.panel")


def test_on_a_phone_the_list_is_a_drawer(home, open_page):
    page = open_page(home, width=380, height=700)
    page.goto(home)
    assert not page.locator("#search").is_visible()
    page.get_by_role("button", name="Runs").click()
    page.locator("#search").wait_for()
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.press("Escape")
    until(page, "getComputedStyle(document.querySelector('#runs')).visibility === 'hidden'")
    page.get_by_role("button", name="Runs").click()
    page.locator("#runs a", has_text="toy-walk").click()
    page.wait_for_selector("section.panel")
    until(page, "getComputedStyle(document.querySelector('#runs')).visibility === 'hidden'")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_colours_are_chosen_and_kept(home, open_page):
    page = open_page(home)
    page.goto(home)
    button = page.get_by_role("button", name="Colours")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    button.click()
    button.click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.reload()
    page.wait_for_selector(".list li")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_everything_can_be_reached_and_named_without_a_mouse(home, open_page):
    page = open_page(home)
    opened(page, home)
    nameless = page.evaluate("""() => [...document.querySelectorAll('button, a, input, select, summary')]
        .filter(n => n.offsetParent && !(n.getAttribute('aria-label') || n.textContent.trim() || n.querySelector('img[alt]') || n.labels?.length))
        .map(n => n.outerHTML.slice(0, 120))""")  # fmt: skip
    assert nameless == []
    page.locator(".list a").first.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Compare with")
