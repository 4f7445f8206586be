"""Agents compared on equal terms: `python benchmarks/search.py [--net NAME] [--agent NAME ...]`.

All agents and seeds see the same space, table and hints. A plan's score is that of the search after the correction that
candidates get; it is worked out once, whoever asks. Its ratio is the table's on a line that was fitted to measured
plans, with the scatter that the measurements had about that line, drawn from the plan itself: so agents face wrong and
noisy predictions, as on a device, and two of them that ask for one plan are told the same.

Stored are the best score after each evaluation of what met the target, and seconds. Whether a plan met it is said
without the scatter: `compress` measures its finalists thoroughly, so luck with a quick measurement is worth nothing.
`--report` makes table and pictures of what is stored.
"""

from __future__ import annotations

import json
import pickle
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import RESULTS, WORK, conditions
from search_nets import NETS, Bench
from search_report import report

from ortrim.compressor.search.agents import create, names
from ortrim.compressor.search.space import Outcome, Space


class Evaluations:
    """Outcomes of one net's plans, kept on disk."""

    def __init__(self, bench: Bench, path: Path) -> None:
        self.bench, self.path = bench, path
        self.known: dict[tuple[tuple[str, int], ...], tuple[float, float]] = (
            pickle.loads(path.read_bytes()) if path.exists() else {}
        )
        """Plan -> score, and the seconds that it took."""

    def __call__(self, plan: Mapping[str, int]) -> Outcome:
        key = tuple(sorted(plan.items()))
        if key not in self.known:
            started = time.perf_counter()
            score = self.bench.scorer.mark(self.bench.build(plan)).mark
            self.known[key] = score, time.perf_counter() - started
        score, seconds = self.known[key]
        luck = np.random.default_rng(zlib.crc32(repr(key).encode())).normal()
        return Outcome(score, self.bench.expected_ratio(plan) + self.bench.prepared.error * luck, seconds)

    def keep(self) -> None:
        """Write down what was worked out."""
        part = self.path.with_suffix(".part")
        part.write_bytes(pickle.dumps(self.known))
        part.replace(self.path)


def run(evaluate: Evaluations, space: Space, agent_name: str, episodes: int, seed: int) -> dict[str, Any]:
    """One search: the curve of the best score, and the seconds of the agent and of the evaluations."""
    target = evaluate.bench.net.target
    agent = create(agent_name, space, episodes, seed)
    curve, thinking, working, best = [], 0.0, 0.0, 0.0
    for done in range(episodes):
        if done and agent.exhausted:
            break
        started = time.perf_counter()
        plan = agent.ask()
        thinking += time.perf_counter() - started
        outcome = evaluate(plan)
        working += outcome.seconds
        started = time.perf_counter()
        agent.tell(plan, outcome)
        thinking += time.perf_counter() - started
        best = max(best, outcome.score) if evaluate.bench.expected_ratio(plan) <= target else best
        curve.append(round(best, 5))
    return {
        "net": evaluate.bench.name,
        "agent": agent_name,
        "seed": seed,
        "episodes": episodes,
        "asked": len(curve),
        "agent_seconds": round(thinking, 2),
        "evaluation_seconds": round(working, 2),
        "curve": curve,
        **{key: conditions()[key] for key in ("date", "cpu")},
    }


def stored(path: Path) -> list[dict[str, Any]]:
    """Runs that are there already."""
    return json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two entries are one run."""
    return all(a[key] == b[key] for key in ("net", "agent", "seed", "episodes"))


@click.command()
@click.option("--net", "nets", multiple=True, type=click.Choice(sorted(NETS)), default=("resnet20",))
@click.option("--agent", "agents", multiple=True, default=names())
@click.option("--seed", "seeds", multiple=True, type=int, default=(0, 1, 2, 3, 4))
@click.option("--episodes", default=100, show_default=True)
@click.option("--cifar", type=click.Path(path_type=Path), default=WORK / "cifar", help="folder with train.npz")
@click.option("--report", "only_report", is_flag=True, help="no runs: table and pictures of those that are stored")
def main(
    nets: tuple[str, ...],
    agents: tuple[str, ...],
    seeds: tuple[int, ...],
    episodes: int,
    cifar: Path,
    only_report: bool,
) -> None:
    path = RESULTS / "search.json"
    runs = stored(path)
    for net in () if only_report else nets:
        bench = Bench(net, cifar, WORK / "search")
        evaluate = Evaluations(bench, WORK / "search" / f"{net}.scores.pickle")
        space = bench.space(bench.net.target)
        for seed in seeds:
            for agent in agents:
                made = {"net": net, "agent": agent, "seed": seed, "episodes": episodes}
                if any(same(made, known) for known in runs):
                    continue
                found = run(evaluate, space, agent, episodes, seed)
                evaluate.keep()
                runs.append(found)
                content = {"conditions": conditions(), "runs": runs}
                path.write_text(json.dumps(content, indent=None).replace('{"net"', '\n{"net"') + "\n", encoding="utf-8")
                print(f"{net} {agent} seed {seed}: {found['curve'][-1]:.4f} after {found['asked']}", flush=True)
    report(runs, RESULTS)


if __name__ == "__main__":
    main()
