"""Tiny causal language models of the shapes users have, in float64 where gradients are compared."""

import importlib.metadata

import pytest
import torch

from unrolled.latent import Words, tasks

OLD = int(importlib.metadata.version("transformers").split(".")[0]) < 5
F64 = torch.float32 if OLD else torch.float64
"""transformers 4 cannot write an attention mask in float64."""


def gpt2(vocabulary, dtype=F64, width=24, layers=2, context=256, seed=0):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        n_layer=layers, n_head=2, n_embd=width, vocab_size=vocabulary, n_positions=context,
        bos_token_id=0, eos_token_id=1, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.1,
    )  # fmt: skip
    return GPT2LMHeadModel(config).to(dtype)


def llama(vocabulary, dtype=F64, width=24, layers=2, context=256, seed=0, attention="sdpa"):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2, hidden_size=width, intermediate_size=40,
        vocab_size=vocabulary, max_position_embeddings=context, bos_token_id=0, eos_token_id=1, tie_word_embeddings=False,
        attn_implementation=attention, initializer_range=0.1,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(dtype)


def eager(vocabulary, dtype=torch.float32, **options):
    return llama(vocabulary, dtype, attention="eager", **options)


def looped(vocabulary, dtype=F64, loops=2, context=256, seed=0, **_):
    """Linear and full attention, looped; every parameter away from its start, where the loops' gate is zero."""
    from unrolled.looped import LT2, LT2Config

    config = LT2Config.preset("tiny", vocab_size=vocabulary, width=32, layers=3, loops=loops, context=context)
    model = LT2(config, rng=seed).to(dtype)
    with torch.no_grad():
        rng = torch.Generator().manual_seed(seed)
        for p in model.parameters():
            p += 0.05 * torch.randn(p.shape, generator=rng, dtype=dtype)
    return model


MODELS = {"gpt2": gpt2, "llama": llama, "llama-eager": eager, "looped": looped}
EXACT = {"gpt2": 1e-5 if OLD else 1e-11, "llama": 1e-5 if OLD else 1e-6, "llama-eager": 1e-5, "looped": 1e-9}
"""Relative; Llama's norms and rotations are taken in float32 whatever the model is."""


@pytest.fixture(scope="session")
def problems():
    return tasks.arithmetic(12, seed=0)


@pytest.fixture(scope="session")
def words(problems):
    return Words.of(problems)


@pytest.fixture(params=MODELS)
def model(request, words):
    made = MODELS[request.param](len(words))
    made.exact = EXACT[request.param]
    return made
