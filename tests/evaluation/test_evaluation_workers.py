"""Launchers' variables, and real processes that share one folder."""

from pathlib import Path

import pytest
from evaluation_tiny import write_tiny

from omnicompose.errors import EvaluationError
from omnicompose.evaluation import (
    EvaluationOptions,
    Share,
    device_from,
    evaluate,
    evaluate_with_workers,
    share_from,
)


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({}, Share()),
        ({"RANK": "1", "WORLD_SIZE": "4"}, Share(rank=1, world_size=4)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "3"}, Share(rank=2, world_size=3)),
        (
            {"RANK": "0", "WORLD_SIZE": "1", "SLURM_PROCID": "2", "SLURM_NTASKS": "3"},
            Share(rank=0, world_size=1),
        ),
        ({"RANK": "1"}, Share()),
        (
            {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"},
            Share(rank=1, world_size=2),
        ),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, Share(rank=0, world_size=2)),
    ],
)
def test_a_launcher_says_which_share(environment: dict[str, str], share: Share) -> None:
    assert share_from(environment) == share


@pytest.mark.parametrize("rank", ["2", "-1", "x"])
def test_a_rank_beyond_the_size_is_refused(rank: str) -> None:
    with pytest.raises(EvaluationError, match=r"RANK='.*' and WORLD_SIZE='2': expected a rank"):
        share_from({"RANK": rank, "WORLD_SIZE": "2"})


def test_each_process_takes_its_card() -> None:
    assert device_from({"LOCAL_RANK": "3"}, "cuda") == "cuda:3"
    assert device_from({"SLURM_LOCALID": "1"}, "cuda") == "cuda:1"
    assert device_from({"LOCAL_RANK": "3"}, "cpu") == "cpu"
    assert device_from({}, "cuda") == "cuda"


def test_processes_give_the_bytes_of_one(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "omni")
    made = {}
    for name in ("one", "two"):
        options = EvaluationOptions(
            out_dir=tmp_path / name, modalities=("subsets",), limit=70, scores=("letter",)
        )
        if name == "one":
            results = evaluate(folder, ["zoo/image"], options)
        else:
            results = evaluate_with_workers(folder, ["zoo/image"], options, 2)
            assert len(list((tmp_path / name / "journal").iterdir())) == 2
        made[name] = (tmp_path / name / "samples_zoo_image.jsonl").read_bytes()
        assert results.tasks["zoo/image"].questions == 70
    assert made["one"] == made["two"]


def test_what_a_worker_refuses_is_said(tmp_path: Path) -> None:
    options = EvaluationOptions(out_dir=tmp_path / "out", limit=2)
    with pytest.raises(EvaluationError, match=r"config\.json is missing"):
        evaluate_with_workers(tmp_path, ["zoo/image"], options, 1)
