"""Every tiny expert, and what tests do with one: write it, compose it, ask it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from families_hearing import HEARING
from families_llava import LLAVAS
from families_seeing import SEEING
from families_tiny import MEDIA, Family, shared_tokenizer, write_base, write_expert
from tokenizers import Tokenizer
from transformers import AutoModelForMultimodalLM, AutoProcessor

from omnicompose.composer import ComposeOptions, compose

FAMILIES = {family.name: family for family in (*LLAVAS, *SEEING, *HEARING)}
CASES = [(name, modality) for name, family in FAMILIES.items() for modality in family.prompts]
NUM_WORDS = Tokenizer.from_str(shared_tokenizer()).get_vocab_size()
"""Tokens that every expert shares; their ids are the same in experts and composites."""
ARGUMENTS = {"image": "images", "video": "videos", "audio": "audio"}
AS_EXPERT = "roles: {embedding: method, head: method}\ndtype: float32\n"
"""With one expert of weight 1 this makes the composite's language model the expert's."""


class Shelf:
    """Bases and experts, each written when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def base(self, family: Family) -> Path:
        folder = self.folder / f"base-{family.language}"
        if not folder.exists():
            write_base(folder, family.language, **family.language_changes)
        return folder

    def expert(self, name: str) -> Path:
        family = FAMILIES[name]
        folder = self.folder / name
        if not folder.exists():
            write_expert(folder, family, self.base(family), seed=len(name))
        return folder

    def compose(self, out: Path, experts: dict[str, str], text: str = AS_EXPERT) -> Path:
        """A composite of experts by modality, `NAME` or `NAME, weight: W`."""
        lines = [f"base: {self.base(FAMILIES[next(iter(experts.values())).split(',')[0]])}"]
        lines.append("experts:")
        for modality, expert in experts.items():
            name, *options = expert.split(", ")
            fields = ", ".join([f"source: {self.expert(name)}", *options])
            lines.append(f"  {modality}: {{{fields}}}")
        recipe = out.parent / f"{out.name}.yaml"
        recipe.write_text("\n".join([*lines, text]))
        compose(recipe, out, ComposeOptions())
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """An expert as its own family loads it."""

    family: Family
    model: hf.PreTrainedModel
    processor: hf.ProcessorMixin

    def inputs(self, modality: str, before: str, after: str) -> dict[str, torch.Tensor]:
        text = before + self.family.prompts[modality] + after
        if self.family.ask is not None:
            return self.family.ask(self.processor, text, MEDIA[modality]())
        options = {"videos_kwargs": {"do_sample_frames": False}} if modality == "video" else {}
        return self.processor(
            text=[text],
            return_tensors="pt",
            **{ARGUMENTS[modality]: [MEDIA[modality]()]},
            **options,
        )

    def logits(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Of the shared words; Granite's composites scale as GraniteForCausalLM does."""
        scale = getattr(self.model.config.text_config, "logits_scaling", 1.0)
        with torch.no_grad():
            return self.model(**inputs).logits[..., :NUM_WORDS] / scale


def load_original(shelf: Shelf, name: str) -> Original:
    folder = shelf.expert(name)
    model = getattr(hf, FAMILIES[name].architecture).from_pretrained(folder, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(folder)
    return Original(family=FAMILIES[name], model=model.eval(), processor=processor)


def load_composite(folder: Path) -> tuple[hf.PreTrainedModel, hf.ProcessorMixin]:
    model, info = AutoModelForMultimodalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return model.eval(), AutoProcessor.from_pretrained(folder)


def medium(modality: str, seed: int = 0) -> np.ndarray:
    return MEDIA[modality](seed)


def say(model: hf.PreTrainedModel, inputs: dict[str, torch.Tensor], count: int = 6) -> list[int]:
    """What a model says greedily, in shared words only."""
    num_rows = model.config.get_text_config().vocab_size
    others = list(range(NUM_WORDS, num_rows))
    said = model.generate(
        **inputs, max_new_tokens=count, do_sample=False, suppress_tokens=others, eos_token_id=-1
    )
    return said[0, inputs["input_ids"].shape[1] :].tolist()
