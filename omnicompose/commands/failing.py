"""How commands fail: a message on stderr, an exit code, a traceback only if asked for."""

import traceback

import typer
from typer.core import TyperGroup

from omnicompose.errors import OmniComposeError, disk_refusal

FAULT = 1
MISTAKE = 2
INTERRUPTED = 130


class Commands(TyperGroup):
    """Turns errors into exit codes: 2 the user's mistake, 1 ours, 130 interrupted."""

    # typer.Context is the only context that typer makes, though its base class says less.
    def parse_args(  # type: ignore[override]
        self, ctx: typer.Context, args: list[str]
    ) -> list[str]:
        """Accept `--debug` before or after the command."""
        if "--debug" in args:
            args = ["--debug", *(word for word in args if word != "--debug")]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as err:
            raise _exit(ctx, INTERRUPTED, "interrupted.") from err
        except OmniComposeError as err:
            raise _exit(ctx, MISTAKE, str(err)) from err
        except OSError as err:
            if err.filename is None or err.strerror is None:
                raise _fault(ctx, err) from err
            hint = "Check that the path is right, may be read and written, and that there is room."
            raise _exit(ctx, MISTAKE, f"{err.filename}: {err.strerror}. {hint}") from err
        except Exception as err:
            if hasattr(err, "exit_code") or isinstance(err, typer.Abort):
                raise  # usage errors and plain exits are typer's own
            raise _fault(ctx, err) from err


def _fault(ctx: typer.Context, err: Exception) -> typer.Exit:
    if told := disk_refusal(err):
        return _exit(ctx, MISTAKE, told)
    fault = f"a fault of omnicompose: {type(err).__name__}: {err}"
    hint = "Run the command again with --debug and report what it prints."
    return _exit(ctx, FAULT, f"{fault}\n{hint}")


def _exit(ctx: typer.Context, code: int, message: str) -> typer.Exit:
    if ctx.params.get("debug"):
        typer.echo(traceback.format_exc(), err=True)
    typer.echo(f"omnicompose: {message}", err=True)
    return typer.Exit(code)
