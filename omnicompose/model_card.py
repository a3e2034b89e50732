"""The README of a composite, from its manifest: parts, licences, recipe, results, limits."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from omnicompose.card_licences import combined_licence
from omnicompose.card_results import EvaluationRow, results_section

Json = Mapping[str, object]
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[\w.-]+)?")

CARD_FILE = "README.md"
CARD = """\
---
library_name: transformers
pipeline_tag: any-to-any
license: {licence}
tags: [omnicompose, model-composition, merge]
{base_models}---

# A composite of {modalities} experts

Made by omnicompose {version} without training, from experts that share the base `{base}`.

| modality | expert | encoder | connector | coefficient | own stream | licence |
|---|---|---|---|---|---|---|
{rows}

Text weights: `{method}`{parameters}. Modality weights: `{modality}`. The base's licence is
{base_licence}. `manifest.json` holds the whole recipe and the sha256 of every input and output
file and of the plan (`{plan}`); `omnicompose verify` checks them.

## Use

```python
from transformers import AutoModelForMultimodalLM, AutoProcessor

# Not needed after `import omnicompose`: the code in this folder is a copy of the package's own.
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForMultimodalLM.from_pretrained(folder, trust_remote_code=True)
```

It needs torch and `transformers[vision,audio,video]` {transformers}; no omnicompose.

## Evaluation

{evaluation}

## Known limits

{limits}

## Licences

{licences}
"""
LIMITS = (
    "Nothing was trained: what is kept of the experts is known only as far as it was measured.",
    "A text may be answered worse than by the base: its weights are a merge.",
    "Servers that drop token types (vLLM's transformers backend) lose decoupled streams.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What a card says.

    Attributes:
        recipe: as in the manifest, defaults filled in.
        facts: of the manifest, `licences` and `streams` among them.
        modalities: of the composite's configuration.
        plan_sha256: of the manifest.
        version: of omnicompose.
        transformers: the version that wrote the configuration.
    """

    recipe: Json
    facts: Json
    modalities: Mapping[str, Json]
    plan_sha256: str
    version: str
    transformers: str


def model_card(card: CardFacts, results: Sequence[EvaluationRow] = ()) -> str:
    """The text of `README.md`.

    Args:
        card: what the composite is made of.
        results: rows of evaluations, with their intervals.
    """
    recipe = card.recipe
    experts = cast(Mapping[str, Json], recipe["experts"])
    text = cast(Json, recipe["text"])
    licences = cast(Mapping[str, str | None], card.facts.get("licences", {}))
    base = str(recipe["base"])
    used = {base: licences.get(base)} | {
        str(one["source"]): licences.get(str(one["source"])) for one in experts.values()
    }
    return CARD.format(
        licence=combined_licence(used.values()),
        base_models=_base_models(used),
        modalities=", ".join(experts),
        version=card.version,
        base=base,
        rows="\n".join(_row(card, name, one, licences) for name, one in experts.items()),
        method=text["method"],
        parameters=_parameters(cast(Json, text["parameters"])),
        modality=recipe["modality"],
        base_licence=_licence(licences.get(base)),
        plan=card.plan_sha256[:12],
        transformers=card.transformers,
        evaluation=results_section(results),
        limits="\n".join(f"- {line}" for line in (*LIMITS, *_stream_limits(card.facts))),
        licences=_licences(used),
    )


def _base_models(sources: Iterable[str]) -> str:
    """What the hub draws the model's family tree from: sources that are on the hub."""
    ids = [source.split("@")[0] for source in sources if HUB_ID.fullmatch(source)]
    return f"base_model: [{', '.join(ids)}]\nbase_model_relation: merge\n" if ids else ""


def _row(card: CardFacts, name: str, expert: Json, licences: Mapping[str, str | None]) -> str:
    entry = card.modalities[name]
    parts = [cast(Json, entry[part])["type"] for part in ("encoder", "connector")]
    source = str(expert["source"])
    number = len(cast(Json, card.recipe["experts"]))
    cells = [
        name,
        f"`{source}`",
        *parts,
        _coefficient(expert.get("weight"), number),
        _stream(entry),
        _licence(licences.get(source)),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def _coefficient(weight: object, num_experts: int) -> str:
    if weight is None:
        return f"1/{num_experts}"
    if isinstance(weight, list):
        return f"{min(weight):g} to {max(weight):g} over depth"
    return f"{weight:g}" if isinstance(weight, int | float) else "by tensor, in the manifest"


def _stream(entry: Json) -> str:
    spec = cast(Json | None, entry.get("stream"))
    if spec is None:
        return "the text weights"
    return f"{spec['form']}" + (f", rank {spec['rank']}" if spec.get("rank") else "")


def _parameters(parameters: Json) -> str:
    told = ", ".join(f"{name} {value}" for name, value in parameters.items())
    return f" ({told})" if told else ""


def _stream_limits(facts: Json) -> list[str]:
    """What is lost where streams are truncated, from what was measured while they were written."""
    streams = cast(Mapping[str, Json | None], facts.get("streams") or {})
    return [
        f"The {name} stream is truncated: relative error {error:.2g}."
        for name, stream in streams.items()
        if (error := _relative_error(stream)) > 0
    ]


def _relative_error(stream: Json | None) -> float:
    found = (stream or {}).get("relative_error")
    error = found.get("all") if isinstance(found, dict) else None
    return error if isinstance(error, float) else 0.0


def _licence(name: str | None) -> str:
    return name or "not stated"


def _licences(used: Mapping[str, str | None]) -> str:
    unknown = [f"`{source}`" for source, licence in used.items() if licence is None]
    text = "The licences of all experts and of the base apply together: " + ", ".join(
        sorted({licence for licence in used.values() if licence})
    )
    text = text if len(unknown) < len(used) else "No source states its licence"
    if not unknown:
        return f"{text}."
    return f"{text}. Not stated in the files of {', '.join(unknown)}: ask before you pass this on."
