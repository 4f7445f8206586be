from __future__ import annotations

from ortrim.runtime import node_times
from ortrim.runtime.explain import nodes_by_provider


def test_every_node_is_there_with_its_provider(conv_net, device):
    plain = type(device).parse("cpu:threads=1,opt=disable")
    times = node_times(conv_net(layers=3), plain, runs=3)
    assert [node.op for node in times] == ["Conv", "Relu"] * 3
    assert [node.name for node in times][:2] == ["conv0", "relu0"]
    assert {node.provider for node in times} == {"CPUExecutionProvider"}
    assert all(node.milliseconds >= 0 for node in times)
    assert nodes_by_provider(conv_net(layers=3), plain) == {"CPUExecutionProvider": 6}


def test_fusion_shows(conv_net, device):
    assert len(node_times(conv_net(layers=3), device, runs=1)) < 6 + 2
