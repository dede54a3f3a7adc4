"""The section of the worst errors."""

from __future__ import annotations

from fastlenet.reports.findings import Findings, Mistake
from fastlenet.reports.label_errors import LABEL_ERRORS, SOURCE, SOURCE_ADDRESS
from fastlenet.reports.markup import Markup, join, tag
from fastlenet.reports.pictures import image_address, shrunk
from fastlenet.reports.tables import percent

__all__ = ["errors"]

_MOST, _SIDE = 60, 96  # errors that are shown; pixels of a picture's longer side
_LETTERS = 400_000  # of all pictures


def errors(findings: Findings) -> Markup:
    """The errors with the highest probabilities, and the known label errors among them."""
    found = findings.errors
    if not found:
        return join(tag("p", "No image was classified wrongly."), _about_labels(findings))
    tiles: list[Markup] = []
    left = _LETTERS
    for mistake in found[:_MOST]:
        address = image_address(shrunk(mistake.image, _SIDE))
        left -= len(address)
        if left < 0 and tiles:
            break
        tiles.append(_tile(mistake, address))
    which = f"The worst {len(tiles):,} of {len(found):,} errors"
    if len(tiles) == len(found):
        which = f"All {len(found):,} errors" if len(found) > 1 else "The only error"
    order = ", the highest probability first" if len(found) > 1 else ""
    note = f"{which}{order}, with the probabilities of the predicted and of the true class."
    return join(tag("p", note, class_="note"), _about_labels(findings), tag("ul", *tiles, class_="gallery"))


def _about_labels(findings: Findings) -> Markup | None:
    """A paragraph on the known label errors, if these images are of MNIST's test set."""
    known = findings.label_errors
    if not known:
        return None
    wrong = sum(mistake.label_error is not None for mistake in findings.errors)
    source = tag("a", SOURCE, href=SOURCE_ADDRESS, rel="noopener")
    among = f"{len(known)} of them are" if len(known) > 1 else "One of them is"
    marked = (
        f"The model contradicts the label of {wrong}; these are marked."
        if wrong
        else "The model contradicts none of their labels."
    )
    return tag(
        "p",
        f"{len(LABEL_ERRORS)} images of MNIST's test set have a label that at most two of five people saw in them (",
        source,
        f"). {among} among these images. {marked}",
        class_="labels",
    )


def _tile(mistake: Mistake, address: str) -> Markup:
    words = f"image {mistake.index}, {mistake.label} taken for {mistake.predicted}"
    picture = tag("img", src=address, alt=words, width=84, height=84, class_="pixels")
    title = tag("b", tag("bdi", mistake.label), tag("span", " taken for ", class_="muted"), tag("bdi", mistake.predicted))
    sure, true = percent(mistake.probability), percent(mistake.probability_of_label)
    shares = tag("span", tag("span", f"{mistake.predicted}: {sure}"), tag("span", f"{mistake.label}: {true}"), class_="shares")
    place = tag("span", f"image {mistake.index:,}", class_="muted")
    mark = None
    if mistake.label_error is not None:
        mark = tag("span", tag("b", "doubtful label: "), str(mistake.label_error), class_="doubt")
    return tag("li", picture, title, shares, place, mark, class_="doubtful" if mark else None)
