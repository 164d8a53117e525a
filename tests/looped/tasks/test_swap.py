"""Swap programs: an interpreter gives every answer; the curriculum stops where it should."""

import pytest

from unrolled.looped.tasks import Curriculum, Swap


@pytest.mark.parametrize(("n", "m"), [(2, None), (8, None), (16, 40), (5, 0), (64, None)])
def test_an_interpreter_gives_every_answer(n, m):
    task = Swap(n=n, m=m, n_max=64, batch=8, seed=2)
    tokens, targets = task(1)
    m = n if m is None else m
    assert tokens.shape == targets.shape == (8, 4 * n + 3 * m)
    assert task.length == 4 * n + 3 * m
    for row, wanted in zip(tokens.tolist(), targets.tolist()):
        held = dict(zip(row[0 : 2 * n : 2], row[1 : 2 * n : 2]))
        assert len(held) == len(set(held.values())) == n
        assert all(0 <= c < 64 <= v < 128 for c, v in held.items())
        for t in range(2 * n, 2 * n + 3 * m, 3):
            word, i, j = row[t : t + 3]
            assert word == 128
            assert i != j
            held[i], held[j] = held[j], held[i]
        queries = row[2 * n + 3 * m :]
        assert sorted(queries[0::2]) == sorted(held)
        assert set(queries[1::2]) == {129}
        assert wanted[2 * n + 3 * m + 1 :: 2] == [held[c] for c in queries[0::2]]
        assert sum(x != -100 for x in wanted) == n


def test_the_curriculum_stops_at_a_stage_that_is_not_passed():
    trained = []
    plan = Curriculum(stages=(2, 4, 8), cap=250, every=100)
    went = plan.run(lambda n, steps: trained.append((n, steps)), lambda n: 1.0 if n == 2 else 0.5)
    assert went == [(2, 100, 1.0), (4, 250, 0.5)]
    assert trained == [(2, 100), (4, 100), (4, 100), (4, 50)]
    assert plan.largest(went) == 2
    assert plan.largest([]) == 0


def test_bad_input():
    with pytest.raises(ValueError, match="n=65"):
        Swap(n=65)
    with pytest.raises(ValueError, match="n=1"):
        Swap(n=1)
    with pytest.raises(ValueError, match="needs stages"):
        Curriculum(stages=()).run(lambda n, s: None, lambda n: 0.0)
