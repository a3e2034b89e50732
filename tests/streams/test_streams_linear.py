"""Laws of decoupled linear layers on a tiny random Llama."""

import copy
import threading

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from transformers import LlamaConfig, LlamaForCausalLM

from omnicompose.errors import ModelInputError
from omnicompose.streams import (
    DecoupledLinear,
    StreamSpec,
    decouple,
    make_routing,
    remember_routing,
)

MODALITIES = ("image", "video", "audio", "point")
TYPES = torch.tensor([[0, 0, 1, 1, 0, 3, 3, 3, 0, 2, 4, 0], [0, 2, 2, 2, 2, 0, 0, 1, 0, 0, 0, 0]])


def tiny_llama(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_bias=True,
    )
    return LlamaForCausalLM(config).eval()


def randomize(model, scale: float = 0.1, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if ".streams." in name:
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def factored(rank: int = 3, **options) -> StreamSpec:
    return StreamSpec(form="factored", rank=rank, **options)


def logits(model, slot, types, ids=None):
    ids = (torch.arange(types.numel()) % 40).reshape(types.shape) if ids is None else ids
    with slot.using(make_routing(types)):
        return model(input_ids=ids).logits


def test_no_media_is_the_plain_backbone_bit_for_bit():
    plain, model = tiny_llama(), tiny_llama()
    slot = decouple(model, {"image": factored(), "audio": StreamSpec(form="dense")})
    randomize(model)
    zeros = torch.zeros_like(TYPES)
    expected = plain(input_ids=(torch.arange(TYPES.numel()) % 40).reshape(TYPES.shape)).logits
    assert make_routing(zeros) is None
    assert torch.equal(logits(model, slot, zeros), expected)


def test_plain_names_stay_and_streams_are_added_beside_them():
    plain, model = tiny_llama(), tiny_llama()
    decouple(model, {"image": factored(rank=5), "audio": StreamSpec(form="dense")})
    state = model.state_dict()
    assert set(plain.state_dict()) <= set(state)
    path = "model.layers.1.mlp.down_proj"
    assert state[f"{path}.streams.image.lora_A"].shape == (5, 24)
    assert state[f"{path}.streams.image.lora_B"].shape == (16, 5)
    assert state[f"{path}.streams.audio.weight"].shape == (16, 24)
    assert state["model.layers.0.self_attn.q_proj.streams.audio.bias"].shape == (16,)


def test_each_token_uses_its_own_stream_in_one_layer():
    torch.manual_seed(0)
    holder = torch.nn.Module()
    holder.q_proj = torch.nn.Linear(6, 4)
    options = {"roles": ("q_proj",)}
    slot = decouple(
        holder,
        {"image": factored(**options), "audio": StreamSpec(form="dense", **options)},
    )
    randomize(holder)
    layer, inputs = holder.q_proj, torch.randn(2, 12, 6)
    with slot.using(make_routing(TYPES)):
        output = layer(inputs)
    image, audio = layer.streams["image"], layer.streams["audio"]
    text = inputs @ layer.weight.T + layer.bias
    expected = text.clone()
    expected[TYPES == 1] = (text + inputs @ (image.lora_B @ image.lora_A).T)[TYPES == 1]
    expected[TYPES == 3] = (inputs @ audio.weight.T + audio.bias)[TYPES == 3]
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)


def test_factored_and_dense_forms_agree():
    low_rank, dense = tiny_llama(), tiny_llama()
    slots = [
        decouple(model, dict.fromkeys(MODALITIES, spec))
        for model, spec in ((low_rank, factored()), (dense, StreamSpec(form="dense")))
    ]
    randomize(low_rank)
    layers = dict(low_rank.named_modules())
    with torch.no_grad():
        for path, layer in dense.named_modules():
            if isinstance(layer, DecoupledLinear):
                for name, stream in layer.streams.items():
                    factors = layers[path].streams[name]
                    stream.weight.copy_(layer.weight + factors.lora_B @ factors.lora_A)
                    if layer.bias is not None:
                        stream.bias.copy_(layer.bias)
    expected = logits(low_rank, slots[0], TYPES)
    torch.testing.assert_close(logits(dense, slots[1], TYPES), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected, logits(tiny_llama(), slots[0], TYPES), atol=1e-3)


def test_order_of_streams_changes_nothing():
    one, other = tiny_llama(), tiny_llama()
    slot_one = decouple(one, {name: factored() for name in MODALITIES})
    slot_other = decouple(other, {name: factored() for name in reversed(MODALITIES)})
    randomize(one)
    other.load_state_dict(one.state_dict())
    assert torch.equal(logits(one, slot_one, TYPES), logits(other, slot_other, TYPES))


