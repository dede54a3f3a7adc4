"""fastlenet: LeNet on hand-written kernels. Start at `LeNet`, `fit` and `ops`; README.md shows them at work."""
