"""The picture at the top of the README can be drawn again."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"


@pytest.mark.browser
def test_the_picture_of_the_readme(tmp_path: Path) -> None:
    """As large as the one that lies there, and with four parts that are not empty."""
    runpy.run_path(str(TOOLS / "overview.py"))["main"](tmp_path / "overview.png")
    with Image.open(tmp_path / "overview.png") as drawn, Image.open(TOOLS.parent / "docs" / "static" / "overview.png") as kept:
        assert drawn.size == kept.size
        pixels = np.asarray(drawn.convert("L"), float)
    rows, columns = (side // 2 for side in pixels.shape)
    corners = [pixels[top : top + rows, left : left + columns] for top in (0, rows) for left in (0, columns)]
    assert all(corner.std() > 20 for corner in corners)
