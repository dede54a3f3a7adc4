"""Measures the accuracy and the time of recipes: python -m fastlenet.speedrun."""
