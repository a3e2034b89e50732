"""Ask and tell, with a log that a killed search goes on from."""

import json
import sys
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from omnicompose.errors import TuningError
from omnicompose.searching.fitness import asked, named
from omnicompose.searching.strategies import Bayes, Cma, Space, run
from omnicompose.searching.trail import Trail

SPACE = Space(start=(0.5, 0.5), low=(-1.0, -1.0), high=(2.0, 2.0), spread=0.3, seed=3)


def bowl(point):
    return sum((x - goal) ** 2 for x, goal in zip(point, (0.8, 0.1), strict=False))


def trail(folder: Path, **asked_for: object) -> Trail:
    return Trail(folder / "log.jsonl", asked_for)


@pytest.mark.parametrize(("kind", "budget", "close"), [(Cma, 120, 1e-4), (Bayes, 40, 0.1)])
def test_a_bowl_has_its_bottom_found(kind, budget: int, close: float, tmp_path: Path) -> None:
    best = run(kind(SPACE), bowl, trail(tmp_path), budget, SPACE.start)
    assert best.value < close < bowl(SPACE.start)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert len(lines) == budget + 1
    assert min(json.loads(line)["value"] for line in lines[1:]) == best.value


def test_a_generation_may_have_a_size_of_its_own() -> None:
    assert len(Cma(replace(SPACE, population=20)).ask()) == 20


@pytest.mark.parametrize("kind", [Cma, Bayes])
def test_the_start_is_tried_first_and_only_once(kind, tmp_path: Path) -> None:
    run(kind(SPACE), bowl, trail(tmp_path), 8, SPACE.start)
    points = [one.point for one in trail(tmp_path).tried]
    assert points[0] == SPACE.start
    assert len(set(points)) == 8


def test_a_lone_number_can_be_searched(tmp_path: Path) -> None:
    space = Space(start=(0.5,), low=(-1.0,), high=(2.0,), spread=0.3, seed=0)
    assert run(Cma(space), bowl, trail(tmp_path), 40, (0.5,)).point[0] == pytest.approx(
        0.8, abs=0.1
    )


@pytest.mark.parametrize("kind", [Cma, Bayes])
def test_a_killed_search_goes_on_and_tries_nothing_twice(kind, tmp_path: Path) -> None:
    run(kind(SPACE), bowl, trail(tmp_path / "whole"), 20, SPACE.start)
    calls: list[object] = []

    def dying(point):
        calls.append(point)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return bowl(point)

    with pytest.raises(KeyboardInterrupt):
        run(kind(SPACE), dying, trail(tmp_path / "cut"), 20, SPACE.start)
    # A kill within a line leaves half of it.
    with (tmp_path / "cut/log.jsonl").open("a") as file:
        file.write('{"point": [0.')
    run(kind(SPACE), lambda p: calls.append(p) or bowl(p), trail(tmp_path / "cut"), 20, SPACE.start)
    assert len(calls) == 21
    found = [(one.point, one.value) for one in trail(tmp_path / "cut").tried]
    assert found == [(one.point, one.value) for one in trail(tmp_path / "whole").tried]


def test_another_search_does_not_go_on(tmp_path: Path) -> None:
    trail(tmp_path, seed=1).add((0.0,), 1.0, 0.0)
    with pytest.raises(TuningError, match="log of another search"):
        trail(tmp_path, seed=2)
    with pytest.raises(TuningError, match="library or seed has changed"):
        trail(tmp_path, seed=1).known(0, (1.0,))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_number_is_said_and_nothing_is_lost(value: float, tmp_path: Path) -> None:
    def fitness(point):
        return value if len(log.tried) == 3 else bowl(point)

    log = trail(tmp_path)
    with pytest.raises(TuningError, match=r"candidate 4 .*found the fitness (nan|inf)"):
        run(Cma(SPACE), fitness, log, 20, SPACE.start)
    assert len(trail(tmp_path).tried) == 3


def test_a_fitness_that_fails_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    def fitness(point):
        if len(log.tried) == 2:
            raise RuntimeError("out of memory")
        return bowl(point)

    log = trail(tmp_path)
    with pytest.raises(TuningError, match=r"candidate 3 .*RuntimeError: out of memory"):
        run(Cma(SPACE), fitness, log, 20, SPACE.start)
    assert len(trail(tmp_path).tried) == 2


@pytest.mark.parametrize(("kind", "package"), [(Cma, "cma"), (Bayes, "optuna")])
def test_a_missing_package_is_named(kind, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(TuningError, match=f"needs the package {package}"):
        kind(SPACE)


class Service(BaseHTTPRequestHandler):
    """Says how far the weights of a candidate are from 1."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        weights = json.loads(self.rfile.read(length))["weights"]
        answer = {"fitness": sum((w - 1.0) ** 2 for w in weights.values())}
        body = json.dumps(answer if weights else {"error": "none"}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_given: object) -> None:
        pass


@pytest.fixture
def address():
    server = HTTPServer(("127.0.0.1", 0), Service)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_an_address_is_asked(address: str) -> None:
    judge = named(address)
    assert judge({"weights": {"a": 3.0}}, None) == 4.0
    with pytest.raises(ValueError, match="expected"):
        asked(address, {"weights": {}})
    with pytest.raises(ValueError, match="expected"):
        asked("http://127.0.0.1:9/", {})


def test_a_function_is_imported() -> None:
    assert named("math:fsum") is not None
    for wrong in ("nonsense", "math:nothing", "no_such_module:f"):
        with pytest.raises(TuningError, match="fitness: found"):
            named(wrong)
