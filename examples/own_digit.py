"""Reads the digit on your own picture: a photograph, a scan or a drawing. Needs Pillow: pip install '.[image]'.

python examples/own_digit.py             reads photo.png, which lies beside this program
python examples/own_digit.py FILE...     reads your pictures
"""

import sys
from pathlib import Path

import fastlenet

PHOTO = Path(__file__).parent / "photo.png"


def main(*files: str | Path) -> list[fastlenet.Prediction]:
    """Prints the digit on each picture. Returns the predictions."""
    model = fastlenet.LeNet.pretrained()  # or your own: fastlenet.load("model.safetensors")
    predictions = []
    for file in files:
        seen = fastlenet.predict_image(model, file)
        print(f"{file}: {seen.label} with {seen.probability:.1%}")
        for warning in seen.warnings:  # why you should not believe the label
            print(f"  {warning}")
        for row in seen.image[::2]:  # the 28x28 pixels that the network saw, every second row
            print("  " + "".join(" .:-=+*#%@"[pixel * 10 // 256] for pixel in row.tolist()))
        predictions.append(seen)
    return predictions


if __name__ == "__main__":
    main(*sys.argv[1:] or [str(PHOTO)])
