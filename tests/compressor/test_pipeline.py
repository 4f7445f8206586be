"""The whole job on a small net: what comes out, what a run leaves, and what a replay repeats."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ortrim.compressor import Target, compress, equivalent, handout
from ortrim.compressor.distill import Settings
from ortrim.compressor.history import History
from ortrim.compressor.search import meter
from ortrim.compressor.search.agents import Agent, register
from ortrim.compressor.search.trials import Trials
from ortrim.errors import DeviceError, InputError, NothingToPruneError, OutputError, RunError, TargetError
from ortrim.graph import analyze, load, parameters

EPISODES = 5


def small_net(path, width=32, *, slopes=None):
    """Three convolutions with a residual sum on 16x16 pixels, whose latency is mostly convolution.

    With two `slopes`, PRelu with these in turn in place of Relu.
    """
    rng = np.random.default_rng(0)
    weights, nodes = [], []

    def conv(x, name, outputs, inputs):
        w = rng.standard_normal((outputs, inputs, 3, 3)) / np.sqrt(9 * inputs)
        weights.append(numpy_helper.from_array(w.astype(np.float32), f"{name}.w"))
        weights.append(numpy_helper.from_array(rng.standard_normal(outputs).astype(np.float32) / 4, f"{name}.b"))
        nodes.append(helper.make_node("Conv", [x, f"{name}.w", f"{name}.b"], [name], name, pads=[1] * 4))
        return name

    def relu(x, channels=width):
        operator, operands = "Relu", [x]
        if slopes:
            operator, operands = "PRelu", [x, f"{x}.s"]
            each = np.resize(np.float32(slopes), (channels, 1, 1))
            weights.append(numpy_helper.from_array(each, f"{x}.s"))
        nodes.append(helper.make_node(operator, operands, [f"{x}.r"], f"{x}.relu"))
        return f"{x}.r"

    stem = relu(conv("image", "stem", width, 3))
    inner = conv(relu(conv(stem, "first", 2 * width, width), 2 * width), "second", width, 2 * width)
    nodes.append(helper.make_node("Add", [inner, stem], ["sum"], "sum"))
    last = relu(conv(relu("sum"), "third", 2 * width, width), 2 * width)
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pool"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pool"], ["flat"], "flat"))
    weights.append(numpy_helper.from_array(rng.standard_normal((2 * width, 6)).astype(np.float32), "fc.w"))
    weights.append(numpy_helper.from_array(np.zeros(6, np.float32), "fc.b"))
    nodes.append(helper.make_node("Gemm", ["flat", "fc.w", "fc.b"], ["logits"], "fc"))
    value = helper.make_tensor_value_info
    inputs = [value("image", TensorProto.FLOAT, ("batch", 3, 16, 16))]
    graph = helper.make_graph(nodes, "net", inputs, [value("logits", TensorProto.FLOAT, ("batch", 6))], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    # Spread the votes over the classes, so that agreement means something.
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": rng.random((256, 3, 16, 16), np.float32)})[0]
    scale = 1 / logits.std(0)
    for tensor in model.graph.initializer:
        if tensor.name == "fc.w":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * scale, "fc.w"))
        elif tensor.name == "fc.b":
            tensor.CopyFrom(numpy_helper.from_array(-logits.mean(0) * scale, "fc.b"))
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="module", autouse=True)
def own_cache(folder):
    """Figures of layers go to a cache of the tests' own, and less time is spent on measuring than a promise needs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(meter, "SEARCH_SECONDS", 0.2)
        patch.setattr(meter, "FINAL_SECONDS", 1.0)
        yield


@pytest.fixture(scope="module")
def model(folder):
    return small_net(folder / "net.onnx")


@pytest.fixture(scope="module")
def data(folder):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (160, 16, 16, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=images)
    return folder / "images.npz"


@pytest.fixture(scope="module")
def job(model, data):
    """Arguments of a small job, corrected the quick way; Ctrl-C and the command line have the default."""
    quick = {"episodes": EPISODES, "calibration": 24, "correction": "independent"}
    return {"model": model, "data": data, "target": Target.parse("0.5x"), **quick}


