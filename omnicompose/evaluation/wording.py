"""Numbers as a reader wants them, and the sentences that may be said about them."""

from omnicompose.evaluation.results import Complementarity, Row, RowKind, RunFacts, TaskResult
from omnicompose.evaluation.statistics import Comparison, Estimate

NOUNS = {
    "image": "the picture",
    "audio": "the sound",
    "video": "the clip",
    "point": "the point cloud",
    "none": "the text alone",
    "captions": "captions in their place",
}
SCORE_NAMES = {
    "letter": "most likely letter",
    "generate": "generated reply, parsed",
    "official": "generated reply, the benchmark's own rule",
}
SIGNIFICANT = 0.05
GUESSABLE = 0.05
"""So far above chance the text alone may not be shown to lie."""


def percent(value: float | None, digits: int = 1) -> str:
    """`88.2`, or a hyphen for an unknown value."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def points(value: float | None) -> str:
    """A difference in percentage points, signed."""
    return "-" if value is None else f"{100 * value:+.1f}"


def interval(estimate: Estimate, signed: bool = False) -> str:
    """`85.1 to 91.0`."""
    if estimate.low is None or estimate.high is None:
        return "unknown"
    shape = points if signed else percent
    return f"{shape(estimate.low)} to {shape(estimate.high)}"


def plus_minus(estimate: Estimate) -> str:
    """`88.2 ± 3.1`: half the width of the 95 % interval."""
    if estimate.low is None or estimate.high is None:
        return percent(estimate.value)
    return f"{percent(estimate.value)} ± {percent((estimate.high - estimate.low) / 2)}"


def p_value(value: float | None) -> str:
    """`p < 0.001` or `p = 0.03`."""
    if value is None:
        return "untested"
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def given(subset: str) -> str:
    """`the picture and the sound`."""
    nouns = [NOUNS.get(name, name) for name in subset.split("+")]
    return nouns[0] if len(nouns) == 1 else f"{', '.join(nouns[:-1])} and {nouns[-1]}"


def headline(task: TaskResult) -> list[str]:
    """What can be said of a benchmark: a sentence or two per set of modalities asked in full."""
    together = {(entry.group, entry.score): entry for entry in task.complementarity}
    return [
        " ".join(
            (
                _score_sentence(row),
                *_gain_sentences(together.get((row.group, row.score))),
                *_other_scores(task, row),
            )
        )
        for row in headline_rows(task)
    ]


def headline_rows(task: TaskResult) -> list[Row]:
    """The rows that the headline speaks of."""
    return [row for row in task.rows if row.is_full and row.score == primary_score(task)]


def primary_score(task: TaskResult) -> RowKind:
    """What the headline speaks of: generated replies, as papers do, if there are any."""
    return "generate" if any(row.score == "generate" for row in task.rows) else "letter"


def cautions(task: TaskResult) -> list[str]:
    """What a reader must know before believing the headline."""
    return [
        f"{row.group}, given {row.subset}, {row.score}: {problem}."
        for row in task.rows
        if row.score != "official"
        for problem in _problems(row, primary_score(task))
    ]


def _problems(row: Row, primary: RowKind) -> list[str]:
    found, low = [], row.accuracy.low
    is_blind = row.score == primary and row.subset == "none"
    if is_blind and low is not None and row.chance and low > row.chance + GUESSABLE:
        found.append(
            f"the text alone already reaches {percent(row.accuracy.value)} % (chance "
            f"{percent(row.chance)} %), so these questions can partly be guessed"
        )
    if row.errors:
        found.append(f"{row.errors} questions had unreadable media; the row is partial")
    if row.unparsed:
        found.append(f"{row.unparsed} replies could not be read; they count as wrong")
    if row.letter_mass is not None and row.letter_mass < 0.5:
        found.append(
            f"the model wants to answer with a letter only {percent(row.letter_mass, 0)} % of the "
            "time; trust generated replies more"
        )
    return found


def _other_scores(task: TaskResult, row: Row) -> list[str]:
    others = [
        f"{SCORE_NAMES[other.score]} {percent(other.accuracy.value)} %"
        for other in task.rows
        if (other.group, other.subset) == (row.group, row.subset) and other.score != row.score
    ]
    return [f"Scored otherwise: {', '.join(others)}."] if others else []


def power_line(comparison: Comparison) -> str:
    """What this comparison could have seen."""
    if comparison.detectable is None:
        return "too little differs to say what could have been seen"
    return f"could have seen {percent(comparison.detectable)} points or more"


def rescue_sentence(entry: Complementarity) -> str:
    """How much needs everything, and how much of that is chance."""
    said = f"Rescued {percent(entry.rescued.value)} %"
    if entry.rescued_swapped is None or entry.rescued_beyond is None:
        return f"{said}, chance included: ask with --modalities subsets,swapped to take it off."
    return (
        f"{said}; with one medium exchanged {percent(entry.rescued_swapped.value)} %; beyond that "
        f"{points(entry.rescued_beyond.value)} points "
        f"({interval(entry.rescued_beyond, signed=True)})."
    )


def partial(run: RunFacts) -> str:
    """What was left out on purpose."""
    if run.ids is not None:
        return f"partial: {len(run.ids)} questions by name"
    if run.limit is not None and run.limit < 1:
        return f"partial: {percent(run.limit, 0)} % of the questions of each set of modalities"
    return f"partial: at most {run.limit} questions per set of modalities"


def best_single(entry: Complementarity) -> str:
    """The single modality that everything together is least ahead of."""
    return min(entry.gains, key=lambda m: entry.gains[m].difference.value or 0.0)


def _score_sentence(row: Row) -> str:
    return (
        f"Given {given(row.subset)}, {percent(row.accuracy.value)} % of {row.n} questions are "
        f"answered correctly (95 % interval {interval(row.accuracy)}, chance "
        f"{percent(row.chance)} %; {SCORE_NAMES[row.score]})."
    )


def _gain_sentences(entry: Complementarity | None) -> list[str]:
    if entry is None:
        return []
    single = best_single(entry)
    gain = entry.gains[single]
    worst = max((g.p_holm for g in entry.gains.values() if g.p_holm is not None), default=1.0)
    size = f"{points(gain.difference.value)} points ({interval(gain.difference, signed=True)})"
    if worst < SIGNIFICANT and (gain.difference.low or 0.0) > 0:
        said = (
            f"Together they are better than each alone: against the best, {given(single)}, by "
            f"{size}, {p_value(worst)} after Holm's correction."
        )
    else:
        said = (
            f"That they are better together than the best alone, {given(single)}, is not shown: "
            f"{size}, {p_value(worst)}; {power_line(gain)}."
        )
    return [said]
