import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from omnicompose.training.loop import Schedule, plain_name


@pytest.mark.parametrize(("step", "factor"), [(0, 0.1), (9, 0.9755), (50, 0.5), (99, 0.05)])
def test_schedule_rises_falls_and_keeps_a_floor(step: int, factor: float) -> None:
    schedule = Schedule(num_steps=100, warmup_steps=10)
    assert schedule.factor(step) == pytest.approx(factor, abs=0.01)


def test_no_warmup_starts_at_the_peak() -> None:
    assert Schedule(num_steps=10, warmup_steps=0).factor(0) == 1.0


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("module.model.norm.weight", "model.norm.weight"),
        (
            "_fsdp_wrapped_module.model.layers.0._fsdp_wrapped_module.mlp.up",
            "model.layers.0.mlp.up",
        ),
        ("model.audio_module.weight", "model.audio_module.weight"),
    ],
)
def test_names_without_what_distribution_adds(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_a_tied_head_learns_with_its_embedding() -> None:
    """What `full` saves is every parameter once; the tied head comes back with it."""
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=4,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    names = [name for name, _ in model.named_parameters()]
    assert "lm_head.weight" not in names
    with torch.no_grad():
        model.load_state_dict({"model.embed_tokens.weight": torch.ones(8, 4)}, strict=False)
    assert torch.equal(model.lm_head.weight, torch.ones(8, 4))
