"""Table and pictures of `search.py`: best score against evaluations, mean and spread over the seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["report"]

AT = (20, 50, 100, 300)
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 920, 460, 64, 44, 16, 170
COLOURS = (
    "#0a6c9b",
    "#b0520b",
    "#17693f",
    "#7b3fa0",
    "#a52a2a",
    "#5b6875",
    "#b8860b",
    "#008b8b",
    "#c71585",
    "#3d3d3d",
    "#8fbc4a",
    "#5f9ea0",
)
"""As many as there are agents; more would share some."""


def report(runs: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Print a table of each net and write a picture of each to `folder`."""
    by_net: dict[tuple[str, int], dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        by_net[run["net"], run["episodes"]][run["agent"]].append(run)
    for (net, episodes), of_agents in sorted(by_net.items()):
        print(f"\n{net}, {episodes} evaluations: best score, mean ± spread of the seeds")
        at = [n for n in AT if n <= episodes]
        print("| agent | seeds | " + " | ".join(f"after {n}" for n in at) + " | agent, s | evaluations, s |")
        print("| --- " * (len(at) + 4) + "|")
        curves = {agent: _curves(of, episodes) for agent, of in of_agents.items()}
        for agent, curve in sorted(curves.items(), key=lambda item: -float(item[1][:, -1].mean())):
            cells = [f"{curve[:, n - 1].mean():.4f} ± {_spread(curve[:, n - 1]):.4f}" for n in at]
            seconds = [
                np.mean([run[key] for run in of_agents[agent]]) for key in ("agent_seconds", "evaluation_seconds")
            ]
            print(f"| {agent} | {len(curve)} | " + " | ".join(cells) + f" | {seconds[0]:.1f} | {seconds[1]:.0f} |")
        (folder / f"search_{net}_{episodes}.svg").write_text(_picture(curves), encoding="utf-8")


def _curves(runs: Sequence[Mapping[str, Any]], episodes: int) -> np.ndarray:
    """Best scores (seeds, episodes); an agent that stopped early keeps its last."""
    return np.array([[*run["curve"], *[run["curve"][-1]] * (episodes - len(run["curve"]))] for run in runs])


def _spread(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _picture(curves: Mapping[str, np.ndarray]) -> str:
    """Mean curves with a band of one standard deviation, as SVG."""
    last = max(curve.shape[1] for curve in curves.values())
    means = {agent: curve.mean(axis=0) for agent, curve in curves.items()}
    high = max(float(mean.max()) for mean in means.values()) + 0.003
    low = max(0.0, float(np.median([mean[min(9, last - 1)] for mean in means.values()])) - 0.02)

    def x(n: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * n / last

    def y(score: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (np.clip(score, low, high) - low) / (high - low))

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    ]
    for score in np.linspace(low, high, 6):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(score):.1f}" y2="{y(score):.1f}" stroke="#e2e6ea"/>'
        )
        parts.append(f'<text x="{LEFT - 8}" y="{y(score) + 4:.1f}" text-anchor="end">{score:.3f}</text>')
    parts += [
        f'<text x="{x(n):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{n:.0f}</text>'
        for n in np.linspace(0, last, 6)
    ]
    parts.append(f'<text x="{x(last / 2):.1f}" y="{HEIGHT - 6}" text-anchor="middle">evaluations</text>')
    parts.append(f'<text x="8" y="{HEIGHT - 6}">best score of a net that meets the target</text>')
    order = sorted(means, key=lambda agent: -float(means[agent][-1]))
    for number, agent in enumerate(order):
        colour, mean = COLOURS[number % len(COLOURS)], means[agent]
        band = np.array([_spread(column) for column in curves[agent].T])
        above = [(x(n + 1), y(score)) for n, score in enumerate(mean + band)]
        below = [(x(n + 1), y(score)) for n, score in enumerate(mean - band)]
        corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in [*above, *reversed(below)])
        parts.append(f'<polygon points="{corners}" fill="{colour}" fill-opacity="0.10"/>')
        points = " ".join(f"{x(n + 1):.1f},{y(score):.1f}" for n, score in enumerate(mean))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts.append(f'<rect x="{WIDTH - RIGHT + 12}" y="{TOP + 20 * number}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 30}" y="{TOP + 20 * number + 11}">{agent} {mean[-1]:.4f}</text>')
    return "\n".join([*parts, "</svg>\n"])
