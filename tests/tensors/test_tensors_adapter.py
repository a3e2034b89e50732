import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from omnicompose.errors import MergeError, SourceError
from omnicompose.merging.engine import run_merge
from omnicompose.merging.job import Merge, TensorRef
from omnicompose.merging.options import EngineOptions
from omnicompose.merging.registry import METHODS
from omnicompose.tensors.adapter import open_lora
from omnicompose.tensors.memory import MemorySource
from omnicompose.tensors.patched import BLOCK_ELEMENTS, PatchedSource
from omnicompose.tensors.source import read_tensor

CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 6}
NAME = "layers.0.q_proj.weight"


def save(folder: Path, tensors: dict[str, torch.Tensor], **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def pair(
    rank: int = 2, rows: int = 5, columns: int = 7, infix: str = ""
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(rank)
    stem = "base_model.model.layers.0.q_proj"
    return {
        f"{stem}.lora_A{infix}.weight": torch.randn(rank, columns, generator=generator),
        f"{stem}.lora_B{infix}.weight": torch.randn(rows, rank, generator=generator),
    }


def base(**tensors: torch.Tensor) -> MemorySource:
    return MemorySource("base", {NAME: torch.randn(5, 7).bfloat16()} | tensors)


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 3.0),
        ({"use_rslora": True}, 6 / 2**0.5),
        ({"alpha_pattern": {"q_proj": 1}}, 0.5),
        ({"r": 8, "rank_pattern": {r"layers\.0\.q_proj": 2}}, 3.0),
        ({"r": 2, "rank_pattern": {"k_proj": 5}, "alpha_pattern": {"proj": 9}}, 3.0),
    ],
)
def test_the_product_is_scaled_as_configured(tmp_path, config, scale):
    tensors = pair()
    patched = PatchedSource(base(), open_lora(save(tmp_path, tensors, **config)))
    first, second = tensors.values()
    expected = read_tensor(base(), NAME).float() * 0 + scale * second @ first
    delta = read_tensor(patched, NAME) - read_tensor(patched._base, NAME).float()
    torch.testing.assert_close(delta, expected, rtol=1e-5, atol=1e-5)
    factors = patched.factors(NAME)
    assert factors is not None
    torch.testing.assert_close(factors.scale * factors.B @ factors.A, expected)
    assert patched.infos()[NAME].dtype == torch.float32
    assert patched.byte_range(NAME) is None
    assert patched.scratch_bytes(NAME, 10) > 0


def test_an_adapters_name_in_the_keys_is_understood(tmp_path):
    adapter = open_lora(save(tmp_path, pair(infix=".default")))
    assert list(adapter.deltas) == [NAME]


def test_transposed_layers_and_embeddings(tmp_path):
    tensors = pair()
    first, second = tensors.values()
    adapter = open_lora(save(tmp_path / "a", tensors, fan_in_fan_out=True))
    patched = PatchedSource(MemorySource("base", {NAME: torch.zeros(7, 5)}), adapter)
    torch.testing.assert_close(read_tensor(patched, NAME), 3.0 * (second @ first).T)
    embedding = {
        "base_model.model.embed.lora_embedding_A": torch.randn(2, 11),
        "base_model.model.embed.lora_embedding_B": torch.randn(4, 2),
    }
    adapter = open_lora(save(tmp_path / "b", embedding))
    patched = PatchedSource(MemorySource("base", {"embed.weight": torch.zeros(11, 4)}), adapter)
    first, second = embedding.values()
    torch.testing.assert_close(read_tensor(patched, "embed.weight"), 3.0 * (second @ first).T)


@pytest.mark.parametrize("infix", ["", ".modules_to_save", ".modules_to_save.default"])
def test_saved_modules_replace_the_bases(tmp_path, infix):
    own = torch.randn(3, 3)
    tensors = pair() | {f"base_model.model.head{infix}.weight": own}
    patched = PatchedSource(
        base(**{"head.weight": torch.zeros(3, 3), "norm.weight": torch.ones(2)}),
        open_lora(save(tmp_path, tensors, modules_to_save=["head"])),
    )
    assert torch.equal(read_tensor(patched, "head.weight"), own)
    assert torch.equal(read_tensor(patched, "norm.weight"), torch.ones(2))
    assert patched.byte_range("head.weight").path == tmp_path / "adapter_model.safetensors"
    assert patched.label.endswith(str(tmp_path))
    assert list(patched.infos()) == [NAME, "head.weight", "norm.weight"]


@pytest.mark.parametrize("columns", [3, 1000, BLOCK_ELEMENTS + 5])
def test_tiles_of_a_product_have_the_bytes_of_the_whole(tmp_path, columns):
    rows = 9 if columns > 1000 else 300
    adapter = open_lora(save(tmp_path, pair(rows=rows, columns=columns)))
    patched = PatchedSource(MemorySource("base", {NAME: torch.randn(rows, columns)}), adapter)
    whole = read_tensor(patched, NAME).view(-1)
    for start in (0, 1, columns - 1, columns, 2 * columns + 1):
        for count in (1, columns, 2 * columns + 3):
            stop = min(start + count, whole.numel())
            assert torch.equal(read_tensor(patched, NAME, start, stop), whole[start:stop])


def test_a_renamed_adapter_fits_a_base_of_other_names(tmp_path):
    tensors = pair() | {"base_model.model.head.weight": torch.ones(2)}
    adapter = open_lora(save(tmp_path, tensors))
    renamed = adapter.renamed({NAME: "model.q.weight"})
    assert list(renamed.deltas) == ["model.q.weight"]
    assert renamed.replacements == {}
    assert torch.equal(renamed.factors("model.q.weight").A, adapter.factors(NAME).A)


