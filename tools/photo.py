"""Draws examples/photo.png, which looks like a photograph of a handwritten digit: uneven light, a blur, noise, coloured ink.

python tools/photo.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from helpers.pages import Array, Page, draw_strokes

PHOTO = Path(__file__).resolve().parent.parent / "examples" / "photo.png"
FIVE = (  # the points that the pen passes, in pixels to the right and down
    ((97, 92), (90, 118), (84, 147), (102, 138), (125, 139), (139, 157), (137, 185), (118, 206), (92, 207), (74, 193)),
    ((96, 93), (118, 88), (146, 86)),
)


def drawn() -> Array:
    page = Page(
        height=280, width=210, paper=(0.9, 0.88, 0.8), ink=(0.12, 0.2, 0.5), light=0.5, shadow=0.2, blur=0.007, noise=0.005
    )
    return draw_strokes(FIVE, 6, page, seed=1)


if __name__ == "__main__":
    Image.fromarray(drawn()).save(PHOTO, optimize=True)
    print(f"{PHOTO}: {PHOTO.stat().st_size:,} bytes")
