"""From a recipe to a plan: open everything by headers, hold it together, decide every tensor."""

from dataclasses import asdict, dataclass

from omnicompose.experts.expert import Base, Expert
from omnicompose.experts.opening import open_base, open_expert
from omnicompose.plan.accounting import dropped_inputs
from omnicompose.plan.backbone import backbone_entries
from omnicompose.plan.checks import check_experts, lineages
from omnicompose.plan.cost import PlanCost, plan_cost
from omnicompose.plan.modules import module_entries
from omnicompose.plan.plan import Plan
from omnicompose.plan.setting import Setting
from omnicompose.plan.sharing import share_encoders
from omnicompose.plan.stream_facts import Measures, stream_facts
from omnicompose.plan.streams import StreamPlan, plan_streams
from omnicompose.plan.vocabulary import plan_vocabulary
from omnicompose.recipe import ComposeRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositePlan:
    """A plan with what the composite's configuration is made from.

    Attributes:
        plan: every tensor.
        setting: recipe, base, experts and vocabulary.
        streams: modality to its stream.
    """

    plan: Plan
    setting: Setting
    streams: dict[str, StreamPlan]

    def modalities(self) -> dict[str, dict[str, object]]:
        """The `modalities` entry of the composite's configuration."""
        return {
            expert.modality: _describe(expert, self.setting, self.streams[expert.modality])
            for expert in self.setting.experts
        }

    def to_json(self) -> dict[str, object]:
        """The plan with the facts that explain it."""
        return {"facts": self.facts(), "cost": asdict(self.cost())} | self.plan.to_json()

    def cost(self) -> PlanCost:
        """Bytes to read, to write and to hold."""
        streams = {name: stream.num_bytes for name, stream in self.streams.items()}
        return plan_cost(self.plan.jobs, streams)

    def facts(self, measures: Measures | None = None) -> dict[str, object]:
        """What a reader of the manifest wants to know beside recipe and hashes.

        Args:
            measures: what was found while tensors were written; None: not written yet.
        """
        vocabulary = self.setting.vocabulary
        return {
            "placeholders": {
                modality: {"token": one.token, "token_id": one.token_id}
                for modality, one in vocabulary.placeholders.items()
            },
            "vocabulary_rows": vocabulary.num_rows,
            "added_tokens": len(vocabulary.added),
            "chat_template_from": vocabulary.template_from,
            "decoupled": {expert.modality: expert.decoupled for expert in self.setting.experts},
            "streams": {
                modality: stream_facts(stream, measures)
                for modality, stream in self.streams.items()
            },
            "lineage": {
                modality: asdict(lineage) for modality, lineage in self.setting.lineage.items()
            },
            "counts": self.plan.counts(),
        }


def make_plan(recipe: ComposeRecipe) -> CompositePlan:
    """Decide what becomes of every tensor; nothing but headers and a few samples is read.

    Raises:
        SourceError: a base or expert cannot be opened.
        PlanError: the experts do not fit together, or a tensor cannot be accounted for.
        RecipeError: a method or parameter does not exist.
    """
    return plan_of(_setting(recipe))


def plan_of(setting: Setting) -> CompositePlan:
    """Decide what becomes of every tensor of experts that are open already.

    Raises:
        PlanError: a tensor cannot be accounted for.
        RecipeError: a method or parameter does not exist.
    """
    streams = plan_streams(setting)
    entries = [
        *backbone_entries(setting),
        *(entry for stream in streams.values() for entry in stream.entries),
        *(entry for expert in setting.experts for entry in module_entries(setting, expert)),
    ]
    plan = Plan(
        entries=tuple(entries),
        dropped=dropped_inputs(setting, entries),
        inventory=frozenset().union(
            setting.base.inventory, *(expert.inventory for expert in setting.experts)
        ),
    )
    return CompositePlan(plan=plan, setting=setting, streams=streams)


def _setting(recipe: ComposeRecipe) -> Setting:
    base = open_base(recipe.base, allow_pickle=recipe.allow_pickle)
    experts = tuple(
        open_expert(
            modality,
            expert.source,
            base,
            allow_different_base=recipe.allow_different_base,
            allow_pickle=recipe.allow_pickle,
            encoder=expert.encoder,
        )
        for modality, expert in recipe.experts.items()
    )
    experts = share_encoders(recipe, experts)
    check_experts(base, experts, allow_different_base=recipe.allow_different_base)
    return Setting(
        recipe=recipe,
        base=base,
        experts=experts,
        lineage=lineages(base, experts),
        vocabulary=plan_vocabulary(base, _table_rows(base), experts),
    )


def _table_rows(base: Base) -> int:
    return base.weights.source.infos()["model.embed_tokens.weight"].shape[0]


def _describe(expert: Expert, setting: Setting, stream: StreamPlan) -> dict[str, object]:
    placeholder = setting.vocabulary.placeholders[expert.modality]
    affixes = expert.affixes.source.infos()
    return {
        "token": placeholder.token,
        "token_id": placeholder.token_id,
        "encoder": expert.encoder.describe(),
        "connector": expert.connector.describe(),
        "num_prefix_tokens": affixes["prefix"].shape[0] if "prefix" in affixes else 0,
        "num_suffix_tokens": affixes["suffix"].shape[0] if "suffix" in affixes else 0,
        "stream": None if stream.spec is None else dict(stream.spec),
        "text_stream": None if stream.text_spec is None else dict(stream.text_spec),
    }
