"""The loop of a search: rounds of several plans, candidates that fail, and that a resumed search goes on exactly."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from rich.console import Console

from ortrim.compressor.progress import SearchProgress
from ortrim.compressor.search import agents
from ortrim.compressor.search.agents.registry import BUILT_IN
from ortrim.compressor.search.evaluation import MOST_FAILURES, Evaluator, search
from ortrim.compressor.search.meter import Quick
from ortrim.compressor.search.scoring import Failed, Scored
from ortrim.compressor.search.space import Choice, Space
from ortrim.compressor.search.trials import Trials
from ortrim.errors import DeviceError, JobError, ModelError, RunError

TARGET = 0.5
EPISODES = 8
AVAILABLE = sorted(name for name in BUILT_IN if name != "bocr" or find_spec("botorch"))


class Table:
    """Says of every plan that it takes more of the original's latency than it does, by so much."""

    def __init__(self, off=0.3):
        self.off = off

    def ratio(self, widths):
        return truth(widths) + self.off


def truth(widths):
    return 0.25 + 0.75 * sum(widths.values()) / (6 * 32)


CHOICES = tuple(Choice(f"g{i}", 32, (4, 8, 16, 24, 32), {"c_in": 8.0 * (i + 1)}) for i in range(6))
DAMAGE = {c.group: {w: (1 + i) / 20 * (1 - w / 32) ** 2 for w in c.widths} for i, c in enumerate(CHOICES)}
OFF = Space(CHOICES, Table(), TARGET, DAMAGE)
SPACE = replace(OFF, latency=Table(0.0))


class FakeWorkers:
    """Scores by a formula, so many at a time; notes the rounds."""

    maker = None

    def __init__(self, jobs=1, failing=lambda plan: False):
        self.jobs, self.failing, self.rounds = jobs, failing, []

    def score(self, plans):
        self.rounds.append(len(plans))
        return [
            Failed(ModelError("it cannot be built"))
            if self.failing(plan)
            else Scored(None, score(plan), {"scoring": 1})
            for plan in plans
        ]


def score(plan):
    return 1.0 - sum(DAMAGE[group][width] for group, width in plan.items())


class FakeMeter:
    """A device; `at` gives what happens at the n-th candidate (from 1): an error that is raised, or a ratio."""

    def __init__(self, at=lambda n: None, lost=None):
        self.at, self.lost, self.asked = at, lost, 0

    def quick(self, plan, model, limit=None):
        self.asked += 1
        found = self.at(self.asked)
        if isinstance(found, BaseException):
            raise found
        ratio = truth(plan) if found is None else found
        return Quick(ratio, ratio, ratio, 1.0, ratio)

    def check(self):
        if self.lost is not None:
            raise self.lost


@pytest.fixture
def go(tmp_path):
    """`go(agent's name)`: a search, or what is left of one; gives its record."""
    number = iter(range(1000))

    def run(name, *, jobs=1, meter=None, workers=None, episodes=EPISODES, after=(), space=SPACE):
        agent = agents.create(name, space, episodes, 0)
        with Trials.create(tmp_path / f"{next(number)}.sqlite") as trials:
            trials._connection.execute("PRAGMA synchronous = OFF")  # nobody kills these
            for trial in after:
                if trial.failed:
                    trials.add_failed(trial.plan, trial.seconds)
                else:
                    trials.add(trial.plan, trial.outcome)
            before = list(trials)
            replayed = agents.replay(agent, [(trial.plan, trial.outcome) for trial in before], jobs)
            assert replayed.foreign == 0
            evaluator = Evaluator(None, None, workers or FakeWorkers(jobs), meter or FakeMeter(), trials)
            progress = SearchProgress(episodes, console=Console(quiet=True))
            raised = None
            try:
                search(agent, evaluator, episodes, TARGET, before, progress, pending=replayed.pending)
            except (JobError, ModelError, RunError, SystemExit) as error:
                raised = error
            return list(trials), raised

    return run


def plans(trials):
    return [trial.plan for trial in trials]


