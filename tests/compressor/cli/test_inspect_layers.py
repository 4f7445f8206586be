"""`ortrim inspect`: which layers are coupled, as a tree, as a picture and as JSON."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from xml.etree import ElementTree

import onnx
import pytest

from ortrim.graph import analyze
from ortrim.models import digits

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def residual_net(residual, place):
    """A stem (node0), two blocks (node2 and node4, node7 and node9) and a classifier (node14)."""
    path = place / "residual.onnx"
    onnx.save(residual, path)
    return path


@pytest.fixture(scope="session")
def two_outputs(save):
    """Two layers that make one output."""
    text = """net (float[n, 3, 8, 8] image) => (float[n, 8, 8, 8] y) {
        a = Conv(image, w)
        s = Relu(a)
        one = Conv(s, v)
        two = Conv(s, u)
        y = Add(one, two)
    }"""
    return save("two.onnx", text, {"w": (4, 3, 1, 1), "v": (8, 4, 1, 1), "u": (8, 4, 1, 1)})


def tree(ortrim, *args):
    """Lines of the trees, by group."""
    result = ortrim("inspect", *args, "--tree")
    assert (result.exit_code, result.stderr) == (0, "")
    groups = {}
    for line in result.stdout[: result.stdout.index("\n\n")].splitlines():
        if line[0] not in "├│└ ":
            groups[line.split()[0]] = []
        groups[line.split()[0] if line[0] not in "├│└ " else list(groups)[-1]].append(line)
    return groups


def test_the_tree_of_a_residual_net(ortrim, residual_net):
    groups = tree(ortrim, residual_net)
    # Worked out by hand: 8 stem channels are made by node0, node4 and node9 and read by node2, node7 and node14.
    assert groups["node0"][1:] == [
        "├── made by     all 8  Conv  8x3x3x3   node0",
        "│               all 8  Conv  8x12x3x3  node{4,9}",
        "└── read by     all 8  Conv  12x8x3x3  node{2,7}",
        "                all 8  Gemm  5x8       node14",
    ]
    head = groups["node2"][0]
    for fact in ("12 units", "% of the MACs", "exact", "removable"):
        assert fact in head
    assert groups["node2"][1:] == [
        "├── made by     all 12  Conv  12x8x3x3  node2",
        "└── read by     all 12  Conv  8x12x3x3  node4",
    ]


def test_the_tree_replaces_the_table_only(ortrim, residual_net):
    shown = ortrim("inspect", residual_net, "--tree").stdout
    assert "made by -> read by" not in shown
    assert "makes the graph output 'y'" in shown
    assert "groups; with half the units" in shown


def test_what_follows_is_on_the_way(ortrim, save):
    text = """net (float[n, 3, 8, 8] image) => (float[n, 2, 8, 8] y) {
        a = Conv(image, w)
        p = PRelu(a, slope)
        d = Conv<group=6>(p, deep)
        y = Conv(d, v)
    }"""
    shapes = {"w": (6, 3, 1, 1), "slope": (6, 1, 1), "deep": (6, 1, 1, 1), "v": (2, 6, 1, 1)}
    (lines,) = tree(ortrim, save("way.onnx", text, shapes)).values()
    assert lines[1:] == [
        "├── made by     all 6  Conv  6x3x1x1  node0",
        "├── on the way  all 6  PRelu  6x1x1    node1",
        "│               all 6  Conv   6x1x1x1  node2",
        "└── read by     all 6  Conv  2x6x1x1  node3",
    ]


def test_a_part_of_the_channels(ortrim, save):
    text = """net (float[n, 3, 8, 8] image) => (float[n, 2, 8, 8] y) {
        a = Conv(image, w)
        b = Conv(image, v)
        c = Concat<axis=1>(a, b)
        y = Conv(c, u)
    }"""
    groups = tree(ortrim, save("part.onnx", text, {"w": (6, 3, 1, 1), "v": (4, 3, 1, 1), "u": (2, 10, 1, 1)}))
    assert [lines[-1] for lines in groups.values()] == [
        "└── read by     6 of 10  Conv  2x10x1x1  node3",
        "└── read by     4 of 10  Conv  2x10x1x1  node3",
    ]


@pytest.fixture
def many_readers(save):
    """One layer that twelve others read, each with a weight of another shape."""
    count = 12
    read = "\n".join(f"o{i} = Conv(a, v{i})\n r{i} = ReduceSum<keepdims=0>(o{i})" for i in range(count))
    text = f"""net (float[n, 3, 8, 8] image) => (float y) {{
        a = Conv(image, w)
        {read}
        y = Sum({", ".join(f"r{i}" for i in range(count))})
    }}"""
    return save("many.onnx", text, {"w": (8, 3, 1, 1)} | {f"v{i}": (i + 2, 8, 1, 1) for i in range(count)})


def test_many_rows_are_cut_unless_all_are_asked_for(ortrim, many_readers):
    lines = tree(ortrim, many_readers)["node0"]
    assert lines[-1].endswith("and 5 more; -v shows all")
    assert sum("8x1x1" in line for line in lines) == 7
    lines = tree(ortrim, many_readers, "-v")["node0"]
    assert not any("more" in line for line in lines)
    assert sum("8x1x1" in line for line in lines) == 12


def test_long_names_are_never_cut_and_lines_stay_narrow(ortrim, process, residual_net):
    model = onnx.load(residual_net)
    for node in model.graph.node:
        node.name = f"/backbone/a_stage_with_a_name/{node.name}/a_part_behind_it_as_exporters_do/{node.op_type}"
    onnx.save(model, residual_net)
    shown = process("inspect", residual_net, "--tree").stdout
    trees = shown[: shown.index("\n\n")]
    for group in analyze(residual_net).groups:
        assert group.name in trees
    assert max(map(len, trees.splitlines())) <= 100
    for part in ("node{4,9}", "node{2,7}"):
        assert f"/backbone/a_stage_with_a_name/{part}/a_part_behind_it_as_exporters_do/Conv" in trees


def test_a_pipe_without_unicode(start, residual_net, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with start("inspect", residual_net, "--tree") as started:
        out, _ = started.communicate(timeout=120)
    assert "+-- made by     all 12  Conv  12x8x3x3  node2" in out
    assert "\\u" not in out


def test_names_with_brackets_in_the_tree(ortrim, residual_net):
    model = onnx.load(residual_net)
    model.graph.node[0].name = "[red]a:smile:[/red]"
    onnx.save(model, residual_net)
    assert ortrim("inspect", residual_net, "--tree").stdout.count("[red]a:smile:[/red]") == 2


def test_the_tree_with_time(ortrim):
    assert " % of the time" in ortrim("inspect", digits.MODEL, "--device", "cpu:threads=1", "--tree").stdout


def test_a_tree_without_groups(ortrim, frozen_net):
    assert "nothing to prune" in ortrim("inspect", frozen_net, "--tree").stdout


def test_json_has_the_layers_of_each_group(ortrim, residual_net):
    seen = json.loads(ortrim("inspect", residual_net, "--json").stdout)
    groups = analyze(residual_net).groups
    for group, own in zip(seen["groups"], groups, strict=True):
        found = {(layer["layer"], layer["role"]) for layer in group["layers"]}
        assert found == {(slot.node, slot.role.value) for slot in own.slots}
    assert seen["groups"][0]["layers"][1] == {
        "layer": "node2",
        "op": "Conv",
        "role": "consumer",
        "shape": [12, 8, 3, 3],
        "channels": 8,
        "of": 8,
    }


def test_layers_with_one_reason_share_a_row(ortrim, two_outputs):
    shown = ortrim("inspect", two_outputs).stdout
    assert len(re.findall("makes the graph output", shown)) == 1
    assert re.search(r"node\{2,3\} +makes the graph output 'y'", shown)
    frozen = json.loads(ortrim("inspect", two_outputs, "--json").stdout)["frozen"]
    assert [entry["layer"] for entry in frozen] == ["node2", "node3"]


def test_reasons_that_differ_in_the_layer_itself_share_a_row(ortrim, save):
    text = """net (float[n, 3, 8, 8] image) => (float[n, 2, 8, 8] y) {
        a = Conv(image, w)
        b = Conv(image, v)
        c = Concat<axis=1>(a, b)
        y = Conv(c, u)
    }"""
    shown = ortrim(
        "inspect", save("single.onnx", text, {"w": (1, 3, 1, 1), "v": (1, 3, 1, 1), "u": (2, 2, 1, 1)})
    ).stdout
    assert re.search(r"node\{0,1\} +Conv has a single output channel", shown)


def drawing(path):
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    return root


def parts(root, kind):
    return {part.get(f"data-{kind}"): part for part in root.iter(f"{SVG}g") if part.get(f"data-{kind}") is not None}


def test_the_picture_has_every_layer_and_every_group(ortrim, residual_net):
    result = ortrim("inspect", residual_net, "--svg", "out/net.svg")
    assert "picture: out/net.svg" in result.stdout
    root, analysis = drawing("out/net.svg"), analyze(residual_net)
    assert set(parts(root, "group")) == {group.name for group in analysis.groups}
    layers = {slot.node for group in analysis.groups for slot in group.slots}
    assert set(parts(root, "layer")) == layers | {frozen.layer for frozen in analysis.frozen}
    words = " ".join(root.itertext())
    for text in (
        "residual.onnx",
        "node0: 8 units",
        "node2: 12 units",
        "removable",
        "stays: makes the graph output 'y'",
    ):
        assert text in words


def test_lines_in_the_picture_do_not_meet(ortrim):
    ortrim("inspect", digits.MODEL, "--svg", "digits.svg")
    lines = [part.find(f"{SVG}line") for part in parts(drawing("digits.svg"), "group").values()]
    assert len(lines) == len(analyze(digits.MODEL).groups)
    spans = sorted((float(line.get("x1")), float(line.get("y1")), float(line.get("y2"))) for line in lines)
    for (x, _, end), (next_x, start, _) in pairwise(spans):
        assert x < next_x or end < start


def test_marks_and_colours_say_what_a_layer_does(ortrim, residual_net):
    ortrim("inspect", residual_net, "--svg", "net.svg")
    root = drawing("net.svg")
    colour = {name: part.find(f"{SVG}line").get("stroke") for name, part in parts(root, "group").items()}
    layers = parts(root, "layer")

    def marks(layer):
        return {(mark.get("stroke"), mark.get("fill")) for mark in layers[layer].iter(f"{SVG}circle")}

    def colour_of(layer, text):
        return [word.get("fill") for word in layers[layer].iter(f"{SVG}text") if word.text == text]

    stream, inner = colour["node0"], colour["node2"]
    assert stream != inner
    assert marks("node0") == {(stream, stream)}
    assert marks("node2") == {(stream, "#ffffff"), (inner, inner)}  # reads the stream, makes the inner channels
    assert marks("node4") == {(inner, "#ffffff"), (stream, stream)}
    assert (colour_of("node2", "8"), colour_of("node2", "12")) == ([stream], [inner])
    assert colour_of("node14", "8") == [stream]
    assert colour_of("node14", "5")[0] not in colour.values()  # what stays has no group's colour


def test_any_name_makes_a_valid_picture(ortrim, residual_net):
    model = onnx.load(residual_net)
    model.graph.node[0].name = "<a> & \"b\" 'c' \x1b[31m \x00 層/" + "long" * 40
    onnx.save(model, residual_net)
    assert ortrim("inspect", residual_net, "--svg", "net.svg").exit_code == 0
    root = drawing("net.svg")
    (name,) = (name for name in parts(root, "layer") if name.startswith("<a> & \"b\" 'c' "))
    assert name.endswith("層/" + "long" * 40)


def test_a_picture_without_groups(ortrim, frozen_net):
    assert ortrim("inspect", frozen_net, "--svg", "net.svg").exit_code == 0
    root = drawing("net.svg")
    assert not parts(root, "group")
    assert "stays: makes the graph output 'y'" in " ".join(root.itertext())


def test_json_and_a_picture(ortrim, residual_net):
    result = ortrim("inspect", residual_net, "--svg", "net.svg", "--json")
    assert json.loads(result.stdout)["svg"] == "net.svg"
    drawing("net.svg")


def test_nothing_is_overwritten_without_force(ortrim, refused, residual_net, place):
    (place / "net.svg").write_text("mine")
    assert "--force" in refused(2, "inspect", residual_net, "--svg", "net.svg")
    assert "also an input" in refused(2, "inspect", residual_net, "--svg", residual_net, "--force")
    assert ortrim("inspect", residual_net, "--svg", "net.svg", "--force").exit_code == 0
    drawing("net.svg")


def test_a_model_that_fails_leaves_no_picture(refused, place):
    (place / "random.onnx").write_bytes(b"\x00\x01\x02 no model")
    assert "random.onnx" in refused(2, "inspect", "random.onnx", "--svg", "net.svg")


def test_a_tree_is_no_json(refused, residual_net):
    assert "--tree" in refused(2, "inspect", residual_net, "--tree", "--json")
