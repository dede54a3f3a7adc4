"""Training: recipes, the trainer and its callbacks, checkpoints, evaluation, ensembles."""
