"""Makes docs/pictures/report.png: the first part of the report about the package's network, as headless Chromium shows it.

python tools/report_picture.py      in an environment with the extra image, where chromium is on the path
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

import fastlenet
from fastlenet.data import load_mnist

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "report.png"
WIDTH, HEIGHT, COLOURS = 1100, 830, 64


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder) / "report.html", Path(folder) / "shot.png"
        fastlenet.report(fastlenet.LeNet.pretrained(), load_mnist()).save(page)
        flags = ["--headless=new", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT + 200}"]
        flags += ["--no-sandbox"] * (os.geteuid() == 0)  # as tests/helpers/browser.py says
        subprocess.run(["chromium", *flags, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True)
        PICTURE.parent.mkdir(exist_ok=True)
        Image.open(shot).convert("RGB").crop((0, 0, WIDTH, HEIGHT)).quantize(COLOURS).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
