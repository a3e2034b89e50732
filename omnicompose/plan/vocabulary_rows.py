"""Embedding table and head of the composite: the base's rows, the experts' own, placeholders."""

from collections.abc import Iterator

from omnicompose.errors import PlanError
from omnicompose.experts.expert import Expert, Origin
from omnicompose.merging.job import Fill, Merge, TensorRef
from omnicompose.plan.setting import Setting
from omnicompose.plan.vocabulary import ExpertRow

Piece = TensorRef | Merge | Fill


def table_end(setting: Setting) -> int:
    """Rows at the front of the table that no expert owns a row behind.

    Tokens that experts add may lie in rows that the base only pads its table with.
    """
    vocabulary = setting.vocabulary
    appended = [row for row in vocabulary.owned if row >= _num_base_tokens(setting)]
    return min([vocabulary.base_rows, *appended])


def front_pieces(setting: Setting, base: TensorRef, end: int) -> list[Piece]:
    """The base's rows up to `end`, with the rows of tokens that experts gave a meaning."""
    pieces: list[Piece] = []
    at = 0
    for row in sorted(row for row in setting.vocabulary.owned if row < end):
        if row > at:
            pieces.append(_run(base, at, row))
        pieces.append(_owned(setting, base, setting.vocabulary.owned[row]))
        at = row + 1
    if end > at:
        pieces.append(_run(base, at, end))
    return pieces


def back_pieces(setting: Setting, base: TensorRef, start: int) -> Iterator[Piece]:
    """The rows from `start` on: an expert's, padding of the base, or a placeholder's mean row.

    Features take the place of placeholders before the language model sees them, and generation
    suppresses them, so their rows only have to be harmless: the mean row.
    """
    vocabulary = setting.vocabulary
    row = start
    while row < vocabulary.num_rows:
        if row in vocabulary.owned:
            yield _owned(setting, base, vocabulary.owned[row])
            row += 1
            continue
        end = min([one for one in vocabulary.owned if one > row] + [vocabulary.num_rows])
        if row < vocabulary.base_rows:
            end = min(end, vocabulary.base_rows)
            yield _run(base, row, end)
        else:
            yield Fill(num_rows=end - row, mean_of=TensorRef(source=base.source, name=base.name))
        row = end


def owned_inputs(setting: Setting, name: str) -> tuple[Origin, ...]:
    """The experts' tables that rows are taken from."""
    modalities = {owned.modality for owned in setting.vocabulary.owned.values()}
    return tuple(
        origin
        for expert in setting.experts
        if expert.modality in modalities
        for origin in expert.text.weights.origins.get(name, ())
    )


def _num_base_tokens(setting: Setting) -> int:
    vocabulary = setting.vocabulary
    return vocabulary.num_tokens - len(vocabulary.added) - vocabulary.num_new_placeholders


def _run(base: TensorRef, start: int, end: int) -> TensorRef:
    return TensorRef(source=base.source, name=base.name, first_row=start, num_rows=end - start)


def _owned(setting: Setting, base: TensorRef, owned: ExpertRow) -> Piece:
    expert = next(one for one in setting.experts if one.modality == owned.modality)
    source = expert.text.weights.source
    info = source.infos().get(base.name)
    if info is None or owned.row >= info.shape[0]:
        return Fill(num_rows=1, mean_of=base)
    return TensorRef(source=source, name=base.name, first_row=owned.row, num_rows=1)


def check_rows(setting: Setting, name: str) -> None:
    """Refuse to merge tables of which one is too short.

    Raises:
        PlanError: an expert's table has fewer rows than the base's tokens.
    """
    for expert in setting.experts:
        rows = _rows_of(expert, name)
        if rows < table_end(setting):
            raise PlanError(
                f"{expert.label}: {name} has {rows} rows, the base has "
                f"{setting.vocabulary.base_rows}; tables of different vocabularies cannot be "
                "merged row by row. Keep the base's: `roles: {embedding: base, head: base}`."
            )


def _rows_of(expert: Expert, name: str) -> int:
    return expert.text.weights.source.infos()[name].shape[0]
