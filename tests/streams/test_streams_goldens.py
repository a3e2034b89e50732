"""DAMC language models against the outputs of the published implementation.

Text weight = base + sum of lambda * product; the correction of modality m = its expert's own
product minus the text side, kept as factors of rank r_m + sum r_i. Cases where the published code
does what its paper says; see tests/goldens/streams/index.json.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from omnicompose.streams import LINEAR_ROLES, DecoupledLinear, StreamSpec, decouple, make_routing

FOLDER = Path(__file__).parents[1] / "goldens" / "streams"
INDEX = json.loads((FOLDER / "index.json").read_text())
CASES = {case["case"]: case for case in INDEX["cases"]}
NAMES = {"vision": "image", "audio": "audio", "video": "video", "point": "point"}
TYPES = {"vision": 1, "video": 2, "audio": 3, "point": 4}
SENTINELS = {-200: "vision", -203: "audio", -204: "video", -205: "point"}
RANK, SCALE = INDEX["lora_r"], INDEX["lora_alpha"] / INDEX["lora_r"]


@pytest.fixture(scope="module")
def tensors():
    load = {name: load_file(FOLDER / f"{name}.safetensors") for name in ("base", "experts")}
    load = {name: {k: v.float() for k, v in part.items()} for name, part in load.items()}
    return {**load, "cases": load_file(FOLDER / "cases.safetensors")}


def factors(tensors, expert, path, adapter):
    """Factors A [r, in] and B [out, r] with unit scale."""
    key = f"{expert}::model.{path}.lora_{{}}.{adapter}.weight"
    return [tensors["experts"][key.format(letter)] for letter in "AB"]


def compose(tensors, case, form):
    """The composite of a case: text side folded into the weights, corrections as streams."""
    modalities, scaling = case["modalities"], case["scaling"]
    model = LlamaForCausalLM(LlamaConfig.from_dict(INDEX["config"])).eval()
    model.load_state_dict(tensors["base"])
    rank = RANK * (1 + len(modalities)) if form == "factored" else None
    spec = StreamSpec(form=form, rank=rank, roles=LINEAR_ROLES)
    slot = decouple(model.model, {NAMES[name]: spec for name in modalities})
    with torch.no_grad():
        for path, layer in model.model.named_modules():
            if isinstance(layer, DecoupledLinear):
                fill(tensors, modalities, scaling, path, layer)
    return model, slot


def fill(tensors, modalities, scaling, path, layer):
    base = layer.weight.clone()
    text = {m: factors(tensors, m, path, "default") for m in modalities}
    weight = {m: scaling.get(f"default-{m}", scaling["default"]) for m in modalities}
    for m, (down, up) in text.items():
        layer.weight += weight[m] * (up @ down)
    for m in modalities:
        down, up = factors(tensors, m, path, m)
        stream = layer.streams[NAMES[m]]
        if stream.replaces:
            stream.weight.copy_(base + scaling[m] * (up @ down))
            continue
        stream.lora_A.copy_(torch.cat([down, *(a for a, _ in text.values())]))
        ups = [scaling[m] * up, *(-weight[i] * b for i, (_, b) in text.items())]
        stream.lora_B.copy_(torch.cat(ups, dim=1))


def splice(tensors, model, name):
    """Embeddings, mask and types of a case, right-padded as the reference pads."""
    get = {k.split("::")[1]: v for k, v in tensors["cases"].items() if k.startswith(f"{name}::")}
    count = dict.fromkeys(NAMES, 0)
    rows = []
    for ids, mask in zip(get["input_ids"], get["attention_mask"], strict=True):
        parts = []
        for token, kept in zip(ids.tolist(), mask.tolist(), strict=True):
            if token >= 0:
                parts.append((model.get_input_embeddings()(torch.tensor([token])), 0, kept))
                continue
            m = SENTINELS[token]
            media = get[f"features.{m}"][count[m]].reshape(-1, model.config.hidden_size)
            count[m] += 1
            edges = [
                tensors["experts"][f"{m}::{end}_tokens.{m}"][0] for end in ("prefix", "suffix")
            ]
            parts.append((torch.cat([edges[0], media, edges[1]]), TYPES[m], True))
        embeds = torch.cat([part for part, _, _ in parts])
        types = torch.cat([torch.full((len(part),), t) for part, t, _ in parts])
        mask = torch.cat([torch.full((len(part),), k) for part, _, k in parts])
        rows.append((embeds, types, mask))
    padded = [
        torch.nn.utils.rnn.pad_sequence(list(x), batch_first=True) for x in zip(*rows, strict=True)
    ]
    return get, *padded


@pytest.mark.parametrize("form", ["factored", "dense"])
@pytest.mark.parametrize("name", sorted(CASES))
@torch.no_grad()
def test_logits_and_greedy_tokens_of_the_reference(tensors, name, form):
    model, slot = compose(tensors, CASES[name], form)
    expected, embeds, types, mask = splice(tensors, model, name)
    if "expected.inputs_embeds" in expected:
        assert torch.equal(embeds, expected["expected.inputs_embeds"])
    with slot.using(make_routing(types)):
        output = model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=torch.arange(embeds.shape[1])[None].expand(len(embeds), -1),
            use_cache=True,
        )
    tolerance = {"rtol": INDEX["tolerance"], "atol": INDEX["tolerance"]}
    logits = expected["expected.logits"]
    torch.testing.assert_close(output.logits[mask], logits[mask], **tolerance)
    if "expected.generated" in expected:
        check_greedy(model, output, expected, tolerance)


def check_greedy(model, output, expected, tolerance):
    for step in range(expected["expected.generated"].shape[1]):
        last = output.logits[:, -1]
        torch.testing.assert_close(last, expected["expected.step_logits"][:, step], **tolerance)
        tokens = last.argmax(-1)
        assert torch.equal(tokens, expected["expected.generated"][:, step])
        output = model(input_ids=tokens[:, None], past_key_values=output.past_key_values)
