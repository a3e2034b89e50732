import hashlib

import pytest
import torch
from merge_jobs import BF16, SHAPES, all_jobs, write_models
from safetensors.torch import load_file

from omnicompose.merging.cost import bytes_read, bytes_written, working_bytes
from omnicompose.merging.engine import least_memory, run_merge
from omnicompose.merging.options import EngineOptions


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


@pytest.fixture(scope="module")
def merged(models, tmp_path_factory):
    out = tmp_path_factory.mktemp("merged") / "out"
    reports = []
    result = run_merge(all_jobs(models), out, report=reports.append)
    return load_file(out / "model.safetensors"), result, reports, out


@pytest.fixture(scope="module")
def inputs(models):
    return [load_file(models / f"m{n}" / "model.safetensors") for n in range(3)]


def average(inputs, name):
    base, *experts = (tensors[name].float() for tensors in inputs)
    return sum((0.5 * (expert - base) for expert in experts), base.clone())


@pytest.mark.parametrize("name", SHAPES)
def test_a_merge_is_computed_in_fp32_and_rounded_once(inputs, merged, name):
    assert merged[0][name].dtype == BF16
    torch.testing.assert_close(merged[0][name], average(inputs, name).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["a.weight", "z.weight"])
def test_a_whole_tensor_method_sees_the_whole_tensor(inputs, merged, name):
    mean = sum(tensors[name].float() for tensors in inputs) / 3
    expected = mean / mean.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(merged[0][f"row.{name}"], expected.bfloat16(), rtol=0, atol=0)


def test_statistics_span_a_tensor_or_the_model(inputs, merged):
    everything = torch.cat([inputs[0][name].double().flatten() for name in SHAPES])
    for name in ("embed", "a.bias", "z.weight"):
        own = inputs[0][name].double()
        for prefix, over in (("t", own), ("m", everything)):
            expected = (own - over.mean()) / over.std(correction=0)
            torch.testing.assert_close(
                merged[0][f"{prefix}.{name}"].double(), expected, rtol=2**-8, atol=1e-6
            )


def test_a_correction_makes_the_written_weight_the_experts(inputs, merged):
    text, correction = merged[0]["a.weight"].float(), merged[0]["correction"].float()
    expert = inputs[1]["a.weight"].float()
    torch.testing.assert_close(merged[0]["correction"], (expert - text).bfloat16(), rtol=0, atol=0)
    torch.testing.assert_close(text + correction, expert, rtol=0.01, atol=0.01)


def test_rows_are_merged_appended_and_filled(inputs, merged):
    table = merged[0]["vocabulary"]
    assert torch.equal(table[:37], average(inputs, "embed").bfloat16())
    assert torch.equal(table[37:39], inputs[1]["embed"][3:5])
    mean = inputs[2]["embed"].double().mean(0).bfloat16()
    assert all(torch.equal(table[row], mean) for row in range(39, 43))
    assert not table[43].any()


def test_factors_lie_side_by_side_and_multiply_to_the_sum(inputs, merged):
    first, second = merged[0]["s.lora_A"].float(), merged[0]["s.lora_B"].float()
    scales = [0.5, -0.5, -1.5]
    expected_a = torch.cat([s * t["lora_A"] for s, t in zip(scales, inputs, strict=True)])
    expected_b = torch.cat([s * t["lora_B"] for s, t in zip(scales, inputs, strict=True)], dim=1)
    assert torch.equal(first, expected_a.bfloat16().float())
    assert torch.equal(second, expected_b.bfloat16().float())


def test_copies_keep_every_byte_and_casts_round_once(inputs, merged):
    assert torch.equal(merged[0]["ids"], inputs[2]["ids"])
    assert torch.equal(merged[0]["kept"], inputs[1]["a.weight"])
    assert torch.equal(merged[0]["cast"], inputs[1]["a.weight"].half())


def test_the_result_tells_hashes_and_bytes(models, merged):
    tensors, result, _, out = merged
    jobs = all_jobs(models)
    (file,) = result.files
    data = (out / file.name).read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (file.num_bytes, file.sha256)
    assert result.bytes_written == sum(t.numel() * t.itemsize for t in tensors.values())
    assert result.bytes_read == sum(map(bytes_read, jobs)) > result.bytes_written
    assert result.resumed_tensors == 0
    assert 0 < result.peak_buffer_bytes <= EngineOptions().memory_bytes
    assert result.seconds > 0


