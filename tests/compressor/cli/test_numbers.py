"""Options with one value or one for each channel, however they are written."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from ortrim.compressor.cli.numbers import Numbers, NumbersCommand


@click.command(cls=NumbersCommand)
@click.argument("files", nargs=-1)
@click.option("--mean", type=Numbers())
@click.option("--std", type=Numbers())
@click.option("--offset", type=float)
def command(files, mean, std, offset):
    click.echo(repr((files, mean, std, offset)))


def parsed(*args):
    result = CliRunner().invoke(command, args)
    assert result.exit_code == 0, result.output
    return eval(result.stdout)


RGB = (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["--mean", "0.485", "0.456", "0.406", "a.onnx"], (("a.onnx",), RGB, None, None)),
        (["a.onnx", "--mean", "0.485", "0.456", "0.406"], (("a.onnx",), RGB, None, None)),
        (["--mean", "0.485 0.456 0.406", "a.onnx"], (("a.onnx",), RGB, None, None)),
        (["--mean", "0.485,0.456,0.406", "a.onnx"], (("a.onnx",), RGB, None, None)),
        (["--mean=0.485,0.456,0.406", "a.onnx"], (("a.onnx",), RGB, None, None)),
        (["--mean", "0.5", "a.onnx", "b.onnx"], (("a.onnx", "b.onnx"), (0.5,), None, None)),
        (["--mean", "-1", "-2", "3e-1", "--std", "2"], ((), (-1.0, -2.0, 0.3), (2.0,), None)),
        (["--offset", "-1", "--std", "1", "2", "3", "--", "4"], (("4",), None, (1.0, 2.0, 3.0), -1.0)),
        (["--", "--mean", "1"], (("--mean", "1"), None, None, None)),
    ],
)
def test_numbers_belong_to_the_option_before_them(args, wanted):
    assert parsed(*args) == wanted


@pytest.mark.parametrize("args", [["--mean"], ["--mean", "a.onnx"], ["--mean", "1,x"], ["--mean", ""]])
def test_what_is_no_number(args):
    result = CliRunner().invoke(command, args)
    assert result.exit_code == 2
    assert "--mean" in result.stderr
