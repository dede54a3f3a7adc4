"""Turn a photograph into 28x28 pixels such as a network was trained on, and read the digits on it."""

from fastlenet.images.predict import Page, Prediction, predict_image, predict_page
from fastlenet.images.reading import ImageError

__all__ = ["ImageError", "Page", "Prediction", "predict_image", "predict_page"]
