"""Rate-coded cortex: layers that talk both ways, settle twice, and learn from the difference.

Read these first: `net.py`, `settle.py`, `learn.py`, `naive.py`.

>>> from unrolled.cortex import rate
>>> rate.Net((1, 28, 28), [rate.Conv(16, 5, pool=2), rate.Dense(100), 10])
Net(1x28x28 -> hidden1 16x14x14 -> hidden2 100 -> output 10, gain 0.1, symmetric feedback, 315,000 synapses)
"""

# Not lazy as elsewhere: the rules, `settle`, `learn` and `align` are named as their files, and a later first import of
# such a file would put the module in the function's place.
from unrolled.cortex.rate import naive
from unrolled.cortex.rate.align import align
from unrolled.cortex.rate.backprop import backprop
from unrolled.cortex.rate.centered import centered
from unrolled.cortex.rate.chl import chl
from unrolled.cortex.rate.feedback_alignment import feedback_alignment
from unrolled.cortex.rate.generec import generec
from unrolled.cortex.rate.hebb import hebb
from unrolled.cortex.rate.layers import Conv, Dense
from unrolled.cortex.rate.learn import Momentum, Step, changes, learn, predict
from unrolled.cortex.rate.midpoint import midpoint
from unrolled.cortex.rate.net import Net, Nudged
from unrolled.cortex.rate.operations import Operations, of_backprop, operations
from unrolled.cortex.rate.rule import Phases, Rule
from unrolled.cortex.rate.settle import NotSettling, Settled, nudge, settle

__all__ = [
    "Conv",
    "Dense",
    "Momentum",
    "Net",
    "NotSettling",
    "Operations",
    "Nudged",
    "Phases",
    "Rule",
    "Settled",
    "Step",
    "align",
    "backprop",
    "centered",
    "changes",
    "chl",
    "feedback_alignment",
    "generec",
    "hebb",
    "learn",
    "midpoint",
    "naive",
    "nudge",
    "of_backprop",
    "operations",
    "predict",
    "settle",
]
