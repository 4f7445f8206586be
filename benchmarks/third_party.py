"""Other people's graphs to 0.8x on any images: `python benchmarks/third_party.py [--episodes N]`.

They differ in size, so a small set of images does for all: the point is that each goes through and comes out faster.
"""

from __future__ import annotations

import click
from common import WORK, Recovery, compress_on_photographs, outcome, recovery_options, store

NETS = {
    "ultraface_slim_320": ("--scale", "0.0078125", "--offset", "-0.9921875"),
    "yunet_n_320": ("--scale", "1", "--offset", "0"),
    "espnet_camvid_360x480": (),
    "winml_cifar_classifier": ("--scale", "1", "--offset", "0"),
}


@click.command()
@click.option("--latency", default="0.8x")
@click.option("--episodes", default=24)
@click.option("--images", "count", default=120, help="how many of the calibration images are used")
@click.option("--calibration", default=60)
@click.option("--seed", default=0)
@click.argument("nets", nargs=-1)
@recovery_options
def main(
    latency: str, episodes: int, count: int, calibration: int, seed: int, nets: tuple[str, ...], recovery: Recovery
) -> None:
    rows = []
    for net in nets or NETS:
        found = compress_on_photographs(
            net,
            NETS.get(net, ()),
            WORK / f"{net}_{latency}{recovery.name}",
            latency=latency,
            episodes=episodes,
            count=count,
            calibration=calibration,
            seed=seed,
            recovery=recovery,
        )
        rows.append({"net": net, "target": latency, "steps": recovery.steps, **outcome(found)})
        store(f"third_party{recovery.name}", rows)


if __name__ == "__main__":
    main()
