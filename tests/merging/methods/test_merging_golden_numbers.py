"""The specification's golden numbers: merged deltas of three small matrices given by a formula."""

import pytest
import torch
from golden_model import group_like, merge_one

from omnicompose.merging.method import MergeContext
from omnicompose.merging.methods import linear_system
from omnicompose.merging.methods.optmerge import denoise
from omnicompose.merging.registry import METHODS, check_parameters
from omnicompose.merging.whole_tensor import observed

ROW, COLUMN = torch.arange(8.0)[:, None].double(), torch.arange(6.0)[None, :].double()
DELTAS = [
    1e-3 * (1 + 0.5 * t) * torch.sin(0.37 * (ROW + 1) * (COLUMN + 2) * (t + 1) + t)
    for t in range(3)
]
BASE = 0.02 * torch.cos(0.3 * (ROW + 1) + 0.7 * (COLUMN + 1))


SPECTRAL = ("tsv", "iso_c", "iso_cts", "knots", "wudi", "optmerge", "swudi", "aswudi")
"""Given in fp64: the first delta's singular values are nearly equal, so that which two of them are
the largest hangs on its rounding to fp32."""


def golden_group(base: torch.Tensor | None = None, dtype: torch.dtype = torch.float32):
    """The golden tensors; by default on a zero base, so that results are merged deltas."""
    base = torch.zeros(8, 6) if base is None else base
    return group_like(base.to(dtype), [(base + d).to(dtype) for d in DELTAS])


# Columns: method, parameters, norm, [0, 0], [7, 3], sum; methods.md section 6, optmerge.md 4.8.
# Two of its rows are missing: TIES of mergekit at density .2 and SCE at .5 cut between entries of
# equal magnitude (the deltas repeat values), which mergekit does by the order of its sort.
GOLDEN = [
    ("linear", {}, 3.962761233e-3, -5.552091777e-5, 3.401063405e-4, -4.572053520e-3),
    (
        "ties",
        {"density": 0.5, "counting": "floor"},
        9.357112078e-3,
        -1.762412052e-3,
        -1.092541152e-3,
        -1.119829750e-2,
    ),
    ("ties", {"density": 0.2, "counting": "paper_code"}, 7.792219666e-3, 0, 0, -3.763642793e-3),
    ("ties", {"density": 0.2, "counting": "mask_rate"}, 8.02275116e-3, 0, 0, -5.67305338e-3),
    (
        "breadcrumbs",
        {"density": 0.8, "gamma": 0.1, "counting": "floor"},
        1.210887478e-2,
        -1.665627533e-4,
        1.020319022e-3,
        -1.816392292e-2,
    ),
    (
        "breadcrumbs_ties",
        {"density": 0.8, "gamma": 0.1, "counting": "floor", "combine": "sum"},
        1.423057793e-2,
        -1.762412052e-3,
        2.112860173e-3,
        -2.601922918e-2,
    ),
    ("sce", {}, 8.497697924e-3, -1.762412052e-3, 1.201191198e-3, -8.880491981e-3),
    (
        "model_stock",
        {"clamp": False},
        5.297555685e-4,
        7.422227489e-6,
        -4.546658685e-5,
        6.112078596e-4,
    ),
    ("emr", {}, 1.012199210e-2, -1.762412052e-3, 1.324608106e-3, -5.901947300e-3),
    ("tsv", {}, 9.876596565e-3, 4.080504511e-4, -1.553847161e-3, -3.579582878e-3),
    ("iso_c", {}, 1.033545404e-2, -4.394367086e-4, 1.194271335e-3, -2.150970575e-2),
    ("iso_cts", {}, 1.164111966e-2, -1.745358133e-3, -9.718168482e-4, -1.899894685e-2),
    ("knots", {"inner": "mean"}, 3.962761233e-3, -5.552091777e-5, 3.401063405e-4, -4.57205352e-3),
    ("wudi", {}, 5.648882537e-3, 5.881367368e-4, 1.995973521e-4, -3.496608395e-3),
    ("wudi", {"start": "mean"}, 5.648882537e-3, 5.881367368e-4, 1.995973521e-4, -3.496608395e-3),
    ("wudi", {"solver": "adam"}, 6.27593599e-3, 5.81048723e-4, 3.83332047e-4, -5.61487770e-3),
    (
        "optmerge",
        {"optimizer": "adam", "start": "sum", "learning_rate": 1e-5, "center": True},
        1.043690846e-2,
        1.022616577e-3,
        -3.437920185e-4,
        -1.402210329e-2,
    ),
    ("optmerge", {}, 4.481159865e-3, 7.634301112e-5, 2.250261924e-4, -4.378297416e-3),
    ("swudi", {}, 6.84840906e-3, 2.15661468e-4, 9.13302205e-4, -5.92923755e-3),
    ("swudi", {"start": "mean"}, 5.34409644e-3, 1.69561473e-4, 1.23865371e-4, -4.74472191e-3),
    ("aswudi", {}, 5.648882537e-3, 5.881367368e-4, 1.995973521e-4, -3.496608395e-3),
    ("task_arithmetic", {}, 1.18882837e-2, -1.66562753e-4, 1.02031902e-3, -1.37161606e-2),
]


