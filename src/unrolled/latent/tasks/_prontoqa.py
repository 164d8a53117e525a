"""ProntoQA: is it true or false that Max is bright? A chain of concepts says, among others that do not matter."""

import itertools
import random

from unrolled.latent.tasks._prosqa import CONCEPTS, PEOPLE
from unrolled.latent.tasks.problem import Problem

PROPERTIES = ["aggressive", "amenable", "bitter", "bright", "brown", "cold", "dull", "earthy", "feisty", "floral", "fruity", "happy", "hot", "kind", "large", "liquid", "luminous", "metallic", "moderate", "nervous", "opaque", "orange", "rainy", "sour", "spicy", "sunny", "sweet", "temperate", "transparent", "wooden"]  # fmt: skip


def prontoqa(count: int, *, seed: int, hops: int = 5, branches: int = 3) -> list[Problem]:
    """Problems in the manner of ProntoQA's fictional ontologies (2210.01240), questions of 5 hops (latent sheet, c.2).

    A chain of concepts, each with a property of its own, and a person who is the first of them. The question is a
    property of the last, negated half the time, in the rules or in the query; distractors are properties of the other
    concepts, and concepts that branch off. Steps come in two sentences a hop: what it is, and the rule that is used.

    Args:
        count: how many.
        seed: same seed, same problems.
        hops: concepts on the chain.
        branches: further parents of concepts on the chain, which lead nowhere.

    Raises:
        ValueError: a size that cannot be.

    Example:
        >>> [problem] = prontoqa(1, seed=0)
        >>> len(problem.steps), problem.answer in ("True", "False")
        (6, True)
    """
    if count < 0 or hops < 1 or branches < 0 or hops + branches > len(CONCEPTS) or hops > len(PROPERTIES):
        raise ValueError(
            f"prontoqa: count {count} must be >= 0, hops {hops} in 1 .. {len(PROPERTIES)}, and hops + branches "
            f"{hops + branches} at most {len(CONCEPTS)}"
        )
    rng = random.Random(seed)
    return [tell(rng, hops, branches) for _ in range(count)]


def tell(rng: random.Random, hops: int, branches: int) -> Problem:
    """One problem."""
    concepts = rng.sample(CONCEPTS, hops + branches)
    chain, off = concepts[:hops], concepts[hops:]
    properties = rng.sample(PROPERTIES, hops)
    holds = [rng.random() < 0.5 for _ in chain]
    person = rng.choice(PEOPLE)
    rules = [f"Every {low} is a {high}." for low, high in itertools.pairwise(chain)]
    traits = [
        f"Every {concept} is {'' if true else 'not '}{trait}."
        for concept, trait, true in zip(chain, properties, holds, strict=True)
    ]
    aside = [f"Every {rng.choice(chain)} is a {concept}." for concept in off]
    facts = [*rules, *traits, *aside]
    rng.shuffle(facts)
    asked = rng.random() < 0.5
    claim = f"{person} is {'' if asked else 'not '}{properties[-1]}."
    steps = [f"{person} is a {chain[0]}."]
    steps += [f"{rule} {person} is a {high}." for rule, high in zip(rules, chain[1:], strict=True)]
    steps.append(f"{traits[-1]} {person} is {'' if holds[-1] else 'not '}{properties[-1]}.")
    question = f"{' '.join(facts)} {person} is a {chain[0]}. True or false: {claim}"
    return Problem(question, tuple(steps), str(asked == holds[-1]))