def test_progress_grows_in_bytes_to_the_total(models, merged):
    written = [progress for progress in merged[2] if progress.stage == "write"]
    observed = [progress for progress in merged[2] if progress.stage == "observe"]
    assert written[-1].done_bytes == written[-1].total_bytes == bytes_written(all_jobs(models))
    assert observed[-1].done_bytes == observed[-1].total_bytes > 0
    for stage in (written, observed):
        done = [progress.done_bytes for progress in stage]
        assert done == sorted(done)


OPTIONS = {
    "one thread": {"num_threads": 1},
    "many threads": {"num_threads": 7},
    "small batches": {"batch_bytes": 300, "num_threads": 3},
    "tiny tiles": {"tile_elements": 13},
    "odd tiles, two threads": {"tile_elements": 101, "num_threads": 2},
    "least memory": {"num_threads": 4, "memory_bytes": 0},
}


@pytest.mark.parametrize("setting", OPTIONS)
def test_no_option_changes_a_byte(models, merged, tmp_path, setting):
    jobs, options = all_jobs(models), EngineOptions(**OPTIONS[setting])
    if options.memory_bytes == 0:
        least = least_memory(jobs, EngineOptions())
        options = EngineOptions(num_threads=4, memory_bytes=least)
    result = run_merge(jobs, tmp_path / "out", options)
    assert result.files == merged[1].files
    assert result.peak_buffer_bytes <= options.memory_bytes


@pytest.mark.parametrize("shard_bytes", [1, 3000, 10_000])
def test_shards_hold_the_same_tensors_and_load_in_transformers_layout(
    models, merged, tmp_path, shard_bytes
):
    options = EngineOptions(shard_bytes=shard_bytes, num_threads=3)
    result = run_merge(all_jobs(models), tmp_path / "out", options)
    assert len(result.files) > 1
    loaded = {
        n: t for file in result.files for n, t in load_file(tmp_path / "out" / file.name).items()
    }
    assert all(torch.equal(loaded[name], tensor) for name, tensor in merged[0].items())
    for file in result.files:
        data = (tmp_path / "out" / file.name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file.sha256


def test_the_layout_of_the_inputs_changes_nothing(models, merged, tmp_path, inputs):
    from safetensors.torch import save_file

    for number, tensors in enumerate(inputs):
        for name, tensor in tensors.items():
            (tmp_path / f"m{number}").mkdir(exist_ok=True)
            save_file({name: tensor}, tmp_path / f"m{number}" / f"{name}.safetensors")
    result = run_merge(all_jobs(tmp_path), tmp_path / "out")
    assert result.files == merged[1].files


def test_whatever_else_belongs_in_the_folder_is_written_before_it_gets_its_name(models, tmp_path):
    seen = []

    def assemble(folder, result):
        seen.append((folder.name, result.files[0].name, (tmp_path / "out").exists()))
        (folder / "config.json").write_text("{}")

    run_merge(all_jobs(models), tmp_path / "out", assemble=assemble)
    assert seen == [(".out.partial", "model.safetensors", False)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_the_cost_of_a_job_is_known_from_headers(models):
    jobs = {job.output.name: job for job in all_jobs(models)}
    assert bytes_read(jobs["a.weight"]) == 3 * 24 * 16 * 2
    assert bytes_read(jobs["t.a.weight"]) == 3 * 3 * 24 * 16 * 2
    assert working_bytes(jobs["row.z.weight"], 10) > 4 * 4 * 64 * 33
    assert working_bytes(jobs["z.weight"], 10) < working_bytes(jobs["z.weight"], 1000)


def test_no_jobs_give_an_empty_file(tmp_path):
    run_merge([], tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors") == {}


def test_torch_keeps_its_number_of_threads(models, tmp_path):
    before = torch.get_num_threads()
    run_merge(all_jobs(models)[:1], tmp_path / "out")
    assert torch.get_num_threads() == before
