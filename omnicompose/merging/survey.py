"""The pass over the whole model that some methods ask for before the first tensor is merged."""

import json
from collections.abc import Callable, Sequence

from omnicompose.merging.cost import working_bytes
from omnicompose.merging.evaluation import Evaluator
from omnicompose.merging.job import Job, Merge, merges, survey_of
from omnicompose.merging.options import Report
from omnicompose.merging.parallel import Pool
from omnicompose.merging.passes import observe_passes
from omnicompose.merging.statistics import OrderedSum, Statistics
from omnicompose.merging.tracking import Tracker

Work = tuple[int, Job, Merge]


def survey_model(
    jobs: Sequence[Job],
    pool: Pool,
    make_evaluator: Callable[[], Evaluator],
    tile_elements: int,
    report: Report | None,
) -> dict[int, Statistics]:
    """Statistics that span the model, by identity of every merge that asks for them.

    Merges by one method with one set of parameters and experts share one sum.
    """
    known: dict[int, Statistics] = {}
    for group in _groups(jobs):
        num_passes = survey_of(group[0][2]).num_passes
        total_bytes = num_passes * sum(merge.output.num_bytes for _, _, merge in group)
        tracker = Tracker("observe", total_bytes, report)

        # The loop's values are bound as defaults, so that no pass sees those of another group.
        def observe(
            earlier: Statistics,
            observe_pass: int,
            group: list[Work] = group,
            tracker: Tracker = tracker,
        ) -> Statistics:
            found = OrderedSum()

            def make_worker() -> Callable[[Work], None]:
                evaluator = make_evaluator()

                def work(item: Work) -> None:
                    number, job, merge = item
                    evaluator.begin(job, known, until=merge)
                    found.add(number, evaluator.observe(merge, earlier, observe_pass))
                    evaluator.end()
                    tracker.add(merge.output.num_bytes, merge.output.name)

                return work

            pool.run(group, lambda item: working_bytes(item[1], tile_elements), make_worker)
            return found.total

        statistics = observe_passes(group[0][2], observe)
        known.update((id(merge), statistics) for _, _, merge in group)
    return known


def _groups(jobs: Sequence[Job]) -> list[list[Work]]:
    groups: dict[str, dict[int, tuple[Job, Merge]]] = {}
    for job in jobs:
        for merge in merges(job):
            survey = survey_of(merge)
            if survey.num_passes and survey.scope == "model":
                # A merge that several jobs use counts once.
                groups.setdefault(_key(merge), {}).setdefault(id(merge), (job, merge))
    return [
        [(number, job, merge) for number, (job, merge) in enumerate(found.values())]
        for found in groups.values()
    ]


def _key(merge: Merge) -> str:
    parameters = json.dumps(merge.parameters, sort_keys=True, default=dict)
    return f"{merge.method.spec.name} {parameters} {merge.expert_names}"
