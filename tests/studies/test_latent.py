"""The latent studies on a shrunken configuration."""

import dataclasses
import subprocess
import sys
import time

import pytest
import torch

from unrolled.latent.text import IGNORED, Text
from unrolled.runs import Run
from unrolled.studies import (
    _latent as latent,
)
from unrolled.studies import (
    latent_arithmetic,
    latent_bits,
    latent_prosqa,
    latent_reachability,
    latent_superposition,
)
from unrolled.studies._latent import Shape


def test_superposition(tmp_path):
    config = latent_superposition.Config(problems=6, graphs=4, nodes=8, walks=50)
    with Run.create("latent-superposition", config, root=tmp_path) as run:
        claims = {claim.id: claim for claim in latent_superposition.study(config, run)}
        assert all(claims[name].ours == 1.0 for name in ("solved", "not-before", "support", "any-graph"))
        assert 0 < claims["walk"].ours < 0.5
        drawn = latent_superposition.figures(run)
    assert set(drawn) == {"thoughts", "walk"}


SHAPE = Shape(layers=1, width=16, heads=2, context=128)
TINY = {
    latent_reachability: {"problems": 32, "held_out": 8, "epochs_per_stage": 1, "last_epochs": 0, "batch": 16},
    latent_prosqa: {"problems": 32, "held_out": 8, "first": 1, "per_stage": 1, "last": 0, "batch": 16},
    latent_arithmetic: {"problems": 32, "held_out": 8, "first": 1, "per_stage": 1, "last": 0, "batch": 16},
    latent_bits: {"steps": 2, "messages": (1, 2), "problems": 32, "probed": 30, "stage": 1, "seeds": 1, "candidates": 64},
}  # fmt: skip


def shrunken(study, **changes):
    return dataclasses.replace(study.tiny(), shape=SHAPE, **TINY[study], **changes)


def plain(run):
    return [repr({k: v for k, v in row.items() if k != "time"}) for row in run.metrics()]


@pytest.mark.parametrize("study", TINY)
def test_a_trained_study_runs_and_draws_from_its_folder(study, tmp_path):
    config = shrunken(study)
    with Run.create("demo", config, root=tmp_path) as run:
        made = study.study(config, run)
        run.save_claims(made)
    again = Run.open(run.path)
    assert study.claims(config, again) == made
    assert {claim.preset for claim in made} == {"tiny"}
    drawn = study.figures(again)
    assert {"accuracy", "digits"} & set(drawn)
    for figure, caption in drawn.values():
        figure.canvas.draw()
        assert caption.endswith(".")


class Killed(Exception):
    pass


@pytest.mark.parametrize("study", TINY)
def test_a_trained_study_goes_on_bit_equal(study, tmp_path):
    """Broken off in the middle of training, twice: rows and claims are those of an undisturbed run."""
    config = shrunken(study)
    with Run.create("demo", config, root=tmp_path / "a") as whole:
        first = study.study(config, whole)
    stopped = Run.create("demo", config, root=tmp_path / "b")
    for times in (4, 9):
        calls = 0

        def die(step, steps, times=times):
            nonlocal calls
            calls += 1
            if calls == times:
                raise Killed

        stopped.progress = die
        with pytest.raises(Killed), stopped:
            study.study(config, stopped)
        stopped = Run.resume(stopped.path)
    with stopped:
        second = study.study(config, stopped)
    assert plain(Run.open(stopped.path)) == plain(Run.open(whole.path))
    assert [repr(claim) for claim in first] == [repr(claim) for claim in second]


def test_chains_are_right_and_held_out_problems_are_new():
    for problem in latent.chain(200, seed=3, ops=(1, 4), modulus=7):
        parts = problem.question.split()
        value = int(parts[0])
        for kind, by, step in zip(parts[1::2], parts[2::2], problem.steps, strict=True):
            after = {"+": value + int(by), "-": value - int(by), "*": value * int(by)}[kind] % 7
            assert step == f"{value}{kind}{by}={after}"
            value = after
        assert problem.answer == str(value)
    with pytest.raises(ValueError, match="modulus 11"):
        latent.chain(1, seed=0, ops=(1, 1), modulus=11)


def test_rows_of_the_search_ask_for_one_node_a_stage():
    """i thoughts, then the i-th node of the walk; past its end the answer (2505.12514, section 5)."""
    config = latent_reachability.Config(nodes=(8, 10), hops=(2, 3))
    words = latent_reachability.Symbols(config.symbols)
    text = Text(words, markers=False)
    for problem in latent_reachability.problems(config, 20, 0):
        for stage in (1, 2, 3, 4, None):
            row = latent_reachability.label(text, problem, stage, 3)
            said = words.decode([token for token in row.labels if token not in (IGNORED, words.eos_token_id)])
            assert words.decode(row.question[-1:]) == str(problem.graph.root)
            if stage is not None and stage <= len(problem.steps):
                assert (row.thoughts, said) == (stage, problem.steps[stage - 1])
                assert sum(label != IGNORED for label in row.labels) == 1
            else:
                assert (row.thoughts, said) == (3, f"### {problem.answer}")


def answered(tmp_path, answers):
    """A run whose answers are made up: arm -> a string of right and wrong for each seed."""
    made = Run.create("some-study", {"preset": "tiny"}, root=tmp_path)
    for arm, seeds in answers.items():
        for seed, correct in enumerate(seeds):
            made.log(step=0, arm=arm, seed=seed, control="none", accuracy=correct.count("1") / len(correct), correct=correct, said=3.0, thoughts=2.0)  # fmt: skip
    return made


