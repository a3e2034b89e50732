"""The README of a written composite: what it is made of and how to use it."""

from pathlib import Path

from omnicompose.plan import CompositePlan

CARD = """\
---
library_name: transformers
pipeline_tag: any-to-any
tags: [omnicompose, model-composition, merge]
---

# A composite of {modalities} experts

Made by `omnicompose compose` without training, from experts that share the base `{base}`.

| modality | expert | encoder | connector | own stream |
|---|---|---|---|---|
{rows}

Text weights: `{method}`. Modality weights: `{modality}`. `manifest.json` holds the whole recipe and
the sha256 of every input and output file; `omnicompose verify` checks them.

```python
import omnicompose
from transformers import AutoModelForMultimodalLM, AutoProcessor

processor = AutoProcessor.from_pretrained(folder)
model = AutoModelForMultimodalLM.from_pretrained(folder)
```

The licences of all experts and of the base apply together. Composition keeps what the experts can
do only as far as it was measured: run `omnicompose evaluate` before you rely on it.
"""


def write_model_card(plan: CompositePlan, folder: Path) -> None:
    """Write `README.md` into a composite's folder."""
    setting = plan.setting
    rows = [
        f"| {expert.modality} | `{expert.label}` | {expert.encoder.type} | {expert.connector.type} "
        f"| {_stream(plan, expert.modality)} |"
        for expert in setting.experts
    ]
    text = CARD.format(
        modalities=", ".join(expert.modality for expert in setting.experts),
        base=setting.base.label,
        rows="\n".join(rows),
        method=setting.recipe.text.method,
        modality=setting.recipe.modality,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _stream(plan: CompositePlan, modality: str) -> str:
    spec = plan.streams[modality].spec
    if spec is None:
        return "the text weights"
    return f"{spec['form']}" + (f", rank {spec['rank']}" if spec["rank"] else "")
