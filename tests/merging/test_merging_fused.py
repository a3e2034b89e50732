"""Compiled loops: the very bits of the torch path, the same refusals, used only where they pay."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnicompose.errors import MergeError
from omnicompose.merging import fused
from omnicompose.merging.engine import run_merge
from omnicompose.merging.job import Merge, TensorRef
from omnicompose.merging.methods.random_bits import (
    BLOCK,
    num_below,
    philox_key,
    uniform_numbers,
)
from omnicompose.merging.options import EngineOptions
from omnicompose.merging.registry import METHODS, check_parameters
from omnicompose.tensors.checkpoint import open_safetensors
from omnicompose.tensors.memory import MemorySource
from omnicompose.tensors.source import TensorInfo, read_tensor

NAMES = ("a", "b", "c")
CASES = {
    "linear": ("linear", {}),
    "linear, not normalised": ("linear", {"normalize": False}),
    "task_arithmetic": ("task_arithmetic", {"scale": 0.7}),
    "task_arithmetic, normalised": ("task_arithmetic", {"normalize": True}),
    "ties": ("ties", {"density": 0.3}),
    "ties, all kept": ("ties", {"density": 1.0}),
    "ties, sum": ("ties", {"density": 0.5, "combine": "sum", "scale": 0.4}),
    "ties, per expert": ("ties", {"density": {"a": 0.1, "b": 0.9, "c": 0.5}}),
    "ties, model": ("ties", {"density": 0.3, "scope": "model"}),
    "dare_linear": ("dare_linear", {"density": 0.7}),
    "dare_linear, not rescaled": ("dare_linear", {"density": 0.4, "rescale": "none"}),
    "dare_linear, normalised": ("dare_linear", {"normalize": True, "scale": 0.3}),
    "dare_linear, all kept": ("dare_linear", {"density": 1.0}),
    "dare_ties": ("dare_ties", {"density": 0.1}),
    "dare_ties, sum": ("dare_ties", {"combine": "sum", "scale": 0.4}),
    "dare_ties, max": ("dare_ties", {"combine": "max"}),
    "dare_ties, per expert": ("dare_ties", {"density": {"a": 0.0, "b": 1.0, "c": 0.3}}),
    "ties, max": ("ties", {"density": 0.3, "combine": "max"}),
    "ties, majority": ("ties", {"density": 0.3, "zero_sign": "majority"}),
}


def job(case: str, tensors: list[torch.Tensor], weights: tuple[float, ...]) -> Merge:
    name, parameters = CASES[case]
    method = METHODS[name]
    refs = [
        TensorRef(source=MemorySource(f"m{i}", {"t": tensor}), name="t")
        for i, tensor in enumerate(tensors)
    ]
    base = refs[0] if method.spec.needs_base else None
    return Merge(
        output=TensorInfo(name="t", dtype=tensors[0].dtype, shape=tuple(tensors[0].shape)),
        method=method,
        parameters=check_parameters(name, parameters),
        base=base,
        experts=tuple(refs[1:]),
        expert_names=NAMES,
        weights=weights,
    )


def tensors_of(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, generator=draw) * 0.02
    moved = [base + torch.randn(shape, generator=draw) * 0.003 for _ in NAMES]
    return [tensor.to(dtype) for tensor in (base, *moved)]


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """Zeros of different signs differ."""
    return tensor.view(torch.int32 if tensor.itemsize == 4 else torch.int16)


def merged(one: Merge, out: Path, **options: object) -> torch.Tensor:
    run_merge([one], out, EngineOptions(overwrite=True, **options))
    return read_tensor(open_safetensors(out), "t")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", fused.STORED_DTYPES)
def test_loops_give_the_bits_of_torch(tmp_path, case, dtype):
    # More than one tile of the loops, more than a sample, and an odd end.
    tensors = tensors_of((601, 1003), dtype, seed=3)
    one = job(case, tensors, (0.2, 0.5, 0.3))
    assert fused.fused_method(one) is not None
    expected = merged(one, tmp_path / "torch", fuse=False)
    assert torch.equal(bits(merged(one, tmp_path / "loops", fuse=True)), bits(expected))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    case=st.sampled_from(sorted(CASES)),
    dtype=st.sampled_from(list(fused.STORED_DTYPES)),
    size=st.integers(1, 3000),
    weights=st.tuples(*[st.floats(-2.0, 2.0).filter(lambda w: abs(w) > 1e-3)] * 3),
    tile_elements=st.sampled_from([7, 1024, 1 << 18]),
    seed=st.integers(0, 9),
)
def test_loops_give_the_bits_of_torch_whatever_the_tiles(
    tmp_path, case, dtype, size, weights, tile_elements, seed
):
    if abs(sum(weights)) < 1e-2:
        return
    one = job(case, tensors_of((size,), dtype, seed), weights)
    expected = merged(one, tmp_path / "torch", fuse=False)
    found = merged(one, tmp_path / "loops", fuse=True, tile_elements=tile_elements)
    assert torch.equal(bits(found), bits(expected))


SIGNED = torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-40, -1e-40, 3e38, -3e38])


@pytest.mark.parametrize("case", ["linear", "task_arithmetic", "ties", "dare_linear", "dare_ties"])
def test_equal_numbers_and_signed_zeros_keep_their_bits(tmp_path, case):
    one = job(case, [SIGNED.clone() for _ in range(4)], (0.25, 0.25, 0.5))
    torch_, loops = (merged(one, tmp_path / f"{fuse}", fuse=fuse) for fuse in (False, True))
    assert torch.equal(bits(torch_), bits(loops))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weights", [(0.2, 0.5, 0.3), (-0.2, -0.5, -0.3)])
def test_what_is_dropped_keeps_its_sign(tmp_path, case, weights):
    tensors = [torch.full((64,), value) for value in (-0.0, -1.0, -1.0, -1.0)]
    one = job(case, tensors, weights)
    torch_, loops = (merged(one, tmp_path / f"{fuse}", fuse=fuse) for fuse in (False, True))
    assert torch.equal(bits(torch_), bits(loops))


@pytest.mark.parametrize("case", ["linear", "task_arithmetic", "ties", "dare_linear", "dare_ties"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_in_the_same_words(tmp_path, case, bad):
    tensors = tensors_of((5, 7), torch.bfloat16, seed=0)
    tensors[2][3, 1] = bad
    messages = []
    for fuse in (False, True):
        with pytest.raises(MergeError, match=r"m2: tensor 't': found (nan|inf) at index") as error:
            merged(job(case, tensors, (0.2, 0.5, 0.3)), tmp_path / "out", fuse=fuse)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_tensors_side_by_side_draw_under_their_own_names(tmp_path):
    tensors = tensors_of((50,), torch.bfloat16, seed=0)
    one = job("dare_ties", tensors, (0.2, 0.5, 0.3))
    jobs = [replace(one, output=replace(one.output, name=name)) for name in ("s", "t")]
    for fuse in (False, True):
        run_merge(jobs, tmp_path / str(fuse), EngineOptions(fuse=fuse))
    torch_, loops = (open_safetensors(tmp_path / str(fuse)) for fuse in (False, True))
    for name in ("s", "t"):
        assert torch.equal(read_tensor(loops, name), read_tensor(torch_, name))
    assert not torch.equal(read_tensor(loops, "s"), read_tensor(loops, "t"))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    first=st.integers(0, 99) | st.integers(2 * BLOCK - 99, 2 * BLOCK),
    count=st.integers(1, 100),
)
def test_loops_draw_the_numbers_of_numpy(seed, first, count):
    from omnicompose.merging.kernels.draws import draw, num_words

    key, words = philox_key(seed, "audio", "t"), np.empty(num_words(count), np.uint64)
    skipped = draw(np.array(divmod(key, 1 << 64)[::-1], np.uint64), first, count, words)
    draws = words.view(np.uint32)[skipped : skipped + count] >> 8
    assert np.array_equal(draws * np.float32(2.0**-24), uniform_numbers(key, first, count))


@given(probability=st.floats(0.0, 1.0), draw=st.integers(0, (1 << 24) - 1))
def test_a_limit_keeps_what_the_probability_keeps(probability, draw):
    number = torch.tensor(draw, dtype=torch.float32) * 2.0**-24
    assert (draw < num_below(probability)) == bool(number < probability)


@pytest.mark.parametrize("name", ["dare_linear", "dare_ties", "ties"])
def test_what_is_not_finite_is_named_though_a_norm_spreads_it(tmp_path, name):
    tensors = tensors_of((5000,), torch.bfloat16, seed=0)
    tensors[2][4990] = float("inf")
    one = job("ties", tensors, (0.2, 0.5, 0.3))
    parameters = check_parameters(name, {"density": 0.9, "rescale": "l1"})
    one = replace(one, method=METHODS[name], parameters=parameters)
    assert fused.fused_method(one) is None
    with pytest.raises(MergeError, match=r"m2: tensor 't': found inf at index \[4990\]"):
        merged(one, tmp_path / "out", tile_elements=100)


def test_a_result_that_overflows_is_refused(tmp_path):
    tensors = [torch.full((3,), 3e38) for _ in range(4)]
    one = job("linear, not normalised", tensors, (1.0, 1.0, 1.0))
    with pytest.raises(MergeError, match="the result of linear"):
        merged(one, tmp_path / "out", fuse=True)


@pytest.mark.parametrize("fuse", [False, True])
def test_a_result_beyond_the_range_of_half_precision_is_refused(tmp_path, fuse):
    tensors = [torch.full((3,), 4e4, dtype=torch.float16) for _ in range(4)]
    one = job("linear, not normalised", tensors, (1.0, 1.0, 1.0))
    with pytest.raises(MergeError, match=r"beyond the range of torch\.float16"):
        merged(one, tmp_path / "out", fuse=fuse)


def test_small_halves_keep_their_bits(tmp_path):
    values = torch.tensor([6e-8, -6e-8, 6.1e-5, 3e-5, 0.0, -0.0, 65504.0]).half()
    one = job("linear", [values.clone() for _ in range(4)], (0.3, 0.3, 0.4))
    torch_, loops = (merged(one, tmp_path / f"{fuse}", fuse=fuse) for fuse in (False, True))
    assert torch.equal(bits(torch_), bits(loops))


def test_nonfinite_numbers_that_are_allowed_go_through_torch(tmp_path):
    tensors = tensors_of((5, 7), torch.bfloat16, seed=0)
    tensors[2][3, 1] = float("nan")
    one = job("linear", tensors, (0.2, 0.5, 0.3))
    found = merged(one, tmp_path / "out", fuse=True, allow_nonfinite=True)
    assert int(found.isnan().sum()) == 1


def test_only_operands_that_lie_as_they_are_written_have_a_loop():
    tensors = tensors_of((4,), torch.bfloat16, seed=0)
    assert fused.fused_method(job("linear", tensors, (0.2, 0.5, 0.3))) is not None
    # A weight of 0: its expert's NaN would not show in the result.
    assert fused.fused_method(job("linear", tensors, (0.0, 0.5, 0.5))) is None
    mixed = [*tensors[:3], tensors[3].float()]
    assert fused.fused_method(job("linear", mixed, (0.2, 0.5, 0.3))) is None
    doubles = tensors_of((4,), torch.float64, seed=0)
    assert fused.fused_method(job("linear", doubles, (0.2, 0.5, 0.3))) is None


def test_loops_are_loaded_where_they_pay(monkeypatch):
    one = job("linear", tensors_of((1000,), torch.bfloat16, seed=0), (0.2, 0.5, 0.3))
    assert not fused.worthwhile([one], EngineOptions())
    monkeypatch.setattr(fused, "LEAST_BYTES", 2000)
    assert fused.worthwhile([one], EngineOptions())
    assert not fused.worthwhile([one], EngineOptions(allow_nonfinite=True))
    assert not fused.worthwhile([one], EngineOptions(fuse=False))
    assert not fused.worthwhile([one], EngineOptions(fuse=True, device="cuda"))
