"""Many small tensors computed as one: the same bytes, the same refusals."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from omnicompose.errors import MergeError
from omnicompose.merging import joint
from omnicompose.merging.engine import run_merge
from omnicompose.merging.job import Copy, Merge, TensorRef
from omnicompose.merging.options import EngineOptions
from omnicompose.merging.registry import METHODS, check_parameters
from omnicompose.tensors.checkpoint import open_safetensors
from omnicompose.tensors.memory import MemorySource
from omnicompose.tensors.source import TensorInfo

SIZES = (3, 1, 64, 17, 5, 200, 2, 9)


def write_models(folder, change=lambda number, tensors: None):
    draw = torch.Generator().manual_seed(0)
    for number in range(3):
        tensors = {f"t{i}": torch.randn(size, generator=draw) for i, size in enumerate(SIZES)}
        change(number, tensors)
        (folder / f"m{number}").mkdir()
        save_file(tensors, folder / f"m{number}" / "model.safetensors")
    return [open_safetensors(folder / f"m{number}") for number in range(3)]


def jobs_of(sources, methods=("task_arithmetic",)):
    found = []
    for i, info in enumerate(sources[0].infos().values()):
        method = METHODS[methods[i % len(methods)]]
        refs = [TensorRef(source=source, name=info.name) for source in sources]
        based = method.spec.needs_base
        found.append(
            Merge(
                output=info,
                method=method,
                parameters=check_parameters(method.spec.name, {}),
                base=refs[0] if based else None,
                experts=tuple(refs[based:]),
                expert_names=("a", "b", "c")[based:],
                weights=(0.3, 0.7, 0.5)[based:],
            )
        )
    return found


def bytes_of(jobs, out, **options):
    run_merge(jobs, out, EngineOptions(num_threads=1, **options))
    return load_file(out / "model.safetensors")


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
@pytest.mark.parametrize("tile_elements", [7, 1 << 18])
def test_joined_tensors_get_the_bytes_of_single_ones(tmp_path, method, tile_elements):
    jobs = jobs_of(write_models(tmp_path), (method,))
    alone = bytes_of(jobs, tmp_path / "alone", batch_bytes=1)
    joined = bytes_of(jobs, tmp_path / "joined", tile_elements=tile_elements)
    assert joined.keys() == alone.keys()
    assert all(torch.equal(joined[name], alone[name]) for name in alone)


def test_only_neighbours_that_are_merged_alike_are_joined(tmp_path, monkeypatch):
    lengths = []
    found = joint.as_one
    monkeypatch.setattr(
        "omnicompose.merging.tensor_writer.as_one",
        lambda run: lengths.append(len(run)) or found(run),
    )
    sources = write_models(tmp_path)
    jobs = jobs_of(sources)
    jobs[3] = Copy(output=jobs[3].output, tensor=jobs[3].base)
    jobs[5] = jobs_of(sources, ("ties",))[5]
    bytes_of(jobs, tmp_path / "out")
    assert lengths == [3, 2]


def test_the_tensor_at_fault_is_named_and_not_the_run(tmp_path):
    def spoil(number, tensors):
        if number == 1:
            tensors["t4"][2] = float("nan")

    jobs = jobs_of(write_models(tmp_path, spoil))
    with pytest.raises(MergeError, match=r"m1/model.safetensors: tensor 't4': found nan at index"):
        run_merge(jobs, tmp_path / "out")
    run_merge(jobs, tmp_path / "out", EngineOptions(allow_nonfinite=True, overwrite=True))
    assert load_file(tmp_path / "out" / "model.safetensors")["t4"].isnan().sum() == 1


def test_end_to_end_reads_any_stretch():
    pieces = [torch.arange(first, first + size).float() for first, size in ((0, 3), (3, 1), (4, 5))]
    refs = tuple(TensorRef(source=MemorySource("m", {"x": p}), name="x") for p in pieces)
    info = TensorInfo(name=joint.NAME, dtype=torch.float32, shape=(9,))
    source = joint.EndToEnd(refs=refs, info=info)
    for start in range(9):
        for stop in range(start + 1, 10):
            out = torch.empty(stop - start)
            source.read_into(joint.NAME, start, out)
            assert out.tolist() == list(range(start, stop))
