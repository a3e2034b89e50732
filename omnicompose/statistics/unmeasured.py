"""A merge before anything is measured: do its models fit together, and what becomes of what?"""

from pathlib import Path

import torch

from omnicompose.merging.statistics_file import StatisticsFacts, write_statistics
from omnicompose.plan.merge_plan import MergePlan, make_merge_plan
from omnicompose.recipe import MergeRecipe
from omnicompose.recipe_values import Source
from omnicompose.tensors.source import TensorInfo

NOTHING = "nothing"


def plan_unmeasured(recipe: MergeRecipe, kind: str, nothing: Path) -> MergePlan:
    """The plan of a merge whose statistics, of a kind, hold nothing yet.

    Args:
        recipe: of the merge.
        kind: what its method measures.
        nothing: a file of statistics to write, for the plan to name.

    Raises:
        SourceError: a model cannot be opened.
        PlanError: the models do not fit together.
    """
    facts = StatisticsFacts(kind=kind, model="", num_examples=0, num_tokens=0, aliases={}, data=())
    info = TensorInfo(name=NOTHING, dtype=torch.float32, shape=(1,))
    write_statistics(nothing, facts, {NOTHING: info}, lambda _name: torch.zeros(1))
    source = Source(text=nothing.name, kind="path", location=str(nothing.resolve()))
    models = tuple(model.model_copy(update={"statistics": source}) for model in recipe.models)
    return make_merge_plan(recipe.model_copy(update={"models": models}))
