"""What a modality's own tokens use where it differs from the text weights, and in which form."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import prod

from omnicompose.errors import PlanError
from omnicompose.experts.expert import Expert
from omnicompose.families import layer_of
from omnicompose.merging.derived import num_bytes_packed
from omnicompose.merging.job import Merge
from omnicompose.plan.plan import Entry
from omnicompose.plan.setting import Setting
from omnicompose.plan.stream_entries import (
    EMR,
    dense_entries,
    emr_merge,
    factored_entries,
    masked_entries,
    truncated_entries,
)
from omnicompose.plan.stream_tensors import Side, role_word

TEXT_OF = "text_"
"""As in `omnicompose.streams`: before a modality's name, the text of prompts with it alone."""

Merges = dict[tuple[str, str], Merge]
"""EMR's merges by kind of tokens and tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """A modality's stream.

    Attributes:
        entries: its tensors.
        spec: the `stream` entry of its configuration; None where it uses the text weights.
        text_spec: likewise, for the text of prompts that hold this modality alone.
        why: why it is stored so.
    """

    entries: tuple[Entry, ...]
    spec: Mapping[str, object] | None
    text_spec: Mapping[str, object] | None = None
    why: str = ""

    @property
    def num_bytes(self) -> int:
        """Bytes of its tensors."""
        return sum(entry.output.num_bytes for entry in self.entries)


NOTHING = StreamPlan(entries=(), spec=None)


def plan_streams(setting: Setting) -> dict[str, StreamPlan]:
    """The stream of every expert, by modality; what several share is written with the first.

    Raises:
        PlanError: the choice of the recipe is not available.
    """
    _check_options(setting)
    merges: Merges = {}
    written: set[str] = set()
    plans: dict[str, StreamPlan] = {}
    for expert in setting.experts:
        plan = _plan(setting, expert, merges)
        fresh = tuple(entry for entry in plan.entries if entry.output.name not in written)
        written |= {entry.output.name for entry in fresh}
        plans[expert.modality] = StreamPlan(
            entries=fresh, spec=plan.spec, text_spec=plan.text_spec, why=plan.why
        )
    return plans


def _check_options(setting: Setting) -> None:
    streams, modality = setting.recipe.streams, setting.recipe.modality
    if modality == "merged":
        if streams.single_modality_text == "own":
            raise PlanError(
                "streams: single_modality_text: own needs weights of an expert's own, but "
                "`modality: merged` keeps none; expected `exact`, `masked` or `emr`."
            )
        return
    allowed = ("auto", "factored", "dense") if modality == "exact" else ("auto", "dense", "packed")
    if streams.storage not in allowed:
        raise PlanError(
            f"streams: storage: {streams.storage} does not exist for `modality: {modality}`; "
            f"expected one of {', '.join(allowed)}. Mend `streams:` in the recipe."
        )
    if streams.rank is not None and (modality != "exact" or streams.storage == "dense"):
        raise PlanError(
            f"streams: rank: found {streams.rank} with `modality: {modality}` and `storage: "
            f"{streams.storage}`; only factors of `modality: exact` have a rank. Drop one of them."
        )


def _plan(setting: Setting, expert: Expert, merges: Merges) -> StreamPlan:
    if setting.recipe.modality == "merged":
        return NOTHING
    own = _plan_side(
        Side(setting=setting, expert=expert, backbone=expert.own, stream=expert.modality), merges
    )
    if setting.recipe.streams.single_modality_text == "merged" or not expert.decoupled:
        return own
    stream = TEXT_OF + expert.modality
    text = _plan_side(
        Side(setting=setting, expert=expert, backbone=expert.text, stream=stream), merges
    )
    return StreamPlan(
        entries=(*own.entries, *text.entries), spec=own.spec, text_spec=text.spec, why=own.why
    )


def _plan_side(side: Side, merges: Merges) -> StreamPlan:
    if not side.matrices and not side.norms:
        return NOTHING
    return _exact(side) if side.setting.recipe.modality == "exact" else _masked(side, merges)


def _shared(merges: Merges, side: Side, name: str) -> Merge:
    """EMR's merge of a tensor, one for all experts: its statistics are summed up once."""
    key = (side.kind, name)
    if key not in merges:
        merges[key] = emr_merge(side, name)
    return merges[key]


