"""reber: predict the next letter of strings of Reber's grammar, in which the same letter means different things.

Which letters may follow depends on the state of the grammar, and the state on letters before the last one (T after B
leads elsewhere than T after P), so a network without context cannot do it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from unrolled.core.seeds import generator
from unrolled.cortex import thalamus
from unrolled.cortex.axon.sheets import Rule
from unrolled.cortex.network import Network
from unrolled.cortex.theta import ThetaCycle

LETTERS = "BTSXVPE"
GRAMMAR: dict[int, tuple[tuple[str, int], ...]] = {
    0: (("B", 1),),
    1: (("T", 2), ("P", 3)),
    2: (("S", 2), ("X", 4)),
    3: (("T", 3), ("V", 5)),
    4: (("S", 6), ("X", 3)),
    5: (("V", 6), ("P", 4)),
    6: (("E", 7),),
}
"""State -> (letter, next state), all equally likely; 7 is the end, after which a new string begins (section 5.11)."""

END = 7
TRIALS, DATA = 196, 16
"""Trials an epoch, of which so many go side by side (rounded up: 13 x 16 = 208)."""

SHEET = (
    Rule("Layer", {"inhib.nominal": 0.15, "decay.act": 0.0, "decay.glong": 0.0}, "sequences: nothing is forgotten"),
    Rule("Layer", {"sahp.ca_tau": 10.0}, "slow adaptation over ten trials"),
    Rule(".input", {"inhib.layer.gi": 0.9}, "inputs are inhibited less"),
    Rule(".ct", {"inhib.layer.gi": 2.1}, "more NMDA and recurrence need more inhibition"),
    Rule(".ct", {"nmda.ge": 0.007, "nmda.tau": 200.0}, "NMDA that outlasts a trial: key"),
    Rule(".pulvinar", {"inhib.layer.gi": 0.75}, "a small layer"),
    Rule("Path", {"lrate": 0.03, "dwt.ca_p_scale": 0.95, "dwt.learn_thr": 0.2}, "0.95 keeps weights from creeping up"),
    Rule("Path", {"swts.spct": 1.0, "swts.rate": 0.01}, "deep networks"),
    Rule(".context", {"lrate": 0.02, "dwt.learn_thr": 0.0}, "context learns slower"),
    Rule(".back", {"scale.rel": 0.2}, "top-down is weak"),
    Rule(".ct_self_context", {"scale.rel": 0.5}, "its own context counts half as much as the superficial one's"),
    Rule(".ct_self_maintenance", {"scale.abs": 0.5}, "more of it and it never lets go"),
    Rule(".from_pulvinar", {"scale.rel": 0.1}, "the pulvinar teaches, it does not drive"),
)  # fmt: skip
"""Axon's parameters of its grammar simulation (cortex fact sheet, section 5.11)."""


class Stream(NamedTuple):
    """Letters of several endless streams, side by side."""

    letters: Tensor
    """`[trials, data]`, index into `LETTERS`."""
    allowed: Tensor
    """`[trials, data, 7]` bool: what the grammar allowed in place of that letter, itself included."""
    states: Tensor
    """`[trials, data]`, state of the grammar before the letter."""

    def patterns(self, trial: int) -> Tensor:
        """The letters of one trial as localist patterns `[data, 7]`."""
        return torch.nn.functional.one_hot(self.letters[trial], len(LETTERS)).to(torch.float32)


def stream(trials: int, *, data: int = 1, rng: int | torch.Generator = 0) -> Stream:
    """Independent endless streams of strings, string after string.

    Example:
        >>> s = stream(1000, data=2, rng=0)
        >>> bool(s.allowed.gather(2, s.letters.unsqueeze(2)).all()), int(s.allowed.sum(2).max())
        (True, 2)
    """
    if trials < 0 or data < 1:
        raise ValueError(f"trials={trials}, data={data}: expected trials >= 0 and at least one stream")
    draws = generator(rng)
    letters = torch.zeros(trials, data, dtype=torch.long)
    states = torch.zeros(trials, data, dtype=torch.long)
    allowed = torch.zeros(trials, data, len(LETTERS), dtype=torch.bool)
    coins = torch.randint(0, 2, (trials, data), generator=draws).tolist()
    for d in range(data):
        state = 0
        for t in range(trials):
            choices = GRAMMAR[state]
            letter, after = choices[coins[t][d] % len(choices)]
            states[t, d], letters[t, d] = state, LETTERS.index(letter)
            allowed[t, d, [LETTERS.index(x) for x, _ in choices]] = True
            state = 0 if after == END else after
    return Stream(letters, allowed, states)


