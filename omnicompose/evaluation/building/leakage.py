"""What a set of questions betrays: readers that see less than they should, measured on the set.

| reader         | sees                                  | answers                                 |
|----------------|---------------------------------------|-----------------------------------------|
| options only   | the options                           | the one that is the answer most often   |
| MODALITY alone | options, and what one input bears out | of those it bears out, the most usual   |
| captions       | options, and all captions             | the option that most captions bear out  |

*Most often* is learned from four fifths of the questions and tried on the rest, in five turns; what
a caption bears out is read from its words alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from omnicompose.evaluation.building.drawing import NUM_OPTIONS, Drawn
from omnicompose.evaluation.statistics import Estimate, estimate

FOLDS = 5
Habits = dict[tuple[str, bool], tuple[int, int]]
"""Attribute, and whether the reader sees it borne out, to (times the answer, times offered)."""
Sees = Callable[[Drawn, str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leakage:
    """How far readers get who see too little, and one who sees everything as text.

    Attributes:
        questions: in the set.
        chance: accuracy of guessing.
        readers: accuracy of each by name, with a 95 % interval.
    """

    columns = ("reader", "accuracy", "low", "high")

    questions: int
    chance: float
    readers: dict[str, Estimate]

    @property
    def best_single(self) -> float:
        """Accuracy of the best reader of one modality."""
        values = [e.value for name, e in self.readers.items() if name.endswith(" alone")]
        return max(value for value in values if value is not None)

    def to_dict(self) -> dict[str, object]:
        """The fields as plain data."""
        return asdict(self)

    def rows(self) -> list[dict[str, object]]:
        """One plain row per reader, in percent."""
        return [
            {"reader": name}
            | {
                field: None if value is None else round(100 * value, 1)
                for field, value in (("accuracy", e.value), ("low", e.low), ("high", e.high))
            }
            for name, e in self.readers.items()
        ]


def measure_leakage(questions: Sequence[Drawn]) -> Leakage:
    """Try every reader on a set of questions."""
    modalities = [item.modality for item in questions[0].inputs]
    readers = {"options only": _read(questions, lambda question, option: True)}
    for place, modality in enumerate(modalities):
        readers[f"{modality} alone"] = _read(questions, _bears_out(place))
    readers["captions"] = _estimate(questions, [_from_captions(q) for q in questions])
    return Leakage(questions=len(questions), chance=1 / NUM_OPTIONS, readers=readers)


def _bears_out(place: int) -> Sees:
    return lambda question, option: option in question.inputs[place].attributes


def _from_captions(question: Drawn) -> float:
    """Right if the answer alone is borne out by every input."""
    counts = [sum(o in item.attributes for item in question.inputs) for o in question.options]
    best = [i for i, count in enumerate(counts) if count == max(counts)]
    return (question.answer in best) / len(best)


def _read(questions: Sequence[Drawn], sees: Sees) -> Estimate:
    """Accuracy of a reader who learns how often what he sees is the answer; ties count in part."""
    scores, learned = [], _habits(questions, sees)
    for number, question in enumerate(questions):
        known = learned[number % FOLDS]
        rates = [_rate(known, option, sees(question, option)) for option in question.options]
        best = [i for i, rate in enumerate(rates) if rate == max(rates)]
        scores.append((question.answer in best) / len(best))
    return _estimate(questions, scores)


def _rate(habits: Habits, option: str, seen: bool) -> float:
    """Smoothed share of times that such an option was the answer; what is not seen comes last."""
    right, offered = habits.get((option, seen), (0, 0))
    return (right + 1) / (offered + NUM_OPTIONS) if seen else -1.0


def _habits(questions: Sequence[Drawn], sees: Sees) -> list[Habits]:
    """Per fold, what the other folds teach."""
    learned: list[Habits] = [{} for _ in range(FOLDS)]
    for number, question in enumerate(questions):
        for place, option in enumerate(question.options):
            key = (option, sees(question, option))
            for fold, habits in enumerate(learned):
                if fold != number % FOLDS:
                    right, offered = habits.get(key, (0, 0))
                    habits[key] = (right + (place == question.answer), offered + 1)
    return learned


def _estimate(questions: Sequence[Drawn], scores: Sequence[float]) -> Estimate:
    clusters = [cluster_of(question) for question in questions]
    return estimate(scores, clusters, share=all(score in (0, 1) for score in scores))


def cluster_of(question: Drawn) -> str:
    """Questions that show the same first input hang together."""
    return question.inputs[0].path.name
