"""The composite's one language model: every tensor merged, kept from the base, or extended."""

from omnicompose.errors import PlanError
from omnicompose.experts.expert import Origin
from omnicompose.families import VOCABULARY_ROLES
from omnicompose.merging.job import Copy, Measure, Merge, Rows, TensorRef
from omnicompose.plan.measuring import measures_of
from omnicompose.plan.merge_fit import check_weights
from omnicompose.plan.plan import Entry
from omnicompose.plan.setting import Setting
from omnicompose.plan.treatment import Treatment, uses_factors
from omnicompose.plan.vocabulary_rows import (
    back_pieces,
    check_rows,
    front_pieces,
    owned_inputs,
    table_end,
)
from omnicompose.tensors.source import TensorInfo

HEAD = "lm_head.weight"


def composite_name(backbone_name: str) -> str:
    """A backbone tensor's name in the composite: `model.` becomes `model.language_model.`."""
    if backbone_name.startswith("model."):
        return "model.language_model." + backbone_name.removeprefix("model.")
    return backbone_name


def backbone_names(setting: Setting) -> list[str]:
    """The base's tensors that the composite has; a head tied to the embeddings is not stored."""
    tied = bool(setting.base.config.get("tie_word_embeddings"))
    return [name for name in setting.base.weights.origins if not (tied and name == HEAD)]


def backbone_entries(setting: Setting) -> list[Entry]:
    """One entry per tensor of the language model, in the base's file order."""
    return [_entry(setting, name) for name in backbone_names(setting)]


def _entry(setting: Setting, name: str) -> Entry:
    treatment = setting.treatment(name)
    if treatment.role in VOCABULARY_ROLES:
        return _vocabulary_entry(setting, name, treatment)
    output = _output(setting, name)
    if treatment.method is None:
        return Entry(
            job=Copy(
                output=output, tensor=TensorRef(source=setting.base.weights.source, name=name)
            ),
            inputs=setting.base.weights.origins[name],
            reason=treatment.phrase(),
        )
    return Entry(
        job=merge_job(setting, name, treatment, output),
        inputs=merge_inputs(setting, name, treatment),
        reason=treatment.phrase(),
    )


def _output(setting: Setting, name: str, rows: int | None = None) -> TensorInfo:
    info = setting.base.weights.source.infos()[name]
    shape = info.shape if rows is None else (rows, *info.shape[1:])
    return TensorInfo(name=composite_name(name), dtype=setting.dtype(info.dtype), shape=shape)


def merge_job(
    setting: Setting, name: str, treatment: Treatment, output: TensorInfo, rows: int | None = None
) -> Merge:
    """The merge of one backbone tensor over all experts, as a job or an operand.

    Raises:
        PlanError: the method cannot take so many experts.
    """
    method = treatment.method
    if method is None:
        raise PlanError(f"{name}: kept from the base, so there is nothing to merge.")
    _check_arity(setting, method.spec.name, method.spec.arity)
    weights = setting.coefficients(name, treatment)
    check_weights(method.spec, weights)
    merged = Merge(
        output=output,
        method=method,
        parameters=treatment.parameters,
        base=TensorRef(source=setting.base.weights.source, name=name, num_rows=rows),
        experts=tuple(
            TensorRef(source=expert.text.weights.source, name=name, num_rows=rows)
            for expert in setting.merged
        ),
        expert_names=tuple(expert.modality for expert in setting.merged),
        weights=weights,
        role=treatment.role,
        layer=treatment.layer,
        num_layers=setting.num_layers,
        seed=setting.recipe.seed,
        key=name,
        use_factors=uses_factors(method.spec, treatment.parameters)
        and all(map(setting.on_base, setting.merged)),
        measures=() if treatment.mean else _measures(setting, name, treatment),
    )
    return treatment.staged(merged)


def _measures(setting: Setting, name: str, treatment: Treatment) -> tuple[Measure | None, ...]:
    assert treatment.method is not None
    asked = setting.recipe.experts
    models = {one.modality: asked[one.modality].statistics for one in setting.merged}
    return measures_of(treatment.method.spec, treatment.parameters, models, name)


def merge_inputs(setting: Setting, name: str, treatment: Treatment) -> tuple[Origin, ...]:
    """The tensors on disk that a merge reads: the base's, then every expert's."""
    experts = (expert.text.weights.origins[name] for expert in setting.merged)
    every = [*setting.base.weights.origins[name], *(o for origins in experts for o in origins)]
    return tuple(dict.fromkeys(every))


def _check_arity(setting: Setting, method: str, arity: tuple[int, int | None]) -> None:
    least, most = arity
    found = len(setting.merged)
    if found < least or (most is not None and found > most):
        expected = f"{least}" if most == least else f"{least} to {most if most else 'any number'}"
        raise PlanError(
            f"method {method!r} merges {expected} experts, the recipe has {found}. "
            "Take another method: `omnicompose methods` lists them."
        )


def _vocabulary_entry(setting: Setting, name: str, treatment: Treatment) -> Entry:
    """An embedding table or head: the base's rows, then the rows of tokens that were added."""
    vocabulary = setting.vocabulary
    base = TensorRef(source=setting.base.weights.source, name=name)
    inputs = setting.base.weights.origins[name]
    end = table_end(setting)
    if treatment.method is None:
        pieces = front_pieces(setting, base, end)
    else:
        check_rows(setting, name)
        pieces = [merge_job(setting, name, treatment, _output(setting, name, end), end)]
        inputs = merge_inputs(setting, name, treatment)
    pieces += back_pieces(setting, base, end)
    inputs = tuple(dict.fromkeys((*inputs, *owned_inputs(setting, name))))
    if len(pieces) == 1 and isinstance(pieces[0], Merge):
        return Entry(job=pieces[0], inputs=inputs, reason=treatment.phrase())
    if len(pieces) == 1:
        job = Copy(output=_output(setting, name), tensor=base)
        return Entry(job=job, inputs=inputs, reason=treatment.phrase())
    added = vocabulary.num_rows - vocabulary.base_rows
    owned = f", {len(vocabulary.owned)} rows of the experts' tokens" if vocabulary.owned else ""
    return Entry(
        job=Rows(output=_output(setting, name, vocabulary.num_rows), pieces=tuple(pieces)),
        inputs=inputs,
        reason=f"{treatment.phrase()}{owned}, {added} rows more than the base",
    )
