"""The page of a report: well formed, whatever names classes have; complete; with the report's numbers; bounded in size."""

from __future__ import annotations

import base64
import itertools
import math
import re
import shlex
import zlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import pytest

import fastlenet
from fastlenet import RECIPES, LeNet, Recipe, nn
from fastlenet.cli.flags import make_parser
from fastlenet.cli.settings import Arguments
from fastlenet.data import Dataset
from fastlenet.inference.facts import ModelFacts
from fastlenet.inference.scores import Evaluation
from fastlenet.models import LeNet5
from fastlenet.reports import Report
from fastlenet.reports.charts import learning_curves, share_axis
from fastlenet.reports.confusions import confusions
from fastlenet.reports.inside import filters
from fastlenet.reports.label_errors import SOURCE_ADDRESS
from fastlenet.reports.markup import Markup, tag
from fastlenet.reports.pictures import signed_address, tiled
from fastlenet.reports.repeating import training_of
from fastlenet.training.history import Epoch, History
from helpers.html import tree, words
from helpers.reports import KINDS, NAMES, report_of

SECTIONS = ("accuracy", "confusions", "classes", "calibration", "errors", "filters", "activations", "costs", "curves", "recipe")


def sections(root: Element) -> dict[str, Element]:
    return {element.attrib["data-section"]: element for element in root.iter() if "data-section" in element.attrib}


def rows(element: Element, class_: str) -> list[list[str]]:
    """The cells of the bodies of the tables of that class."""
    tables = [table for table in element.iter("table") if class_ in table.get("class", "").split()]
    return [[words(cell) for cell in row] for table in tables for body in table.iter("tbody") for row in body.iter("tr")]


def percent(share: float) -> str:
    return "\N{EN DASH}" if math.isnan(share) else f"{100 * share:.2f} %"


