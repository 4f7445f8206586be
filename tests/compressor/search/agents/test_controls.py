"""The controls: each does the one thing that it stands for."""

import numpy as np

from ortrim.compressor.search import agents


def search(name, problem, episodes):
    agent = agents.create(name, problem.space, episodes, seed=0)
    trials = []
    while len(trials) < episodes and not (trials and agent.exhausted):
        plan = agent.ask()
        trials.append((plan, problem.evaluate(plan)))
        agent.tell(*trials[-1])
    return agent, trials


def test_uniform_ends_at_the_widest_share_that_meets_the_target(problem):
    case = problem(4)
    agent, trials = search("uniform", case, 60)
    assert agent.exhausted
    assert len(trials) < 30
    rows = agent.planner.uniform_rows
    met = [row for row in rows if case.true_ratio(case.space.plan(row)) <= case.space.target]
    # Measured with 0.7 % noise: within a few roundings of the truth.
    assert abs(rows.index(agent.best[0]) - rows.index(met[-1])) <= 3
    assert all(tuple(plan.values()) in rows for plan, _ in trials)


def test_random_plans_do_not_depend_on_the_score(problem):
    first, second = problem(5), problem(5)
    second.damage = second.damage[::-1].copy()
    plans = [[plan for plan, _ in search("random", case, 15)[1]] for case in (first, second)]
    assert plans[0] == plans[1]


def test_knapsack_starts_at_the_tables_solution_and_never_loses_its_best(problem):
    case = problem(6)
    agent, trials = search("knapsack", case, 80)
    knapsack = agents.create("knapsack", case.space, 80, seed=0).planner.knapsack(np.ones(30))
    assert tuple(trials[0][0].values()) == knapsack
    met = [outcome.score for _, outcome in trials if outcome.ratio <= case.space.target]
    assert agent.best[1].score == max(met)
    assert max(met) > met[0] + 0.01
