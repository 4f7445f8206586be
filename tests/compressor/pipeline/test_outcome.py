"""The whole job on a small net: what comes out, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from ortrim.compressor import Target, compress, equivalent, handout
from ortrim.compressor.distill import Settings
from ortrim.compressor.history import History
from ortrim.compressor.search import meter
from ortrim.compressor.search.agents import Agent, register
from ortrim.errors import DeviceError, InputError, NothingToPruneError, OutputError, TargetError
from ortrim.graph import analyze, load, parameters


def test_the_target_is_met_and_the_model_is_smaller(done, model):
    assert done.latency.value <= 0.5
    assert done.report.met
    assert done.report.slim.parameters < done.report.model.parameters
    slim = onnx.load(done.output)
    onnx.checker.check_model(slim, full_check=True)
    assert sum(np.prod(t.dims) for t in slim.graph.initializer) < sum(
        np.prod(t.dims) for t in onnx.load(model).graph.initializer
    )


def test_what_was_found_is_scored_on_images_that_no_candidate_was_compared_on(done, job, folder):
    result = compress(**{**job, "target": Target.parse("0.7x")}, reward=40, run_dir=folder / "judged")
    assert result.report.score.fresh
    assert result.report.score.images == 40  # of 160, with 24 for the correction and 40 for the candidates
    assert not done.report.score.fresh  # all others are taken
    assert done.report.score.images == 136


def test_the_interface_of_the_model_is_kept(done, model):
    before, after = onnx.load(model).graph, onnx.load(done.output).graph
    assert list(after.input) == list(before.input)
    assert list(after.output) == list(before.output)
    assert not {tensor.name for tensor in after.initializer} & {value.name for value in after.input}
    session = onnxruntime.InferenceSession(str(done.output), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        (logits,) = session.run(None, {"image": np.zeros((batch, 3, 16, 16), np.float32)})
        assert logits.shape == (batch, 6)


def test_provenance_is_in_the_header(done):
    header = {item.key: item.value for item in onnx.load(done.output).metadata_props}
    assert json.loads(header["ortrim.plan"]) == done.plan
    assert len(header["ortrim.source_sha256"]) == 64


def test_the_plan_names_groups_of_the_model(done, model):
    sizes = {group.name: group.size for group in analyze(load(model)).groups}
    assert all(0 <= kept <= sizes[name] for name, kept in done.plan.items())
    assert any(kept < sizes[name] for name, kept in done.plan.items())


def test_the_run_directory_holds_what_was_promised(done, job):
    names = {"report.html", "report.json", "trials.sqlite", "slim.onnx", "log.txt"}
    assert names <= {entry.name for entry in done.run_dir.iterdir()}
    report = json.loads((done.run_dir / "report.json").read_text())
    assert report["device"]["spec"] == "cpu:threads=1"
    assert report["target"]["ratio"] == 0.5
    assert report["latency"]["low"] <= report["latency"]["ratio"] <= report["latency"]["high"]
    assert report["score"]["kind"] == "agreement"
    assert report["search"]["episodes"] == job["episodes"]
    assert report["search"]["best_episode"] in range(1, job["episodes"] + 1)
    assert set(report["plan"]) == {group["name"] for group in [{"name": n} for n in report["plan"]]}
    assert {"path", "sha256", "parameters", "macs"} <= set(report["slim"])


def test_a_candidate_that_the_device_refuses_is_passed_over(job, folder, monkeypatch, steady):
    steady(monkeypatch)
    asked, quick = [], meter.LiveMeter.quick

    def refusing(self, plan, model, limit=None):
        asked.append(plan)
        if len(asked) == 2:
            raise DeviceError("the device\nhas no memory for this one")
        return quick(self, plan, model, limit)

    monkeypatch.setattr(meter.LiveMeter, "quick", refusing)
    result = compress(**job, run_dir=folder / "refusing")
    assert len(asked) == 5
    assert any("1 of 5 candidates could not be scored or measured" in note for note in result.report.notes)
    report = json.loads((result.run_dir / "report.json").read_text())
    assert [trial["ratio"] is None for trial in report["trials"]] == [number == 1 for number in range(5)]
    assert "candidate 2 failed: the device has no memory for this one" in (result.run_dir / "log.txt").read_text()
    monkeypatch.undo()
    again = compress(**{**job, "device": f"replay:{result.run_dir}"}, run_dir=folder / "refusing again")
    assert again.plan == result.plan


def test_no_plan_is_taught_that_misses_the_target_in_the_end(job, folder, monkeypatch):
    """Teaching takes longest of all, and changes nothing about the latency."""
    final, tune, events = meter.LiveMeter.final, handout.tune, []

    def missing_once(self, plan, model, *, recovered=False, limit=None):
        found = final(self, plan, model, recovered=recovered)
        if not recovered:
            return replace(found, value=0.4)
        events.append("measured")
        return replace(found, value=0.6 if events == ["measured"] else 0.49)

    def seen(*arguments):
        events.append("taught")
        return tune(*arguments)

    monkeypatch.setattr(meter.LiveMeter, "final", missing_once)
    monkeypatch.setattr(handout, "tune", seen)
    several = {**job, "episodes": 8}  # of which two should come near the target
    result = compress(**several, finetune=Settings(epochs=1, batch=16, evaluations=1), run_dir=folder / "taught")
    assert events == ["measured", "measured", "taught"]
    assert result.latency.value == 0.49


def test_a_front_is_kept_with_its_slowest_target(job, folder, monkeypatch, steady):
    """What is meant for the slower nets misses the last target, and is no failure."""
    steady(monkeypatch)
    monkeypatch.setenv("ORTRIM_HISTORY", str(folder / "front.sqlite"))
    compress(**{**job, "agent": "knapsack"}, front=2, run_dir=folder / "front", output=folder / "front.onnx")
    assert (folder / "front_0.71x.onnx").exists()
    with History.open(folder / "front.sqlite") as history:
        (line,) = history.summaries()
    assert (line.record.target, line.trials) == (0.5**0.5, job["episodes"])
    assert line.record.weights
    assert line.record.images


def test_a_front_in_milliseconds_overwrites_nothing(job, folder, monkeypatch):
    """Its nets have names as soon as the original was measured, and then the search has not begun."""
    taken = folder / "ms_0.71x.onnx"
    taken.write_bytes(b"somebody's")
    monkeypatch.setattr(meter.LiveMeter, "baseline", lambda self: 10.0)
    monkeypatch.setattr("ortrim.compressor.pipeline.search_net", None)
    with pytest.raises(OutputError, match=r"ms_0\.71x\.onnx"):
        compress(**{**job, "target": "5ms"}, front=2, run_dir=folder / "ms", output=folder / "ms.onnx")
    assert taken.read_bytes() == b"somebody's"
    assert not (folder / "ms").exists()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_cheaper_operators_go_all_the_way(job, folder, monkeypatch, steady, small_net, precision):
    """They are searched and written; a run that goes on, and a replay, have them without measuring anew."""
    steady(monkeypatch)
    monkeypatch.setattr(equivalent, "WORTH", -10.0)  # taken whatever is measured
    model, run = small_net(folder / f"prelu_{precision}.onnx", slopes=(0.25, -0.5)), folder / f"prelu {precision}"
    asked = {**job, "model": model, "precision": precision, "target": Target.parse("0.8x")}
    done = compress(**asked, run_dir=run)
    operators = {node.op_type for node in done.model.graph.node}
    assert "Max" in operators
    assert "PRelu" not in operators
    assert any(note.startswith("4 PRelu as 4 Mul, 4 Max") for note in done.report.notes)
    assert done.report.model.parameters == parameters(load(model))
    monkeypatch.setattr(equivalent, "meter_of", None)  # nothing is found out anew
    assert compress(**asked, run_dir=run, resume=True).plan == done.plan
    monkeypatch.undo()
    again = compress(**{**asked, "device": f"replay:{run}"}, run_dir=folder / f"prelu again {precision}")
    assert again.plan == done.plan
    assert "Max" in {node.op_type for node in again.model.graph.node}


def test_ctrl_c_ends_with_the_best_so_far(job, folder, monkeypatch, steady):
    steady(monkeypatch)
    from ortrim.compressor.search.agents import create

    @register("interrupted")
    class Interrupted(Agent):
        """Knapsack, until somebody presses Ctrl-C at the fourth candidate."""

        def __init__(self, space, episodes, seed):
            self.inner = create("knapsack", space, episodes, seed)
            self.asked = 0

        def ask(self):
            self.asked += 1
            if self.asked == 4:
                raise KeyboardInterrupt
            return self.inner.ask()

        def tell(self, plan, outcome):
            self.inner.tell(plan, outcome)

    result = compress(
        **{**job, "agent": "interrupted", "episodes": 50, "correction": "sequential"}, run_dir=folder / "interrupted"
    )
    assert result.report.search.episodes == 3
    assert result.latency.value <= 0.5
    assert any("interrupted" in note for note in result.report.notes)


def test_a_score_that_is_too_low_writes_no_model(done, job, folder):
    settings = {**job, "device": f"replay:{done.run_dir}", "min_score": 1.0}
    assert done.score.value < 1.0
    with pytest.raises(TargetError, match="--min-score"):
        compress(**settings, output=folder / "refused.onnx", run_dir=folder / "refused")
    assert not (folder / "refused.onnx").exists()
    assert not (folder / "refused" / "slim.onnx").exists()


def test_refusals_leave_nothing_behind(job, folder, model):
    target = folder / "nothing.onnx"
    run = folder / "nothing"
    taken = folder / "taken.onnx"
    taken.write_bytes(b"somebody's")
    for change, error in (
        ({"agent": "nobody"}, InputError),
        ({"episodes": 0}, InputError),
        ({"min_score": 90.0}, InputError),
        ({"device": "abacus"}, InputError),
        ({"device": "replay:nowhere"}, InputError),
        ({"keep": ["nothing*"]}, InputError),
        ({"keep": ["*"]}, NothingToPruneError),
        ({"target": "0.0001ms"}, TargetError),
        ({"target": "1000ms"}, InputError),
        ({"output": taken}, OutputError),
        ({"output": model}, OutputError),
    ):
        with pytest.raises(error) as caught:
            compress(**{**job, "output": target, "run_dir": run, **change})
        assert "\n" not in str(caught.value)
        assert not target.exists(), change
        if error is not TargetError:  # a search that found nothing is kept
            assert not run.exists(), change
        else:
            shutil.rmtree(run)
    assert taken.read_bytes() == b"somebody's"
