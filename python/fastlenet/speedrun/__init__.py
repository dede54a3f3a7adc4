"""How good and how fast recipes are: python -m fastlenet.speedrun."""
