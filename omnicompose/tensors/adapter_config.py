"""`adapter_config.json` of a PEFT LoRA: what scales its products, and what cannot be a product."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import TypeVar

from omnicompose.errors import SourceError

Number = TypeVar("Number", int, float)

CONFIG = "adapter_config.json"
NOT_A_PRODUCT = {
    "use_dora": "DoRA rescales the whole weight",
    "use_qalora": "QA-LoRA pools the inputs",
    "use_bdlora": "block-diagonal LoRA stores its factors in another form",
    "kasa_config": "KaSA inserts singular values between the factors",
    "lora_bias": "the bias of lora_B has no place in a product",
    "alora_invocation_tokens": "an activated LoRA acts on some tokens only",
    "arrow_config": "Arrow routes between several adapters",
    "layer_replication": "layer replication changes the backbone",
    "target_parameters": "adapters of bare parameters have no layer of their own",
    "trainable_token_indices": "trained token rows are stored as a delta of the embedding",
}
"""Settings that make the adapter something else than `scale * B @ A`, and why."""
MUTATED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that change the base's own weights when the adapter is attached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """What decides a LoRA's rank and scale, module by module.

    Attributes:
        r: rank where no pattern says otherwise.
        alpha: numerator of the scale where no pattern says otherwise.
        rank_pattern: rank by pattern of module name.
        alpha_pattern: alpha by pattern of module name.
        rank_stabilised: divide by the square root of the rank.
        fan_in_fan_out: the layers store their weight transposed.
        base_model: what the adapter says it was trained on; None if it does not say.
    """

    r: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rank_stabilised: bool
    fan_in_fan_out: bool
    base_model: str | None

    def rank(self, module: str) -> int:
        """Rank of a module's product."""
        return int(_by_pattern(self.rank_pattern, module, self.r))

    def scale(self, module: str) -> float:
        """What the product of a module is multiplied with."""
        rank = self.rank(module)
        alpha = _by_pattern(self.alpha_pattern, module, self.alpha)
        return alpha / sqrt(rank) if self.rank_stabilised else alpha / rank


def _by_pattern(patterns: Mapping[str, float], module: str, default: float) -> float:
    """The value of the first pattern that matches the end of the name, as peft looks it up."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def read_lora_settings(folder: Path) -> LoraSettings:
    """Read and check `adapter_config.json`.

    Raises:
        SourceError: there is none, or it describes something that is not a plain LoRA.
    """
    path = folder / CONFIG
    config = _read(path)
    _refuse_other_kinds(path, config)
    try:
        return LoraSettings(
            r=_rank(config["r"]),
            alpha=_number(config["lora_alpha"]),
            rank_pattern=_by_module(config.get("rank_pattern"), _rank),
            alpha_pattern=_by_module(config.get("alpha_pattern"), _number),
            rank_stabilised=bool(config.get("use_rslora")),
            fan_in_fan_out=bool(config.get("fan_in_fan_out")),
            base_model=_text(config.get("base_model_name_or_path")),
        )
    except (KeyError, ValueError, re.error) as error:
        raise SourceError(
            f"{path}: found no usable value for {error}; expected a rank above 0, a numeric alpha "
            "and patterns of module names. Save the adapter with peft again."
        ) from error


def _read(path: Path) -> Mapping[str, object]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(
            f"{path}: not readable as JSON ({error}); expected a PEFT configuration. "
            "Give the folder that peft saved."
        ) from error
    if not isinstance(config, dict):
        raise SourceError(f"{path}: found no JSON object. Give the folder that peft saved.")
    return config


def _refuse_other_kinds(path: Path, config: Mapping[str, object]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise SourceError(
            f"{path}: found peft_type {kind!r}; expected LORA. Merge the adapter into its base "
            "with peft and give the merged model."
        )
    for setting, reason in NOT_A_PRODUCT.items():
        if config.get(setting):
            raise SourceError(
                f"{path}: found {setting}: {reason}; expected a plain LoRA. Merge the adapter "
                "into its base with peft (merge_and_unload) and give the merged model."
            )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(MUTATED_BASE):
        raise SourceError(
            f"{path}: found init_lora_weights {start!r}, which changes the base's own weights; "
            "expected an adapter of the unchanged base. Save it again with peft's "
            "path_initial_model_for_weight_conversion."
        )


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r}")
    return float(value)


def _rank(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"rank {value!r}")
    return value


def _by_module(value: object, read: Callable[[object], Number]) -> dict[str, Number]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{value!r}")
    for pattern in value:
        re.compile(pattern)
    return {pattern: read(number) for pattern, number in value.items()}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
