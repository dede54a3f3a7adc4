"""fastlenet predict: what it prints, its files, its exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastlenet import Chain, LeNet
from fastlenet.cli.main import main
from fastlenet.data import load_mnist
from fastlenet.models.ensemble import Ensemble
from helpers.pages import draw_page, draw_row


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """seven.png, a page with 72104 as row.png, and blank.png, in a folder."""
    folder, digits = tmp_path_factory.mktemp("pictures"), load_mnist().test_images
    Image.fromarray(draw_page(digits[0], "uneven light", 0)).save(folder / "seven.png")
    Image.fromarray(draw_row(digits[:5], "photo-like blur", 1)).save(folder / "row.png")
    Image.new("RGB", (120, 90), "white").save(folder / "blank.png")
    return folder


def test_one_digit(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(pictures / "seven.png")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{pictures / 'seven.png'}: 7" and second.startswith("  7 9") and second.count("%") == 3


def test_a_folder_as_json(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--json", str(pictures)]) == 3
    blank, row, seven = map(json.loads, capsys.readouterr().out.splitlines())
    assert [Path(one["file"]).name for one in (blank, row, seven)] == ["blank.png", "row.png", "seven.png"]
    assert all(list(one) == ["file", "label", "probability", "probabilities", "warnings"] for one in (blank, row, seven))
    assert seven["label"] == 7 and seven["warnings"] == []
    assert seven["probability"] == max(seven["probabilities"]) == seven["probabilities"][7]
    assert sum(seven["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert blank["label"] is None and blank["warnings"][0].startswith("blank: ")
    assert row["warnings"][0].startswith("several shapes: 5 ") and "--all" in row["warnings"][0]


def test_a_number(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--all", "--json", str(pictures / "row.png")]) == 0
    number = json.loads(capsys.readouterr().out)
    assert number["label"] == "72104" and len(number["probabilities"]) == 5
    assert number["probability"] == pytest.approx(np.prod([max(one) for one in number["probabilities"]]), abs=1e-4)
    assert main(["predict", "--all", str(pictures / "row.png"), str(pictures / "blank.png")]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("row.png: 72104") and lines[6].endswith("blank.png: -")


def test_blocks_on_a_terminal(pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "28")
    assert main(["predict", str(pictures / "seven.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 14 + 1 and {len(line) for line in lines[1:15]} == {28}
    assert set("".join(lines[1:15])) <= set(" ▄▀█") and "█" in "".join(lines[1:15])
    monkeypatch.setenv("COLUMNS", "27")  # too narrow for them
    assert main(["predict", str(pictures / "seven.png")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_shifts_are_averaged(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probabilities = []
    for flags in ([], ["--tta"]):
        assert main(["predict", "--json", *flags, str(pictures / "seven.png")]) == 0
        probabilities.append(json.loads(capsys.readouterr().out)["probabilities"])
    assert probabilities[0] != probabilities[1]


def test_what_the_network_saw(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.png"
    assert main(["predict", "--all", "--show", str(out), str(pictures / "row.png")]) == 0
    with Image.open(out) as sheet:
        assert sheet.size == (5 * (28 * 8 + 8) + 8, 28 * 8 + 16)
    capsys.readouterr()
    none = tmp_path / "none.png"
    assert main(["predict", "--all", "--show", str(none), str(pictures / "blank.png")]) == 3
    assert not none.exists()
    assert capsys.readouterr().err == f"fastlenet predict: {none} was not written, since no digit was found\n"


@pytest.mark.parametrize("name", ["own.safetensors", "own"])
def test_a_model_of_ones_own(name: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its labels are its class names."""
    model = LeNet(seed=4, classes=3)
    model.set_facts(mean=0.1307, std=0.3081, class_names=("cat", "dog", "owl"))
    model.save(tmp_path / name)
    assert main(["predict", "--json", str(tmp_path / name), str(pictures / "seven.png")]) == 3
    one = json.loads(capsys.readouterr().out)
    assert one["label"] in ("cat", "dog", "owl") and len(one["probabilities"]) == 3
    assert one["warnings"][0].startswith(f"uncertain: {one['label']} with ")
    assert main(["predict", str(tmp_path / name), str(pictures / "seven.png")]) == 3
    assert set(capsys.readouterr().out.splitlines()[1].split()) >= {"cat", "dog", "owl"}


def test_class_names_do_not_steer_the_terminal(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = LeNet(seed=4, classes=2)
    model.set_facts(mean=0.1307, std=0.3081, class_names=("cat\nowl", "\x1b[31mred"))
    model.save(tmp_path / "m.safetensors")
    for flags in ((), ("--all",)):
        main(["predict", *flags, str(tmp_path / "m.safetensors"), str(pictures / "seven.png")])
        captured = capsys.readouterr()
        assert all(line.isprintable() for line in captured.out.splitlines()) and r"\x1b[31mred" in captured.out
        assert flags or r"cat\nowl" in captured.out


def test_an_ensemble(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The probabilities are the members' mean; here both are one."""
    member = LeNet.pretrained()
    Ensemble([member, member]).save(tmp_path / "two.safetensors")
    assert main(["predict", "--json", str(tmp_path / "two.safetensors"), str(pictures / "seven.png")]) == 0
    assert main(["predict", "--json", str(pictures / "seven.png")]) == 0
    of_two, of_one = map(json.loads, capsys.readouterr().out.splitlines())
    assert of_two == of_one


def test_a_model_of_other_images(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model, message in {
        LeNet(input_shape=(3, 32, 32)): "images of shape (1, 28, 28), got one for (3, 32, 32)",
        Chain(): "own.safetensors: ",
    }.items():
        model.save(tmp_path / "own.safetensors")
        assert main(["predict", str(tmp_path / "own.safetensors"), str(pictures / "seven.png")]) == 2
        captured = capsys.readouterr()
        assert message in captured.err and captured.err.count("\n") == 1 and captured.out == ""


def test_without_pillow(pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    for flags in ([], ["--show", "out.png"]):
        assert main(["predict", *flags, str(pictures / "seven.png"), str(pictures / "row.png")]) == 2
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1 and "pip install 'fastlenet[image]'" in captured.err and captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.png"], "absent.png: no such file"),
        (["model.safetensors"], "model.safetensors is a model; name the pictures after it"),
        (["absent.safetensors", "a.png"], "absent.safetensors: no such file"),
        (["."], ".: a folder without pictures"),
        (["--show", "out.txt", "a.png"], "out.txt: the name of a picture expects an ending such as .png or .jpg"),
        (["--show", "no/folder/out.png", "a.png"], "no/folder/out.png"),
        (["--al", "a.png"], "did you mean --all?"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code: object = main(["predict", *arguments])
    except SystemExit as ended:
        code = ended.code
    captured = capsys.readouterr()
    assert code == 2 and captured.out == "" and message in captured.err and captured.err.count("\n") == 1


def test_what_can_be_read_is_read(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unreadable pictures among others, by name and in a folder."""
    (tmp_path / "a text.png").write_text("no picture")
    for left_out in ("notes.txt", "._b.png"):  # a Mac writes the latter beside b.png
        (tmp_path / left_out).write_text("no picture")
    (tmp_path / "b.png").write_bytes((pictures / "seven.png").read_bytes())
    assert main(["predict", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "a text.png: not a picture that Pillow reads" in captured.err
    assert captured.out.startswith(f"{tmp_path / 'b.png'}: 7\n") and captured.out.count("\n") == 2
    assert main(["predict", "absent.png", str(pictures / "seven.png")]) == 2
    captured = capsys.readouterr()
    assert "absent.png: no such file" in captured.err and ": 7" in captured.out
