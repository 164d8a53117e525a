"""Problems with reasoning steps, made by seeded generators; nothing is downloaded.

>>> from unrolled.latent import tasks
>>> [problem] = tasks.prosqa(1, seed=0)
>>> len(problem.steps) >= 3, problem.answer == problem.steps[-1] or problem.answer.split()[-1] in problem.question
(True, True)
"""

from unrolled._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    names={
        "Problem": "problem",
        "Graph": "problem",
        "arithmetic": "_arithmetic",
        "multiplication": "_multiplication",
        "prontoqa": "_prontoqa",
        "prosqa": "_prosqa",
        "reachability": "_reachability",
    },
)
