"""Name maps as data: where encoder, connector, backbone, norm, embedding and head live.

Every architecture is one entry. A checkpoint's tensor names are turned into a part (backbone,
encoder or connector) and a name inside that part by prefix rules; backbone names are those of the
family's plain causal language model (`model.layers.0.mlp.up_proj.weight`, `lm_head.weight`).
Sources: transformers' conversion_mapping and the layouts listed in specs/environment.md 2.5.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from omnicompose.errors import SourceError

PartKind = Literal["backbone", "encoder", "connector"]
Role = Literal["attention", "mlp", "norm", "bias", "embedding", "head", "other"]

ROLE_PATTERNS: tuple[tuple[Role, re.Pattern[str]], ...] = (
    ("bias", re.compile(r"\.bias$")),
    ("norm", re.compile(r"norm\w*\.weight$")),
    ("embedding", re.compile(r"embed_tokens\.weight$")),
    ("head", re.compile(r"^lm_head\.")),
    ("attention", re.compile(r"\.self_attn\.")),
    ("mlp", re.compile(r"\.mlp\.")),
)
VOCABULARY_ROLES: tuple[Role, ...] = ("embedding", "head")
LAYER_PATTERN = re.compile(r"\.layers\.(\d+)\.")


def role_of(backbone_name: str) -> Role:
    """What a backbone tensor does, from its name: the first pattern that matches."""
    return next((role for role, pattern in ROLE_PATTERNS if pattern.search(backbone_name)), "other")


def layer_of(backbone_name: str) -> int | None:
    """The block that a backbone tensor belongs to, or None outside the blocks."""
    match = LAYER_PATTERN.search(backbone_name)
    return int(match.group(1)) if match else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartName:
    """Where a tensor of a checkpoint belongs.

    Attributes:
        part: backbone, encoder or connector.
        modality: whose encoder or connector; None for the backbone.
        name: the tensor's name inside that part.
    """

    part: PartKind
    modality: str | None
    name: str


@dataclass(frozen=True, slots=True)
class Rule:
    """Names that start with `prefix` belong to `part`; the prefix becomes `to`."""

    prefix: str
    part: PartKind
    modality: str | None = None
    to: str = ""

    def apply(self, name: str) -> PartName | None:
        """The part that `name` belongs to by this rule, or None."""
        if not name.startswith(self.prefix):
            return None
        return PartName(
            part=self.part, modality=self.modality, name=self.to + name[len(self.prefix) :]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleMap:
    """How an architecture's configuration describes one of our modules.

    Attributes:
        type: key in the registry of encoders or connectors.
        options: our configuration key to the dotted path in the architecture's configuration.
        fixed: further keys of our configuration with their values.
    """

    type: str
    options: Mapping[str, str]
    fixed: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One architecture of transformers, as the composer sees it.

    Attributes:
        architecture: its class, as `architectures[0]` of a config.json names it.
        layouts: one tuple of rules per on-disk layout; a checkpoint must fit one of them whole.
        text_config: dotted path of the backbone's configuration; empty for a plain language model.
        encoders: modality to encoder.
        connectors: modality to connector.
        placeholder_ids: modality to the dotted path of its placeholder's token id.
    """

    architecture: str
    layouts: tuple[tuple[Rule, ...], ...]
    text_config: str = ""
    encoders: Mapping[str, ModuleMap] = field(default_factory=dict)
    connectors: Mapping[str, ModuleMap] = field(default_factory=dict)
    placeholder_ids: Mapping[str, str] = field(default_factory=dict)

    def locate(self, names: list[str]) -> dict[str, PartName]:
        """Every tensor name with its part, by the first layout that explains them all.

        Raises:
            SourceError: no layout explains all names, or two names are one tensor of a part.
        """
        misfits: list[str] = []
        for layout in self.layouts:
            located = {name: _apply(layout, name) for name in names}
            misfit = next((name for name, part in located.items() if part is None), None)
            if misfit is None:
                found = {name: part for name, part in located.items() if part is not None}
                self._check_one_to_one(found)
                return found
            misfits.append(misfit)
        raise SourceError(
            f"{self.architecture}: tensor {misfits[0]!r} is in no known layout of this "
            "architecture. Expected names that start with "
            + " or ".join("/".join(rule.prefix for rule in layout) for layout in self.layouts)
            + ". Check the checkpoint, or add the layout to omnicompose/families.py."
        )

    def _check_one_to_one(self, located: Mapping[str, PartName]) -> None:
        owners: dict[PartName, str] = {}
        for name, part in located.items():
            if part in owners:
                raise SourceError(
                    f"{self.architecture}: tensors {owners[part]!r} and {name!r} are both "
                    f"{part.name!r} of one part. Expected each tensor once; remove the one that "
                    "does not belong."
                )
            owners[part] = name


def _apply(layout: tuple[Rule, ...], name: str) -> PartName | None:
    return next((part for rule in layout if (part := rule.apply(name)) is not None), None)


def _text(architecture: str) -> Family:
    rules = (Rule("model.", "backbone", to="model."), Rule("lm_head.", "backbone", to="lm_head."))
    return Family(architecture=architecture, layouts=(rules,))


LLAVA_ON_DISK = (
    Rule("language_model.model.", "backbone", to="model."),
    Rule("language_model.lm_head.", "backbone", to="lm_head."),
    Rule("vision_tower.vision_model.", "encoder", "image", to="tower."),
    Rule("vision_tower.", "encoder", "image", to="tower."),
    Rule("multi_modal_projector.", "connector", "image"),
)
LLAVA_IN_MEMORY = (
    Rule("model.language_model.", "backbone", to="model."),
    Rule("lm_head.", "backbone", to="lm_head."),
    Rule("model.vision_tower.", "encoder", "image", to="tower."),
    Rule("model.multi_modal_projector.", "connector", "image"),
)

TEXT_FAMILIES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "GraniteForCausalLM",
)

FAMILIES: dict[str, Family] = {
    family.architecture: family
    for family in (
        *(_text(architecture) for architecture in TEXT_FAMILIES),
        Family(
            architecture="LlavaForConditionalGeneration",
            layouts=(LLAVA_ON_DISK, LLAVA_IN_MEMORY),
            text_config="text_config",
            encoders={
                "image": ModuleMap(
                    type="clip_vision",
                    options={
                        "vision_config": "vision_config",
                        "feature_layer": "vision_feature_layer",
                        "select": "vision_feature_select_strategy",
                    },
                )
            },
            connectors={
                "image": ModuleMap(
                    type="mlp",
                    options={
                        "input_size": "vision_config.hidden_size",
                        "output_size": "text_config.hidden_size",
                        "activation": "projector_hidden_act",
                        "bias": "multimodal_projector_bias",
                    },
                )
            },
            placeholder_ids={"image": "image_token_id"},
        ),
    )
}
