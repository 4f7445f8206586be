"""What the agent may choose from, and what a plan takes on the device.

Latency does not depend on the weights. So the table is corrected once, before training, by whole nets that are measured
on the device; from then on plans are predicted, and a run with the same seed and the same figures repeats bit for bit.
No whole net is measured while the net trains. Layers are, where a plan comes up whose layers the table does not know:
of groups that are read together (concatenated, say) there are too many pairs of widths to measure all beforehand. The
figures are kept in the run's own record, so that resuming does not depend on a cache. The plan that is chosen in the
end is measured.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ... import graph
from ...errors import TargetError
from ...runtime import LayerShape, layer_shapes
from ..finalists import SEARCH_MARGIN
from ..recovery import Ranking
from ..search.agents.planner import Planner
from ..search.budget import Budget, Row
from ..search.candidates import build_space
from ..search.correction import Correction
from ..search.meter import Meter
from ..search.space import Space, Widths
from ..target import Target
from .masks import Masks
from .traced import Traced

__all__ = ["CORRECTION", "Offer", "Settled"]

log = logging.getLogger(__name__)

MEASURED = 8
"""Whole nets that correct the table."""
NARROWER = 0.01
"""Share of the target by which a plan that is narrowed is made faster than it seems to need."""
FINAL_MARGIN = 0.02
"""Share of the target that is left free when a plan is chosen: the net that is written is measured once more when the
training is over, on a device that may have other neighbours by then, and there is nothing to exchange it for. Ratios of
one net, measured minutes or hours apart on a shared machine, differ by about this much (ResNet-8: 0.597 and 0.623)."""
CORRECTION = "joint correction"
"""Key of the record under which the correction is kept."""
FINALIST = "joint finalist"
"""Beginning of the keys under which measurements of plans that might be chosen are kept."""


class Record(Protocol):
    """Where figures are written down: a run's trials."""

    def record(self, key: str, value: Any) -> None: ...  # noqa: ANN401 (anything JSON can hold)

    def recall(self, key: str) -> Any: ...  # noqa: ANN401


class Settled(Correction):
    """A correction that learns no more: what it is told are its own predictions."""

    def __init__(self, target: float, shift: float, slope: float, scatter: float) -> None:
        super().__init__(target)
        self.shift, self.slope, self.scatter = shift, slope, scatter

    def observe(self, predicted: float, measured: float) -> None:
        """Nothing: see the module's docstring."""


class Offer:
    """The search space of one net, and latencies of its plans."""

    def __init__(
        self,
        traced: Traced,
        masks: Masks,
        meter: Meter,
        target: Target,
        record: Record,
        seed: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Measure the layers that the table does not know yet, offer widths, and correct the table.

        Args:
            progress: told of groups done and groups in all.

        Raises:
            InputError: the net meets the target as it is.
            NothingToPruneError: no group has a narrower width that is faster.
            TargetError: the narrowest plan would not meet the target.
        """
        self._traced, self._meter, self._record, self._ranking = traced, meter, record, masks.ranking()
        self.baseline_ms = meter.baseline()
        self.target = target.as_ratio(self.baseline_ms)
        self.limit = self.target * (1 - FINAL_MARGIN)
        """What a plan that is chosen may take."""
        prediction = meter.predict(traced.analysis, _shapes(traced))
        aim = self.target * (1 - SEARCH_MARGIN)
        self.space: Space = build_space(
            traced.analysis, masks.groups, prediction, Ranking({}), aim, progress, traced.model
        )
        meter.keep_table()
        line = record.recall(CORRECTION)
        if line is None:
            line = self._measured(seed)
            record.record(CORRECTION, line)
        self.correction = Settled(aim, *line)
        self.budget = Budget(self.space, self.correction)
        if not self.budget.fits(self.budget.narrowest):
            least = self.ratio(self.space.narrowest)
            raise TargetError(
                f"--latency {target} cannot be met: the narrowest net takes about {least:.3f}x on this device"
            )

    def ratio(self, plan: Widths) -> float:
        """What a plan takes, as a share of the whole net: predicted, with the correction."""
        return self.correction.corrected(self.budget.predicted(self.space.row(plan)))

    def measured(self, plan: Widths) -> float:
        """What a plan takes, measured as well as a report claims; once in a run, however often it is resumed."""
        key = f"{FINALIST} {json.dumps(dict(plan), sort_keys=True)}"
        known = self._record.recall(key)
        if known is None:
            known = self._meter.final(plan, self._slim(plan)).value
            self._record.record(key, known)
        return float(known)

    def keep(self) -> None:
        """Write down what was measured of layers, so that it is the same when the run is resumed."""
        self._meter.keep_table()

    def missed(self, plan: Widths, measured: float) -> None:
        """A plan that was thought to be fast enough is slower: the correction, too hopeful, is moved by as much."""
        self.correction.shift += max(measured - self.ratio(plan), 0.0)

    def narrowed(self, plan: Widths) -> dict[str, int]:
        """A plan near one that is too slow, which leaves more of the target free every time."""
        self.correction.shift += NARROWER * self.target
        planner = Planner(Budget(self.space, self.correction), np.random.default_rng(0))
        index = planner.index(self.space.row(plan))
        return self.space.plan(planner.settle(index, planner.rates, np.ones(len(index), dtype=bool)))

    def _measured(self, seed: int) -> tuple[float, float, float]:
        """Shift, slope and scatter of a correction, from plans that come nearer to the target as it learns."""
        budget = Budget(self.space)
        planner = Planner(budget, np.random.default_rng(seed))
        known: set[Row] = set()
        for number in range(MEASURED):
            row = planner.uniform() if number == 0 else planner.random()
            if row in known:
                continue
            known.add(row)
            plan = self.space.plan(row)
            found = self._meter.quick(plan, self._slim(plan))
            if math.isfinite(found.ratio):
                budget.observe(row, found.ratio)
        found = budget.correction
        log.info("table corrected by %d nets: shift %.4f, scatter %.4f", len(known), found.shift, found.scatter)
        return found.shift, found.slope, found.scatter

    def _slim(self, plan: Widths) -> Any:  # noqa: ANN401 (onnx.ModelProto)
        """The net at a plan's widths; which channels go does not matter to its latency."""
        return graph.slim(self._traced.model, self._ranking.removal(plan), analysis=self._traced.analysis)


def _shapes(traced: Traced) -> dict[str, LayerShape]:
    graph_inputs = traced.model.graph.input
    sizes = {
        value.name: (1, *(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:])) for value in graph_inputs
    }
    return dict(layer_shapes(traced.model, sizes))
