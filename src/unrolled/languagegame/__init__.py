"""languagegame: a frozen biological network as the core of a policy, pi(s) = D[f(E(s))], and a conversation with it.

>>> from unrolled.languagegame import Policy
>>> policy = Policy.make("CartPole-v1", "tyson1999")
>>> policy
Policy(tyson1999, field for CartPole-v1: 4 -> 3 -> 2)
>>> sorted(policy.trace([0.0, 0.1, 0.0, -0.1]))[:4]
['clamped', 'g', 'h', 'logits']
"""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.languagegame._agreement import agreement as agreement
    from unrolled.languagegame._design import design as design
    from unrolled.languagegame._film import Film as Film
    from unrolled.languagegame._film import evaluate as evaluate
    from unrolled.languagegame._film import film as film
    from unrolled.languagegame._importance import importance as importance
    from unrolled.languagegame._ppo import PRESETS as PRESETS
    from unrolled.languagegame._ppo import Settings as Settings
    from unrolled.languagegame._ppo import Training as Training
    from unrolled.languagegame._ppo import ppo as ppo
    from unrolled.languagegame._properties import properties as properties
    from unrolled.languagegame._route import route as route
    from unrolled.languagegame._talk import stream as stream
    from unrolled.languagegame._talk import talk as talk
    from unrolled.languagegame.cores import Core as Core
    from unrolled.languagegame.game import Game as Game
    from unrolled.languagegame.interfaces import Critic as Critic
    from unrolled.languagegame.interfaces import Decoder as Decoder
    from unrolled.languagegame.interfaces import Encoder as Encoder
    from unrolled.languagegame.policy import Policy as Policy
    from unrolled.languagegame.reply import Reply as Reply

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=(
        "baselines",
        "cores",
        "embed",
        "envs",
        "game",
        "games",
        "ground",
        "interfaces",
        "llm",
        "picture",
        "policy",
        "reply",
        "significance",
    ),
    names={
        "Core": "cores",
        "Critic": "interfaces",
        "Decoder": "interfaces",
        "Encoder": "interfaces",
        "PRESETS": "_ppo",
        "Policy": "policy",
        "Settings": "_ppo",
        "Training": "_ppo",
        "Film": "_film",
        "Game": "game",
        "Reply": "reply",
        "agreement": "_agreement",
        "design": "_design",
        "evaluate": "_film",
        "film": "_film",
        "importance": "_importance",
        "properties": "_properties",
        "route": "_route",
        "stream": "_talk",
        "talk": "_talk",
        "ppo": "_ppo",
    },
)
