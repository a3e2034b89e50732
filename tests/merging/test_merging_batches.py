import torch

from omnicompose.merging.batches import Unfinished, in_batches
from omnicompose.merging.job import Copy, Merge, TensorRef
from omnicompose.merging.registry import METHODS
from omnicompose.tensors.memory import MemorySource
from omnicompose.tensors.pieces import PAGE_BYTES
from omnicompose.tensors.source import TensorInfo
from omnicompose.tensors.writer import Place

LARGE = (3, 1 << 21)


def copy(name: str, *shape: int) -> Copy:
    info = TensorInfo(name=name, dtype=torch.float32, shape=shape)
    source = MemorySource("m", {name: torch.zeros(1).expand(shape)})
    return Copy(output=info, tensor=TensorRef(source=source, name=name))


def merge(method: str) -> Merge:
    ref = copy("t", *LARGE).tensor
    return Merge(
        output=ref.info,
        method=METHODS[method],
        parameters={p.name: p.default for p in METHODS[method].spec.parameters},
        base=ref,
        experts=(ref, ref),
        expert_names=("a", "b"),
        weights=(1.0, 1.0),
    )


def batches(*jobs, offset: int = 104, most_needed: int = 1 << 40):
    places = {
        job.output.name: Place(file=0, offset=offset, num_bytes=job.output.num_bytes)
        for job in jobs
    }
    needed = {job.output.name: 100 for job in jobs}
    return in_batches(jobs, places, 1 << 20, needed, most_needed)


def test_small_tensors_come_together_within_bytes_and_memory():
    jobs = [copy(f"t{i}", 8) for i in range(6)]
    assert [len(batch.jobs) for batch in batches(*jobs)] == [6]
    assert [len(batch.jobs) for batch in batches(*jobs, most_needed=250)] == [2, 2, 2]
    large = [copy(f"t{i}", 200_000) for i in range(3)]
    assert [batch.names for batch in batches(*large)] == [["t0"], ["t1"], ["t2"]]


def test_a_large_tensor_is_parted_at_pages_of_the_file():
    found = batches(copy("t", *LARGE))
    assert [b.start for b in found] == [0, *(b.start + b.count for b in found[:-1])]
    assert found[-1].start + found[-1].count == 3 << 21
    assert all((104 + 4 * b.start) % PAGE_BYTES == 0 for b in found[1:])
    assert len(found) == 4


def test_only_what_can_be_computed_by_parts_is_parted():
    assert len(batches(merge("linear"))) > 1
    # The threshold of a tensor is known when all of it has been seen.
    assert [b.count for b in batches(merge("ties"))] == [None]
    assert [b.count for b in batches(merge("model_stock"))] == [None]


def test_a_tensor_is_finished_with_the_last_of_its_batches():
    found = batches(copy("t", *LARGE))
    unfinished = Unfinished(found)
    assert [unfinished.finish(batch.names) for batch in found] == [[], [], [], ["t"]]
