"""Searches, splits and what is read; no model needed."""

import json
from types import SimpleNamespace

import pytest

from omnicompose.errors import CalibrationError, TuningError
from omnicompose.searching.trail import Trail
from omnicompose.tuning.candidates import search, start, weights_of
from omnicompose.tuning.options import TuneOptions
from omnicompose.tuning.questions import Asked, read_unlabelled
from omnicompose.tuning.split import make_split
from omnicompose.tuning.tune import _check_answers, _compare, _search

OPTIONS = {"tasks": ("zoo/mcub",)}


def bowl(point):
    return sum((x - goal) ** 2 for x, goal in zip(point, (0.8, 0.1, 0.4), strict=False))


def test_one_over_n_is_tried_first_and_grids_stay_near_it():
    options = TuneOptions(**OPTIONS, search="grid", evaluations=12)
    tried = [point for point, _ in search(bowl, 3, options)]
    assert tried[0] == start(3, 1) == (1 / 3, 1 / 3, 1 / 3)
    assert len(tried) == len(set(tried)) == 12
    changed = [sum(abs(x - 1 / 3) > 1e-3 for x in point) for point in tried]
    assert changed == sorted(changed)


def test_cma_finds_the_bottom_and_repeats_itself():
    options = TuneOptions(**OPTIONS, search="cma", evaluations=150)
    tried = list(search(bowl, 3, options))
    assert len(tried) <= 150
    best, value = min(tried, key=lambda one: one[1])
    assert value < 1e-3 < tried[0][1]
    assert best == pytest.approx((0.8, 0.1, 0.4), abs=0.03)
    assert list(search(bowl, 3, options)) == tried


def test_knots_become_lists_over_depth():
    assert weights_of((0.5, 0.25), ["image", "audio"], 1) == {"image": 0.5, "audio": 0.25}
    point = (0.1, 0.2, 0.3, 0.4)
    assert weights_of(point, ["image", "audio"], 2) == {"image": (0.1, 0.2), "audio": (0.3, 0.4)}


def questions(count):
    return tuple(
        Asked(id=str(i), cluster=f"c{i // 3}", content=("what?",), num_options=2, answer=0)
        for i in range(count)
    )


def test_splits_share_no_cluster_and_depend_on_the_seed_alone():
    split = make_split({"one": questions(300)}, 0.3, 0)
    clusters = [{q.cluster for q in part["one"]} for part in (split.validation, split.test)]
    assert not clusters[0] & clusters[1]
    assert 0.15 < len(split.validation["one"]) / 300 < 0.45
    assert split.ids() == make_split({"one": questions(300)[::-1]}, 0.3, 0).ids() or sorted(
        split.ids()["test"]["one"]
    ) == sorted(make_split({"one": questions(300)[::-1]}, 0.3, 0).ids()["test"]["one"])
    assert split.ids() != make_split({"one": questions(300)}, 0.3, 1).ids()
    assert "30%" in split.name and "seed 0" in split.name


def test_a_part_without_questions_is_refused():
    with pytest.raises(TuningError, match="none of its 3 questions falls into the"):
        make_split({"one": questions(3)}, 0.5, 0)


def test_prompts_are_read_with_their_media(tmp_path):
    (tmp_path / "a.png").write_bytes(b"picture")
    line = {"content": [{"type": "image", "path": "a.png"}, "what is it?"]}
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps(line) + "\n" + json.dumps({"content": ["hello"]}) + "\n")
    with_picture, words = read_unlabelled(file)
    assert with_picture.modalities == {"image"} and words.modalities == frozenset()
    assert with_picture.answer is None and with_picture.cluster != words.cluster
    file.write_text('{"content": [{"type": "smell", "path": "a"}]}\n')
    with pytest.raises(CalibrationError, match=r"prompts\.jsonl:1: found"):
        read_unlabelled(file)
    with pytest.raises(CalibrationError, match="no such file"):
        read_unlabelled(tmp_path / "none.jsonl")
    file.write_text('{"content": "what is this?"}\n\n')
    (words,) = read_unlabelled(file)
    assert words.content == ("what is this?",)


def test_a_lone_expert_can_be_searched():
    options = TuneOptions(**OPTIONS, search="cma", evaluations=30)
    best = min(search(lambda point: (point[0] - 0.4) ** 2, 1, options), key=lambda one: one[1])
    assert best[0][0] == pytest.approx(0.4, abs=0.1)


def test_questions_without_options_have_no_likelihood():
    open_ended = Asked(id="1", cluster="1", content=("describe it",))
    with pytest.raises(TuningError, match="a/describe has questions without options"):
        _check_answers({"zoo/image": (), "a/describe": (open_ended,)})


def test_without_answers_only_the_objective_is_compared():
    asked = [Asked(id="1", cluster="1", content=("describe it",))]
    bench = SimpleNamespace(weights=lambda point: {"image": point[0]})
    plain, tuned = _compare(bench, asked, (((1.0,), 0.5), ((2.0,), 0.4)))
    assert (plain.name, plain.accuracy, plain.validation) == ("1/N", None, 0.5)
    assert (tuned.name, tuned.accuracy, tuned.weights) == ("tuned", None, {"image": 2.0})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tasks": ()}, "--task: none is named"),
        ({"objective": "luck"}, "--objective: found 'luck'"),
        ({"search": "luck"}, "--search: found 'luck'"),
        ({"knots": 0}, "--knots: found 0"),
        ({"evaluations": 1}, "--evaluations: found 1"),
        ({"validation": 1.0}, "--validation: found 1.0"),
    ],
)
def test_options_that_cannot_be_are_refused(changed, said):
    with pytest.raises(TuningError, match=said):
        TuneOptions(**(OPTIONS | changed))


@pytest.mark.parametrize("search_by", ["grid", "cma", "bayes"])
def test_a_killed_search_goes_on_from_its_log(tmp_path, search_by):
    options = TuneOptions(**OPTIONS, search=search_by, evaluations=8)
    taken = []
    bench = SimpleNamespace(
        take=taken.append, options=options, setting=SimpleNamespace(experts=(1, 2, 3))
    )

    def tried(folder, dies_after=None):
        def objective():
            if dies_after is not None and len(taken) > dies_after:
                raise KeyboardInterrupt
            return bowl(taken[-1])

        return _search(bench, objective, Trail(folder / "log", {}), lambda _line: None)[0]

    whole = tried(tmp_path / "whole")
    taken.clear()
    with pytest.raises(KeyboardInterrupt):
        tried(tmp_path / "cut", dies_after=4)
    assert tried(tmp_path / "cut") == whole
    assert len(taken) == 1 + len({point for point, _ in whole})


def test_a_value_that_is_no_number_ends_a_search(tmp_path):
    options = TuneOptions(**OPTIONS, search="grid", evaluations=8)
    bench = SimpleNamespace(
        take=lambda _point: None, options=options, setting=SimpleNamespace(experts=(1, 2))
    )
    with pytest.raises(TuningError, match="found the fitness nan"):
        _search(bench, lambda: float("nan"), Trail(tmp_path / "log", {}), lambda _line: None)
