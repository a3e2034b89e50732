"""The forms in which the zoo ships what `omnicompose train` wrote.

Trained experts name folders of the workshop; shipped ones name members of the zoo. A single-adapter
image expert ships as a peft adapter on the zoo's LLaVA checkpoint, which transformers and peft load
without us.
"""

import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaForCausalLM, LlavaForConditionalGeneration

from omnicompose.experts.own_format import EXPERT_FILE
from omnicompose.streams import LINEAR_ROLES
from omnicompose.tensors.adapter_config import CONFIG as ADAPTER_CONFIG
from omnicompose.training.adapters import ADAPTER_WEIGHTS, BEFORE, write_adapter, write_json
from omnicompose.training.finishing import NOTES
from omnicompose.training.write_expert import CONNECTOR_FILE
from omnicompose.zoo.llava import PLACEHOLDER, llava_config, load_tower, write_processor
from omnicompose.zoo.preprocessing import make_preprocessor

DTYPE = torch.float16
PROJECTOR = "multi_modal_projector"


def ship_expert(trained: Path, folder: Path, encoder: str) -> None:
    """Copy a trained expert so that it names members of the zoo.

    Args:
        trained: as `omnicompose train` wrote it.
        folder: where it ships.
        encoder: member of the zoo that holds its encoder.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns(NOTES))
    description = _read_json(folder / EXPERT_FILE)
    inside = description["encoder"]
    assert isinstance(inside, dict)
    named = description | {"base": "zoo:base", "encoder": {**inside, "source": f"zoo:{encoder}"}}
    write_json(folder / EXPERT_FILE, named)
    for config in folder.glob(f"*/{ADAPTER_CONFIG}"):
        write_json(config, _read_json(config) | {"base_model_name_or_path": "zoo:base"})


def ship_llava_adapter(trained: Path, folder: Path) -> None:
    """Write a single-adapter image expert as a peft adapter, with its projector, on zoo:llava.

    Args:
        trained: as `omnicompose train` wrote it.
        folder: where it ships.
    """
    shutil.rmtree(folder, ignore_errors=True)
    described = LoraConfig.from_pretrained(trained / "adapter")
    factors = load_file(trained / "adapter" / ADAPTER_WEIGHTS)
    plain = {name.removeprefix(f"{BEFORE}model."): weight for name, weight in factors.items()}
    projector = load_file(trained / CONNECTOR_FILE)
    # Within LLaVA by path: CLIP's layers have a q_proj too.
    described.target_modules = rf".*language_model.*\.({'|'.join(LINEAR_ROLES)})"
    described.modules_to_save = [PROJECTOR]
    described.base_model_name_or_path = "zoo:llava"
    weights = {f"model.language_model.{name}": weight for name, weight in plain.items()}
    weights |= {f"model.{PROJECTOR}.{name}": weight for name, weight in projector.items()}
    write_adapter(folder, described, weights, DTYPE)


def write_llava(folder: Path, *, base: Path, encoder: Path, connector: Path) -> None:
    """Assemble the LLaVA checkpoint: base, CLIP and the connector of the captioning stage.

    Args:
        folder: a transformers checkpoint with its processor.
        base: folder of the base language model.
        encoder: folder of the image encoder.
        connector: weights of the image connector.
    """
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens([PLACEHOLDER], special_tokens=True)
    language_model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    # The new row is the mean of the others: its logit is never the largest.
    language_model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table = language_model.get_input_embeddings().weight.data
    table[-1] = table[:-1].mean(dim=0)
    text = language_model.config
    text.dtype = DTYPE
    text._name_or_path = ""  # the same bytes wherever the zoo is made
    model = LlavaForConditionalGeneration(llava_config(text, encoder, len(tokenizer) - 1))
    model.model.language_model.load_state_dict(language_model.model.state_dict())
    model.model.multi_modal_projector.load_state_dict(load_file(connector))
    load_tower(model, encoder)
    model.tie_weights()
    model.generation_config.update(**language_model.generation_config.to_diff_dict())
    model.to(DTYPE).save_pretrained(folder)
    write_processor(folder, model, tokenizer, make_preprocessor("image"))


def _read_json(path: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return content
