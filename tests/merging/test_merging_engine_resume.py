import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from merge_jobs import SHARD_BYTES, all_jobs, slow_merge, write_models

from omnicompose.errors import MergeError
from omnicompose.merging.engine import run_merge
from omnicompose.merging.options import EngineOptions
from omnicompose.tensors.journal import JOURNAL_NAME, read_journal
from omnicompose.tensors.writer import partial_folder

NUM_KILLS = int(os.environ.get("OMNICOMPOSE_NUM_KILLS", "4"))
"""50 make the acceptance test."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(models, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    run_merge(all_jobs(models), out, EngineOptions(shard_bytes=SHARD_BYTES))
    return contents(out)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def resume(models: Path, out: Path, **options: object):
    return run_merge(
        all_jobs(models), out, EngineOptions(resume=True, shard_bytes=SHARD_BYTES, **options)
    )


def interrupt_after(
    models: Path, out: Path, num_tensors: int, error: BaseException, num_threads: int = 2
) -> None:
    seen = []

    def report(progress):
        if progress.stage == "write":
            seen.append(progress.tensor)
        if len(seen) > num_tensors:
            raise error

    options = EngineOptions(num_threads=num_threads, shard_bytes=SHARD_BYTES, batch_bytes=1)
    run_merge(all_jobs(models), out, options, report=report)


def start(models: Path, out: Path, pause_s: float = 0.01) -> int:
    """A process of its own, forked because importing torch takes longer than the merge."""
    child = os.fork()
    if child == 0:
        code = 1
        # A shell that starts the tests in the background has them ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            slow_merge(models, out, pause_s)
            code = 0
        finally:
            os._exit(code)
    return child


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_for_work(out: Path) -> None:
    while not (partial_folder(out) / JOURNAL_NAME).exists():
        time.sleep(0.002)


@pytest.mark.parametrize("kill", range(NUM_KILLS))
def test_killed_at_any_moment_nothing_looks_finished_and_it_can_go_on(
    models, uninterrupted, tmp_path, kill
):
    out = tmp_path / "out"
    child = start(models, out)
    wait_for_work(out)
    time.sleep(random.Random(kill).uniform(0, 0.5))
    os.kill(child, signal.SIGKILL)
    exit_code(child)
    if not out.exists():
        assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
        assert "config.json" not in contents(partial_folder(out))
        marks = read_journal(partial_folder(out)).marks
        finished = {mark.file: mark.num_tensors for mark in marks}
        assert resume(models, out).resumed_tensors == sum(finished.values())
    assert contents(out) == uninterrupted


def test_a_second_process_is_refused_and_the_first_goes_on(models, uninterrupted, tmp_path):
    child = start(models, tmp_path / "out")
    wait_for_work(tmp_path / "out")
    with pytest.raises(MergeError, match="another process is writing this output"):
        resume(models, tmp_path / "out")
    assert exit_code(child) == 0
    assert contents(tmp_path / "out") == uninterrupted


@pytest.mark.parametrize("num_tensors", [0, 1, 7, 20])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a bug")])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_an_interrupt_or_bug_leaves_only_what_can_go_on(
    models, uninterrupted, tmp_path, num_tensors, error, num_threads
):
    before = set(threading.enumerate())  # the test runner and progress bars have their own
    with pytest.raises(type(error)):
        interrupt_after(models, tmp_path / "out", num_tensors, error, num_threads)
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
    assert set(threading.enumerate()) <= before
    result = resume(models, tmp_path / "out", num_threads=3)
    # One thread finishes tensors in the order of the file; of several, one may hold up the rest.
    assert result.resumed_tensors >= (num_tensors if num_threads == 1 else 0)
    assert contents(tmp_path / "out") == uninterrupted


def test_the_users_interrupt_reaches_a_run_that_waits(models, uninterrupted, tmp_path):
    out = tmp_path / "out"
    child = start(models, out, pause_s=1.0)
    wait_for_work(out)
    os.kill(child, signal.SIGINT)
    assert exit_code(child) != 0
    assert not out.exists()
    resume(models, out)
    assert contents(out) == uninterrupted


def test_another_plan_is_not_mixed_in(models, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interrupt_after(models, tmp_path / "out", 5, KeyboardInterrupt())
    jobs = all_jobs(models)[1:]
    with pytest.raises(MergeError, match=r"'embed' is not in this plan"):
        run_merge(jobs, tmp_path / "out", EngineOptions(resume=True))
    path = models / "m1" / "model.safetensors"
    before = path.stat()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    try:
        with pytest.raises(MergeError, match=r"computed otherwise now.*without --resume"):
            resume(models, tmp_path / "out")
    finally:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_shards_of_another_size_are_written_anew(models, uninterrupted, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interrupt_after(models, tmp_path / "out", 12, KeyboardInterrupt())
    run_merge(all_jobs(models), tmp_path / "out", EngineOptions(resume=True))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]


def test_a_failing_assembly_leaves_a_partial_folder_that_resumes_at_once(
    models, uninterrupted, tmp_path
):
    def assemble(folder, result):
        raise OSError("no room for the processor")

    options = EngineOptions(shard_bytes=SHARD_BYTES)
    with pytest.raises(OSError, match="no room for the processor"):
        run_merge(all_jobs(models), tmp_path / "out", options, assemble=assemble)
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
    result = resume(models, tmp_path / "out")
    assert result.resumed_tensors == len(all_jobs(models))
    assert contents(tmp_path / "out") == uninterrupted
