"""From a photograph to the 28x28 pixels that a network was trained on, and what it reads there."""

from fastlenet.images.predict import Page, Prediction, predict_image, predict_page
from fastlenet.images.reading import ImageError

__all__ = ["ImageError", "Page", "Prediction", "predict_image", "predict_page"]
