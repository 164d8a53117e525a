"""report.md and its pictures."""

import pytest

from unrolled.languagegame import Policy, picture
from unrolled.languagegame._talk import talk
from unrolled.languagegame.games import GAMES, named
from unrolled.languagegame.reply import Scene

pytest.importorskip("matplotlib", reason="the extra report brings it")


def test_a_report_has_the_talk_and_its_pictures(tmp_path):
    policy = Policy.make("CartPole-v1", "tyson1999")
    said = ["stay balanced", "play <b>chess</b> | # now"]
    path = picture.report([talk(policy, text, points=9) for text in said], tmp_path / "talk")
    text = path.read_text()
    assert "I pushed the cart" in text
    assert "play &lt;b&gt;chess&lt;/b&gt; \\| \\# now" in text
    assert "<b>" not in text
    made = sorted(p.name for p in path.parent.glob("*.png"))
    assert made == ["01-after.png", "01-before.png", "01-inside.png"]
    assert all(f"({name})" in text for name in made)
    assert (path.parent / made[0]).read_bytes() != (path.parent / made[1]).read_bytes()


@pytest.mark.parametrize("game", [g for g in GAMES.values() if not g.extra], ids=lambda g: g.name)
def test_classic_games_are_drawn(game):
    names = ("a", "b", "c", "d")[: 2 if game.name in ("pendulum", "mountaincar") else 4]
    ax = picture.draw(game, Scene((), dict.fromkeys(names, 0.1), 0.0))
    assert ax.lines


def test_what_cannot_be_drawn_is_shown_as_numbers():
    ax = picture.draw(named("hopper"), Scene((), {"a": 1.0, "b": -1.0}, 0.0))
    assert len(ax.patches) == 2
