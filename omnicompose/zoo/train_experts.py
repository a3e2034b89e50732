"""How the zoo's experts are trained: each on its own modality and text, never on two media at once.

Standard experts first learn to describe through a frozen language model, which makes the connector
speak the base's own words; then connector and adapters learn to answer. Stressed experts skip that
and have a slow connector and a fast, wide adapter: the language model does the modality's work, and
averaging experts breaks it. All of it is a configuration of `omnicompose train`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

WIDTH = 128
Strategy = Literal["single", "decoupled"]
CONNECTORS: dict[str, dict[str, object]] = {
    "image": {"type": "mlp", "config": {"input_size": 64, "output_size": WIDTH}},
    "audio": {
        "type": "attention_pool",
        "config": {
            "input_size": 64,
            "output_size": WIDTH,
            "num_queries": 4,
            "hidden_size": WIDTH,
        },
    },
    "video": {"type": "mlp", "config": {"input_size": 64, "output_size": WIDTH}},
}
"""The connector of each modality, as `omnicompose.connectors.make_connector` takes it."""

BATCH_SIZE = 16
CAPTION_BATCH_SIZE = 32
# Clips have five attributes, two of them of motion: at 200 steps their captions are still wrong,
# and what the connector does not learn the adapter must, where averaging hurts.
CAPTION_STEPS = {"image": 200, "audio": 200, "video": 800}
CAPTIONING_RATE = 3e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """How an expert learns to answer.

    Attributes:
        captioned: whether it starts from the connector of the captioning stage.
        rank: of every adapter.
        adapter_rate: peak learning rate of the adapters.
        connector_rate: peak learning rate of the connector.
        steps: how long.
    """

    captioned: bool
    rank: int
    adapter_rate: float
    connector_rate: float
    steps: int


REGIMES = {
    "standard": Regime(captioned=True, rank=16, adapter_rate=3e-3, connector_rate=2e-3, steps=250),
    "stressed": Regime(captioned=False, rank=24, adapter_rate=6e-3, connector_rate=3e-4, steps=250),
}

GENTLER = {
    ("standard", "video"): replace(
        REGIMES["standard"], adapter_rate=1e-3, connector_rate=3e-3, steps=260
    )
}
"""By regime and modality: clips are read best where the connector, not the adapter, learns them."""


def regime_for(name: str, modality: str) -> Regime:
    """How the expert of a modality learns in a regime."""
    return GENTLER.get((name, modality), REGIMES[name])


def captioning_stage(modality: str) -> dict[str, object]:
    """The stage in which a connector learns to be described through the frozen base."""
    steps = CAPTION_STEPS[modality]
    return {
        "strategy": "connector",
        "data": {"generator": "captions", "count": steps * CAPTION_BATCH_SIZE},
        "steps": steps,
        "batch_size": CAPTION_BATCH_SIZE,
        "learning_rate": CAPTIONING_RATE,
    }


def answering_stage(regime: Regime, strategy: Strategy) -> dict[str, object]:
    """The stage in which connector and adapters learn to answer."""
    return {
        "strategy": "lora" if strategy == "single" else "decoupled",
        "data": {"generator": "questions", "count": regime.steps * BATCH_SIZE},
        "steps": regime.steps,
        "batch_size": BATCH_SIZE,
        "learning_rate": regime.adapter_rate,
        "connector_learning_rate": regime.connector_rate,
        "lora": {"rank": regime.rank},
    }


def expert_config(
    modality: str, stages: list[dict[str, object]], places: Mapping[str, str]
) -> dict[str, object]:
    """The configuration of a training, as its YAML file would hold it.

    Args:
        modality: image, audio or video.
        stages: one or both of the stages above.
        places: where `base` and `encoder` lie.
    """
    connector = CONNECTORS[modality]
    return {
        "base": places["base"],
        "modality": modality,
        "encoder": {"source": places["encoder"]},
        "connector": {"type": connector["type"], "config": connector["config"]},
        "stages": stages,
        "attention": "eager",
        "dtype": "float16",
    }
