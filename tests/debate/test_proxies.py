"""A15: the forest on proxies, split by question, beside its permutation baseline."""

import pytest
import torch
from _cases import debates, system

from unrolled.debate import DebateLog, Question, fit
from unrolled.debate.proxies import _table, _within, proxies
from unrolled.studies._debate import generated

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra proxies)")


def test_confidence_that_was_built_in_is_found_and_beats_the_shuffles():
    log, _ = generated(30, 5, 0.001, torch.Generator().manual_seed(0))
    found = proxies(log, fit(log.beliefs), trees=20, shuffles=9)
    assert found.score > 0.2 > float(found.shuffled.max())
    assert found.p_value == pytest.approx(0.1)
    assert found.top > 2 * found.chance
    assert (
        found.importance["confidence"] > 0.05
    )  # what was built in; alignment goes with it and takes its share
    assert "shuffled within questions" in str(found)


def test_influence_that_has_nothing_to_do_with_first_beliefs_is_not_explained():
    rng = torch.Generator().manual_seed(1)
    questions = [
        Question(f"q{i}", debates(system(4, rng), 5, 5, 1, rng)[0], tuple("ABCDE"), tuple("wxyz"))
        for i in range(25)
    ]
    log = DebateLog(questions)
    found = proxies(log, fit(log.beliefs), trees=20, shuffles=9)
    assert found.score < 0.1
    assert found.p_value > 0.1


def test_shuffles_stay_within_questions():
    groups = torch.tensor([0, 0, 0, 1, 1])
    values = torch.tensor([1.0, 2.0, 3.0, 10.0, 20.0])
    made = _within(values, groups, torch.Generator().manual_seed(0))
    assert made[:3].sort().values.tolist() == [1, 2, 3]
    assert made[3:].sort().values.tolist() == [10, 20]


def test_what_is_not_identified_is_left_out():
    log, _ = generated(6, 5, 0.001, torch.Generator().manual_seed(2))
    log.questions[0].beliefs = log.questions[0].beliefs[:2]  # one transition
    fits = fit(log.beliefs)
    assert 0 not in _table(log, fits)[2]
    with pytest.raises(ValueError, match="5 of 6 questions are identified.*8 folds need 8"):
        proxies(log, fits, folds=8)
    with pytest.raises(ValueError, match="nothing to explain"):
        proxies(log.select([0]), fits[:1])
