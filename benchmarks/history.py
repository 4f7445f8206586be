"""What a history saves: `python benchmarks/history.py [--agent NAME ...]`; it shares the evaluations of `search.py`.

An agent searches a source; then one of its kind searches the target, without and with that past. The gain of a search
is its best score less that of the uniform plan; counted are the evaluations until 98 % of the plain agent's final gain
is reached, and a search that never reaches it counts with all of its evaluations, as a failure. As in `search.py`,
agents see measured ratios with their scatter, and whether a plan met the target is said without it. The same model and
target is memory, not transfer, and a row of its own. A row that is there is not made again: after a change of the
agents, begin without `results/history.json`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import RESULTS, WORK, conditions
from search import Evaluations
from search_nets import Bench

from ortrim.compressor.search.agents import create
from ortrim.compressor.search.agents.base import BudgetAgent
from ortrim.compressor.search.environment import Walk
from ortrim.compressor.search.past import OldTrial, Past, Relation, Source, ahead_of
from ortrim.compressor.search.space import Space

SHARE = 0.98
CASES: dict[str, tuple[str, float, str, float, Relation]] = {
    "another target": ("resnet20", 0.8, "resnet20", 0.6, "target"),
    "another model": ("resnet20", 0.7, "resnet56", 0.7, "model"),
    "the same (memory)": ("resnet20", 0.6, "resnet20", 0.6, "memory"),
}


def search(
    evaluate: Evaluations, space: Space, target: float, agent_name: str, episodes: int, seed: int, past: Past | None
) -> tuple[list[float], tuple[OldTrial, ...]]:
    """Best score after each evaluation, and the trials."""
    agent = create(agent_name, space, episodes, seed)
    assert isinstance(agent, BudgetAgent)
    if past is not None:
        agent.warm(past)
    walk = Walk(agent.budget)
    curve, trials, best = [], [], 0.0
    for _ in range(episodes):
        plan = agent.ask()
        outcome = evaluate(plan)
        agent.tell(plan, outcome)
        best = max(best, outcome.score) if evaluate.bench.expected_ratio(plan) <= target else best
        curve.append(best)
        row = space.row(plan)
        trials.append(OldTrial(row, outcome, ahead_of(walk, row)))
    return curve, tuple(trials)


def evaluations_to(curve: list[float], score: float) -> int | None:
    """How many it took; None if it was never reached."""
    return next((n for n, best in enumerate(curve, start=1) if best >= score), None)


@click.command()
@click.option("--case", "cases", multiple=True, type=click.Choice(list(CASES)), default=tuple(CASES))
@click.option("--agent", "agents", multiple=True, default=("ortrim", "ddpg"))
@click.option("--seed", "seeds", multiple=True, type=int, default=(0, 1, 2, 3, 4))
@click.option("--episodes", default=100)
@click.option("--cifar", type=click.Path(path_type=Path), default=WORK / "cifar", help="folder with train.npz")
def main(cases: tuple[str, ...], agents: tuple[str, ...], seeds: tuple[int, ...], episodes: int, cifar: Path) -> None:
    path = RESULTS / "history.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    known: dict[str, Evaluations] = {}

    def evaluations(net: str) -> Evaluations:
        if net not in known:
            known[net] = Evaluations(Bench(net, cifar, WORK / "search"), WORK / "search" / f"{net}.scores.pickle")
        return known[net]

    for case in cases:
        source_net, source_target, net, target, relation = CASES[case]
        for seed in seeds:
            for agent in agents:
                mark = {"case": case, "agent": agent, "seed": seed, "episodes": episodes}
                if any(all(row[key] == value for key, value in mark.items()) for row in rows):
                    continue
                earlier, evaluate = evaluations(source_net), evaluations(net)
                source_space, space = earlier.bench.space(source_target), evaluate.bench.space(target)
                _, trials = search(earlier, source_space, source_target, agent, episodes, seed + 100, None)
                source = Source(case, relation, source_target, source_space.choices, source_space.damage, trials)
                plain, _ = search(evaluate, space, target, agent, episodes, seed, None)
                warm, _ = search(evaluate, space, target, agent, episodes, seed, Past((source,)))
                uniform = create("uniform", replace(space, target=target), 1, 0).ask()
                start = evaluate(uniform).score
                wanted = start + SHARE * (plain[-1] - start)
                rows.append(
                    {
                        **mark,
                        **{key: conditions()[key] for key in ("date", "cpu")},
                        "uniform": round(start, 4),
                        "plain_best": round(plain[-1], 4),
                        "warm_best": round(warm[-1], 4),
                        "plain_evaluations": evaluations_to(plain, wanted),
                        "warm_evaluations": evaluations_to(warm, wanted),
                        "plain_curve": [round(score, 4) for score in plain],
                        "warm_curve": [round(score, 4) for score in warm],
                    }
                )
                for one in (earlier, evaluate):
                    one.keep()
                text = json.dumps({"conditions": conditions(), "rows": rows}).replace('{"case"', '\n{"case"')
                path.write_text(text + "\n", encoding="utf-8")
    show(rows)


def show(rows: list[dict[str, Any]]) -> None:
    """Medians over the seeds."""
    print("| history from | agent | seeds | plain | with history | times fewer (median) | failures |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for case, agent in dict.fromkeys((row["case"], row["agent"]) for row in rows):
        own = [row for row in rows if (row["case"], row["agent"]) == (case, agent)]
        plain = [row["plain_evaluations"] or row["episodes"] for row in own]
        warm = [row["warm_evaluations"] or row["episodes"] for row in own]
        failures = sum(row["warm_evaluations"] is None for row in own)
        fewer = np.median([a / b for a, b in zip(plain, warm, strict=True)])
        print(f"| {case} | {agent} | {len(own)} | {plain} | {warm} | {fewer:.2f} | {failures} |")


if __name__ == "__main__":
    main()
