"""The callbacks of a trainer: console, log, plot, checkpoints, profile."""