def _exact(side: Side) -> StreamPlan:
    """The cheapest exact form, or the one that was asked for."""
    streams, rank = side.setting.recipe.streams, side.exact_rank
    if not side.matrices:
        return StreamPlan(
            entries=tuple(dense_entries(side)), spec=_spec(side, "dense", None), why="norms alone"
        )
    if streams.rank is not None and (rank is None or rank > streams.rank):
        return StreamPlan(
            entries=tuple(truncated_entries(side, streams.rank)),
            spec=_spec(side, "factored", streams.rank),
            why=f"truncated to the rank {streams.rank} that the recipe asks for; "
            + _compare_truncated(side, streams.rank, rank),
        )
    if rank is None and streams.storage == "factored":
        raise PlanError(
            f"{side.expert.label}: streams: storage: factored, but own minus merged weights are no "
            "sum of low-rank products: the text merge is not linear, or an expert is no LoRA. "
            "Name a `rank:` to truncate to, or take `storage: dense`."
        )
    factored = streams.storage == "factored" or streams.rank is not None
    if streams.storage == "auto" and rank is not None:
        factored = factored or _factor_bytes(side, rank) < _dense_bytes(side)
    if factored and rank is not None:
        return StreamPlan(
            entries=tuple(factored_entries(side, rank)),
            spec=_spec(side, "factored", rank),
            why=f"{streams.storage}: {_compare(side, rank)}",
        )
    reason = "own minus merged weights are no sum of low-rank products; dense matrices are exact"
    return StreamPlan(
        entries=tuple(dense_entries(side)),
        spec=_spec(side, "dense", None),
        why=f"{streams.storage}: {reason if rank is None else _compare(side, rank)}",
    )


def _masked(side: Side, merges: Merges) -> StreamPlan:
    """Mask and base, packed, where that is smaller; else the masked matrices written out."""
    recipe = side.setting.recipe
    possible = recipe.modality != EMR or _text_is_emr(side)
    if recipe.streams.storage == "packed" and not possible:
        raise PlanError(
            "streams: storage: packed: EMR's shared delta is not in the text weights, so a mask "
            "alone does not say the stream. Take `text: {method: emr}`, or `storage: dense`."
        )
    num_streams = len(side.setting.experts)
    dense = _dense_bytes(side)
    masks = sum(num_bytes_packed(side.info(name).shape) + 4 for name in side.matrices)
    together = dense + num_streams * masks
    smaller = together < num_streams * dense
    pack = recipe.streams.storage == "packed" or (
        recipe.streams.storage == "auto" and possible and smaller
    )
    sizes = (
        f"{num_streams} masks of {_mega(masks)} and the base's matrices, {_mega(together)} in all; "
        f"written out, {_mega(num_streams * dense)}"
    )
    why = f"{recipe.streams.storage}: {sizes}"
    if not possible:
        why = (
            f"{recipe.streams.storage}: EMR's shared delta is not in the text weights, written out"
        )
    shared = partial(_shared, merges, side) if recipe.modality == EMR else None
    return StreamPlan(
        entries=tuple(masked_entries(side, shared, pack=pack)),
        spec=_spec(side, "masked" if pack else "dense", None),
        why=why,
    )


def _text_is_emr(side: Side) -> bool:
    """Whether the text weights hold the very shared delta that the stream's masks choose from."""
    texts = tuple(one.text for one in side.setting.experts)
    if any(one is not other for one, other in zip(side.peers, texts, strict=True)):
        return False
    treatments = [side.setting.treatment(name) for name in side.matrices]
    return all(
        one.method is not None
        and one.method.spec.name == EMR
        and one.parameters["scale"] == 1.0
        and not one.steps
        for one in treatments
    )


def _factor_bytes(side: Side, rank: int) -> int:
    shapes = [(side.info(name).shape, side.num_bytes(name)) for name in side.matrices]
    return sum(rank * sum(shape) * size // prod(shape) for shape, size in shapes)


def _dense_bytes(side: Side) -> int:
    return sum(side.num_bytes(name) for name in (*side.matrices, *side.biases))


def _compare(side: Side, rank: int) -> str:
    """Memory and prefill arithmetic of both exact forms."""
    factors, dense = _factor_bytes(side, rank), _dense_bytes(side)
    return (
        f"factors of rank {rank} hold it exactly in {_mega(factors)} and cost its tokens "
        f"{factors / max(dense, 1):.0%} more products; dense matrices take {_mega(dense)} and cost "
        "nothing more"
    )


def _compare_truncated(side: Side, rank: int, exact: int | None) -> str:
    kept = f"{_mega(_factor_bytes(side, rank))} instead of {_mega(_dense_bytes(side))} dense"
    return kept if exact is None else f"{kept}; rank {exact} would be exact"


def _mega(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"


def _spec(side: Side, form: str, rank: int | None) -> dict[str, object]:
    names = (*side.matrices, *side.norms)
    layers = sorted({layer for name in names if (layer := layer_of(name)) is not None})
    roles = list(dict.fromkeys(role_word(name) for name in names))
    return {"form": form, "rank": rank, "roles": roles, "layers": layers}
