"""What brings accuracy back without labels and without gradients: moments of the inputs, and least squares.

`gather` collects second moments once; `rank` orders the units of every group by what their loss does to the refitted
consumers; `Corrector` corrects a candidate in about a second, `Alone` in a fraction of it; `refit_sequentially` repairs
the winner; `reestimate` gives BatchNormalization the statistics that it now sees.
"""

from .activations import Feeds
from .batchnorm import reestimate
from .correct import CORRECTIONS, Alone, Corrector, samples_for
from .deviation import OutputDeviation
from .importance import METHODS, Ranking, rank
from .moments import Moments, gather
from .refit import Refitter
from .repaired import Place, repaired_damage
from .sequential import refit_sequentially

__all__ = [
    "CORRECTIONS",
    "METHODS",
    "Alone",
    "Corrector",
    "Feeds",
    "Moments",
    "OutputDeviation",
    "Place",
    "Ranking",
    "Refitter",
    "gather",
    "rank",
    "reestimate",
    "refit_sequentially",
    "repaired_damage",
    "samples_for",
]
