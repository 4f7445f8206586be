"""The oracle on real models: other people's exports where the data is at hand, the repository's own everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from ortrim.graph import analyze, finish, load, parameters, slim, verify
from ortrim.models.digits import MODEL as DIGITS

MODELS = Path(__file__).parents[3] / "shared" / "data" / "models"
FILES = sorted(MODELS.glob("*/*.onnx"))
UNPRUNABLE = {"dtln_1_lstm": "is the graph input", "silero_vad": "If"}  # its states are inputs; all in a subgraph

needs_shared = pytest.mark.skipif(not FILES, reason=f"there are no shared models: {MODELS}")


def half(analysis):
    return {group.name: range(1, group.size, 2) for group in analysis.groups if group.size > 1}


def check_together(model, analysis):
    """Every second unit of every group; all but one; and every removable group as a whole."""
    few = {group.name: range(1, group.size) for group in analysis.groups if group.size > 1}
    whole = {group.name: range(group.size) for group in analysis.groups if group.removable}
    removals = [half(analysis), few] + ([{**half(analysis), **whole}] if whole else [])
    before = model.SerializeToString()
    for removal in removals:
        small = slim(model, removal, analysis=analysis)
        verify(model, small, removal, analysis=analysis)
        assert parameters(small) < parameters(model)
        finish(small, {})  # checks
    assert model.SerializeToString() == before


def check_alone(model, analysis):
    for group in analysis.groups:
        for units in [range(1, group.size, 2)] + ([range(group.size)] if group.removable else []):
            if len(units):
                removal = {group.name: units}
                verify(model, slim(model, removal, analysis=analysis), removal, analysis=analysis)


@needs_shared
@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_all_groups_together(path):
    model = load(path)
    analysis = analyze(model)
    if path.stem in UNPRUNABLE:
        assert not analysis.groups
        assert any(UNPRUNABLE[path.stem] in item.reason for item in analysis.frozen)
        return
    assert analysis.groups
    check_together(model, analysis)


ALONE = (
    *("mnist_12", "winml_cifar_classifier", "subpixel_cnn", "mtcnn_onet", "mobilenet_v1_0.25_128", "yunet_s_dynamic"),
    *("sinet_portrait_seg", "akamaster_resnet20", "chenyaofo_resnet20", "squeezenet_fp16", "openwakeword_embedding"),
)
"""Models that run in a few milliseconds."""


@needs_shared
@pytest.mark.parametrize("name", ALONE)
def test_every_group_alone(name):
    (path,) = (path for path in FILES if path.stem == name)
    model = load(path)
    check_alone(model, analyze(model))


@needs_shared
@pytest.mark.parametrize(("name", "blocks"), [("akamaster_resnet20", 3), ("akamaster_resnet56", 9)])
def test_residual_streams_that_grow_by_zero_padding(name, blocks):
    """An interior for each block, all removable; three groups in the stream, as it grows from 16 to 32 to 64."""
    (path,) = (path for path in FILES if path.stem == name)
    analysis = analyze(load(path))
    interiors = [group.size for group in analysis.groups if group.removable]
    stream = [group for group in analysis.groups if not group.removable]
    assert interiors == [16] * blocks + [32] * blocks + [64] * blocks
    assert [group.size for group in stream] == [16, 16, 32]
    assert all(group.exact for group in analysis.groups)
    assert len(analysis.groups) == {"akamaster_resnet20": 12, "akamaster_resnet56": 30}[name]
    assert [item.reason for item in analysis.frozen] == ["makes the graph output 'logits'"]


def test_the_demo_model():
    model = load(DIGITS)
    analysis = analyze(model)
    assert any(group.removable for group in analysis.groups)
    assert len(analysis.frozen) == 1
    check_together(model, analysis)
    check_alone(model, analysis)


@pytest.fixture(scope="module")
def resnet20(tmp_path_factory):
    from ortrim.models.cifar_resnet import resnet20
    from ortrim.models.export import export

    return export(resnet20(), tmp_path_factory.mktemp("resnet") / "resnet20.onnx", (3, 32, 32))


@pytest.mark.skipif(bool(FILES), reason="the shared models hold such nets")
def test_a_residual_net_of_our_own(resnet20):
    model = load(resnet20)
    analysis = analyze(model)
    assert len(analysis.groups) == 12
    assert sum(group.removable for group in analysis.groups) == 9
    check_together(model, analysis)