@pytest.fixture(scope="module")
def done(job, folder):
    return compress(**job, output=folder / "slim.onnx", run_dir=folder / "run")


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


def test_the_run_directory_holds_what_was_promised(done):
    names = {"report.html", "report.json", "trials.sqlite", "slim.onnx", "log.txt"}
    assert names <= {entry.name for entry in done.run_dir.iterdir()}
    report = json.loads((done.run_dir / "report.json").read_text())
    assert report["device"]["spec"] == "cpu:threads=1"
    assert report["target"]["ratio"] == 0.5
    assert report["latency"]["low"] <= report["latency"]["ratio"] <= report["latency"]["high"]
    assert report["score"]["kind"] == "agreement"
    assert report["search"]["episodes"] == EPISODES
    assert report["search"]["best_episode"] in range(1, EPISODES + 1)
    assert set(report["plan"]) == {group["name"] for group in [{"name": n} for n in report["plan"]]}
    assert {"path", "sha256", "parameters", "macs"} <= set(report["slim"])


def test_a_replay_repeats_the_search_bit_for_bit(done, job, folder):
    again = compress(**{**job, "device": f"replay:{done.run_dir}"}, run_dir=folder / "again")
    with Trials.open(done.run_dir / "trials.sqlite") as first, Trials.open(again.run_dir / "trials.sqlite") as second:
        one, two = ([(trial.plan, trial.score, trial.ratio) for trial in trials] for trials in (first, second))
    assert one == two
    assert again.plan == done.plan
    assert again.score == done.score


@pytest.fixture(scope="module")
def stepped(job, folder):
    return compress(**job, steps=2, run_dir=folder / "steps", output=folder / "stepped.onnx")


def test_steps_lead_to_the_target_and_can_be_replayed(stepped, job, folder):
    done, run = stepped, stepped.run_dir
    assert done.latency.value <= 0.5
    half = analyze(load(run / "step1" / "slim.onnx"))
    sizes = {group.name: group.size for group in analyze(load(job["model"])).groups}
    for group in half.groups:
        assert done.plan.get(group.name, group.size) <= group.size <= sizes[group.name]
    slim = {group.name: group.size for group in analyze(load(done.output)).groups}
    assert {name: done.plan.get(name, size) for name, size in sizes.items()} == slim
    names = [stage.name for stage in done.report.stages]
    assert "step 1 of 2: search" in names
    assert "step 2 of 2: search" in names
    again = compress(**{**job, "device": f"replay:{run}"}, steps=2, run_dir=folder / "steps again")
    assert again.plan == done.plan
    assert again.score == done.score


def test_a_step_that_is_done_is_not_done_again(stepped, job, folder):
    run = folder / "steps cut"
    shutil.copytree(stepped.run_dir, run)
    for name in ("report.json", "report.html", "slim.onnx"):
        (run / name).unlink()
    with Trials.open(run / "trials.sqlite") as trials:
        trials._connection.execute("DELETE FROM trials WHERE id > 2")
    before = (run / "step1" / "slim.onnx").stat().st_mtime_ns
    done = compress(**job, steps=2, run_dir=run, resume=True)
    assert (run / "step1" / "slim.onnx").stat().st_mtime_ns == before
    assert done.latency.value <= 0.5
    assert not any(stage.name == "step 1 of 2: search" for stage in done.report.stages)


def test_another_seed_cannot_be_replayed(done, job, folder):
    with pytest.raises(RunError, match="replay a run with its own"):
        compress(**{**job, "device": f"replay:{done.run_dir}", "seed": 5, "agent": "random"}, run_dir=folder / "other")


def test_a_run_that_was_cut_off_goes_on(done, job, folder):
    cut = folder / "cut"
    shutil.copytree(done.run_dir, cut)
    for name in ("report.json", "report.html", "slim.onnx"):
        (cut / name).unlink()
    with Trials.open(cut / "trials.sqlite") as trials:
        kept = [(trial.plan, trial.score, trial.ratio) for trial in trials][:3]
        trials._connection.execute("DELETE FROM trials WHERE id > 3")
    result = compress(**job, output=folder / "cut.onnx", run_dir=cut, resume=True)
    with Trials.open(cut / "trials.sqlite") as trials:
        after = [(trial.plan, trial.score, trial.ratio) for trial in trials]
    assert after[:3] == kept
    assert len(after) == EPISODES
    assert result.latency.value <= 0.5


