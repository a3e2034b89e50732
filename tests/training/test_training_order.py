import pytest

from omnicompose.training.order import ListedOrder, draw_order, num_steps

LENGTHS = [5, 50, 6, 51, 7, 52, 8, 53]


def test_every_round_sees_every_record_once() -> None:
    order = draw_order(LENGTHS, num_draws=20, batch_size=2, seed=2)
    assert sorted(order[:8]) == sorted(order[8:16]) == list(range(8)) and len(order) == 20
    assert order[:8] != order[8:16]


def test_batches_hold_like_lengths() -> None:
    order = draw_order(LENGTHS, num_draws=8, batch_size=4, seed=1)
    assert {frozenset(order[:4]), frozenset(order[4:])} == {
        frozenset({0, 2, 4, 6}),
        frozenset({1, 3, 5, 7}),
    }


def test_the_order_is_the_seeds_alone() -> None:
    def draw(seed: int) -> list[int]:
        return draw_order(LENGTHS, num_draws=16, batch_size=2, seed=seed)

    assert draw(3) == draw(3) != draw(4)
    longer = draw_order(LENGTHS, num_draws=32, batch_size=2, seed=3)
    assert longer[:16] == draw(3)


def test_records_as_they_stand() -> None:
    order = draw_order(LENGTHS, num_draws=10, batch_size=2, seed=0, shuffle=False)
    assert order == [*range(8), 0, 1]
    assert list(ListedOrder(order)) == order and len(ListedOrder(order)) == 10


@pytest.mark.parametrize(
    ("steps", "epochs", "expected"), [(7, None, 7), (None, 2.0, 5), (None, 0.01, 1)]
)
def test_steps_or_epochs(steps: int | None, epochs: float | None, expected: int) -> None:
    assert num_steps(10, steps=steps, epochs=epochs, per_step=4) == expected
