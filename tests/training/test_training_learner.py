import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from omnicompose.streams import StreamSpec, decouple
from omnicompose.training import Batch, Group, Learner, Schedule, fit


def tiny_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def tiny_batch() -> Batch:
    """Two rows of text with two image positions in the first; ids beyond the vocabulary there."""
    input_ids = torch.tensor([[1, 99, 99, 4, 5, 6], [1, 7, 8, 9, 0, 0]])
    type_ids = torch.tensor([[0, 1, 1, 0, 0, 0], [0] * 6])
    answers = torch.tensor([[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 0, 0]]).bool()
    features = {"image": torch.randn(1, 2, 8, generator=torch.Generator().manual_seed(1))}
    return Batch(input_ids=input_ids, type_ids=type_ids, answers=answers, features=features)


def group(module: nn.Module, rate: float) -> Group:
    return Group(parameters=list(module.parameters()), peak_rate=rate)


def test_media_embeddings_take_the_placeholders_places() -> None:
    learner, batch = Learner(tiny_model(), {"image": nn.Linear(8, 16)}), tiny_batch()
    embeddings = learner.embeddings(batch)
    media = learner.connectors["image"](batch.features["image"])
    assert torch.equal(embeddings[0, 1:3], media[0])
    words = learner.language_model.get_input_embeddings()
    assert torch.equal(embeddings[1], words(batch.input_ids[1]))


def test_loss_is_the_cross_entropy_of_the_answers_alone() -> None:
    learner, batch = Learner(tiny_model(), {"image": nn.Linear(8, 16)}), tiny_batch()
    logits = learner.language_model.lm_head(learner.hidden_states(batch)).log_softmax(-1)
    said = [(0, 4), (0, 5), (1, 2), (1, 3)]
    expected = -sum(logits[b, t - 1, batch.input_ids[b, t]] for b, t in said) / len(said)
    assert torch.allclose(learner(batch), expected)


def test_a_stream_changes_only_its_own_positions() -> None:
    model = tiny_model()
    slot = decouple(model, {"image": StreamSpec(form="factored", rank=2, roles=("down_proj",))})
    learner, batch = Learner(model, {"image": nn.Linear(8, 16)}, slot), tiny_batch()
    before = learner.hidden_states(batch)
    for name, factor in model.named_parameters():
        if name.endswith("streams.image.lora_B"):
            nn.init.normal_(factor)
    after = learner.hidden_states(batch)
    assert torch.equal(before[1], after[1])
    assert not torch.allclose(before[0, 1:3], after[0, 1:3])


def test_fit_learns_and_repeats_itself() -> None:
    def run() -> tuple[float, torch.Tensor]:
        model, told = tiny_model(), list[int]()
        connector = nn.Linear(8, 16)
        learner = Learner(model, {"image": connector})
        start = learner(tiny_batch()).item()
        end = fit(
            lambda step: learner(tiny_batch()),
            [group(model, 1e-2), group(connector, 1e-2)],
            Schedule(num_steps=20, warmup_steps=2),
            lambda done, loss: told.append(done),
        )
        assert end < 0.5 * start and told == list(range(1, 21))
        assert not torch.equal(model.lm_head.weight, tiny_model().lm_head.weight)
        return end, connector.weight.detach().clone()

    (first, weight), (second, again) = run(), run()
    assert first == second
    assert torch.equal(weight, again)


def test_fit_leaves_frozen_parameters_alone() -> None:
    model, connector = tiny_model().requires_grad_(False), nn.Linear(8, 16)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    learner = Learner(model, {"image": connector})
    fit(
        lambda step: learner(tiny_batch()),
        [group(connector, 1e-2)],
        Schedule(num_steps=3),
    )
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("step", "factor"), [(0, 0.1), (9, 0.9755), (50, 0.5), (99, 0.05)])
def test_schedule_rises_falls_and_keeps_a_floor(step: int, factor: float) -> None:
    schedule = Schedule(num_steps=100, warmup_steps=10)
    assert schedule.factor(step) == pytest.approx(factor, abs=0.01)