def test_a_run_whose_candidates_the_agent_would_not_have_asked_for_says_so(done, job, folder):
    foreign = folder / "foreign"
    shutil.copytree(done.run_dir, foreign)
    with Trials.open(foreign / "trials.sqlite") as trials:
        first = next(iter(trials))
        other = {group: kept if number else 1 for number, (group, kept) in enumerate(first.plan.items())}
        trials._connection.execute("UPDATE trials SET plan = ? WHERE id = 1", (json.dumps(other),))
    result = compress(**job, run_dir=foreign, resume=True)
    assert any("of 5 earlier candidates are not what --agent ortrim asks for" in note for note in result.report.notes)
    assert not any("earlier candidates are not" in note for note in done.report.notes)


def test_a_candidate_that_the_device_refuses_is_passed_over(job, folder, monkeypatch):
    asked, quick = [], meter.LiveMeter.quick

    def refusing(self, plan, model, limit=None):
        asked.append(plan)
        if len(asked) == 2:
            raise DeviceError("the device\nhas no memory for this one")
        return quick(self, plan, model, limit)

    monkeypatch.setattr(meter.LiveMeter, "quick", refusing)
    # More candidates than elsewhere: with four left, a busy machine may let all of them miss the target.
    several = {**job, "episodes": 10}
    result = compress(**several, run_dir=folder / "refusing")
    assert len(asked) == 10
    assert any("1 of 10 candidates could not be scored or measured" in note for note in result.report.notes)
    report = json.loads((result.run_dir / "report.json").read_text())
    assert [trial["ratio"] is None for trial in report["trials"]] == [number == 1 for number in range(10)]
    assert "candidate 2 failed: the device has no memory for this one" in (result.run_dir / "log.txt").read_text()
    monkeypatch.undo()
    again = compress(**{**several, "device": f"replay:{result.run_dir}"}, run_dir=folder / "refusing again")
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


def test_a_front_is_kept_with_its_slowest_target(job, folder, monkeypatch):
    """What is meant for the slower nets misses the last target, and is no failure."""
    monkeypatch.setenv("ORTRIM_HISTORY", str(folder / "front.sqlite"))
    compress(**{**job, "agent": "knapsack"}, front=2, run_dir=folder / "front", output=folder / "front.onnx")
    assert (folder / "front_0.71x.onnx").exists()
    with History.open(folder / "front.sqlite") as history:
        (line,) = history.summaries()
    assert (line.record.target, line.trials) == (0.5**0.5, EPISODES)
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
def test_cheaper_operators_go_all_the_way(job, folder, monkeypatch, precision):
    """They are searched and written; a run that goes on, and a replay, have them without measuring anew."""
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


def test_a_resumed_run_must_be_the_same_job(done, job):
    with pytest.raises(RunError, match="seed"):
        compress(**{**job, "seed": 7}, run_dir=done.run_dir, resume=True)


def test_a_resumed_run_scores_on_the_same_data_wherever_they_are(done, job, folder):
    moved = shutil.copytree(job["data"], folder / "moved") if job["data"].is_dir() else folder / "moved.npz"
    if not moved.exists():
        shutil.copy(job["data"], moved)
    resumed = compress(**{**job, "data": moved}, run_dir=done.run_dir, resume=True)
    assert resumed.plan == done.plan
    with Trials.open(done.run_dir / "trials.sqlite") as trials:
        assert resumed.report.search.seconds >= sum(trial.seconds for trial in trials)  # they were made before
    with np.load(moved) as archive:
        np.savez(moved, images=archive["images"][::-1])
    with pytest.raises(RunError, match="data_identity"):
        compress(**{**job, "data": moved}, run_dir=done.run_dir, resume=True)


def test_ctrl_c_ends_with_the_best_so_far(job, folder):
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
    if done.score.value == 1.0:
        pytest.skip("the small net lost nothing")
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
