"""What `omnicompose inspect` finds in folders of every kind."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from omnicompose.cli import app
from omnicompose.errors import SourceError
from omnicompose.inspection import inspect_source


def write(folder: Path, name: str, config: dict[str, object], **tensors: tuple[int, ...]) -> Path:
    """A configuration and, under `__` for dots, bf16 tensors of the given shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(config), encoding="utf-8")
    named = {key.replace("__", "."): shape for key, shape in tensors.items()}
    save_file(
        {key: torch.zeros(shape, dtype=torch.bfloat16) for key, shape in named.items()},
        folder / "model.safetensors",
    )
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    config = {
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
        "hidden_size": 4,
    }
    return write(
        tmp_path / "llava",
        "config.json",
        config,
        language_model__model__norm__weight=(4,),
        language_model__lm_head__weight=(8, 4),
        vision_tower__vision_model__post__weight=(3,),
        multi_modal_projector__linear_1__weight=(4, 3),
    )


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    config = {"base_model_name_or_path": "zoo:llava", "r": 2, "target_modules": ["q_proj"]}
    return write(folder, "adapter_config.json", config, base__lora_A__weight=(2, 4))


def test_a_checkpoint_by_parts(checkpoint: Path) -> None:
    found = inspect_source(str(checkpoint))
    assert (found.kind, found.facts["model_type"]) == ("checkpoint", "llava")
    parts = {part.name: (part.num_tensors, part.num_parameters) for part in found.parts}
    assert parts == {"backbone": (2, 36), "image encoder": (1, 3), "image connector": (1, 12)}
    assert {(part.num_bytes, part.dtypes) for part in found.parts} == {
        (72, ("bfloat16",)),
        (6, ("bfloat16",)),
        (24, ("bfloat16",)),
    }


def test_an_unknown_architecture_by_names(tmp_path: Path) -> None:
    config: dict[str, object] = {"architectures": ["Other"]}
    folder = write(tmp_path / "x", "config.json", config, a__b__c=(1,), a__b__d=(2,), e=(3,))
    assert [part.name for part in inspect_source(str(folder)).parts] == ["a.b", "e"]


def test_an_adapter_on_a_base(checkpoint: Path, adapter: Path) -> None:
    found = inspect_source(f"{checkpoint}+{adapter}")
    assert found.kind == "checkpoint"
    assert found.adapter is not None
    assert (found.adapter.kind, found.adapter.facts["r"]) == ("adapter", 2)
    assert [part.name for part in found.adapter.parts] == ["adapter"]


def test_an_expert_of_our_own_format(tmp_path: Path, adapter: Path) -> None:
    facts: dict[str, object] = {"modality": "audio", "base": "zoo:base", "strategy": "single"}
    missing = "encoder: Field required."
    folder = write(tmp_path / "expert", "expert.json", facts, linear__weight=(2, 2))
    (adapter).rename(folder / "adapter")
    found = inspect_source(str(folder))
    assert found.kind == "expert"
    assert found.facts.items() >= facts.items()
    assert missing.split()[0] in str(found.facts["composes"])
    assert [(part.name, part.num_tensors) for part in found.parts] == [
        ("connector", 1),
        ("adapter/", 1),
    ]


def test_what_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"found none of expert\.json, adapter_config\.json, con"):
        inspect_source(str(tmp_path))
    with pytest.raises(SourceError, match=r"none does not exist\. Correct the path\."):
        inspect_source(str(tmp_path / "none"))
    with pytest.raises(SourceError, match="the zoo has no such member"):
        inspect_source("zoo:imag-standard")


def test_the_command(checkpoint: Path, adapter: Path) -> None:
    done = CliRunner().invoke(app, ["inspect", f"{checkpoint}+{adapter}", "--json"])
    assert json.loads(done.stdout)["adapter"]["facts"]["target_modules"] == ["q_proj"]
    done = CliRunner().invoke(app, ["inspect", f"{checkpoint}+{adapter}"])
    assert done.exit_code == 0
    assert "image encoder" in done.stdout
    assert "q_proj" in done.stdout


def test_tokens_of_the_zoos_experts() -> None:
    facts = {name: inspect_source(f"zoo:{name}").facts for name in ("image-standard", "llava")}
    assert facts["image-standard"]["tokens_per_item"] == facts["llava"]["tokens_per_item"]
    assert facts["llava"]["tokens_per_item"] == {"image: picture of 448 x 448": 16}
    for modality, item in (("audio", "sound of 10 s"), ("video", "clip of 8 frames, 448 x 448")):
        found = inspect_source(f"zoo:{modality}-standard").facts["tokens_per_item"]
        assert isinstance(found, dict)
        assert found[f"{modality}: {item}"] > 1


def test_lineage_against_a_base() -> None:
    own = inspect_source("zoo:llava", base="zoo:base").facts["lineage"]
    assert isinstance(own, dict)
    assert own["cosine"] == "1.000000"
    with pytest.raises(SourceError, match="the base must be the plain language model"):
        inspect_source("zoo:llava", base="zoo:llava")


def test_what_does_not_compose_says_why(tmp_path: Path) -> None:
    config: dict[str, object] = {"architectures": ["MllamaForConditionalGeneration"]}
    found = inspect_source(str(write(tmp_path / "x", "config.json", config, a__b=(1,))))
    assert "cross-attention" in str(found.facts["composes"])
    config = {"architectures": ["LlamaForCausalLM"], "quantization_config": {"quant_method": "awq"}}
    found = inspect_source(str(write(tmp_path / "y", "config.json", config, a__b=(1,))))
    assert "quantised (awq)" in str(found.facts["composes"])


def test_what_a_model_card_says_of_its_base(tmp_path: Path) -> None:
    config: dict[str, object] = {"architectures": ["Other"]}
    folder = write(tmp_path / "x", "config.json", config, a__b=(1,))
    (folder / "README.md").write_text("---\nbase_model: owner/base\n---\n# A model\n")
    assert inspect_source(str(folder)).facts["base_model_of_its_card"] == "owner/base"
    (folder / "README.md").write_text("# A model\n")
    assert "base_model_of_its_card" not in inspect_source(str(folder)).facts


def test_a_folder_of_modelcompose() -> None:
    folder = Path(__file__).parents[1] / "goldens" / "e2e" / "experts" / "multimodal-audio-damc"
    found = inspect_source(str(folder), allow_pickle=True)
    assert found.kind == "modelcompose"
    assert found.facts["modalities"] == "audio"
    assert found.facts["connector"] == {"audio": "qformer_4N_2L"}
    fates = {part.name: part.fate for part in found.parts}
    assert fates == {
        "adapter audio": "merged",
        "adapter default": "merged",
        "connector": "copied",
        "prefix and suffix": "copied",
    }


def test_pickled_weights_are_looked_into_only_where_allowed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "multimodal", "mm_point_encoder": "x"}')
    torch.save(
        {"model.modal_projectors.point.0.weight": torch.zeros(2)}, tmp_path / "mm_projector.bin"
    )
    found = inspect_source(str(tmp_path))
    assert found.parts == ()
    assert "mm_projector.bin (pickled" in str(found.facts["not looked into"])
    (part,) = inspect_source(str(tmp_path), allow_pickle=True).parts
    assert (part.name, part.num_parameters) == ("connector", 2)