def test_batch_is_its_single_rows_and_padding_does_not_matter():
    model = tiny_llama()
    slot = decouple(model, {name: factored() for name in MODALITIES})
    randomize(model)
    ids = torch.randint(0, 40, TYPES.shape, generator=torch.Generator().manual_seed(2))
    both = logits(model, slot, TYPES, ids)
    for row in range(2):
        single = logits(model, slot, TYPES[row : row + 1], ids[row : row + 1])
        torch.testing.assert_close(both[row : row + 1], single, rtol=1e-5, atol=1e-5)


def test_text_adapter_serves_every_token_that_no_other_stream_claims():
    model = tiny_llama()
    slot = decouple(model, {"image": factored(), "text": factored()})
    randomize(model)
    merged = tiny_llama()
    merged_slot = decouple(merged, {"image": StreamSpec(form="dense")})
    layers = dict(model.named_modules())
    with torch.no_grad():
        for path, layer in merged.named_modules():
            if isinstance(layer, DecoupledLinear):
                text, image = layers[path].streams["text"], layers[path].streams["image"]
                layer.streams["image"].weight.copy_(layer.weight + image.lora_B @ image.lora_A)
                if layer.bias is not None:
                    layer.streams["image"].bias.copy_(layer.bias)
                layer.weight += text.lora_B @ text.lora_A
    for types in (TYPES, torch.zeros_like(TYPES)):
        expected = logits(merged, merged_slot, types)
        torch.testing.assert_close(logits(model, slot, types), expected, rtol=1e-5, atol=1e-5)


def test_fresh_factored_streams_start_as_the_text_stream():
    model = tiny_llama()
    slot = decouple(model, {name: factored() for name in (*MODALITIES, "text")})
    expected = tiny_llama()(input_ids=(torch.arange(24) % 40).reshape(2, 12)).logits
    torch.testing.assert_close(logits(model, slot, TYPES), expected, rtol=1e-5, atol=1e-6)


def test_only_own_tokens_visit_a_stream():
    model = tiny_llama()
    slot = decouple(model, {name: factored() for name in MODALITIES})
    seen = {}
    for path, module in model.named_modules():
        if path.endswith("layers.0.mlp.up_proj"):
            for name, stream in module.streams.items():
                stream.register_forward_hook(
                    lambda _, inputs, __, name=name: seen.update({name: len(inputs[0])})
                )
    logits(model, slot, TYPES)
    assert seen == {"image": 3, "video": 5, "audio": 3, "point": 1}
    seen.clear()
    logits(model, slot, torch.zeros_like(TYPES))
    assert seen == {}


def test_other_tokens_than_routed_are_refused():
    model = tiny_llama()
    slot = decouple(model, {"image": factored()})
    with slot.using(make_routing(TYPES)), pytest.raises(ModelInputError, match="found 3 tokens"):
        model(input_ids=torch.tensor([[1, 2, 3]]))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_recomputation_uses_the_routing_of_its_forward(reentrant):
    model = tiny_llama().train()
    slot = decouple(model, {"image": factored(), "audio": factored()})
    randomize(model)
    ids = torch.randint(0, 40, TYPES.shape, generator=torch.Generator().manual_seed(2))

    def gradients():
        model.zero_grad()
        losses = []
        for types in (TYPES, torch.zeros_like(TYPES), TYPES.flip(1)):
            with slot.using(make_routing(types)):
                losses.append(model(input_ids=ids, labels=ids, use_cache=False).loss)
        sum(losses).backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    expected = gradients()
    model._set_gradient_checkpointing(
        True,
        remember_routing(
            lambda function, *inputs: checkpoint(function, *inputs, use_reentrant=reentrant), slot
        ),
    )
    model.get_input_embeddings().register_forward_hook(lambda _, __, out: out.requires_grad_(True))
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-6)


def test_threads_and_copies_do_not_see_each_other():
    model = tiny_llama()
    slot = decouple(model, {"image": factored()})
    copied = copy.deepcopy(model)
    slots = {id(m.slot) for m in copied.modules() if isinstance(m, DecoupledLinear)}
    assert len(slots) == 1 and id(slot) not in slots
    seen = []
    with slot.using(make_routing(TYPES)):
        thread = threading.Thread(target=lambda: seen.append(slot.routing))
        thread.start()
        thread.join()
        with slot.using(None):
            assert slot.routing is None
        assert slot.routing is not None
    assert seen == [None] and slot.routing is None
