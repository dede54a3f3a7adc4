"""A search over recipes: which fields vary (Space), what was tried (Trials), and `search`, which runs it on any Executor."""

from fastlenet.distributed.searches.folding import CrossValidated, CrossValidation, cross_validate
from fastlenet.distributed.searches.searching import read_trials, search
from fastlenet.distributed.searches.space import Range, Space
from fastlenet.distributed.searches.trials import Trial, Trials

__all__ = ["CrossValidated", "CrossValidation", "Range", "Space", "Trial", "Trials", "cross_validate", "read_trials", "search"]
