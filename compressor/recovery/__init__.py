"""What brings accuracy back without labels and without gradients: moments of the inputs, and least squares.

`gather` collects second moments once; `rank` orders the units of every group by what their loss does to the refitted
consumers; `Refitter` corrects a candidate in a fraction of a second; `refit_sequentially` repairs the winner;
`reestimate` gives BatchNormalization the statistics that it now sees.
"""

from .activations import Feeds
from .batchnorm import reestimate
from .importance import METHODS, Ranking, rank
from .moments import Moments, gather
from .refit import Refitter
from .sequential import refit_sequentially

__all__ = ["METHODS", "Feeds", "Moments", "Ranking", "Refitter", "gather", "rank", "reestimate", "refit_sequentially"]
