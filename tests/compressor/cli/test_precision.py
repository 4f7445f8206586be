"""`ortrim compress --precision`."""

import json

import onnx
import pytest


@pytest.mark.slow
def test_int8_is_pruned_measured_and_scored_as_int8(process, small_net, small_images, tmp_path):
    output = tmp_path / "slim.onnx"
    flags = ("--latency", "0.35x", "--precision", "int8", "--episodes", "6", "--agent", "knapsack")
    done = process("compress", small_net, "--data", small_images, *flags, "--calibration", "48", "-o", output, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    model = onnx.load(output)
    onnx.checker.check_model(model, full_check=True)
    assert any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    assert found["latency"]["ratio"] <= 0.35
    assert any(group["kept"] < group["size"] for group in found["plan"].values())
    names = [stage["name"] for stage in found["stages"]]
    assert names.index("sequential refit") < names.index("quantization to int8") < names.index("bias correction")
    assert found["score"]["slim"] > 0.5  # without integer instructions more has to go for the same latency
    assert found["settings"]["precision"] == "int8"


@pytest.mark.parametrize(("precision", "said"), [("int4", "fp32, fp16, int8"), ("fp16", "gains nothing on cpu")])
def test_a_precision_that_cannot_be(refused, small_net, small_images, precision, said):
    flags = ("--latency", "0.6x", "--precision", precision, "-o", "x.onnx")
    assert said in refused(2, "compress", small_net, "--data", small_images, *flags)
