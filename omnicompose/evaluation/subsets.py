"""Which modalities a question is asked with: taken away means absent, captions are another kind.

Absent: the medium's place in the prompt is gone, no placeholder, no token. Captions: *every* medium
gives way to its caption. A question never mixes the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.sample import MODALITY_ORDER, Medium, Sample, Shown

Content = tuple[Medium | str, ...]
WORDS = ("all", "none", "subsets", "captions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """What of a question's media is given.

    Attributes:
        modalities: those given as media, in the order of labels.
        captions: every medium is replaced by its caption (then `modalities` is empty).
    """

    modalities: tuple[str, ...] = ()
    captions: bool = False

    @property
    def label(self) -> str:
        """`image+audio`, `none` or `captions`."""
        return "captions" if self.captions else label(self.modalities)


def label(modalities: Sequence[str]) -> str:
    """`image+audio`, whatever the order given; `none` for no modality."""
    return "+".join(m for m in MODALITY_ORDER if m in modalities) or "none"


def parse_modalities(text: str) -> tuple[str, ...]:
    """Split and check `all,none,image+audio`; names come back with modalities in label order.

    Raises:
        EvaluationError: a word that is neither a kind of subset nor modalities joined by `+`.
    """
    names = [word.strip() for word in text.split(",") if word.strip()]
    if not names:
        raise EvaluationError(
            f"--modalities {text!r}: nothing is named; give {', '.join(WORDS)} "
            "or modalities such as image+audio, separated by commas."
        )
    return tuple(dict.fromkeys(_checked(name) for name in names))


def subsets_of(sample: Sample, names: Sequence[str]) -> list[Subset]:
    """The subsets that `names` (of `parse_modalities`) mean for one question, without repeats.

    A subset with a modality that the question does not show is not asked, and neither are captions
    of a question without.
    """
    wanted: dict[Subset, None] = {}
    for name in names:
        wanted.update(dict.fromkeys(_expand(sample, name)))
    return list(wanted)


def view(sample: Sample, subset: Subset) -> Content:
    """The user turn with only `subset` given: media and texts in their order."""
    content: list[Medium | str] = []
    for part in sample.content:
        if not isinstance(part, Shown):
            content.append(part)
        elif subset.captions and part.caption is not None:
            content.append(part.caption)
        elif part.medium.modality in subset.modalities:
            content.append(part.medium)
    return tuple(content)


def _expand(sample: Sample, name: str) -> list[Subset]:
    present = sample.modalities
    if name == "captions":
        return [Subset(captions=True)] if sample.has_captions else []
    if name == "all":
        return [Subset(modalities=present)]
    if name == "none":
        return [Subset()]
    if name == "subsets":
        sizes = range(len(present), -1, -1)
        return [Subset(modalities=chosen) for k in sizes for chosen in combinations(present, k)]
    chosen = tuple(m for m in MODALITY_ORDER if m in name.split("+"))
    return [Subset(modalities=chosen)] if set(chosen) <= set(present) else []


def _checked(name: str) -> str:
    if name in WORDS:
        return name
    parts = name.split("+")
    unknown = [part for part in parts if part not in MODALITY_ORDER]
    if unknown or len(set(parts)) < len(parts):
        near = get_close_matches((unknown or parts)[0], (*WORDS, *MODALITY_ORDER), n=1)
        hint = f" Did you mean {near[0]!r}?" if near and unknown else ""
        raise EvaluationError(
            f"--modalities: {name!r} is not a set of modalities; give {', '.join(WORDS)} "
            f"or some of {', '.join(MODALITY_ORDER)} joined by '+', each once.{hint}"
        )
    return label(parts)
