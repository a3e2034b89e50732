"""Which modalities a question is asked with: taken away means absent; everything else is a control.

| label                 | what the question shows                                                 |
|-----------------------|-------------------------------------------------------------------------|
| `image+audio`         | these; of others not even a placeholder                                 |
| `none`                | the text alone                                                          |
| `captions`            | a caption in place of *every* medium                                    |
| `swapped:audio`       | everything, but the sound is another question's                         |
| `swapped:audio:alone` | nothing but that other question's sound                                 |
| `blank:audio`         | everything, but the sound is silence (a picture grey, points at zero)   |

The kinds answer different questions and are never mixed in one number.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.sample import MODALITY_ORDER, Medium, Options, Sample, Shown, Worded

Content = tuple[Medium | str, ...]
WORDS = ("all", "none", "subsets", "captions", "swapped", "blank")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """What of a question's media is given.

    Attributes:
        modalities: those given as media, in the order of labels.
        captions: every medium is replaced by its caption (then `modalities` is empty).
        swapped: this modality's media are another question's.
        blank: there is nothing to perceive in this modality's media.
    """

    modalities: tuple[str, ...] = ()
    captions: bool = False
    swapped: str = ""
    blank: str = ""

    @property
    def label(self) -> str:
        """As in the module's table."""
        if self.captions:
            return "captions"
        if self.swapped:
            alone = ":alone" if self.modalities == (self.swapped,) else ""
            return f"swapped:{self.swapped}{alone}"
        return f"blank:{self.blank}" if self.blank else label(self.modalities)


def label(modalities: Sequence[str]) -> str:
    """`image+audio`, whatever the order given; `none` for no modality."""
    return "+".join(m for m in MODALITY_ORDER if m in modalities) or "none"


def coalition(name: str) -> frozenset[str] | None:
    """The modalities that a label says are given, unchanged; None for captions and controls."""
    parts = frozenset() if name == "none" else frozenset(name.split("+"))
    return parts if parts <= set(MODALITY_ORDER) else None


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
    """The user turn with only `subset` given: media and texts in their order.

    Texts that follow one another become one. Space alone between media goes: the chat template
    sets media apart in its own way, and a text without words is no text to it.
    """
    content: list[Medium | str] = []
    for part in _parts(sample, subset):
        if isinstance(part, str) and content and isinstance(content[-1], str):
            content[-1] += part
        else:
            content.append(part)
    return tuple(part for part in content if not isinstance(part, str) or part.strip())


def _parts(sample: Sample, subset: Subset) -> Iterator[Medium | str]:
    given = label(subset.modalities)
    for part in sample.content:
        if isinstance(part, Options):
            yield part.text(sample.choices)
        elif isinstance(part, Worded):
            yield part.text(given)
        elif isinstance(part, str):
            yield part
        elif subset.captions and part.caption is not None:
            yield part.caption
        elif part.medium.modality in subset.modalities:
            yield from (text for text in part.frame[:1] if text)
            yield _given(part, subset)
            yield from (text for text in part.frame[1:] if text)


def _given(part: Shown, subset: Subset) -> Medium:
    """The medium itself, or what a control puts in its place."""
    modality, given = part.medium.modality, part.medium
    if modality in (subset.swapped, subset.blank):
        stand_in = part.swapped if modality == subset.swapped else part.blank
        assert stand_in is not None, "controls.prepare_media makes it"
        given = stand_in
    return given


def _expand(sample: Sample, name: str) -> list[Subset]:
    present = sample.modalities
    if name == "captions":
        return [Subset(captions=True)] if sample.has_captions else []
    if name == "swapped":
        together = [Subset(modalities=present, swapped=m) for m in present if len(present) > 1]
        return [*together, *(Subset(modalities=(m,), swapped=m) for m in present)]
    if name == "blank":
        return [Subset(modalities=present, blank=m) for m in present]
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
