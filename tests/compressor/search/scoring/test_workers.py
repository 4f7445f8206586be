"""Scoring in other processes gives what scoring here gives, and survives the death of a worker."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from ortrim.compressor.data import InputSpec
from ortrim.compressor.data.dataset import Dataset, TensorColumn
from ortrim.compressor.recovery import Corrector, OutputDeviation, gather, rank
from ortrim.compressor.score import Scorer
from ortrim.compressor.search.scoring import Failed, Here, Maker, Processes, open_workers
from ortrim.errors import JobError, ModelError, OrtrimError, PlanError
from ortrim.graph import analyze
from ortrim.runtime import Device


@pytest.fixture(scope="module")
def maker(residual, images):
    analysis = analyze(residual)
    moments = gather(residual, analysis, images[:48])
    correct = Corrector(residual, analysis, moments, images[:48], samples=32, threads=1)
    spec = InputSpec.from_model(residual)
    dataset = Dataset(spec, {"x": TensorColumn(images[48:], spec.inputs[0])}, None, "arrays")
    scorer = Scorer.build(residual, dataset, Device("cpu", threads=1))
    deviation = OutputDeviation(residual, images[48:], threads=1)
    return Maker(rank(residual, analysis, moments=moments), correct, scorer, deviation=deviation)


@pytest.fixture(scope="module")
def plans(residual):
    groups = analyze(residual).groups
    return [{group.name: max(1, group.size - cut) for group in groups} for cut in (1, 3, 5, 2, 4)]


@dataclass(frozen=True)
class Mortal:
    """A maker whose process is killed at a plan, so many times in all."""

    maker: Maker
    at: dict[str, int]
    deaths: int
    folder: Path

    def __call__(self, plan):
        died = len(list(self.folder.iterdir()))
        if plan == self.at and died < self.deaths:
            (self.folder / str(died)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.maker(plan)

    def error(self, plan):
        return self.maker.error(plan)


def same(found, wanted):
    assert [scored.score for scored in found] == pytest.approx([scored.score for scored in wanted], abs=1e-5)
    for a, b in zip(found, wanted, strict=True):
        assert [tuple(t.dims) for t in a.model.graph.initializer] == [tuple(t.dims) for t in b.model.graph.initializer]
        assert set(a.spent) == set(b.spent) == {"slimming and refitting", "scoring"}


def test_one_job_is_this_process(maker):
    workers = open_workers(lambda threads: maker, 1, None, 2)
    assert isinstance(workers, Here)


def test_processes_score_as_this_process_does_and_in_order(maker, plans):
    here = Here(maker).score(plans)
    assert len({round(scored.score, 4) for scored in here}) > 2
    before = dict(os.environ)
    pool = Processes(maker, 2)
    try:
        same(pool.score(plans), here)
        assert pool.errors(plans) == pytest.approx(Here(maker).errors(plans), rel=1e-4)
    finally:
        pool.close()
    assert dict(os.environ) == before


def test_a_process_that_dies_is_replaced(maker, plans, tmp_path):
    pool = Processes(Mortal(maker, plans[2], 1, tmp_path), 2)
    try:
        same(pool.score(plans), Here(maker).score(plans))
        assert len(list(tmp_path.iterdir())) == 1
    finally:
        pool.close()


def test_processes_that_die_again_and_again_end_the_job(maker, plans, tmp_path):
    pool = Processes(Mortal(maker, plans[0], 99, tmp_path), 2)
    with pytest.raises(JobError, match="--jobs than 2"):
        pool.score(plans[:1])
    pool.close()


SEARCH = """
import os, sys, time
from pathlib import Path
from ortrim.compressor.search.scoring import Processes

class Telling:
    def __call__(self, plan):
        folder = Path(sys.argv[1])
        (folder / f"{os.getpid()}.pid").touch()
        while len(list(folder.glob("*.pid"))) < 2:  # so that neither process does both
            time.sleep(0.05)
        return os.getpid()

if __name__ == "__main__":
    pool = Processes(Telling(), 2)
    print(*pool.score([{}, {}]), flush=True)
    time.sleep(60)
"""


def lives(pid):
    """Whether the process runs; one that has ended may wait to be asked for its exit status."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks at processes through /proc")
def test_processes_end_with_the_search_that_was_killed(tmp_path):
    script = tmp_path / "search.py"
    script.write_text(SEARCH)
    search = subprocess.Popen([sys.executable, script, tmp_path], stdout=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in search.stdout.readline().split()]
    assert len(set(workers)) == 2
    assert all(map(lives, workers))
    search.kill()
    search.wait()
    deadline = time.monotonic() + 20
    while any(map(lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(lives, workers))


UNGUARDED = """
from ortrim.compressor.search.scoring import Processes
from ortrim.errors import JobError

class Large:
    def __init__(self):
        self.weights = bytes(2**20)  # more than a pipe holds

try:
    Processes(Large(), 2).score([{}])
except JobError as error:
    print(error)
"""


def test_a_script_that_every_process_would_run_again_is_told(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(UNGUARDED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=True)
    assert 'below `if __name__ == "__main__":` where it asks for 2 jobs' in done.stdout


def test_an_error_of_a_candidate_is_raised_here(maker):
    pool = Processes(maker, 2)
    try:
        with pytest.raises(PlanError, match="'nowhere'"):
            pool.score([{"nowhere": 3}])
    finally:
        pool.close()


class Everything:
    """A ranking that removes anything."""

    def removal(self, plan):
        return {}


def refused(removal):
    raise ModelError("this one cannot be built")


def singular(removal):
    raise np.linalg.LinAlgError("Singular matrix")


@pytest.mark.parametrize(("correct", "said"), [(refused, "this one cannot be built"), (singular, "Singular matrix")])
def test_a_candidate_that_cannot_be_built_leaves_the_others(maker, plans, correct, said):
    (failed,) = Here(replace(maker, correct=correct)).score(plans[:1])
    assert isinstance(failed, Failed)
    assert said in str(failed.error)
    assert isinstance(failed.error, OrtrimError)


def test_a_net_without_an_error_is_named(maker):
    with pytest.raises(JobError, match="group 'a' at 3 cannot be refitted: Singular matrix"):
        Here(replace(maker, ranking=Everything(), correct=singular)).errors([{"a": 3}])


def test_so_it_does_in_another_process(maker, plans):
    pool = Processes(replace(maker, correct=refused), 2)
    try:
        assert [str(failed.error) for failed in pool.score(plans[:2])] == ["this one cannot be built"] * 2
    finally:
        pool.close()


@pytest.mark.slow
def test_a_cluster_of_two_goes_on_when_one_worker_is_killed(maker, plans, tmp_path):
    pytest.importorskip("ray")
    workers = open_workers(lambda threads: Mortal(maker, plans[2], 1, tmp_path), 2, "local", 2)
    try:
        same(workers.score(plans), Here(maker).score(plans))
        assert len(list(tmp_path.iterdir())) == 1
        assert workers.errors(plans) == pytest.approx(Here(maker).errors(plans), rel=1e-4)
    finally:
        workers.close()


def test_a_cluster_that_is_not_there_is_named(maker):
    pytest.importorskip("ray")
    with pytest.raises(JobError, match=r"--ray 127.0.0.1:1: "):
        open_workers(lambda threads: maker, 2, "127.0.0.1:1", 2)
