"""How good a candidate is: accuracy with labels, agreement with the original without them, always in [0, 1]."""

from .measures import ClassScore, Score
from .scorer import BLENDS, Evaluation, Marked, Scorer, evaluate

__all__ = ["BLENDS", "ClassScore", "Evaluation", "Marked", "Score", "Scorer", "evaluate"]
