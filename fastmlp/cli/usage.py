"""Command classes: usage errors as one sentence, and help without types of flags."""

import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from fastmlp.utils.suggestions import closest, did_you_mean
from fastmlp.utils.terminal import on_terminal

USAGE_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_ABORTED = 1

#: The end of every help text.
EXIT_STATUS = "Exit status: 0 on success, 2 for usage errors or invalid data, 130 after Ctrl-C."


def exit_status(failure: str) -> str:
    """Return the end of the help text of a command that can also exit with 1."""
    return EXIT_STATUS.replace("2 for", f"1 {failure}, 2 for")


#: typer's usage error, whose module depends on the version.
_UsageError: Any = typer.BadParameter.__mro__[1]

#: Names of options in scikit-learn, PyTorch and other commands.
_SYNONYMS = {
    "lr": "learning-rate",
    "learning-rate-init": "learning-rate",
    "optimizer": "solver",
    "optimiser": "solver",
    "max-iter": "epochs",
    "iterations": "epochs",
    "hidden-layer-sizes": "hidden",
    "layers": "hidden",
    "units": "hidden",
    "weight-decay": "alpha",
    "l2": "alpha",
    "random-state": "seed",
    "n-jobs": "threads",
    "jobs": "threads",
    "n-threads": "threads",
    "device": "backend",
    "dataset": "data",
    "output": "out",
    "save": "out",
    "probabilities": "proba",
    "silent": "quiet",
}


class _Sentences:
    """Base of commands and groups."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return arguments and options, without types such as "<bool>" in the help."""
        params = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False) and param.metavar is None:
                param.metavar = ""
            elif param.param_type_name == "argument":  # whose type is in its own help
                param.display_type_rich = lambda ctx: None
        return params

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; errors know their command."""
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc]
        except _UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help; as plain text without a terminal, even with FORCE_COLOR."""
        from typer import rich_utils

        if not on_terminal(sys.stdout):
            rich_utils.FORCE_TERMINAL = False
        super().format_help(ctx, formatter)  # type: ignore[misc]


class Command(_Sentences, TyperCommand):
    """A command."""


class Group(_Sentences, TyperGroup):
    """A group of commands; also the entry point."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first argument names."""
        name = args[0]
        if not (ctx.resilient_parsing or name.startswith("-") or self.get_command(ctx, name)):
            raise _UsageError(
                f"{ctx.command_path} has no command {name!r}{did_you_mean(name, self.commands)}"
                f" {_help_of(ctx)} lists them all.",
                ctx=ctx,
            )
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command; usage errors are printed as one sentence."""
        run = partial(
            super().main, args, prog_name, complete_var, False, windows_expand_args, **extra
        )
        if not standalone_mode:
            return run()
        try:
            status = run()
        except _UsageError as error:
            if type(error).__name__ != "NoArgsIsHelpError":  # which has printed the help
                typer.echo(f"Error: {_in_words(error)}", err=True)
            sys.exit(error.exit_code)
        except typer.Abort:
            sys.exit(_ABORTED)
        sys.exit(status if isinstance(status, int) else 0)


def _in_words(error: Any) -> str:
    """Return a usage error as a sentence: what, the rule, what came, the way out."""
    ctx = error.ctx
    message = error.message.strip()
    if (name := getattr(error, "option_name", None)) is not None:
        if type(error).__name__ != "NoSuchOption":
            fault = message.removeprefix(f"Option {name!r} ").rstrip(".")
            return f"{name} {fault}: see {_help_of(ctx)}."
        options = [option for param in ctx.command.get_params(ctx) for option in param.opts]
        long = [option.removeprefix("--") for option in options if option.startswith("--")]
        meant = closest(name.lstrip("-").replace("_", "-"), long, _SYNONYMS)
        question = f". Did you mean --{meant}?" if meant else "."
        return f"{ctx.command_path} has no option {name}{question} {_help_of(ctx)} lists them all."
    extra = re.match(r"Got unexpected extra arguments? *(?:\(s\))? *\((.*)\)$", message)
    if extra is not None:
        return (
            f"{ctx.command_path} does not take {extra[1]!r}: write the name of an option before "
            f"each value. {_help_of(ctx)} lists them all."
        )
    param = getattr(error, "param", None)
    if param is not None:
        name = param.opts[0] if param.param_type_name == "option" else param.metavar or param.name
        if not message:
            return f"{ctx.command_path} needs {name}: see {_help_of(ctx)}."
        return f"{name} {message}" if message.startswith("must ") else f"{name}: {message}"
    if message.endswith((".", "?")) and "-h'" in message:
        return message
    return f"{message.rstrip('.')}: see {_help_of(ctx)}."


def _help_of(ctx: Any) -> str:
    return f"'{ctx.command_path} -h'"
