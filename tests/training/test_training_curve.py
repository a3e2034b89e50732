from pathlib import Path

from PIL import Image

from omnicompose.training.curve import write_curve


def test_the_curve_is_a_table_and_a_picture(tmp_path: Path) -> None:
    curves = {"1 connector": [(1, 2.0, 0.5), (2, 1.0, 0.25)], "2 lora": [(1, 0.5, 0.125)]}
    write_curve(tmp_path, curves)
    assert (tmp_path / "loss.csv").read_text().splitlines() == [
        "stage,step,loss,grad_norm",
        "1 connector,1,2.0,0.5",
        "1 connector,2,1.0,0.25",
        "2 lora,1,0.5,0.125",
    ]
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.size == (700, 400)
        assert len(picture.convert("RGB").getcolors(1 << 16) or ()) > 10


def test_an_empty_curve_is_drawn_too(tmp_path: Path) -> None:
    write_curve(tmp_path, {"1 full": []})
    assert (tmp_path / "loss.png").is_file()