def spell(letters: Tensor) -> str:
    """Letters of indices `[n]`.

    Example:
        >>> spell(torch.tensor([0, 1, 6]))
        'BTE'
    """
    return "".join(LETTERS[i] for i in letters.tolist())


def grammatical(string: str) -> bool:
    """Whether a whole string, B to E, is one of the grammar's.

    Example:
        >>> grammatical("BTSXSE"), grammatical("BTSXTE")
        (True, False)
    """
    state = 0
    for letter in string:
        after = dict(GRAMMAR.get(state, ())).get(letter)
        if after is None:
            return False
        state = after
    return state == END


def correct(prediction: Tensor, allowed: Tensor) -> Tensor:
    """Whether the most active unit is a letter the grammar allows, `[data]` bool; silence predicts nothing.

    Args:
        prediction: activity of the 7 letters in the minus phase, `[data, 7]`.
        allowed: `[data, 7]` bool.

    Example:
        >>> correct(torch.tensor([[0.1, 0.9, 0, 0, 0, 0, 0], [0.0] * 7]), torch.tensor([[False, True] + [False] * 5] * 2))
        tensor([ True, False])
    """
    best = prediction.argmax(-1, keepdim=True)
    return allowed.gather(-1, best).squeeze(-1) & (prediction.amax(-1) > 0)


def chance(trials: int = 20_000, rng: int | torch.Generator = 0) -> dict[str, float]:
    """Shares of correct predictions that need no context: guessing, the best constant, and the best per last letter.

    The last is a bound for any network that sees the letter before and nothing else.

    Example:
        >>> share = chance(2000)
        >>> share["guess"] < share["constant"] < share["last letter"] < 1
        True
    """
    s = stream(trials + 1, rng=rng)
    allowed, last = s.allowed[1:, 0].to(torch.float64), s.letters[:-1, 0]
    per_letter = sum(
        float(allowed[last == i].sum(0).max()) for i in range(len(LETTERS)) if bool((last == i).any())
    )
    return {
        "guess": float(allowed.mean()),
        "constant": float(allowed.mean(0).max()),
        "last letter": per_letter / trials,
    }


def network(
    theta: ThetaCycle | None = None,
    *,
    seed: int = 0,
    hidden: int = 10,
    timing: bool = True,
    context: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Network:
    """Input and its pulvinar, a superficial and a CT layer: the circuit that predicts the next letter.

    Args:
        theta: by default 150 + 50 ms.
        seed: of the weights.
        hidden: side of the hidden layers.
        timing: superficial neurons learn when their own response says so (section 5.9); else at the end of the trial.
        context: False is the control: CT receives no context, neither of the layer above nor of its own.
        dtype: float32, or float64 for tests.

    Example:
        >>> network()
        Network(Input 1x7 input, InputP 1x7 pulvinar, Hidden 10x10 super, HiddenCT 10x10 ct; 7 paths)
    """
    net = Network(theta, seed=seed, dtype=dtype)
    net.layer("Input", (1, len(LETTERS)), kind="input")
    relay = thalamus.pulvinar(net, "InputP", "Input", thalamus.Pulvinar(drive_scale=0.2))
    sup = thalamus.Super(timing=thalamus.Timing(learn_cycles=20) if timing else None)
    above, ct = thalamus.super_ct(
        net, "Hidden", (hidden, hidden), sup, thalamus.CT(ge_gain=2.0 if context else 0.0, decay_tau=50.0)
    )
    thalamus.ct_self(net, ct)
    net.connect("Input", above)
    thalamus.connect_pulvinar(net, above, ct, relay)
    net.apply(SHEET)
    return net


class Epoch(NamedTuple):
    """How an epoch went."""

    error: float
    """Share of trials whose most active pulvinar unit in the minus phase is no grammatical letter."""
    activity: dict[str, float]
    """Layer -> mean ActM (activity in the minus phase; what `nominal` expects), averaged over trials."""


def epoch(net: Network, shown: Stream, start: int, trials: int, *, learn: bool = True) -> Epoch:
    """Show `trials` letters of each stream from `start` on, and count predictions made before each was driven in."""
    errors, activity = 0, dict.fromkeys(net.layers, 0.0)
    for t in range(start, start + trials):
        trial = net.present(shown.patterns(t))
        errors += int((~correct(net.read(trial, "InputP", "ActM").flatten(1), shown.allowed[t])).sum())
        for name in activity:
            activity[name] += float(net.read(trial, name, "ActM").mean()) / trials
        if learn:
            net.learn(trial)
    return Epoch(errors / (trials * shown.letters.shape[1]), activity)
