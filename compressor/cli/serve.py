"""`ortrim serve`: the measuring service.

The command is `runtime`'s, so that a device needs no more than that; here it is only fetched when it is asked for:
`ortrim --help` should not wait for onnxruntime.
"""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("serve", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(context: click.Context, /, arguments: tuple[str, ...]) -> None:
    """Measure for others: the service that runs on the target device."""
    from ...runtime.service.command import command as serve

    with serve.make_context(context.info_name, list(arguments), parent=context.parent) as own:
        serve.invoke(own)
