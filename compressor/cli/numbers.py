"""`--mean R G B`: options that take one value, or one for each channel, which click has no type for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import click

__all__ = ["Numbers", "NumbersCommand"]


class Numbers(click.ParamType):
    """One or more numbers in one argument, apart by spaces or commas -> tuple of floats."""

    name = "numbers"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """
        Raises:
            click.BadParameter: something that is no number, or nothing.
        """
        if isinstance(value, tuple):
            return value
        words = str(value).replace(",", " ").split()
        if not words:
            self.fail("at least one number is needed", param, ctx)
        for word in words:
            if not _is_number(word):
                self.fail(f"{word!r} is not a number", param, ctx)
        return tuple(map(float, words))


class NumbersCommand(click.Command):
    """A command whose options of type `Numbers` take all the numbers that follow them.

    `--mean 0.48 0.45 0.40`, `--mean "0.48 0.45 0.40"` and `--mean 0.48,0.45,0.40` say the same.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Hand the arguments to click with the numbers of one option in one argument."""
        names = {name for option in self.params if isinstance(option.type, Numbers) for name in option.opts}
        return super().parse_args(ctx, _gathered(args, names))


def _gathered(args: Sequence[str], names: Collection[str]) -> list[str]:
    """`["--mean", "1", "2", "a.onnx"]` -> `["--mean", "1 2", "a.onnx"]`."""
    out: list[str] = []
    rest = list(args)
    while rest:
        out.append(rest.pop(0))
        if out[-1] == "--":
            return [*out, *rest]
        if out[-1] in names:
            numbers = []
            while rest and _is_number(rest[0]):
                numbers.append(rest.pop(0))
            out += [" ".join(numbers)] if numbers else []
    return out


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
