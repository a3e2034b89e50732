"""What controls show: is a modality relied upon, and which one wins when they disagree?"""

from collections.abc import Mapping, Sequence

from omnicompose.evaluation.line import Line
from omnicompose.evaluation.results import Control, RowKind
from omnicompose.evaluation.rows import answered
from omnicompose.evaluation.statistics import Estimate, compare_paired, estimate

KINDS = ("swapped", "blank")


def controls(
    group: str, score: RowKind, cells: Mapping[str, Sequence[Line]], seed: int
) -> list[Control]:
    """Every control that one set of questions was asked with, against everything as it is.

    Args:
        group: modalities that the questions show.
        score: kind of score.
        cells: subset label to the lines asked with it.
        seed: of permutation tests.
    """
    if group not in cells:
        return []
    return [
        _control((group, score, kind, modality), cells, seed)
        for modality in group.split("+")
        for kind in KINDS
        if f"{kind}:{modality}" in cells
    ]


def _control(
    name: tuple[str, RowKind, str, str], cells: Mapping[str, Sequence[Line]], seed: int
) -> Control:
    group, score, kind, modality = name
    whole, changed = (answered(cells[k]) for k in (group, f"{kind}:{modality}"))
    before, after = whole.by_id(), changed.by_id()
    shared = [(i, c) for i, c in zip(whole.ids, whole.clusters, strict=True) if i in after]
    kept, followed, n = _conflict(group, f"{kind}:{modality}", cells)
    return Control(
        group=group,
        score=score,
        kind="swapped" if kind == "swapped" else "blank",
        modality=modality,
        loss=compare_paired(
            [before[i] for i, _ in shared],
            [after[i] for i, _ in shared],
            [cluster for _, cluster in shared],
            seed=seed,
        ),
        conflicts=n,
        kept=kept,
        followed=followed,
    )


def _conflict(
    group: str, label: str, cells: Mapping[str, Sequence[Line]]
) -> tuple[Estimate | None, Estimate | None, int]:
    """Of questions where the strange medium alone says something else: whose answer is given."""
    alone = _answers(cells.get(f"{label}:alone", ()))
    whole, changed = _answers(cells[group]), _answers(cells[label])
    clusters = {(line.id, line.rotation): line.cluster for line in cells[group]}
    asked = [
        key
        for key in sorted(alone.keys() & whole.keys() & changed.keys())
        if alone[key] != whole[key]
    ]
    if not asked:
        return None, None, 0
    where = [clusters[key] for key in asked]
    kept = estimate([float(changed[k] == whole[k]) for k in asked], where, share=True)
    followed = estimate([float(changed[k] == alone[k]) for k in asked], where, share=True)
    return kept, followed, len(asked)


def _answers(lines: Sequence[Line]) -> dict[tuple[str, int], str]:
    """Answers that could be read, by question and rotation."""
    return {(line.id, line.rotation): line.answer for line in lines if line.answer is not None}
