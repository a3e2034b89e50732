"""The backbones of ModelCompose's experts: adapters over the base, by strategy and name."""

from omnicompose.errors import SourceError
from omnicompose.experts.expert import Backbone, Base
from omnicompose.experts.low_rank import adapt
from omnicompose.experts.modelcompose_folder import ModelComposeFolder
from omnicompose.tensors.adapter import LoraAdapter
from omnicompose.tensors.adapter_config import LoraSettings
from omnicompose.tensors.selected import SelectedSource

LANGUAGE = "default"
STRATEGIES = {
    "same": "one adapter for all tokens",
    "modal": "an adapter for the modality's tokens alone",
    "modal+language": "one for the modality's tokens, one for the others",
    "none": "no adapter",
}


def open_backbones(
    opened: ModelComposeFolder, theirs: str, base: Base
) -> tuple[Backbone, Backbone]:
    """The backbone as text sees it and as the modality's tokens see it.

    Args:
        opened: the folder.
        theirs: ModelCompose's name of the modality.
        base: what the adapters are laid over.

    Raises:
        SourceError: the strategy is unknown, or the folder lacks its adapters.
    """
    plain = Backbone(weights=base.weights, factors={}, host=base.weights)
    # A folder of a projector alone names a strategy too.
    needed = _needed(opened, theirs) if opened.factors else {}
    text = _backbone(opened, needed["text"], base) if "text" in needed else plain
    return text, _backbone(opened, needed["own"], base) if "own" in needed else text


def _needed(opened: ModelComposeFolder, theirs: str) -> dict[str, str]:
    """The adapter of the text and the modality's own, where the strategy has one."""
    strategy = str(opened.config.get("lora_strategy") or "none")
    if strategy not in STRATEGIES:
        raise SourceError(
            f"{opened.label}: found lora_strategy {strategy!r}, expected one of "
            f"{', '.join(STRATEGIES)}. Restore config.json."
        )
    merged = f"{LANGUAGE}-{theirs}"
    language = merged if merged in opened.factors else LANGUAGE
    needed = {"text": language} if strategy in ("same", "modal+language") else {}
    needed |= {"own": theirs} if strategy in ("modal", "modal+language") else {}
    if missing := [adapter for adapter in needed.values() if adapter not in opened.factors]:
        raise SourceError(
            f"{opened.label}: lora_strategy {strategy!r} means {STRATEGIES[strategy]}, but found "
            f"factors of {', '.join(sorted(opened.factors))} and none of {missing[0]}. Restore the "
            "expert."
        )
    return needed


def _backbone(opened: ModelComposeFolder, adapter: str, base: Base) -> Backbone:
    rank, alpha = opened.config.get("lora_r"), opened.config.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float):
        raise SourceError(
            f"{opened.label}: found lora_r {rank!r} and lora_alpha {alpha!r} in config.json, "
            "expected numbers. Restore the file."
        )
    settings = LoraSettings(
        r=rank,
        alpha=alpha * opened.scales.get(adapter, 1.0),
        rank_pattern={},
        alpha_pattern={},
        rank_stabilised=False,
        fan_in_fan_out=False,
        base_model=None,
    )
    factors = SelectedSource(opened.weights, {name: name for name in opened.factors[adapter]})
    return adapt(base.weights, LoraAdapter(opened.label, factors, settings))
