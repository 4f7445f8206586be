from __future__ import annotations

import pytest

from ortrim.runtime import host


def test_x86_and_arm_cpuinfo(tmp_path, monkeypatch):
    first = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nstepping\t: 1\n\n"
    x86 = first + "processor\t: 1\nmodel name\t: Other\n"
    assert host._describe_cpuinfo(x86) == "AMD EPYC (cpu family 25, model 17, stepping 1)"
    board = tmp_path / "model"
    board.write_bytes(b"Raspberry Pi 5 Model B\0")
    monkeypatch.setattr(host, "_DEVICE_TREE", board)
    arm = "processor\t: 0\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"
    assert host._describe_cpuinfo(arm) == "Raspberry Pi 5 Model B (CPU implementer 0x41, CPU part 0xd0b)"


def test_this_machine_has_a_name():
    assert host.cpu_name().strip()
    assert host.platform_name().strip()


@pytest.mark.parametrize(("allowed", "cores"), [(frozenset({1, 5}), 2), (None, 8)])
def test_cores_that_this_process_may_not_use_do_not_count(monkeypatch, allowed, cores):
    monkeypatch.setattr(host, "processors", lambda: allowed)
    monkeypatch.setattr(host.os, "cpu_count", lambda: 8)
    assert host.usable_cores() == cores
