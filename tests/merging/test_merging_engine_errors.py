import errno
import os
import resource

import pytest
import torch
from merge_jobs import Average, RowNorm, all_jobs, write_models
from safetensors.torch import load_file, save_file

from omnicompose.errors import MergeError, SourceError
from omnicompose.merging.engine import least_memory, run_merge
from omnicompose.merging.job import (
    Copy,
    Difference,
    Factors,
    Fill,
    Merge,
    Part,
    Rows,
    ScaledFactor,
    TensorRef,
)
from omnicompose.merging.method import MethodSpec
from omnicompose.merging.options import EngineOptions
from omnicompose.tensors.checkpoint import open_safetensors
from omnicompose.tensors.memory import MemorySource
from omnicompose.tensors.source import TensorInfo


def ref(tensor: torch.Tensor, label: str = "expert") -> TensorRef:
    return TensorRef(source=MemorySource(label, {"t": tensor}), name="t")


def info(*shape: int, dtype: torch.dtype = torch.float32, name: str = "out.t") -> TensorInfo:
    return TensorInfo(name=name, dtype=dtype, shape=shape)


def merge(*tensors: torch.Tensor, method: object = None, **changes: object) -> Merge:
    fields = {
        "output": info(*tensors[0].shape),
        "method": method or Average(),
        "base": ref(tensors[0], "base"),
        "experts": tuple(ref(t, f"e{i}") for i, t in enumerate(tensors[1:])),
        "expert_names": tuple(f"e{i}" for i in range(len(tensors) - 1)),
        "weights": (1.0,) * (len(tensors) - 1),
    }
    return Merge(**(fields | changes))


def refuse(tmp_path, job, message, **options):
    with pytest.raises(MergeError, match=message) as caught:
        run_merge([job], tmp_path / "out", EngineOptions(**options))
    assert not (tmp_path / "out").exists()
    return str(caught.value)


