"""Group words: the tables are groups, and the running products are what a loop over the letters gives."""

import pytest
import torch

from unrolled.looped.tasks import Words, words

ORDER = {"Z2": 2, "S3": 6, "S4": 24, "A5": 60, "S5": 120}


@pytest.mark.parametrize("group", words.GROUPS)
def test_tables_are_groups(group):
    product, n = words.table(group), ORDER[group]
    assert product.shape == (n, n)
    assert torch.equal(product[0], torch.arange(n))
    assert torch.equal(product[:, 0], torch.arange(n))
    for lines in (product, product.T):
        assert torch.equal(lines.sort(dim=1).values, torch.arange(n).expand(n, n))
    a, b, c = torch.randint(n, (3, 500), generator=torch.Generator().manual_seed(0))
    assert torch.equal(product[product[a, b], c], product[a, product[b, c]])


@pytest.mark.parametrize("group", words.GROUPS)
@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_products_are_those_of_a_loop_over_permutations(group, length):
    tokens, targets = Words(group, length=length, batch=3, seed=1)(2)
    listed = words.elements(group)
    for word, wanted in zip(tokens.tolist(), targets.tolist()):
        state = tuple(range(len(listed[0])))
        for letter, product in zip(word, wanted):
            state = tuple(listed[letter][i] for i in state)  # the letter acts after all before it
            assert listed[product] == state


def test_parity_is_the_cumulative_sum_mod_2():
    tokens, targets = Words("Z2", length=200, batch=8)(0)
    assert torch.equal(targets, tokens.cumsum(1) % 2)
    assert 0.4 < tokens.double().mean() < 0.6


def test_lengths_vary_between_batches_when_asked_to():
    task = Words(length=40, shortest=3, batch=1)
    lengths = {task(i)[0].shape[1] for i in range(400)}
    assert lengths == set(range(3, 41))


def test_transpositions():
    task = Words("S5", length=50, batch=50, transpositions=True)
    tokens, _ = task(0)
    assert len(set(tokens.flatten().tolist())) == 11  # ten swaps, and the identity
    assert task.vocab == 120


def test_bad_input():
    with pytest.raises(ValueError, match="no group 'S6'; there are Z2"):
        Words("S6")
    with pytest.raises(ValueError, match="even permutations only"):
        Words("A5", transpositions=True)
    with pytest.raises(ValueError, match="shortest=50"):
        Words(length=40, shortest=50)
    with pytest.raises(ValueError, match="length=0"):
        Words(length=0)