def test_latent_beats_pause_only_where_every_seed_says_so(tmp_path):
    good, fair, bad = "1" * 40, "1" * 36 + "0" * 4, "1" * 20 + "0" * 20
    sure = answered(tmp_path / "a", {"coconut": [good, good], "pause": [bad, bad]})
    assert latent.beats(sure, "coconut", "pause")[:2] == (True, False)
    assert latent.beats(sure, "pause", "coconut")[:2] == (False, True)
    once = answered(tmp_path / "b", {"coconut": [good, good], "pause": [bad, fair]})
    more, less, p = latent.beats(once, "coconut", "pause")
    assert (more, less) == (False, False)
    assert p == pytest.approx([2**-19, 0.125])
    torn = answered(tmp_path / "c", {"coconut": [good, bad], "pause": [bad, good]})
    assert latent.beats(torn, "coconut", "pause")[:2] == (False, False)
    assert latent.beats(torn, "coconut", "absent") == (False, False, [])


def test_prosqa_is_not_judged_where_nothing_was_learned(tmp_path):
    config = latent_prosqa.tiny()
    coin, right = "10" * 100, "1" * 180 + "0" * 20
    arms = ("cot", "no-cot", "pause", "coconut")
    blind = answered(tmp_path / "a", {arm: [coin] for arm in arms})
    judged = {claim.id: claim for claim in latent_prosqa.claims(config, blind)}
    assert judged["coconut-pause"].status == "not reproduced"
    assert "nothing was learned" in judged["coconut-pause"].note
    apart = answered(tmp_path / "d", {"cot": [coin], "no-cot": [right], "pause": [coin], "coconut": [coin]})
    judged = {claim.id: claim for claim in latent_prosqa.claims(config, apart)}
    assert judged["coconut-pause"].status == "not reproduced", (
        "what another arm learned says nothing of these two"
    )
    even = answered(tmp_path / "b", {"cot": [coin], "no-cot": [coin], "pause": [right], "coconut": [right]})
    judged = {claim.id: claim for claim in latent_prosqa.claims(config, even)}
    assert judged["coconut-pause"].status == judged["coconut-cot"].status == "direction only"
    ahead = answered(tmp_path / "c", {"cot": [coin], "no-cot": [coin], "pause": [coin], "coconut": [right]})
    judged = {claim.id: claim for claim in latent_prosqa.claims(config, ahead)}
    assert judged["coconut-pause"].status == "not reproduced", (
        "the paper finds no difference; here there is one"
    )


def test_tokens_carry_no_more_than_their_vocabulary():
    """Even a receiver trained on the very images it is tested on: m log2 |V| bits, and its tokens' entropy, are the limit."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.rand(64, 9, generator=rng), torch.arange(64) % 4
    carried = {}
    for kind in ("tokens", "latents"):
        talk = latent_bits.Talk(9, 4, kind=kind, m=1, vocabulary=4, width=16, seed=0)
        optimizer = torch.optim.AdamW(talk.parameters(), lr=3e-3)
        for step in range(150):
            optimizer.zero_grad()
            talk.loss((x, y, step)).backward()
            optimizer.step()
        carried[kind] = latent_bits.arrived(talk, x, y, 64)
    assert 0.5 < carried["tokens"]["bits"] <= carried["tokens"]["used"] + 1e-6
    assert carried["tokens"]["used"] <= 2
    assert carried["latents"]["bits"] > 3


def test_a_model_that_is_not_there_and_an_arm_that_is_not_known(tmp_path):
    config = shrunken(latent_arithmetic, model=str(tmp_path / "none"))
    with (
        pytest.raises(FileNotFoundError, match="is no folder"),
        Run.create("demo", config, root=tmp_path) as run,
    ):
        latent_arithmetic.study(config, run)
    with pytest.raises(ValueError, match="'magic'"):
        latent_arithmetic.arms(shrunken(latent_arithmetic, arms=("magic",)))
    with pytest.raises(ValueError, match="'riddles'"):
        latent_arithmetic.problems(shrunken(latent_arithmetic, task="riddles"), 1, 0, (1, 1))


@pytest.mark.parametrize("study", TINY)
def test_every_field_can_be_said_on_the_command_line(study):
    """The model's shape has no prefix there, so none of its names may be the study's too."""
    import tyro

    options = tyro.conf.OmitArgPrefixes[study.Config]
    config = tyro.cli(options, args=["--layers", "3", "--seed", "7"], default=study.tiny())
    assert (config.shape.layers, config.seed) == (3, 7)


KILLED = """
import sys
from tests.studies.test_latent import latent_arithmetic, shrunken
from unrolled.runs import Run
with Run.create("demo", shrunken(latent_arithmetic, arms=("coconut", "pause")), root=sys.argv[1]) as run:
    latent_arithmetic.study(shrunken(latent_arithmetic, arms=("coconut", "pause")), run)
"""


@pytest.mark.slow
def test_a_study_killed_by_the_system_goes_on_bit_equal(tmp_path):
    """SIGKILL as soon as a checkpoint lies in its folder: rows and claims are those of an undisturbed run."""
    config = shrunken(latent_arithmetic, arms=("coconut", "pause"))
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "a")])
    try:
        while process.poll() is None and not list(tmp_path.glob("a/demo/*/checkpoints/**/*.safetensors")):
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    [folder] = (tmp_path / "a" / "demo").glob("2*")
    assert Run.open(folder).state != "finished"
    with Run.create("demo", config, root=tmp_path / "b") as whole:
        first = latent_arithmetic.study(config, whole)
    with Run.resume(folder) as resumed:
        second = latent_arithmetic.study(config, resumed)
    assert plain(Run.open(folder)) == plain(Run.open(whole.path))
    assert [repr(claim) for claim in first] == [repr(claim) for claim in second]