@pytest.mark.parametrize("name", [name for name in AVAILABLE if name != "uniform"])
def test_a_search_goes_on_after_a_round_that_the_table_cut_short(go, name):
    """The table says at first that even the narrowest plan misses: there is one plan to ask for, not two."""
    assert OFF.latency.ratio(OFF.narrowest) > TARGET > truth(OFF.narrowest)
    workers = FakeWorkers(2)
    trials, raised = go(name, workers=workers, jobs=2, space=OFF)
    assert raised is None
    assert len(trials) == EPISODES
    assert 2 in workers.rounds


@pytest.mark.parametrize("name", ["knapsack", "random", "uniform", "ortrim"])
def test_a_search_with_short_rounds_is_resumed_exactly(go, name):
    workers = FakeWorkers(3)
    straight, _ = go(name, workers=workers, jobs=3, space=OFF)
    assert workers.rounds[0] == 1
    assert len(straight) == EPISODES or name == "uniform"
    for cut in range(1, len(straight)):
        resumed, _ = go(name, jobs=3, after=straight[:cut], space=OFF)
        assert plans(resumed) == plans(straight), cut


def test_an_agent_that_has_nothing_new_ends_the_search(go):
    trials, raised = go("uniform", episodes=200)
    assert raised is None
    assert 0 < len(trials) < 20


@pytest.mark.parametrize("name", [name for name in AVAILABLE if name != "uniform"])  # which has but two plans here
def test_candidates_that_fail_are_written_down_and_passed_over(go, name):
    """The first two, of which an agent has nothing to go by, and some later ones."""
    failing = {1: ModelError("refused"), 2: DeviceError("took too long"), 5: np.nan, 6: ModelError("refused")}
    trials, raised = go(name, meter=FakeMeter(failing.get))
    assert raised is None
    assert [trial.id for trial in trials if trial.failed] == list(failing)
    assert len(trials) == EPISODES
    assert len({tuple(plan.values()) for plan in plans(trials)}) == len(trials)


def test_three_failures_in_a_row_end_the_search_and_another_goes_on_behind_them(go):
    meter = FakeMeter({n: ModelError(f"refused {n}") for n in (3, 5, 6, 7)}.get)
    trials, raised = go("knapsack", meter=meter)
    assert str(raised) == "refused 7"
    assert [trial.failed for trial in trials] == [n in (3, 5, 6, 7) for n in range(1, 8)]
    assert MOST_FAILURES == 3
    resumed, raised = go("knapsack", after=trials)
    assert raised is None
    assert len(resumed) == EPISODES
    assert resumed[7].plan not in plans(trials)


def test_candidates_that_cannot_be_built_count_alike(go):
    trials, raised = go("random", jobs=2, workers=FakeWorkers(2, lambda plan: True))
    assert str(raised) == "it cannot be built"
    assert [trial.failed for trial in trials] == [True] * MOST_FAILURES
    trials, raised = go("random", workers=FakeWorkers(1, lambda plan: True), episodes=2)  # all that there are
    assert len(trials) == 2
    assert raised is not None


def test_a_lost_device_ends_the_search_at_once(go):
    """It is no fault of the candidate, which is tried again when the search goes on."""
    gone = DeviceError("was lost: --resume when it is back")
    meter = FakeMeter(lambda n: gone if n > 4 else None, lost=DeviceError("cannot be reached"))
    trials, raised = go("knapsack", meter=meter)
    assert raised is gone
    assert [trial.failed for trial in trials] == [False] * 4
    resumed, _ = go("knapsack", after=trials)
    assert plans(resumed) == plans(go("knapsack")[0])


def test_what_was_measured_before_a_kill_is_kept_and_the_round_goes_on_behind_it(go):
    """Of a round of four, scored at a time, two were measured when the process died."""
    meter = FakeMeter({3: SystemExit("killed")}.get)
    cut, _ = go("knapsack", meter=meter, jobs=4)
    assert len(cut) == 2
    workers = FakeWorkers(4)
    resumed, _ = go("knapsack", workers=workers, jobs=4, after=cut)
    assert workers.rounds == [2, 4]
    assert plans(resumed) == plans(go("knapsack", jobs=4)[0])


def test_what_no_candidate_can_be_blamed_for_ends_the_search(go):
    trials, raised = go("knapsack", meter=FakeMeter({2: RunError("no such plan in the run")}.get))
    assert isinstance(raised, RunError)
    assert len(trials) == 1
