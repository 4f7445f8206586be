"""The loop: an epoch of the weights, then some episodes of the agent, again and again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from ...errors import TargetError
from ...graph.torch_module import OnnxModule
from ..parallel import World
from ..search.reward import better
from ..search.space import Outcome, Widths
from ..search.trials import Trials
from . import checkpoint
from .judge import Judge
from .masks import Masks, Removal
from .offer import FINAL_MARGIN, Offer
from .policy import Policy
from .schedule import Phase, Schedule
from .settings import Settings
from .weights import Weights

__all__ = ["Chosen", "Epoch", "Search", "Trainer", "follow"]

log = logging.getLogger(__name__)

MOST_NARROWED = 4
"""How often the best plan of the last epoch is made narrower, where none meets the target when it is measured."""


@dataclass(frozen=True)
class Epoch:
    """What an epoch brought; a row of the history."""

    epoch: int
    """From 1."""
    phase: str
    rate: float
    loss: float
    training_accuracy: float
    accuracy: float
    """Of the net as it is, on held-out images."""
    penalty: float = 0.0
    """Norm of the weights that are drawn to 0."""
    reward: float | None = None
    """Of the best plan in this epoch."""
    mean_reward: float | None = None
    """Over the plans that the agent asked for in this epoch."""
    ratio: float | None = None
    """Predicted latency of the best plan, as a share of the whole net's."""
    expected_error: float | None = None
    """Mean squared error of the rewards that the representation expected before it saw them."""
    decoder_error: float | None = None
    """The same after it had learned from them, over all rewards so far."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Chosen:
    """The plan that the net ends with."""

    plan: dict[str, int]
    removal: dict[str, tuple[int, ...]]
    reward: float
    """When it was chosen."""
    whole: float
    """Of the whole net at that time, in the same way."""
    epoch: int
    """From 1."""
    latency: float
    """Measured when it was chosen, as a share of the whole net's."""


@dataclass(frozen=True)
class Search:
    """What a training needs in order to prune."""

    masks: Masks
    offer: Offer
    policy: Policy
    trials: Trials


