"""Adapters: the model as it was at first, few weights that learn, files that come back."""

import pytest
import torch
from tests.latent.conftest import gpt2, llama

from unrolled.latent import Thinker
from unrolled.latent.lora import lora

pytest.importorskip("peft", reason="the extra peft is not installed")


@pytest.mark.parametrize("shape", [gpt2, llama])
@pytest.mark.parametrize("name", ["codi", "coconut"])
def test_adapters_begin_as_nothing_and_learn_alone(words, problems, shape, name):
    model = shape(len(words), torch.float32)
    options = {"thoughts": 2} if name == "codi" else {"stages": 2}
    plain = Thinker(model, words, name, **options)
    with torch.no_grad():
        expected = plain.loss(problems[:3])[0]
    weights = {n: p.clone() for n, p in model.named_parameters()}
    thinker = Thinker(lora(model, r=4, dropout=0.0), words, name, **options)
    thinker.method.load_state_dict(plain.method.state_dict())
    torch.testing.assert_close(thinker.loss(problems[:3])[0].detach(), expected, rtol=1e-5, atol=0)
    optimizer = torch.optim.AdamW([p for p in thinker.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(12):
        summed, count = thinker.loss(problems[:3])
        losses.append(float((summed / count).detach()))
        optimizer.zero_grad()
        summed.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    kept = {n.replace(".base_layer", ""): p for n, p in thinker.model.get_base_model().named_parameters()}
    for n, p in weights.items():
        assert torch.equal(kept[n], p), f"{n} moved"


def test_adapters_are_saved_and_read(words, problems, tmp_path):
    thinker = Thinker(lora(gpt2(len(words), torch.float32), r=4), words, "codi", thoughts=2)
    with torch.no_grad():
        for n, p in thinker.model.named_parameters():
            if "lora_B" in n:
                p.normal_(generator=torch.Generator().manual_seed(0))
    thinker.eval()
    thinker.save_pretrained(tmp_path)
    again = Thinker.from_pretrained(tmp_path).eval()
    prompts = [p.question for p in problems[:3]]
    assert again.generate(prompts, max_new_tokens=5) == thinker.generate(prompts, max_new_tokens=5)
    learns = {n for n, p in again.named_parameters() if p.requires_grad}
    assert learns == {n for n, p in thinker.named_parameters() if p.requires_grad}
    assert any("lora_A" in n for n in learns)
    assert any("prj" in n for n in learns)
    fresh = Thinker(gpt2(len(words), torch.float32), words, "codi", thoughts=2).eval()
    assert fresh.generate(prompts, max_new_tokens=5) != thinker.generate(prompts, max_new_tokens=5)


def test_bad_input(words):
    with pytest.raises(ValueError, match="no layer called query"):
        lora(gpt2(len(words)), targets=["query"])
    with pytest.raises(ValueError, match="rank must be at least 1"):
        lora(gpt2(len(words)), r=0)
