"""Composed language models against the outputs of the published implementation.

Every model and case of the reference run (tests/goldens/streams/index.json):

- `single`, `online-merge-reset-...`: what the paper says. Text weight = base + sum of lambda *
  product; the correction of modality m = its expert's own product minus the text side.
- `sum`, `mean`, `ties-*`: the script merges LoRA factors A and B apart, so its text weight is no
  merge of what the experts do. Only the method `modelcompose_factors` does that, and says so.
- `convert-*`: the same for text, while each single-adapter expert serves its modality's tokens.
- `online-merge-sum`: the coefficients are written where no layer reads them, so that all text
  adapters vanish: `roles: {attention: base, mlp: base}` in a recipe of ours.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from omnicompose.errors import MergeError
from omnicompose.merging.method import LowRank, MergeContext, TensorGroup
from omnicompose.merging.registry import REPRODUCTIONS, check_parameters
from omnicompose.streams import LINEAR_ROLES, DecoupledLinear, StreamSpec, decouple, make_routing

FOLDER = Path(__file__).parents[1] / "goldens" / "streams"
INDEX = json.loads((FOLDER / "index.json").read_text())
MODELS = {model["model"]: model for model in INDEX["models"]}
NAMES = {"vision": "image", "audio": "audio", "video": "video", "point": "point"}
TYPES = {"vision": 1, "video": 2, "audio": 3, "point": 4}
SENTINELS = {-200: "vision", -203: "audio", -204: "video", -205: "point"}
RANK, SCALE = INDEX["lora_r"], INDEX["lora_alpha"] / INDEX["lora_r"]
FACTORWISE = REPRODUCTIONS["modelcompose_factors"]
TOLERANCE = {"rtol": INDEX["tolerance"], "atol": INDEX["tolerance"]}
LINEAR = [
    f"layers.{layer}.{'mlp' if role.startswith(('gate', 'up', 'down')) else 'self_attn'}.{role}"
    for layer in range(INDEX["config"]["num_hidden_layers"])
    for role in LINEAR_ROLES
]


@pytest.fixture(scope="module")
def tensors():
    load = {name: load_file(FOLDER / f"{name}.safetensors") for name in ("base", "experts")}
    load = {name: {k: v.float() for k, v in part.items()} for name, part in load.items()}
    return {**load, "cases": load_file(FOLDER / "cases.safetensors")}


def factors(tensors, model, modality, path, adapter):
    """Factors A [r, in] and B [out, r] with unit scale."""
    key = f"{model['experts']}/{modality}::model.{path}.lora_{{}}.{adapter}.weight"
    return [tensors["experts"][key.format(letter)] for letter in "AB"]


def coefficients(model):
    """What each expert's text product is multiplied with in the text weight."""
    if model["strategy"] == "online-merge-sum":
        return dict.fromkeys(model["modalities"], 0.0)
    scaling = model["scaling"]
    return {m: scaling.get(f"default-{m}", scaling["default"]) for m in model["modalities"]}


def text_weights(tensors, model):
    """The text weight of every linear layer, by path."""
    base = {path: tensors["base"][f"model.{path}.weight"] for path in LINEAR}
    strategy = model["strategy"].removeprefix("convert-").replace("drop-", "ties-")
    if strategy.startswith(("sum", "mean", "ties")):
        return factorwise(tensors, model, base, strategy)
    scale = coefficients(model)
    return {
        path: weight
        + sum(
            scale[m] * (up @ down)
            for m in model["modalities"]
            for down, up in [factors(tensors, model, m, path, "default")]
        )
        for path, weight in base.items()
    }


