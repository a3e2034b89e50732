"""What a manifest says of streams: form, size, why, and how near they come to the experts."""

import math
from collections.abc import Iterable, Mapping

from omnicompose.plan.plan import Entry
from omnicompose.plan.streams import StreamPlan

Measures = Mapping[str, Mapping[str, float]]
"""Facts by tensor that were found while it was written; they add up."""
DIGITS = 6
"""Significant digits: sums of other tiles or threads agree to more than these."""


def stream_facts(stream: StreamPlan, measures: Measures | None = None) -> dict[str, object] | None:
    """What is known of a stream from its plan, and from writing it.

    Args:
        stream: of one modality.
        measures: of the tensors written; None: not yet.

    Returns:
        For masks `density` (share of entries kept) and `l1_error` (relative), for truncated factors
        `relative_error` per tensor and over all (Frobenius norms); None where there is no stream.
    """
    if stream.spec is None and stream.text_spec is None:
        return None
    facts: dict[str, object] = {
        **(stream.spec or {}),
        "bytes": stream.num_bytes,
        "why": stream.why,
    }
    if stream.text_spec is not None:
        facts["text_stream"] = dict(stream.text_spec)
    found = _measured(stream.entries, measures or {})
    return facts | _mask_facts(found.values()) | _factor_facts(found)


def _measured(entries: Iterable[Entry], measures: Measures) -> dict[str, Mapping[str, float]]:
    names = [entry.output.name for entry in entries]
    return {name: measures[name] for name in names if name in measures}


def _mask_facts(found: Iterable[Mapping[str, float]]) -> dict[str, object]:
    total = _total(one for one in found if "entries" in one)
    if not total:
        return {}
    return {
        "density": _rounded(total["kept"] / total["entries"]),
        "l1_error": _rounded(total["l1_error"] / total["l1_own"] if total["l1_own"] else 0.0),
    }


def _factor_facts(found: Mapping[str, Mapping[str, float]]) -> dict[str, object]:
    factors = {name: one for name, one in found.items() if "squared_norm" in one}
    if not factors:
        return {}
    errors = {name.removesuffix(".lora_B"): _error(one) for name, one in factors.items()}
    return {"relative_error": {"all": _error(_total(factors.values())), **errors}}


def _error(one: Mapping[str, float]) -> float:
    share = one["squared_error"] / one["squared_norm"] if one["squared_norm"] else 0.0
    return _rounded(math.sqrt(share))


def _total(found: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for one in found:
        for name, value in one.items():
            total[name] = total.get(name, 0.0) + value
    return total


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