ONE, TWO = torch.ones(3, 4), torch.ones(3, 5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("tile_elements", [5, 1 << 18])
def test_nan_and_infinities_are_refused_with_file_tensor_and_index(tmp_path, bad, tile_elements):
    tensor = torch.ones(3, 4, dtype=torch.bfloat16)
    tensor[1, 2] = bad
    save_file({"t": tensor}, tmp_path / "e.safetensors")
    source = open_safetensors(tmp_path / "e.safetensors")
    job = merge(ONE, ONE, experts=(TensorRef(source=source, name="t"),))
    options = {"tile_elements": tile_elements}
    message = refuse(tmp_path, job, rf"tensor 't': found {bad} at index \[1, 2\]", **options)
    assert message.startswith(str(tmp_path / "e.safetensors"))
    assert "allow_nonfinite: true" in message
    run_merge([job], tmp_path / "out", EngineOptions(allow_nonfinite=True, **options))
    written = load_file(tmp_path / "out" / "model.safetensors")["out.t"]
    assert not torch.isfinite(written[1, 2])
    assert torch.isfinite(written).sum() == 11


def test_large_finite_numbers_whose_sum_overflows_pass(tmp_path):
    large = torch.full((3, 4), 3e38)
    run_merge([merge(large, large, large)], tmp_path / "out")


class Divides(Average):
    spec = MethodSpec(
        name="divides", summary="", formula="", paper="", needs_base=True, granularity="element"
    )

    def merge(self, group, context):
        return group.base / 0.0


class Shortens(Average):
    def merge(self, group, context):
        return group.base[:-1]


def test_a_method_that_gives_nonsense_is_named(tmp_path):
    refuse(tmp_path, merge(ONE, ONE, method=Divides()), "the result of divides: tensor 'out.t'")
    refuse(tmp_path, merge(ONE, ONE, method=Shortens()), r"gave \[11\]; expected \[12\]")


LARGE = torch.full((3, 4), 1e5)
OVERFLOWS = [
    (merge(LARGE, LARGE, output=info(3, 4, dtype=torch.float16)), "float16"),
    (Copy(output=info(3, 4, dtype=torch.float16), tensor=ref(LARGE)), "float16"),
    (Copy(output=info(3, 4, dtype=torch.bfloat16), tensor=ref(LARGE * 3.4e33)), "bfloat16"),
    (Copy(output=info(3, 4), tensor=ref(LARGE.double() * 1e295)), "float32"),
]


@pytest.mark.parametrize(("job", "dtype"), OVERFLOWS)
def test_overflow_of_the_output_dtype_is_refused(tmp_path, job, dtype):
    refuse(tmp_path, job, rf"beyond the range of torch\.{dtype} at index \[0, 0\].*bfloat16")
    run_merge([job], tmp_path / "out", EngineOptions(allow_nonfinite=True))


def test_doubles_are_merged_in_float32_only_where_the_recipe_says_so(tmp_path):
    exact = torch.full((3, 4), 0.1, dtype=torch.float64)
    run_merge([merge(exact, exact)], tmp_path / "rounded")
    assert torch.equal(load_file(tmp_path / "rounded/model.safetensors")["out.t"], exact.float())
    # What is not merged keeps every digit.
    run_merge([Copy(output=info(3, 4, dtype=torch.float64), tensor=ref(exact))], tmp_path / "kept")
    assert torch.equal(load_file(tmp_path / "kept/model.safetensors")["out.t"], exact)
    refuse(tmp_path, merge(exact, exact * 1e300), "e0: .*found inf in float32, which merging")


MISFITS = {
    "doubles": (
        merge(ONE.double(), ONE.double(), output=info(3, 4, dtype=torch.float64)),
        "found float64, of which merging keeps float32: .*`dtype: float32`",
    ),
    "shape of an expert": (merge(ONE, ONE, TWO), r"e1: tensor 't': found shape \[3, 5\].*\[3, 4\]"),
    "whole numbers": (merge(ONE, ONE.int()), r"e0: .*found torch\.int32.*Copy it"),
    "output of whole numbers": (
        merge(ONE, ONE, output=info(3, 4, dtype=torch.int32)),
        "only real numbers can be merged",
    ),
    "complex numbers": (merge(ONE, ONE + 0j), "found complex numbers"),
    "no base": (merge(ONE, ONE, base=None), "found no base, which it needs"),
    "no experts": (merge(ONE), "found 0 experts; expected 1 to any number"),
    "weights": (merge(ONE, ONE, weights=()), "found 1 experts, 1 names and 0 weights"),
    "copy": (Copy(output=info(2), tensor=ref(ONE)), r"found shape \[3, 4\]; expected \[2\]"),
    "difference": (
        Difference(output=info(3, 4), minuend=ref(ONE), subtrahend=ref(TWO)),
        r"found shape \[3, 5\]",
    ),
    "number of rows": (
        Rows(output=info(9, 4), pieces=(ref(ONE), Fill(num_rows=2))),
        "found 5 rows; expected 9",
    ),
    "width of rows": (
        Rows(output=info(6, 4), pieces=(ref(ONE), Fill(num_rows=3, mean_of=ref(TWO)))),
        r"found rows of shape \[5\]; expected \[4\]",
    ),
    "ranks": (
        Factors(output=info(2, 4), pieces=(ScaledFactor(tensor=ref(ONE)),), axis=0),
        "found ranks of 3 in all; expected 2 at most",
    ),
    "width of factors": (
        Factors(output=info(3, 5), pieces=(ScaledFactor(tensor=ref(ONE)),), axis=0),
        r"found \[3, 4\]; expected \[3, 5\] by rank",
    ),
    "part of no bundle": (
        Difference(
            output=info(3, 4), minuend=Part(merge=merge(ONE, ONE), expert=0), subtrahend=ref(ONE)
        ),
        "method average gives no parts",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_jobs_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, misfit):
    job, message = MISFITS[misfit]
    refuse(tmp_path, job, message)
    assert list(tmp_path.iterdir()) == []


def test_all_misfits_are_reported_at_once(tmp_path):
    jobs = [merge(ONE, TWO, output=info(3, 4, name=f"t{i}")) for i in range(30)]
    with pytest.raises(MergeError) as caught:
        run_merge(jobs, tmp_path / "out")
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... and 10 more"


def test_a_memory_limit_that_cannot_do_names_the_least_that_would(tmp_path):
    tensors = [torch.randn(600, 512) for _ in range(3)]
    jobs = [merge(*tensors), merge(*tensors, method=RowNorm(), output=info(600, 512, name="whole"))]
    least = least_memory(jobs, EngineOptions())
    limit = least - (1 << 20)
    with pytest.raises(MergeError, match=rf"'whole': .* at least {-(-least >> 20)} MiB.*--memory"):
        run_merge(jobs, tmp_path / "out", EngineOptions(memory_bytes=limit))
    assert list(tmp_path.iterdir()) == []
    result = run_merge(jobs, tmp_path / "out", EngineOptions(memory_bytes=least, num_threads=4))
    assert result.peak_buffer_bytes <= least


def test_an_unknown_device_and_an_absent_one_are_refused(tmp_path):
    refuse(tmp_path, merge(ONE, ONE), "--device nonsense: not usable", device="nonsense")
    if not torch.cuda.is_available():
        refuse(tmp_path, merge(ONE, ONE), "--device cuda: not usable", device="cuda")


def test_a_missing_tensor_and_a_vanished_file_are_source_errors(tmp_path):
    save_file({"t": ONE}, tmp_path / "e.safetensors")
    source = open_safetensors(tmp_path / "e.safetensors")
    absent = TensorRef(source=source, name="u")
    with pytest.raises(SourceError, match="no tensor 'u'"):
        run_merge([Copy(output=info(3, 4), tensor=absent)], tmp_path / "out")
    (tmp_path / "e.safetensors").unlink()
    job = Copy(output=info(3, 4), tensor=TensorRef(source=source, name="t"))
    with pytest.raises(SourceError, match="Restore the file"):
        run_merge([job], tmp_path / "out")


def test_a_read_error_midway_leaves_what_can_be_resumed(tmp_path):
    write_models(tmp_path / "in", scale=20)
    jobs = all_jobs(tmp_path / "in")
    path = tmp_path / "in" / "m1" / "model.safetensors"
    whole = path.read_bytes()
    times = path.stat()

    def report(progress):
        os.truncate(path, 300)

    with pytest.raises(SourceError, match="has changed since its header was read"):
        run_merge(jobs, tmp_path / "out", EngineOptions(num_threads=1), report=report)
    assert not (tmp_path / "out").exists()
    path.write_bytes(whole)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    result = run_merge(jobs, tmp_path / "out", EngineOptions(resume=True))
    assert result.files == run_merge(jobs, tmp_path / "again").files


def test_an_input_that_changes_meanwhile_is_not_vouched_for(tmp_path):
    write_models(tmp_path / "in")
    jobs = all_jobs(tmp_path / "in")
    path = tmp_path / "in" / "m1" / "model.safetensors"

    def report(progress):
        os.utime(path, ns=(1, 1))

    with pytest.raises(SourceError, match="changed while they were read"):
        run_merge(jobs, tmp_path / "out", report=report)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def small_files():
    """No file may grow beyond 100 kB, as on a disk without room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room_is_told_before_any_arithmetic(tmp_path, small_files):
    refuse(tmp_path, merge(torch.ones(300, 100), torch.ones(300, 100)), "no room left.*--resume")


@pytest.mark.parametrize(
    ("code", "message"), [(errno.ENOSPC, "no room left"), (errno.EIO, "cannot be written")]
)
def test_a_disk_that_fails_midway_leaves_what_can_be_resumed(tmp_path, monkeypatch, code, message):
    write_models(tmp_path / "in")
    jobs = all_jobs(tmp_path / "in")
    working, calls = os.pwrite, []

    def failing(descriptor, data, offset):
        calls.append(offset)
        if len(calls) > 12:
            raise OSError(code, os.strerror(code))
        return working(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", failing)
    with pytest.raises(MergeError, match=f"{message}.*--resume"):
        run_merge(jobs, tmp_path / "out", EngineOptions(num_threads=2))
    monkeypatch.undo()
    assert not (tmp_path / "out").exists()
    result = run_merge(jobs, tmp_path / "out", EngineOptions(resume=True))
    assert 0 < result.resumed_tensors < len(jobs)
    assert result.files == run_merge(jobs, tmp_path / "again").files


def test_a_failing_flush_is_a_clear_error(tmp_path, monkeypatch):
    def failing(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", failing)
    refuse(tmp_path, merge(ONE, ONE), "cannot be written")


def test_an_output_that_exists_is_refused_first(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(MergeError, match="found a folder of that name"):
        run_merge([merge(ONE, TWO)], tmp_path / "out")
    run_merge([merge(ONE, ONE)], tmp_path / "out", EngineOptions(overwrite=True))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]