@pytest.mark.parametrize(
    "setting",
    [
        {"use_dora": True},
        {"lora_bias": True},
        {"use_qalora": True},
        {"layer_replication": [[0, 1]]},
        {"target_parameters": ["experts"]},
        {"trainable_token_indices": [1]},
        {"alora_invocation_tokens": [1]},
        {"init_lora_weights": "pissa_niter_4"},
        {"init_lora_weights": "olora"},
    ],
)
def test_what_is_no_plain_product_is_refused_by_name(tmp_path, setting):
    with pytest.raises(SourceError, match=next(iter(setting))):
        open_lora(save(tmp_path, pair(), **setting))


@pytest.mark.parametrize("kind", ["IA3", "LOHA", None])
def test_other_adapters_are_refused_by_name(tmp_path, kind):
    with pytest.raises(SourceError, match=f"peft_type {kind!r}; expected LORA"):
        open_lora(save(tmp_path, pair(), peft_type=kind))


@pytest.mark.parametrize(
    "setting",
    [
        {"r": 0},
        {"r": True},
        {"lora_alpha": "a"},
        {"rank_pattern": [1]},
        {"alpha_pattern": {"(": 1}},
    ],
)
def test_a_configuration_without_sense_is_refused(tmp_path, setting):
    with pytest.raises(SourceError, match="no usable value"):
        open_lora(save(tmp_path, pair(), **setting))


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_configuration_that_is_no_json_object_is_refused(tmp_path, text):
    save(tmp_path, pair())
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(SourceError, match=r"adapter_config\.json"):
        open_lora(tmp_path)


def test_factors_must_come_in_pairs_of_the_configured_rank(tmp_path):
    tensors = pair()
    with pytest.raises(SourceError, match=r"expected \[4, in\] and \[out, 4\]"):
        open_lora(save(tmp_path, tensors, r=4))
    with pytest.raises(SourceError, match="lora_B is missing"):
        open_lora(save(tmp_path, dict(list(tensors.items())[:1])))
    alien = {"base_model.model.layers.0.q_proj.lora_magnitude_vector": torch.ones(5)}
    with pytest.raises(SourceError, match="no LoRA factor and no saved module"):
        open_lora(save(tmp_path, tensors | alien))


def test_an_adapter_of_another_base_is_refused(tmp_path):
    adapter = open_lora(save(tmp_path, pair()))
    with pytest.raises(SourceError, match=f"base lacks .'{NAME}'"):
        PatchedSource(MemorySource("base", {"other": torch.ones(1)}), adapter)
    with pytest.raises(SourceError, match=r"delta of \[5, 7\]; expected \[5, 8\]"):
        PatchedSource(MemorySource("base", {NAME: torch.ones(5, 8)}), adapter)


def test_pickled_adapters_need_consent(tmp_path):
    save(tmp_path, pair())
    (tmp_path / "adapter_model.safetensors").unlink()
    torch.save(pair(), tmp_path / "adapter_model.bin")
    with pytest.raises(SourceError, match="--allow-pickle"):
        open_lora(tmp_path)
    assert list(open_lora(tmp_path, allow_pickle=True).deltas) == [NAME]


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
@pytest.mark.parametrize(
    "setting",
    [
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "embed_tokens"]},
        {
            "r": 4,
            "lora_alpha": 3,
            "use_rslora": True,
            "target_modules": ["q_proj", "k_proj", "down_proj"],
            "rank_pattern": {r"layers\.1\..*q_proj": 2, "down_proj": 3},
            "alpha_pattern": {r"layers\.0\..*k_proj": 16},
            "modules_to_save": ["lm_head"],
            "bias": "lora_only",
        },
    ],
)
def test_peft_itself_merges_to_the_same_weights(tmp_path, setting):
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=32,
        attention_bias=True,
    )
    model = LlamaForCausalLM(config)
    plain = MemorySource("base", {n: t.clone() for n, t in model.state_dict().items()})
    adapted = get_peft_model(model, LoraConfig(**setting))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    adapted.save_pretrained(tmp_path)
    patched = PatchedSource(plain, open_lora(tmp_path))
    merged = adapted.merge_and_unload().state_dict()
    assert set(merged) == set(patched.infos())
    for name, expected in merged.items():
        torch.testing.assert_close(read_tensor(patched, name), expected, rtol=1e-5, atol=1e-6)


def test_a_merge_is_not_resumed_after_an_adapters_scale_has_changed(tmp_path):
    def jobs() -> list[Merge]:
        patched = PatchedSource(base(), open_lora(tmp_path / "adapter"))
        ref = TensorRef(source=patched, name=NAME)
        return [
            Merge(
                output=ref.info,
                method=METHODS["linear"],
                parameters={"normalize": True},
                experts=(ref,),
                expert_names=("a",),
                weights=(1.0,),
            )
        ]

    def give_up(folder, result):
        raise KeyboardInterrupt

    save(tmp_path / "adapter", pair())
    with pytest.raises(KeyboardInterrupt):
        run_merge(jobs(), tmp_path / "out", assemble=give_up)
    # Only the settings change: the weights' file stays as it is.
    (tmp_path / "adapter" / "adapter_config.json").write_text(
        json.dumps(CONFIG | {"lora_alpha": 60})
    )
    with pytest.raises(MergeError, match="computed otherwise now"):
        run_merge(jobs(), tmp_path / "out", EngineOptions(resume=True))
