"""Learners on the gymnasium environment, as agents."""

import numpy as np
import pytest

from ortrim.compressor.search import agents
from ortrim.compressor.search.agents import LearnerAgent
from ortrim.compressor.search.agents.learner import REPEATS
from ortrim.errors import JobError


class Climber(LearnerAgent):
    """Keeps the actions that did best, and tries others near them."""

    def train(self, env):
        rng = np.random.default_rng(self.seed)
        best, most = np.full(env.walk.steps, 0.7), -np.inf
        self.heard = []
        while True:
            tried = np.clip(best + rng.normal(scale=0.15, size=len(best)), 0.0, 1.0)
            env.reset()
            for action in tried:
                *_, reward, _, _, info = env.step(np.array([action]))
            self.heard.append((info["plan"], info["outcome"]))
            if reward > most:
                best, most = tried, reward


class Stubborn(LearnerAgent):
    """Tries one plan, again and again."""

    given = None

    def train(self, env):
        self.given = []
        while True:
            env.reset()
            for _ in range(env.walk.steps):
                *_, info = env.step(np.array([0.5]))
            self.given.append((tuple(info["plan"].values()), info["outcome"].score))


class Quits(LearnerAgent):
    """Two episodes, and then it ends: well or not."""

    fails = False

    def train(self, env):
        for action in (0.4, 0.6):
            env.reset()
            for _ in range(env.walk.steps):
                env.step(np.array([action]))
        if self.fails:
            raise ZeroDivisionError("of the learner's own")


def searched(agent, problem, episodes):
    plans = []
    for _ in range(episodes):
        plans.append(agent.ask())
        agent.tell(plans[-1], problem.evaluate(plans[-1]))
    return plans


def test_it_hears_what_came_of_each_of_its_plans(problem):
    made = problem(groups=6)
    agent = Climber(made.space, 30, 0)
    told = []
    for _ in range(30):
        plan = agent.ask()
        told.append((plan, made.evaluate(plan)))
        agent.tell(*told[-1])
    agent.ask()  # it has come as far as its next plan
    assert len(agent.heard) >= 30
    assert [pair for pair in agent.heard if pair in told] == agent.heard
    assert agent.best[1].score == max(outcome.score for _, outcome in told if outcome.ratio <= made.space.target)


def test_the_same_seed_gives_the_same_plans_and_a_search_goes_on_after_a_kill(problem):
    first, second = problem(groups=4), problem(groups=4)
    plans = searched(Climber(first.space, 40, 3), first, 20)
    fresh = Climber(second.space, 40, 3)
    replayed = agents.replay(fresh, [(plan, second.evaluate(plan)) for plan in plans[:12]])
    assert replayed.foreign == 0
    assert searched(fresh, second, 8) == plans[12:]


def test_a_plan_is_never_evaluated_twice_and_a_learner_that_repeats_itself_gets_its_outcome(problem):
    made = problem(groups=4)
    agent = Stubborn(made.space, 10, 0)
    plans = searched(agent, made, 5)
    assert len({tuple(plan.values()) for plan in plans}) == 5
    assert len(agent.given) > 3 * REPEATS
    # Its own plan's, whatever was tried in its place. (The walls move with the table: there may be two such plans.)
    assert len(set(agent.given)) == len({plan for plan, _ in agent.given}) < 5


def test_asked_again_before_it_is_told(problem):
    made = problem(groups=4)
    agent = Climber(made.space, 20, 0)
    first, second = agent.ask(), agent.ask()
    assert first != second
    agent.tell(second, made.evaluate(second))
    agent.tell(first, made.evaluate(first))
    assert agent.ask() not in (first, second)


def test_when_the_learner_has_ended_the_best_plan_is_changed(problem):
    made = problem(groups=4)
    assert len({tuple(plan.values()) for plan in searched(Quits(made.space, 10, 0), made, 10)}) == 10


def test_its_failure_ends_the_search(problem):
    made = problem(groups=4)
    agent = Quits(made.space, 10, 0)
    agent.fails = True
    with pytest.raises(JobError, match=r"Quits.*ZeroDivisionError: of the learner's own"):
        searched(agent, made, 10)
