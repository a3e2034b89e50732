"""The parts of recipes: roles, overrides, stages, experts and models, strict and documented."""

from typing import Annotated, Literal

from pydantic import Field

from omnicompose.recipe_fields import (
    FileField,
    Parameters,
    RolePolicy,
    SourceField,
    Strict,
    WeightField,
)


class Roles(Strict):
    """What happens to each kind of backbone tensor: `method`, `mean_delta` or `base` (kept)."""

    attention: RolePolicy = "method"
    """Attention projection matrices."""
    mlp: RolePolicy = "method"
    """Feed-forward matrices."""
    norm: RolePolicy = "mean_delta"
    """Normalisation weights."""
    bias: RolePolicy = "mean_delta"
    """Biases of any layer."""
    embedding: RolePolicy = "base"
    """Token embeddings."""
    head: RolePolicy = "base"
    """The output projection onto the vocabulary."""
    other: RolePolicy = "method"
    """Whatever is none of the above."""


MERGE_ROLES = Roles(norm="method", bias="method", embedding="method", head="method")
"""A plain merge gives every tensor to the method."""


class Stage(Strict):
    """A method on top of the merged delta, which counts as the delta of one expert."""

    method: str
    """Such as `lines` (scale by depth) or `task_arithmetic` (scale); it takes one model."""
    parameters: Parameters = Field(default_factory=dict)
    """Settings of the method; `omnicompose methods NAME` lists them."""
    profile: str | None = None
    """A named set of a reference implementation's settings, such as `mergekit`."""


Stages = Annotated[tuple[Stage, ...], Field(strict=False)]


class Override(Strict):
    """Another treatment for the tensors whose names match; the first match in the list wins."""

    match: str = Field(min_length=1)
    """Pattern of tensor names in the backbone, such as `*.mlp.*`."""
    policy: RolePolicy = "method"
    """`method` to merge, `mean_delta` for the plain mean of deltas, `base` to keep the base's."""
    method: str | None = Field(default=None, min_length=1)
    """The merging method; the recipe's own if not named."""
    parameters: Parameters = Field(default_factory=dict)
    """Settings of the method; `omnicompose methods NAME` lists them."""
    profile: str | None = None
    """A named set of a reference implementation's settings, such as `mergekit`."""
    then: Stages | None = None
    """Methods on top of the merged delta; null: as the recipe says."""


class TextMerge(Strict):
    """How the weights that text tokens use are merged."""

    method: str = "linear"
    """The merging method; `omnicompose methods` lists them."""
    parameters: Parameters = Field(default_factory=dict)
    """Settings of the method; `omnicompose methods NAME` lists them."""
    profile: str | None = None
    """A named set of a reference implementation's settings, such as `mergekit`."""
    then: Stages = ()
    """Methods on top of the merged delta, one after the other."""


class Streams(Strict):
    """How the weights of a modality's own tokens are kept, where they differ from text's."""

    storage: Literal["auto", "factored", "dense", "packed"] = "auto"
    """`factored`: low-rank factors; `dense`: matrices; `packed`: one-bit masks; `auto`: whichever
    of the exact ones is smallest (the manifest explains the choice)."""
    rank: int | None = Field(default=None, ge=1)
    """For `exact`: truncate each correction to this rank; null keeps it exact."""
    roles: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None
    """Which tensors: `attention`, `mlp`, `norm`, or modules by name such as `q_proj`; null for
    attention and mlp, with `exact` norms too, as far as an expert changed them."""
    layers: Annotated[tuple[int, ...], Field(strict=False, min_length=1)] | None = None
    """In which blocks, counted from 0; null for all."""
    single_modality_text: Literal["merged", "own"] = "merged"
    """The weights of text in prompts with media of one modality only: the merged ones, or the own
    of that modality's expert."""
    mask_threshold: float = Field(default=1.0, gt=0)
    """For `masked`: keep an entry where |own delta| > threshold * |merged delta - own delta|."""
    mask_signed: bool = True
    """For `masked`: keep an entry only where own and merged delta have the same sign."""


class Expert(Strict):
    """One expert of a composite."""

    source: SourceField
    """A folder, `zoo:NAME`, a hub id with `@revision`, or `base+adapter`."""
    encoder: SourceField | None = None
    """Where its encoder lies, for experts that do not bring it (ModelCompose's): a folder, a file
    of weights or a hub id; null: where the expert's own configuration says."""
    weight: WeightField = None
    """Coefficient in the text-side merge: a number, a list over depth, a table
    {tensor pattern: number} or the path of one; null means 1/N for each of N experts."""
    mask_threshold: float | None = Field(default=None, gt=0)
    """For `modality: masked`: this expert's own threshold."""
    statistics: FileField = None
    """What `omnicompose collect` measured of it, for methods that need data; null: none."""


class Model(Strict):
    """One model of a merge."""

    source: SourceField
    """A folder, `zoo:NAME`, a hub id with `@revision`, or `base+adapter`."""
    weight: WeightField = None
    """Coefficient: a number, a list over depth, a table {tensor pattern: number} or the path of
    one; null means 1/N for each of N models."""
    name: str | None = None
    """How random methods and reports call it; the source's text if not given."""
    statistics: FileField = None
    """What `omnicompose collect` measured of it, for methods that need data; null: none."""
    data: FileField = None
    """Prompts of its own (JSON lines), for methods that look at data; null: none."""

    @property
    def label(self) -> str:
        """Its name, or the text of its source."""
        return self.name or self.source.text
