"""Training: recipes, the trainer and what it calls back, checkpoints, evaluation, ensembles."""