@pytest.mark.parametrize("kind", KINDS)
def test_every_section_is_there(kind: str) -> None:
    found = sections(tree(report_of(kind).as_html()))
    assert tuple(found) == SECTIONS and all(len(words(element)) > 20 for element in found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_fetched_or_executed(kind: str) -> None:
    """No script, no address but data and links for the reader, and a policy that makes a browser refuse the rest."""
    text = report_of(kind).as_html()
    root = tree(text)
    assert not list(root.iter("script")) and not list(root.iter("iframe"))
    for element in root.iter():
        assert not [name for name in element.attrib if name.startswith("on")]
        for name in ("src", "href"):
            address = element.get(name, "data:")
            assert address.startswith(("data:", "#")) or (element.tag == "a" and address == SOURCE_ADDRESS)
    assert "url(" not in text and "@import" not in text
    (policy,) = [meta.attrib["content"] for meta in root.iter("meta") if "http-equiv" in meta.attrib]
    assert "default-src 'none'" in policy and "script-src" not in policy
    targets = {element.get("id") for element in root.iter()}
    assert all(element.get("href", "#")[1:] in targets for element in root.iter("a") if element.get("href", "").startswith("#"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_bounded(kind: str, tmp_path: Path) -> None:
    report_of(kind).save(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_large_pictures_are_bounded() -> None:
    """Of 300x300 colours: fewer errors are shown, and their pictures are smaller."""
    layers = nn.Conv2d(3, 96, 3, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(96 * 38 * 38, 2)
    model = nn.Sequential(*layers, input_shape=(3, 300, 300))
    model.set_facts(mean=0.5, std=0.3)
    images = np.random.default_rng(0).integers(0, 256, (70, 3, 300, 300), dtype=np.uint8)
    found = fastlenet.report(model, images, 1 - model.predict(images, batch_size=8), batch_size=8)
    text = found.as_html()
    assert len(found.errors) == 70 and len(text) < 1_500_000
    assert "of 70 errors" in words(sections(tree(text))["errors"])


def test_the_accuracy() -> None:
    report = report_of("mnist")
    shown = words(sections(tree(report.as_html()))["accuracy"])
    low, high = report.interval
    for text in (
        "LeNet on MNIST",
        f"{percent(report.accuracy)} accuracy",
        f"{report.evaluation.correct:,} of 10,000 test images classified correctly, {len(report.errors)} not.",
        f"95 % interval {percent(low)} to {percent(high)} (Wilson)",
        f"loss {report.loss:.4f}",
        f"expected calibration error {percent(report.calibration.expected_error)}",
        "parameters 431,080",
        "image 1 x 28 x 28",
    ):
        assert text in re.sub(r"(?<=[a-z])(?=\d)", " ", shown), text


@pytest.mark.parametrize("kind", ["mnist", "names", "without_errors"])
def test_the_confusion_matrix(kind: str) -> None:
    report = report_of(kind)
    found = sections(tree(report.as_html()))["confusions"]
    numbers = [
        [0 if cell == "\N{MIDDLE DOT}" else int(cell.replace(",", "")) for cell in row[1:]] for row in rows(found, "matrix")
    ]
    assert numbers == report.confusion_matrix.tolist()
    wrong = report.confusion_matrix[~np.eye(len(numbers), dtype=bool)]
    shades = [float(cell.attrib["style"].removeprefix("--part:")) for cell in found.iter("td") if cell.get("class") == "wrong"]
    expected = 0.15 + 0.4 * np.sqrt(wrong[wrong > 0] / wrong.max(initial=1))  # 0.55: the most frequent mistake
    assert np.abs(np.array(shades) - expected).max(initial=0) < 0.0051
    pairs = [(name, other, f"{count:,}") for name, other, count in report.evaluation.confusions()[:10]]
    if kind == "mnist":
        assert rows(found, "pairs") == [[str(name), str(other), count] for name, other, count in pairs]


def test_a_matrix_of_many_classes_is_a_picture() -> None:
    """Of 100 classes: a pixel for each pair, names beside it, and the most frequent mistakes as a table."""
    report = report_of("hundred")
    found = sections(tree(report.as_html()))["confusions"]
    (picture,) = found.iter("image")
    palette, places = decoded(picture.attrib["href"])
    assert places.shape == (100, 100)
    matrix = report.confusion_matrix
    wrong = (matrix > 0) & ~np.eye(100, dtype=bool)
    assert ((palette[places][..., 3] > 0) == (wrong | (np.eye(100, dtype=bool) & (matrix > 0)))).all()
    names = [words(text) for text in found.iter("text")]
    assert sorted(names) == sorted(2 * [str(name) for name in report.class_names])
    assert len(rows(found, "pairs")) == 10


@pytest.mark.parametrize("classes", [31, 111, 300, 1001])
def test_the_picture_of_a_matrix_stays_small(classes: int) -> None:
    """At most 1,000 pixels a side, but one for each class; names as far apart as they are high."""
    matrix = np.ones((classes, classes), np.int64)
    report = replace(report_of("mnist"), evaluation=Evaluation(1.0, matrix, tuple(f"name {n}" for n in range(classes))))
    svg = tree(tag("div", confusions(report))).find(".//svg")
    assert svg is not None
    (frame,) = svg.iter("rect")
    assert classes <= float(frame.attrib["width"]) <= max(1000, classes) and float(svg.attrib["width"]) < 60 + max(
        1000, classes
    )
    heights = [float(text.attrib["y"]) for text in svg.iter("text") if "y" in text.attrib]
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 8.4


def decoded(address: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The palette (n, 4) and the pixels of an indexed PNG."""
    file = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    chunks, at = {}, 8
    while at < len(file):
        size = int.from_bytes(file[at : at + 4], "big")
        chunks[file[at + 4 : at + 8]] = file[at + 8 : at + 8 + size]
        assert zlib.crc32(file[at + 4 : at + 8 + size]) == int.from_bytes(file[at + 8 + size : at + 12 + size], "big")
        at += 12 + size
    w, h = (int.from_bytes(chunks[b"IHDR"][start : start + 4], "big") for start in (0, 4))
    colours = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)
    palette = np.column_stack([colours, np.frombuffer(chunks[b"tRNS"], np.uint8)])
    return palette, np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(h, w + 1)[:, 1:]


@pytest.mark.parametrize("kind", KINDS)
def test_precision_and_recall(kind: str) -> None:
    """Of each class once; with many classes the lowest come first."""
    report = report_of(kind)
    found = rows(sections(tree(report.as_html()))["classes"], "classes")
    images = report.confusion_matrix.sum(axis=1)
    expected = {
        number: [f"{images[number]:,}", percent(report.recall[number]), percent(report.precision[number])]
        for number in range(len(report.class_names))
    }
    assert sorted(row[1:4] for row in found) == sorted(expected.values())
    if kind in ("mnist", "hundred"):
        by_name = {str(name): expected[number] for number, name in enumerate(report.class_names)}
        assert all(by_name[row[0]] == row[1:4] for row in found)
    if kind == "hundred":
        least = np.fmin(report.recall, report.precision)
        shown = [float(least[report.class_names.index(row[0])]) for row in found[:30]]
        assert shown == sorted(shown) and shown[-1] <= np.nanmin(
            [least[report.class_names.index(row[0])] for row in found[30:]]
        )


def test_calibration_in_numbers_and_as_points() -> None:
    report = report_of("mnist")
    found = sections(tree(report.as_html()))["calibration"]
    numbers = [[words(cell) for cell in row] for body in found.iter("tbody") for row in body.iter("tr")]
    calibration = report.calibration
    assert numbers == [
        [
            f"{10 * bin} to {10 * bin + 10} %",
            f"{count:,}",
            percent(calibration.confidence[bin]),
            percent(calibration.accuracy[bin]),
        ]
        for bin, count in enumerate(calibration.counts.tolist())
    ]
    circles = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in found.iter("circle")]
    filled = calibration.counts > 0
    # The chart's axes, from 0 to 1: 44 to 328 across, 224 to 24 upwards.
    assert [x for x, _ in circles] == pytest.approx((44 + 284 * calibration.confidence[filled]).tolist(), abs=0.06)
    assert [y for _, y in circles] == pytest.approx((224 - 200 * calibration.accuracy[filled]).tolist(), abs=0.06)


def test_the_gallery_and_its_marks() -> None:
    report = report_of("mnist")
    found = sections(tree(report.as_html()))["errors"]
    tiles = list(found.iter("li"))
    assert len(tiles) == len(report.errors)
    for tile, error in zip(tiles, report.errors, strict=True):
        text = words(tile)
        assert f"{error.label} taken for {error.predicted}" in text and f"image {error.index:,}" in text
        assert f"{error.predicted}: {percent(error.probability)}" in text
        assert f"{error.label}: {percent(error.probability_of_label)}" in text
        assert ("doubtful label" in text) == (error.label_error is not None)
    assert "15 images of MNIST's test set have a label that at most two of five people saw in them" in words(found)
    assert "15 of them are among these images. The model contradicts the label of 8; these are marked." in words(found)
    assert [link.attrib["href"] for link in found.iter("a")] == [SOURCE_ADDRESS]


@pytest.mark.parametrize("kind", ["names", "hundred", "without_errors"])
def test_no_word_of_label_errors_in_other_data(kind: str) -> None:
    found = words(sections(tree(report_of(kind).as_html()))["errors"])
    assert "MNIST" not in found and "doubtful" not in found
    assert ("No image was classified wrongly." in found) == (kind == "without_errors")


def test_many_errors_are_cut() -> None:
    report = report_of("hundred")
    found = sections(tree(report.as_html()))["errors"]
    assert len(list(found.iter("li"))) == 60 < len(report.errors)
    assert f"The worst 60 of {len(report.errors):,} errors" in words(found)


def test_names_are_text() -> None:
    """Markup in a name is shown as it is; what HTML cannot hold, or what turns the text around it, is replaced."""
    report = report_of("names")
    text = report.as_html()
    assert "&lt;script&gt;throw new Error(&#x27;executed&#x27;)&lt;/script&gt;" in text and "<script" not in text
    assert "\0" not in text and "\N{RIGHT-TO-LEFT OVERRIDE}" not in text
    shown = [row[0] for row in rows(sections(tree(text))["classes"], "classes")]
    assert shown == [NAMES[0], f'\N{REPLACEMENT CHARACTER}"cat\'s" & \N{REPLACEMENT CHARACTER}{30 * "long "}'.strip(), ""]


def test_markup() -> None:
    assert tag("p", "a < b", Markup("<br>"), None, 3, class_="x", hidden=True, title=None, aria_label='"') == (
        '<p class="x" hidden aria-label="&quot;">a &lt; b<br>3</p>'
    )
    assert tag("img", alt="\ud800\x07") == '<img alt="\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}">'


def test_alternatives_for_readers_who_do_not_see() -> None:
    """Every picture has words, every chart a name, every table a caption and headings."""
    for kind in KINDS:
        root = tree(report_of(kind).as_html())
        assert root.attrib["lang"] == "en"
        assert all("alt" in img.attrib for img in root.iter("img"))
        assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in root.iter("svg"))
        for table in root.iter("table"):
            assert list(table.iter("th")) and all(th.get("scope") for th in table.iter("th") if table.get("class"))


# --- pictures ---


def test_numbers_as_colours() -> None:
    """Zero is transparent, the largest magnitude opaque, the sign a colour, and NaN neither."""
    palette, places = decoded(signed_address(np.array([[127.0, 1.0, 0.0], [-127.0, -1.0, np.nan]])))
    colours = palette[places].tolist()
    assert colours[0] == [[213, 94, 0, 255], [213, 94, 0, 2], [213, 94, 0, 0]]
    assert colours[1] == [[0, 114, 178, 255], [0, 114, 178, 2], [128, 128, 128, 60]]


def test_tiles() -> None:
    sheet = tiled(np.arange(8.0).reshape(2, 2, 2))
    assert np.nan_to_num(sheet, nan=9).tolist() == [[0, 1, 9, 4, 5], [2, 3, 9, 6, 7]]
    assert [tiled(np.zeros((count, 1, 1))).shape for count in (1, 20, 50, 13)] == [(1, 1), (3, 19), (9, 19), (3, 13)]


def test_a_large_weight_does_not_leave_the_others_pale() -> None:
    """The largest hundredth of a layer's weights have the strongest colour; zero has none."""
    weights = np.zeros((20, 1, 5, 5))
    weights[0, 0, 0, :4], weights[1], weights[2, 0, 0, 0] = -1.0, 1.0, 1000.0
    found = replace(report_of("mnist"), filters={"conv": weights})
    (picture,) = tree(tag("div", filters(found))).iter("img")
    palette, places = decoded(picture.attrib["src"])
    seen = palette[places]
    assert seen[0, :5, 3].tolist() == [255, 255, 255, 255, 0] and seen[0, 6:11, 3].tolist() == [255] * 5
    assert seen[0, 0, :3].tolist() == [0, 114, 178] and seen[0, 12].tolist() == [213, 94, 0, 255]


# --- curves ---


def test_the_curves_of_a_history() -> None:
    found = sections(tree(report_of("mnist").as_html()))["curves"]
    assert [words(text) for text in found.iter("text") if "label" in text.get("class", "")] == [
        *["loss", "val_loss"],
        *["val_accuracy", "accuracy"],
    ]
    note = "loss includes label smoothing, distorted images and dropout. val_loss does not, so loss usually lies above it."
    assert note in words(found) and "The run was stopped: <b>Ctrl-C</b>." in words(found)


def test_a_curve_goes_through_its_points() -> None:
    epochs = [Epoch(n, 10.0**-n, n / 4, None, None, 1.0, 1.0) for n in (1, 2, 3)]
    losses, accuracies = (tree(chart) for chart in learning_curves([History(epochs)]))
    heights = [float(point.split(",")[1]) for point in losses.find("polyline").attrib["points"].split()]  # type: ignore[union-attr]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.11)  # powers of ten are evenly spaced
    heights = [float(point.split(",")[1]) for point in accuracies.find("polyline").attrib["points"].split()]  # type: ignore[union-attr]
    assert heights == pytest.approx([220 - 192 * (n / 4 - 0.2) / 0.8 for n in (1, 2, 3)], abs=0.06)


def test_a_long_history_is_thinned_out() -> None:
    """Its last epoch stays, and few networks have more points than many."""
    history = History([Epoch(n + 1, 2 / (n + 1), 0.5, None, None, 1.0, 1.0) for n in range(10_001)])
    for histories, most in ([history], 3000), ([history] * 300, 20):
        losses = tree(learning_curves(histories)[0])
        points = [line.attrib["points"].split() for line in losses.iter("polyline")]
        assert len(points) == len(histories) and all(most / 2 < len(curve) <= most + 1 for curve in points)
        assert "at the end loss 0.0002" in losses.attrib["aria-label"] and not list(losses.iter("circle"))


def test_infinite_and_missing_losses() -> None:
    """What cannot be placed on a scale of logarithms is left out."""
    epochs = [Epoch(1, math.inf, 0.1, 0.0, 0.1, 1.0, 1.0), Epoch(2, math.inf, 0.1, None, None, 1.0, 1.0)]
    losses, accuracies = (tree(chart) for chart in learning_curves([History(epochs)]))
    assert words(losses) == "no finite loss" and len(list(accuracies.iter("circle"))) == 3


@pytest.mark.parametrize("low", [0.0, 0.1, 0.2, 0.65, 0.97, 0.9989, 0.9999, 1.0])
def test_the_axis_of_shares_begins_below_all(low: float) -> None:
    start, ticks = share_axis([low, 1.0, math.nan])
    assert start <= low and ticks[0] == start and ticks[-1] == 1.0


# --- the recipe ---


def trained(kind: type[nn.Sequential], recipe: Recipe, **arguments: Any) -> nn.Sequential:
    model = kind(recipe.seed, **arguments)
    model.facts = ModelFacts((1, 28, 28), 0.5, 0.5, recipe=asdict(recipe))
    return model


@pytest.mark.parametrize(
    "recipe",
    [
        *RECIPES.values(),
        replace(RECIPES["best"], seed=7, epochs=3, nesterov=False, lr=1e-7),
        Recipe(class_weight="0=2,1=0.5", tta=True, elastic=3.5, optimizer="adamw", schedule="cosine"),
    ],
)
@pytest.mark.parametrize(("kind", "networks"), [(LeNet, 1), (LeNet, 3), (LeNet5, 1)])
def test_the_command_repeats_the_recipe(recipe: Recipe, kind: type[nn.Sequential], networks: int) -> None:
    """Given to the command itself, it is the same recipe and data again, and names only what differs from a named recipe."""
    found = training_of(trained(kind, recipe), networks, ["--data", "my photos; rm -rf ~"])
    program, command, *flags = shlex.split(found.command)
    assert (program, command) == ("fastlenet", "train")
    settings, again = Arguments.of(vars(make_parser("train").parse(flags))).new_run()
    assert again == recipe and settings.data == "my photos; rm -rf ~" and settings.ensemble == networks
    assert settings.network == {LeNet: "lenet", LeNet5: "lenet5"}[kind]
    named = {name: RECIPES[name] for name in RECIPES}
    assert found.changes == {
        field: value for field, value in asdict(recipe).items() if value != getattr(named[found.name], field)
    } and all(
        len(found.changes) <= sum(value != getattr(other, field) for field, value in asdict(recipe).items())
        for other in named.values()
    )


@pytest.mark.parametrize("changes", [{}, {"batch_size": 50, "seed": 3}])
def test_the_python_repeats_the_training(changes: dict[str, Any], mnist: Dataset) -> None:
    few = Dataset.from_arrays(*(part[:200] for part in mnist.part("train")))
    recipe = replace(RECIPES["fast"], **changes)
    model = LeNet.of(recipe)
    fastlenet.fit(model, few, recipe, verbose=0)
    found = training_of(model, 1, None)
    names: dict[str, Any] = {"fastlenet": fastlenet, "data": few}
    exec(found.call, names)
    assert names["model"].parameter_buffer.tobytes() == model.parameter_buffer.tobytes()
    assert "--data DATA" in found.command and "replace DATA by their name or path" in found.doubts[0]


def test_what_is_not_known() -> None:
    plain = training_of(LeNet(), 1, None)
    assert plain.recipe is None and "The seed and the training data are unknown too." in plain.doubts[0] and plain.command == ""
    model = trained(LeNet, Recipe(seed=1))
    model.facts = replace(model.facts, recipe={"epochs": 3, "momentun": 1.0})
    other = training_of(model, 1, None)
    assert other.recipe is None and other.settings == {"epochs": 3, "momentun": 1.0} and "momentun" in other.doubts[0]
    own = training_of(_own(), 1, None)
    assert own.command == "" and own.call == "fastlenet.fit(model, data, 'default')"
    two = LeNet(5)
    two.facts = ModelFacts(recipe=asdict(Recipe(seed=1)))
    assert any("seed 5" in doubt and "seed 1" in doubt for doubt in training_of(two, 1, None).doubts)


def _own() -> nn.Sequential:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model.facts = ModelFacts((1, 2, 2), recipe=asdict(RECIPES["default"]))
    return model


def test_the_recipe_on_the_page() -> None:
    found = words(sections(tree(report_of("mnist").as_html()))["recipe"])
    assert "The recipe “best”, seed 0." in found
    assert (
        "fastlenet train --recipe best --save-model model.safetensors" in found
        and "the data of this report have its mean and standard deviation" in found
    )
    assert "The model does not say which recipe trained it." in words(sections(tree(report_of("names").as_html()))["recipe"])
    assert "--ensemble 2" in words(sections(tree(report_of("ensemble").as_html()))["recipe"])


# --- in a notebook ---


def test_a_notebook_keeps_its_own_style() -> None:
    """Every rule applies within the report's element alone, and two reports in one notebook share no id and no group."""
    report: Report = report_of("mnist")
    first, second = tree(report._repr_html_()), tree(report._repr_html_())
    (style,) = first.iter("style")
    rules = re.sub(r"/\*.*?\*/", "", style.text or "", flags=re.DOTALL)
    selectors = [s for s in re.findall(r"([^{}]+)\{", rules) if not s.strip().startswith("@")]
    assert len(selectors) > 50
    for selector in selectors:
        for part in selector.split(","):
            assert ".fastlenet-report.fastlenet-report" in part, part
    assert first.attrib["class"] == "fastlenet-report"
    for attribute in ("id", "name"):
        kept = [
            {element.attrib[attribute] for element in root.iter() if attribute in element.attrib} for root in (first, second)
        ]
        assert kept[0] and not kept[0] & kept[1]
    assert tuple(sections(first)) == SECTIONS
