"""The text side merged again inside a loaded composite: no candidate is written to the disk.

A recipe with other coefficients gives another plan. What its jobs give otherwise than those that
the model holds is computed by the engine's own arithmetic and copied into the model's tensors: the
text weights, and whatever streams are relative to them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from omnicompose.merging.evaluation import Evaluator
from omnicompose.merging.fingerprint import job_hashes
from omnicompose.merging.job import Copy, Job
from omnicompose.merging.options import EngineOptions
from omnicompose.merging.parallel import Pool
from omnicompose.merging.survey import survey_model
from omnicompose.merging.workspace import MemoryBudget, Workspace
from omnicompose.plan.make_plan import plan_of
from omnicompose.plan.setting import Setting
from omnicompose.recipe import ComposeRecipe
from omnicompose.recipe_values import Weight


class Remerger:
    """Gives a loaded composite the coefficients of one candidate after the other."""

    def __init__(self, setting: Setting, tensors: Mapping[str, torch.Tensor]) -> None:
        """Hold the ground of the plan and the model's tensors by name, composed from it."""
        self._setting, self._tensors = setting, tensors
        self._held = job_hashes(plan_of(setting).plan.jobs)
        self._options = EngineOptions()

    def apply(self, weights: Mapping[str, Weight]) -> int:
        """Merge with these coefficients by expert; how many tensors changed."""
        recipe = with_weights(self._setting.recipe, weights)
        jobs = plan_of(replace(self._setting, recipe=recipe)).plan.jobs
        hashes = job_hashes(jobs)
        changed = [job for job in jobs if hashes[job.output.name] != self._held[job.output.name]]
        if changed:
            self._write(jobs, changed)
        self._held = hashes
        return len(changed)

    @torch.no_grad()
    def _write(self, jobs: Sequence[Job], changed: Sequence[Job]) -> None:
        pool = Pool(1, MemoryBudget(self._options.memory_bytes))
        tile = self._options.tile_elements
        known = survey_model(jobs, pool, self._evaluator, tile, None)
        evaluator = self._evaluator()
        for job in changed:
            assert not isinstance(job, Copy), "a copy depends on no coefficient"
            target = self._tensors[job.output.name]
            evaluator.begin(job, known)
            values = evaluator.values(job, 0, job.output.num_elements)
            # Rounded as the composed folder would be, then to what the model computes in.
            target.copy_(values.to(job.output.dtype).view(job.output.shape))
            evaluator.end()

    def _evaluator(self) -> Evaluator:
        device = torch.device("cpu")
        return Evaluator(
            Workspace(device), self._options.tile_elements, allow_nonfinite=False, device=device
        )


def with_weights(recipe: ComposeRecipe, weights: Mapping[str, Weight]) -> ComposeRecipe:
    """The recipe with other coefficients of its experts."""
    experts = {
        modality: expert.model_copy(update={"weight": weights[modality]})
        for modality, expert in recipe.experts.items()
    }
    return recipe.model_copy(update={"experts": experts})