@pytest.mark.parametrize(
    ("method", "parameters", "norm", "first", "inner", "total"),
    GOLDEN,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_golden_delta(method, parameters, norm, first, inner, total) -> None:
    dtype = torch.float64 if method in SPECTRAL else torch.float32
    delta = merge_one(method, golden_group(dtype=dtype), parameters).double()
    assert float(delta.norm()) == pytest.approx(norm, rel=2e-6)
    assert float(delta[0, 0]) == pytest.approx(first, rel=1e-5, abs=1e-10)
    assert float(delta[7, 3]) == pytest.approx(inner, rel=1e-5, abs=1e-10)
    assert float(delta.sum()) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(
    ("method", "parameters", "weights", "norm", "first", "inner"),
    [
        ("ties", {"density": 0.5, "counting": "floor"}, (0.5, 0.3, 0.2), 8.404782652e-3,
         -1.762412052e-3, 7.882520674e-4),
        ("multislerp", {}, (0.5, 0.3, 0.2), 6.451135220e-3, 7.251616428e-4, 6.324157233e-4),
        ("slerp", {"t": 0.3}, (1, 1), 5.496002741e-3, 1.006155359e-3, 2.074959159e-4),
        ("nuslerp", {}, (0.7, 0.3), 5.496002741e-3, 1.006155359e-3, 2.074959159e-4),
        ("nuslerp", {"along": "rows"}, (0.7, 0.3), 5.481239644e-3, 1.601962127e-3, 1.961327264e-4),
        ("nuslerp", {"along": "columns"}, (0.7, 0.3), 5.496604130e-3, 1.030016997e-3,
         2.025642832e-4),
    ],
)  # fmt: skip
def test_weighted_golden_delta(method, parameters, weights, norm, first, inner) -> None:
    experts = [d.float() for d in DELTAS[: len(weights)]]
    delta = merge_one(method, group_like(torch.zeros(8, 6), experts, weights), parameters).double()
    assert float(delta.norm()) == pytest.approx(norm, rel=2e-6)
    assert float(delta[0, 0]) == pytest.approx(first, rel=1e-5)
    assert float(delta[7, 3]) == pytest.approx(inner, rel=1e-5)


def test_spherical_means_of_whole_weights() -> None:
    for method, first in (("multislerp", 1.076408131e-2), ("karcher", 1.076408197e-2)):
        merged = merge_one(method, golden_group(BASE))
        assert float(merged.double().norm()) == pytest.approx(9.7310575e-2, rel=2e-7)
        assert float(merged[0, 0]) == pytest.approx(first, rel=2e-6)


def test_widen_of_the_golden_deltas() -> None:
    delta = merge_one("widen", golden_group(BASE)) - BASE.float()
    assert float(delta.norm()) == pytest.approx(9.674426777e-3, rel=2e-6)


def test_emr_scales_of_the_golden_deltas() -> None:
    context = MergeContext(parameters=check_parameters("emr", {}))
    context = observed(METHODS["emr"], golden_group(), context)
    scales = [METHODS["emr"].expert_part(golden_group(), context, i).scale for i in range(3)]
    assert scales == pytest.approx([0.941594, 1.078835, 0.944458], abs=1e-6)


def test_emr_part_undoes_the_scale_of_the_shared_delta() -> None:
    group = golden_group()
    parameters = check_parameters("emr", {"scale": 0.25})
    context = observed(METHODS["emr"], group, MergeContext(parameters=parameters))
    shared = METHODS["emr"].merge(group, context)
    for i, expert in enumerate(group.experts):
        part = METHODS["emr"].expert_part(group, context, i)
        rebuilt = part.scale * part.mask * shared
        assert float(rebuilt.abs().sum()) == pytest.approx(float(expert.abs().sum()), rel=1e-5)


def test_losses_of_the_golden_deltas() -> None:
    norms = [float(d.square().sum()) for d in DELTAS]
    total = torch.stack(DELTAS).sum(0)

    def wudi_loss(merged: torch.Tensor) -> float:
        return linear_system.loss(merged.double(), DELTAS, DELTAS, norms)

    assert wudi_loss(total) == pytest.approx(5.38722909e-5)
    assert wudi_loss(total / 3) == pytest.approx(2.54564959e-5)
    assert wudi_loss(merge_one("wudi", golden_group())) == pytest.approx(2.21871398e-5, rel=1e-6)
    adam = merge_one("wudi", golden_group(), {"solver": "adam"})
    assert wudi_loss(adam) == pytest.approx(2.26958014e-5, rel=1e-5)
    context = MergeContext(parameters=check_parameters("optmerge", {}))
    denoised = denoise(DELTAS, 2, context)
    assert linear_system.loss(total / 3, *denoised) == pytest.approx(1.87951369e-5, rel=1e-6)
    merged = merge_one("optmerge", golden_group(dtype=torch.float64)).double()
    assert linear_system.loss(merged, *denoised) == pytest.approx(1.53111002e-5, rel=1e-6)


def test_momentum_filter_is_the_loop() -> None:
    """Gradient descent with momentum, iterated on matrices, gives what the filter gives."""
    context = MergeContext(parameters=check_parameters("optmerge", {}))
    denoised = denoise(DELTAS, 2, context)
    parts = linear_system.system(*denoised)
    start = torch.stack(DELTAS).mean(0)
    merged, velocity = start.clone(), torch.zeros_like(start)
    for _ in range(300):
        velocity = 0.9 * velocity + 2 * (merged @ parts.gram - parts.cross)
        merged = merged - 1e-4 * velocity
    closed = linear_system.solve(parts, start, linear_system.momentum_filter(1e-4, 0.9, 300))
    assert torch.allclose(closed, merged, rtol=1e-12, atol=1e-15)
