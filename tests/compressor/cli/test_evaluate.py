"""`ortrim evaluate`: accuracy, or agreement with another model."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from ortrim.models import digits


def test_accuracy_on_labels(ortrim):
    result = ortrim("evaluate", digits.MODEL, "--data", digits.TEST, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    seen = json.loads(result.stdout)
    assert seen["score"]["kind"] == "accuracy"
    assert 0.97 <= seen["score"]["value"] <= 1
    assert seen["images"] == 500
    assert seen["reference"] is None
    assert "classes" not in seen


def test_a_sentence_for_people(ortrim, few_digits):
    result = ortrim("evaluate", digits.MODEL, "--data", few_digits)
    assert result.stdout.startswith("accuracy: ")
    assert "60 images" in result.stdout


def test_agreement_with_a_reference(ortrim, few_digits):
    result = ortrim("evaluate", digits.MODEL, "--data", few_digits, "--reference", digits.MODEL, "--json")
    seen = json.loads(result.stdout)
    assert (seen["score"]["kind"], seen["score"]["value"], seen["reference"]) == ("agreement", 1.0, str(digits.MODEL))
    text = ortrim("evaluate", digits.MODEL, "--data", few_digits, "--reference", digits.MODEL).stdout
    assert text.startswith(f"agreement with {digits.MODEL}: 100.00 %")


def test_classes(ortrim, few_digits):
    seen = json.loads(ortrim("evaluate", digits.MODEL, "--data", few_digits, "--per-class", "--json").stdout)
    with np.load(few_digits) as data:
        counts = np.bincount(data["labels"], minlength=10)
    assert [(item["name"], item["samples"]) for item in seen["classes"]] == [(str(i), n) for i, n in enumerate(counts)]
    hits = sum(item["samples"] * item["value"] for item in seen["classes"])
    assert hits / 60 == pytest.approx(seen["score"]["value"])
    assert "class" in ortrim("evaluate", digits.MODEL, "--data", few_digits, "--per-class").stdout


def test_preprocessing_matters(ortrim, few_digits):
    def accuracy(*flags):
        result = ortrim("evaluate", digits.MODEL, "--data", few_digits, "--json", *flags)
        return json.loads(result.stdout)["score"]["value"]

    assert accuracy() == accuracy("--scale", str(1 / 255)) == accuracy("--mean", "0", "--std", "1")
    assert accuracy("--scale", str(-1 / 255), "--offset", "1") < accuracy()


def test_labels_that_are_shifted(ortrim, place):
    with np.load(digits.TEST) as test:
        np.savez(place / "shifted.npz", images=test["images"], labels=np.maximum(test["labels"] - 1, 0))
    result = ortrim("evaluate", digits.MODEL, "--data", "shifted.npz")
    assert "--label-offset be 1" in result.stderr  # a note, beside the result
    assert result.stdout.startswith("accuracy: ")


def test_a_reference_with_other_outputs_is_refused(refused, small_net, small_images, tmp_path):
    other = onnx.load(small_net)
    del other.graph.node[1:]
    output = other.graph.output[0]
    other.graph.node[0].output[0] = output.name
    output.type.tensor_type.ClearField("shape")
    onnx.save(onnx.shape_inference.infer_shapes(other), tmp_path / "first_layer.onnx")
    line = refused(2, "evaluate", small_net, "--data", small_images, "--reference", tmp_path / "first_layer.onnx")
    assert "cannot be compared" in line


def test_a_service_evaluates_nothing(refused, small_net, small_images):
    line = refused(2, "evaluate", small_net, "--data", small_images, "--device", "http://localhost:8765")
    assert "--device http://localhost:8765" in line


def test_without_labels_a_reference_is_needed(refused, small_net, small_images):
    assert "--reference" in refused(2, "evaluate", small_net, "--data", small_images)