def factorwise(tensors, model, base, strategy):
    groups = []
    for path, weight in base.items():
        found = [factors(tensors, model, m, path, "default") for m in model["modalities"]]
        groups.append(
            TensorGroup(
                name=f"model.{path}.weight",
                shape=tuple(weight.shape),
                base=weight,
                experts=tuple(weight + SCALE * up @ down for down, up in found),
                expert_names=tuple(model["modalities"]),
                weights=(1.0,) * len(found),
                factors=tuple(LowRank(A=down, B=up, scale=SCALE) for down, up in found),
            )
        )
    given = {"strategy": strategy, "keep": model["keep"]}
    parameters = check_parameters("modelcompose_factors", given)
    statistics: dict[str, torch.Tensor] = {}
    for number in range(FACTORWISE.survey(parameters).num_passes):
        context = MergeContext(parameters=parameters, statistics=dict(statistics))
        found = [FACTORWISE.observe(group, context, number) for group in groups]
        statistics |= {name: sum(one[name] for one in found) for name in found[0]}
    context = MergeContext(parameters=parameters, statistics=statistics)
    return dict(zip(base, (FACTORWISE.merge(g, context) for g in groups), strict=True))


def own_adapter(model, modality):
    """Which adapter a modality's tokens use; None: the text weights."""
    if model["experts"] == "damc":
        return modality
    return "default" if model["strategy"].startswith("convert") else None


@torch.no_grad()
def compose(tensors, model, form):
    """The composite of a model: text side folded into the weights, corrections as streams."""
    causal = LlamaForCausalLM(LlamaConfig.from_dict(INDEX["config"])).eval()
    causal.load_state_dict(tensors["base"])
    texts = text_weights(tensors, model)
    own = {m: own_adapter(model, m) for m in model["modalities"]}
    rank = RANK * (1 + len(own)) if form == "factored" else None
    spec = StreamSpec(form=form, rank=rank, roles=LINEAR_ROLES)
    slot = decouple(causal.model, {NAMES[m]: spec for m, adapter in own.items() if adapter})
    for path in LINEAR:
        layer = causal.model.get_submodule(path)
        base = layer.weight.clone()
        layer.weight.copy_(texts[path])
        if isinstance(layer, DecoupledLinear):
            for m, adapter in own.items():
                fill(tensors, model, (path, m, adapter), layer, base)
    return causal, slot


def fill(tensors, model, place, layer, base):
    path, m, adapter = place
    down, up = factors(tensors, model, m, path, adapter)
    scale, stream = model["scaling"][m], layer.streams[NAMES[m]]
    if stream.replaces:
        stream.weight.copy_(base + scale * (up @ down))
        return
    text = {i: factors(tensors, model, i, path, "default") for i in model["modalities"]}
    weight = coefficients(model)
    stream.lora_A.copy_(torch.cat([down, *(a for a, _ in text.values())]))
    stream.lora_B.copy_(torch.cat([scale * up, *(-weight[i] * text[i][1] for i in text)], dim=1))


def splice(tensors, causal, model, case):
    """Embeddings, mask and types of a case, right-padded as the reference pads."""
    start = f"{model['model']}/{case}::"
    get = {k.removeprefix(start): v for k, v in tensors["cases"].items() if k.startswith(start)}
    count = dict.fromkeys(NAMES, 0)
    rows = []
    for ids, mask in zip(get["input_ids"], get["attention_mask"], strict=True):
        parts = []
        for token, kept in zip(ids.tolist(), mask.tolist(), strict=True):
            if token >= 0:
                parts.append((causal.get_input_embeddings()(torch.tensor([token])), 0, kept))
                continue
            m = SENTINELS[token]
            media = get[f"features.{m}"][count[m]].reshape(-1, causal.config.hidden_size)
            count[m] += 1
            edges = [edge(tensors, model, m, end) for end in ("prefix", "suffix")]
            parts.append((torch.cat([edges[0], media, edges[1]]), TYPES[m], True))
        embeds = torch.cat([part for part, _, _ in parts])
        types = torch.cat([torch.full((len(part),), t) for part, t, _ in parts])
        mask = torch.cat([torch.full((len(part),), k) for part, _, k in parts])
        rows.append((embeds, types, mask))
    padded = [
        torch.nn.utils.rnn.pad_sequence(list(x), batch_first=True) for x in zip(*rows, strict=True)
    ]
    return get, *padded


