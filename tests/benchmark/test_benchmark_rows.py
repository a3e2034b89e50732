"""Row files: what makes a run resumable."""

from pathlib import Path

import pytest

from omnicompose.benchmark.rows import METHOD, Row, Tried, finished, row_path, write_row
from omnicompose.errors import EvaluationError

ROW = Row(
    label="ties x exact",
    kind=METHOD,
    key="k",
    tried=(Tried(scale=1.0, accuracy=0.5),),
    scores={"zoo/image": (1.0, 0.0, 0.5)},
)


def test_a_row_comes_back_under_its_own_key_alone(tmp_path: Path) -> None:
    assert finished(tmp_path, ROW.label, "k") is None
    write_row(tmp_path, ROW)
    assert finished(tmp_path, ROW.label, "k") == ROW
    assert finished(tmp_path, ROW.label, "another") is None
    assert ROW.accuracy("zoo/image") == 0.5


def test_a_file_that_is_no_row_is_told(tmp_path: Path) -> None:
    write_row(tmp_path, ROW)
    row_path(tmp_path, ROW.label).write_text("{}", encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"expected a row that benchmark wrote. Delete it"):
        finished(tmp_path, ROW.label, "k")
