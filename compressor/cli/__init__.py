"""The command line: one file a command, and what they share.

`guard` turns errors into one line and an exit status, `options` has the flags that several commands take, `numbers` the
ones that take a varying number of values, `show` writes results.

`inspect` has more to show than the others: `group_facts` and `layer_facts` say what there is, `tree` (with `names`) and
`picture` (with `picture_layout`, `lanes` and `canvas`) lay it out. `staircases` is the picture of `profile`,
`explained` the table of `bench --explain`, and `blocks` draws histograms and curves in a line of text.

What imports numpy, onnx, onnxruntime or torch is imported inside the commands: `ortrim --help` should be quick.
"""

from __future__ import annotations

import click

from . import bench, compress, evaluate, finetune, history, inspect, profile, prune, report, serve, trace, train
from .guard import GuardedGroup

__all__ = ["main"]


@click.group(cls=GuardedGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ortrim", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Compress ONNX models to a latency target, measured by onnxruntime on the device that counts."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


for command in (
    compress.command,
    inspect.command,
    bench.command,
    profile.command,
    prune.command,
    finetune.command,
    train.command,
    evaluate.command,
    trace.command,
    history.command,
    report.command,
    serve.command,
):
    main.add_command(command)