class Trainer:
    """Trains one module; `search` is None for a net that is trained normally."""

    def __init__(
        self,
        module: OnnxModule,
        weights: Weights,
        judge: Judge,
        settings: Settings,
        search: Search | None,
        world: World,
        progress: Callable[[int, float], None] | None = None,
    ) -> None:
        self.module, self.weights, self.judge, self.settings, self.search = module, weights, judge, settings, search
        self.schedule = Schedule.of(settings)
        self._world = world
        self.done = 0
        """Epochs that are behind."""
        self.history: list[Epoch] = []
        self.best: dict[str, int] | None = None
        """The best plan so far."""
        self.chosen: Chosen | None = None
        self.agent_seconds = 0.0
        self._latest: list[tuple[dict[str, int], Outcome]] = []
        self._evaluated = 0
        self._progress = progress or (lambda epoch, share: None)

    def epochs(self) -> Iterator[Epoch]:
        """Train until the schedule ends; hands out each epoch when it is over.

        Raises:
            TargetError: no plan meets the target when it is measured.
            JobError: the loss is no longer a number.
        """
        self._world.share(checkpoint.pack(self.weights.state()) if self._world.size > 1 else None)
        while self.done < self.settings.epochs:
            yield self._epoch(self.done)
        self._world.share(None)

    def _epoch(self, number: int) -> Epoch:
        started = time.perf_counter()
        phase, rate = self.schedule.phase(number), self.schedule.rate_at(number)
        if phase is Phase.WEIGHTS and self.search is not None and self.chosen is None:
            self.chosen = self._choose(self.search)
            log.info("epoch %d: chose a plan with reward %.4f", number + 1, self.chosen.reward)
        what = {
            "number": number,
            "rate": rate,
            "aligned": self._drawn_to(phase),
            "off": self.chosen.removal if self.chosen is not None and self.settings.hard else None,
        }
        learned = self.weights.epoch(
            **self._world.share(what),
            masks=None if self.search is None else self.search.masks,
            progress=lambda share: self._progress(number, share),
        )
        accuracy = self.judge.accuracy()
        facts: dict[str, Any] = {}
        if self.search is not None:
            if phase in (Phase.FILL, Phase.JOINT):
                facts = self._episodes(self.search, number)
            elif self.chosen is not None:
                # A net whose other channels are off already is its own sub-network.
                reward = accuracy if self.settings.hard else self.judge.reward(self.chosen.removal)
                facts = {"reward": reward, "ratio": self.chosen.latency}
        self.done = number + 1
        row = Epoch(
            self.done,
            phase.value,
            rate,
            learned.loss,
            learned.accuracy,
            accuracy,
            learned.penalty,
            **facts,
            seconds=time.perf_counter() - started,
        )
        self.history.append(row)
        return row

    # -- the weights' view of the agent ------------------------------------------------------------------------------

    def _drawn_to(self, phase: Phase) -> Removal | None:
        """The units that the weights are drawn away from, in this epoch."""
        if self.search is None or not self.settings.alignment or self.settings.beta == 0:
            return None
        if self.chosen is not None:
            return self.chosen.removal
        if phase is Phase.JOINT and self.best is not None:
            return self.search.masks.ranking().removal(self.best)
        return None

    # -- the agent's view of the weights -----------------------------------------------------------------------------

    def _episodes(self, search: Search, number: int) -> dict[str, Any]:
        """The best plan so far again, since its reward is of weights that are gone; then the agent's plans."""
        started = time.perf_counter()
        ranking = search.masks.ranking()
        search.policy.begin(number)
        tried: list[tuple[dict[str, int], Outcome]] = []
        surprises: list[float] = []
        for plan in self._plans(search):
            began = time.perf_counter()
            score = self.judge.reward(ranking.removal(plan))
            outcome = Outcome(score, search.offer.ratio(plan), time.perf_counter() - began)
            surprise = search.policy.tell(plan, outcome)
            if surprise is not None:
                surprises.append(surprise)
            tried.append((plan, outcome))
            self._write_down(search.trials, plan, outcome)
        error = search.policy.learn()
        again = 0 if self.best is None else 1
        winner = self._winner(search, tried)
        self.best, self._latest = winner[0], tried
        self.agent_seconds += time.perf_counter() - started
        asked = [outcome.score for _, outcome in tried[again:]]
        return {
            "reward": winner[1].score,
            "mean_reward": sum(asked) / len(asked),
            "ratio": winner[1].ratio,
            "expected_error": sum(surprises) / len(surprises) if surprises else None,
            "decoder_error": error,
        }

    def _plans(self, search: Search) -> Iterator[dict[str, int]]:
        """Plans to try in an epoch; each is asked for when the one before is known."""
        if self.best is not None:
            yield self.best
        for _ in range(self.settings.episodes):
            yield search.policy.ask()

    def _winner(self, search: Search, tried: list[tuple[dict[str, int], Outcome]]) -> tuple[dict[str, int], Outcome]:
        best = tried[0]
        for plan, outcome in tried[1:]:
            if better(outcome, best[1], search.offer.space.target):
                best = (plan, outcome)
        return best

    def _write_down(self, trials: Trials, plan: Widths, outcome: Outcome) -> None:
        """A trial, unless it was written before a kill whose epoch is now repeated."""
        self._evaluated += 1
        if self._evaluated > len(trials):
            if self.search is not None:
                self.search.offer.keep()  # the epoch may be repeated: then its plans must take as long as they did
            trials.add(plan, outcome)

    def _choose(self, search: Search) -> Chosen:
        """The best plan of the last epoch that meets the target when measured; else one narrowed until it does.

        It has to meet it with a margin, for the net that is written is measured again and cannot be exchanged then.
        Every miss corrects what is expected of the others: those that would miss as well are not measured.
        """
        offer = search.offer
        order = sorted(self._latest, key=lambda item: (-item[1].score, item[1].ratio))
        left = list({offer.space.row(plan): plan for plan, _ in order}.values())
        best, narrowed, fastest = left[0], 0, float("inf")
        while narrowed < MOST_NARROWED:
            plan = next((plan for plan in left if offer.ratio(plan) <= offer.limit), None)
            if plan is None:
                plan, narrowed = offer.narrowed(best), narrowed + 1
            else:
                left.remove(plan)
            expected, found = offer.ratio(plan), offer.measured(plan)
            log.info("plan measured at %.4f, predicted at %.4f", found, expected)
            if found <= offer.limit:
                return self._chosen(search, plan, found)
            offer.missed(plan, found)
            fastest = min(fastest, found)
        raise TargetError(
            f"--latency {offer.target:.3g}x is not met by any plan of the last epoch, nor by narrower ones, with "
            f"{FINAL_MARGIN:.1%} to spare: the fastest was measured at {fastest:.3f}x"
        )

    def _chosen(self, search: Search, plan: dict[str, int], latency: float) -> Chosen:
        removal = search.masks.ranking().removal(plan)
        self.best = plan
        return Chosen(plan, removal, self.judge.reward(removal), self.judge.reward({}), self.done, latency)

    # -- what is kept ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that decides how it goes on."""
        chosen = None
        if self.chosen is not None:
            chosen = {**asdict(self.chosen), "removal": {k: list(v) for k, v in self.chosen.removal.items()}}
        return {
            "done": self.done,
            "history": [asdict(row) for row in self.history],
            "best": self.best,
            "chosen": chosen,
            "latest": [[plan, outcome.score, outcome.ratio] for plan, outcome in self._latest],
            "evaluated": self._evaluated,
            "agent_seconds": self.agent_seconds,
            "weights": self.weights.state(),
            "policy": None if self.search is None else self.search.policy.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.done, self.best, self._evaluated = state["done"], state["best"], state["evaluated"]
        self.agent_seconds = state["agent_seconds"]
        known = {item.name for item in fields(Epoch)}
        self.history = [Epoch(**{k: v for k, v in row.items() if k in known}) for row in state["history"]]
        self._latest = [(plan, Outcome(score, ratio)) for plan, score, ratio in state["latest"]]
        if state["chosen"] is not None:
            removal = {name: tuple(units) for name, units in state["chosen"]["removal"].items()}
            self.chosen = Chosen(**{**state["chosen"], "removal": removal})
        self.weights.restore(state["weights"])
        if self.search is not None:
            self.search.policy.restore(state["policy"])


def follow(world: World, weights: Weights, masks: Masks | None) -> None:
    """Train as the leader says, until it has no more to do."""
    weights.restore(checkpoint.unpack(world.share(), world.device))
    while (what := world.share()) is not None:
        weights.epoch(**what, masks=masks)
