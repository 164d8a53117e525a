import re
from xml.etree import ElementTree

import numpy as np
import pytest

from unrolled.report import figures

pyplot = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def close():
    yield
    pyplot.close("all")


def lines(n=50, **kw):
    with figures.style():
        figure, ax = pyplot.subplots()
        ax.plot(np.arange(n), np.random.default_rng(0).standard_normal(n), **kw)
        ax.set(xlabel="step", title="$x_t$")
    return figure, ax


def test_an_svg_takes_its_ink_from_the_page_and_has_no_ground():
    figure, ax = lines(color=figures.PLUS)
    ax.text(10, 0, "black by name", color="k")
    ax.axhline(0, color="black")
    svg = figures.draw(figure).svg
    body = svg[svg.index("</style>") :]
    assert "currentColor" in body
    assert figures.PLUS.lower() in body.lower()
    assert not re.search(r"#000000|#ffffff", body)
    assert figures.INK not in body
    patch = re.search(r'<g id="patch_1">.*?</g>', body, re.DOTALL)[0]
    assert re.search(r"fill: none|opacity: 0", patch)


def test_an_svg_fetches_nothing_and_styles_only_itself():
    svg = figures.draw(lines()[0]).svg
    links = [
        link for link in re.findall(r"https?://[^\"'\s]+", svg) if not link.startswith("http://www.w3.org/")
    ]
    assert not links
    assert "DOCTYPE" not in svg
    for rule in re.findall(r"<style[^>]*>(.*?)</style>", svg, re.DOTALL):
        assert set(re.findall(r"([^{}\s][^{}]*?)\s*\{ color", rule)) <= {
            "svg:root",
            "@media (prefers-color-scheme: dark) { svg:root",
        }
    ElementTree.fromstring(svg)


def test_same_figure_same_text():
    assert figures.draw(lines()[0]).svg == figures.draw(lines()[0]).svg


def test_long_lines_are_thinned_in_the_file_and_whole_in_the_figure():
    figure, ax = lines(200_000)
    line = ax.get_lines()[0]
    before = line.get_xydata().copy()
    drawing = figures.draw(figure)
    assert len(drawing.svg) < 150_000
    assert "of 200,000 points" in drawing.notes[0]
    assert np.array_equal(line.get_xydata(), before)


def test_crowded_scatter_and_image_are_drawn_as_images():
    figure, ax = lines()
    rng = np.random.default_rng(0)
    dots = ax.scatter(*rng.standard_normal((2, 20_000)))
    mesh = ax.pcolormesh(rng.standard_normal((200, 200)))
    drawing = figures.draw(figure)
    assert len(drawing.svg) < figures.LIMIT
    assert "data:image/png;base64," in drawing.svg
    assert not dots.get_rasterized()
    assert not mesh.get_rasterized()


def test_a_drawing_over_the_limit_becomes_an_image_and_says_so():
    figure, ax = lines(1500)
    for _ in range(30):
        ax.plot(np.random.default_rng(1).standard_normal(1500))
    large = figures.draw(figure, limit=10**9)
    small = figures.draw(figure, limit=100_000)
    assert len(small.svg) < len(large.svg) / 2
    assert not large.notes
    assert "image" in small.notes[0]


def test_few_points_are_left_alone():
    assert figures.draw(lines(100)[0]).notes == ()


@pytest.mark.parametrize("n", [101, 1000, 99_999])
def test_thinning_keeps_ends_extremes_and_gaps(n):
    rng = np.random.default_rng(n)
    y = rng.standard_normal(n)
    y[n // 3] = np.nan
    y[n // 2], y[n // 2 + 1] = 50.0, -50.0
    kept = figures.thin(np.arange(n), y, 100)
    assert {0, n - 1, n // 2, n // 2 + 1} <= set(kept.tolist())
    assert np.isnan(y[kept]).any()
    assert len(kept) <= 100 + 4 + 1
    assert (np.diff(kept) > 0).all()


def test_thinning_survives_all_nan_and_loops():
    assert len(figures.thin(np.arange(5000), np.full(5000, np.nan), 100)) <= 102
    angle = np.linspace(0, 20, 5000)
    kept = figures.thin(np.cos(angle), np.sin(angle), 100)
    assert 90 <= len(kept) <= 102
    assert kept[-1] == 4999


def test_caption_travels_in_the_file(tmp_path):
    caption = "Loss <a> & b"
    figures.save(lines()[0], tmp_path / "deep" / "loss.svg", caption=caption)
    svg = (tmp_path / "deep" / "loss.svg").read_text()
    assert figures.description(svg) == caption
    ElementTree.fromstring(svg)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["loss.svg"]


def test_two_drawings_on_a_page_share_no_id():
    svg = figures.draw(lines()[0]).svg
    one, two = (figures.inline(svg, prefix=p) for p in ("a", "b"))
    ids = [set(re.findall(r'\sid="([^"]+)"', text)) for text in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for text, own in zip((one, two), ids):
        used = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
        assert used
        assert used <= own


def test_inline_drops_what_reaches_beyond_the_drawing():
    text = figures.inline(figures.draw(lines()[0], caption="c").svg, prefix="a", label='say "this" & <that>')
    assert "<style" not in text
    assert "<?xml" not in text
    assert ElementTree.fromstring(text).get("aria-label") == 'say "this" & <that>'


@pytest.mark.parametrize("bad", ["", "not xml", "<html></html>", "<svg><g></svg>"])
def test_inline_refuses_what_is_no_svg(bad):
    with pytest.raises(ValueError, match="no SVG"):
        figures.inline(bad, prefix="a")


def test_style_is_gone_after_the_block():
    import matplotlib

    before = matplotlib.rcParams["axes.spines.top"], matplotlib.rcParams["text.color"]
    with figures.style():
        assert matplotlib.rcParams["text.color"] == figures.INK
    assert (matplotlib.rcParams["axes.spines.top"], matplotlib.rcParams["text.color"]) == before
