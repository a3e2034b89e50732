"""One decision about tokens: the composite's vocabulary, its placeholders and its chat template.

The base's tokens keep their ids, padded rows included. Tokens that only experts have are appended
by their text, whatever id they had, because experts give one id to different things. Each modality
gets a placeholder of the composite's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from omnicompose.errors import PlanError
from omnicompose.experts.expert import Base, Expert
from omnicompose.experts.tokens import Tokens, read_tekken, read_tokens
from omnicompose.modalities import MODALITIES
from omnicompose.plan.prompts import MediaPrompt, media_prompt, read_chat_template, typed_template


@dataclass(frozen=True, slots=True, kw_only=True)
class Placeholder:
    """The token that stands for one media embedding in a prompt.

    Attributes:
        token: its text.
        token_id: its id in the composite.
    """

    token: str
    token_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertRow:
    """A row of the composite's table that an expert owns.

    Attributes:
        modality: whose expert.
        row: the token's row in that expert's table.
    """

    modality: str
    row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The composite's token table.

    Attributes:
        base_rows: rows of the base's embedding table, padding included; all are kept.
        num_tokens: tokens after all were added.
        num_rows: rows of the composite's table: the greater of both.
        placeholders: modality to its token.
        chat_template: the composite's template, or None where nobody has one.
        template_from: whose template it is.
        added: tokens that only experts have, in the order of their ids, with their flags.
        num_new_placeholders: placeholders behind them that the base does not have.
        owned: id in the composite to the expert's row that it takes.
        prompts: modality to what its expert writes around a medium; missing where it is not said.
    """

    base_rows: int
    num_tokens: int
    num_rows: int
    placeholders: Mapping[str, Placeholder]
    chat_template: str | None
    template_from: str | None
    added: Mapping[str, Mapping[str, bool]]
    num_new_placeholders: int
    owned: Mapping[int, ExpertRow]
    prompts: Mapping[str, MediaPrompt]


def plan_vocabulary(base: Base, base_rows: int, experts: Sequence[Expert]) -> Vocabulary:
    """Lay the experts' tokens behind the base's, then a placeholder per modality.

    A placeholder that the base's tokenizer already has keeps its id.

    Raises:
        PlanError: the base has no tokenizer.json, or an expert's ordinary tokens are others.
    """
    known = read_tokens(base.folder)
    if known is None:
        raise PlanError(
            f"{base.folder}: the base has no tokenizer.json, so placeholders cannot be added. "
            "Save its tokenizer with AutoTokenizer.from_pretrained(...).save_pretrained(...)."
        )
    theirs = {expert.modality: _tokens(expert, known) for expert in experts}
    placeholders = {expert.modality: MODALITIES[expert.modality].placeholder for expert in experts}
    ids, owned = _lay_out(known, experts, theirs, set(placeholders.values()))
    flags = {t: flag for tokens in theirs.values() for t, flag in tokens.flags.items()}
    added = {token: flags[token] for token in ids if token not in known.ids}
    for token in placeholders.values():
        ids.setdefault(token, max(ids.values(), default=-1) + 1)
    prompts = {expert.modality: said for expert in experts if (said := _prompt(expert))}
    template_from, template = _chat_template(base, experts)
    after = {name: prompts[name].after if name in prompts else "\n" for name in placeholders}
    return Vocabulary(
        base_rows=base_rows,
        num_tokens=max(ids.values()) + 1,
        num_rows=max(base_rows, *(token_id + 1 for token_id in ids.values())),
        placeholders={
            name: Placeholder(token=token, token_id=ids[token])
            for name, token in placeholders.items()
        },
        chat_template=typed_template(template, after),
        template_from=template_from,
        added=added,
        num_new_placeholders=len(set(placeholders.values()) - set(known.ids)),
        owned=owned,
        prompts=prompts,
    )


def _lay_out(
    known: Tokens,
    experts: Sequence[Expert],
    theirs: Mapping[str, Tokens],
    placeholders: set[str],
) -> tuple[dict[str, int], dict[int, ExpertRow]]:
    """Every token's id, and the rows that experts own.

    Those are the rows of tokens that only experts have, and of tokens that the base merely lists
    while an expert's prompts put them around media.
    """
    ids, owned = dict(known.ids), dict[int, ExpertRow]()
    for expert in experts:
        for token, row in theirs[expert.modality].added.items():
            if token not in ids and token not in placeholders:
                ids[token] = max(ids.values(), default=-1) + 1
                owned[ids[token]] = ExpertRow(modality=expert.modality, row=row)
            elif token in known.ids and _is_structure(expert, token):
                owned.setdefault(ids[token], ExpertRow(modality=expert.modality, row=row))
    return ids, owned


def _tokens(expert: Expert, known: Tokens) -> Tokens:
    """An expert's tokens; its ordinary ones must be the base's, since one tokenizer reads both.

    Raises:
        PlanError: they are not.
    """
    folder = expert.tokenizer
    found = None if folder is None else read_tokens(folder) or read_tekken(folder)
    if found is None:
        return Tokens(ids={}, added={}, flags={}, merges=known.merges)
    ordinary = {token: i for token, i in found.ids.items() if token not in found.added}
    others = [token for token, i in ordinary.items() if known.ids.get(token) != i]
    if others:
        token = others[0]
        raise PlanError(
            f"{expert.label}: {len(others)} of its {len(ordinary)} ordinary tokens are not the "
            f"base's ({token!r} has id {ordinary[token]}, in the base "
            f"{known.ids.get(token)}). Experts of one composite share a tokenizer up to added "
            "tokens; take experts of this base."
        )
    if found.merges != known.merges:
        raise PlanError(
            f"{expert.label}: its tokenizer has the base's tokens but puts words together by other "
            "merges, so one text would be read in two ways. Take experts of this base."
        )
    return found


def _is_structure(expert: Expert, token: str) -> bool:
    return any(fnmatchcase(token, pattern.replace("[", "[[]")) for pattern in expert.structure)


def _prompt(expert: Expert) -> MediaPrompt | None:
    if expert.processor is None:
        return None
    return media_prompt(read_chat_template(expert.processor.folder), expert.modality)


def _chat_template(base: Base, experts: Sequence[Expert]) -> tuple[str | None, str | None]:
    """The base's own template, else the first expert's that has one; and whose it is."""
    folders = [(base.label, base.folder)]
    folders += [(expert.label, expert.tokenizer) for expert in experts if expert.tokenizer]
    found = ((label, read_chat_template(folder)) for label, folder in folders)
    told = ((expert.label, expert.chat_template) for expert in experts)
    either = (one for one in (*found, *told) if one[1] is not None)
    return next(either, (None, None))