def edge(tensors, model, m, end):
    """Prefix or suffix embeddings [P, D]; single-adapter experts have none."""
    found = tensors["experts"].get(f"{model['experts']}/{m}::{end}_tokens.{m}")
    return torch.empty(0, INDEX["config"]["hidden_size"]) if found is None else found[0]


def forms():
    """Every model as matrices, and as factors where own minus text is a sum of products."""
    for name, model in MODELS.items():
        yield name, "dense"
        if not model["strategy"].startswith(("sum", "mean", "ties", "convert")):
            yield name, "factored"


@pytest.mark.parametrize(("name", "form"), list(forms()))
@torch.no_grad()
def test_logits_and_greedy_tokens_of_the_reference(tensors, name, form):
    model = MODELS[name]
    causal, slot = compose(tensors, model, form)
    for case in model["cases"]:
        expected, embeds, types, mask = splice(tensors, causal, model, case["case"])
        if "expected.inputs_embeds" in expected:
            assert torch.equal(embeds, expected["expected.inputs_embeds"])
        with slot.using(make_routing(types)):
            output = causal(
                inputs_embeds=embeds,
                attention_mask=mask,
                position_ids=torch.arange(embeds.shape[1])[None].expand(len(embeds), -1),
                use_cache=True,
            )
        logits = expected["expected.logits"]
        torch.testing.assert_close(output.logits[mask], logits[mask], **TOLERANCE)
        if "expected.generated" in expected:
            check_greedy(causal, output, expected)


def check_greedy(causal, output, expected):
    """Step logits, and the ids of rows that have not ended (what follows an end is padding)."""
    generated = expected["expected.generated"]
    for step in range(generated.shape[1]):
        last, wanted = output.logits[:, -1], expected["expected.step_logits"][:, step]
        torch.testing.assert_close(last, wanted, **TOLERANCE)
        best = wanted.topk(2).values
        clear = best[:, 0] - best[:, 1] > 2 * INDEX["tolerance"] * (1 + best[:, 0].abs())
        clear &= ~(generated[:, :step] == INDEX["config"]["eos_token_id"]).any(1)
        tokens = generated[:, step]
        assert torch.equal(last.argmax(-1)[clear], tokens[clear])
        output = causal(input_ids=tokens[:, None], past_key_values=output.past_key_values)


def test_merging_factors_is_not_merging_experts(tensors):
    """Why the reference's own merges have a method of their own."""
    model = MODELS["naive_mean"]
    path = LINEAR[0]
    found = [factors(tensors, model, m, path, "default") for m in model["modalities"]]
    mean = sum(SCALE * up @ down for down, up in found) / len(found)
    published = text_weights(tensors, model)[path] - tensors["base"][f"model.{path}.weight"]
    assert float((published - mean).norm() / mean.norm()) > 0.5


def test_factors_of_experts_without_any_are_refused():
    group = TensorGroup(
        name="model.layers.0.mlp.up_proj.weight",
        shape=(2, 2),
        base=torch.zeros(2, 2),
        experts=(torch.ones(2, 2),),
        expert_names=("one",),
        weights=(1.0,),
    )
    context = MergeContext(parameters=check_parameters("modelcompose_factors", {}))
    with pytest.raises(MergeError, match="merges the factors of LoRA experts of one rank"):
        FACTORWISE.merge(group, context)


@pytest.mark.parametrize("strategy", ["mean", "sum", "ties-mean"])
def test_what_no_adapter_has_stays_the_base(strategy):
    base = torch.arange(6.0).view(3, 2)
    group = TensorGroup(
        name="model.embed_tokens.weight",
        shape=(3, 2),
        base=base,
        experts=(base.clone(), base.clone()),
        expert_names=("one", "two"),
        weights=(0.5, 0.5),
        factors=(None, None),
    )
    settings = check_parameters("modelcompose_factors", {"strategy": strategy})
    context = MergeContext(parameters=settings)
    assert not FACTORWISE.observe(group, context, 0)
    assert torch.equal(FACTORWISE.merge(group, context), base)
