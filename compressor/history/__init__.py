"""What searches leave to later ones: every trial of every run, in one store under the user's data folder.

`records` is what is kept of a run, `store` the SQLite file, `choosing` which earlier runs help a new one, `keeper` what
a search holds: it warms the agent and writes down each trial. What agents see of it is `search.past`.
"""

from .choosing import choose
from .keeper import Keeper
from .records import RunRecord, feeds_hash, graph_hash, weights_hash
from .store import History, history_path

__all__ = ["History", "Keeper", "RunRecord", "choose", "feeds_hash", "graph_hash", "history_path", "weights_hash"]
