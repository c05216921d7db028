"""The command `tta`: arguments in, exit code out, and one line for whatever a user can get wrong."""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import operator
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from tta import heap
from tta.bench_command import BENCH, Bench
from tta.check_command import CHECK, Check
from tta.commands import BAD_INPUT, INTERRUPTED, OK, Corruptions, Methods, complain, first_line
from tta.compare_command import COMPARE, Compare
from tta.corrupt_command import CORRUPT, Corrupt
from tta.errors import TTAError, unknown
from tta.report_command import REPORT, Report
from tta.reproduce_command import REPRODUCE, Reproduce
from tta.serve_command import SERVE, Serve
from tta.stress_command import STRESS, Stress

#: Every command with its help, of which the first paragraph stands in the list of commands.
COMMANDS: dict[str, tuple[type, str]] = {
    "bench": (Bench, BENCH),
    "stress": (Stress, STRESS),
    "report": (Report, REPORT),
    "compare": (Compare, COMPARE),
    "serve": (Serve, SERVE),
    "reproduce": (Reproduce, REPRODUCE),
    "methods": (Methods, first_line(Methods)),
    "check": (Check, CHECK),
    "corruptions": (Corruptions, first_line(Corruptions)),
    "corrupt": (Corrupt, CORRUPT),
}
DESCRIPTION = """Test-time adaptation: models that learn from the images they meet, benchmarked.

examples:
  tta bench                five methods on the embedded digits under 15 corruptions
  tta bench --help         the options, and examples with other data and models
  tta report --out DIR     how robust a model is, on one page
  tta stress               gain or harm on every kind of stream
  tta serve                a model behind a guard, over HTTP
  tta compare A B          two finished runs, on the same images, with intervals
  tta methods              the methods, what they update, need and cost
  tta methods cotta        all of one: what it does, its settings and its presets
  tta check FILE.py:CLASS  whether a method of yours keeps what all methods promise
  tta reproduce            published values, and whether they come out here"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line.

    Args:
        argv: Arguments without the program's name; those of the process if not given.

    Returns:
        Exit code: 0; 1 if `tta check` found a broken promise; 2 for input that cannot be used, said in one line on
        stderr; 3 if a condition of `tta report --fail-if` holds or a published value did not come out in
        `tta reproduce`; 130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: complain(f"warning: {message}")
        return run(argv)


def run(argv: list[str]) -> int:
    """Runs the command that the arguments describe, and turns what a user can cause into one line."""
    try:
        if argv == ["--version"]:
            import tta

            sys.stdout.write(f"tta {tta.__version__}\n")
            return OK
        command = parse(argv or ["--help"])
        heap.keep_freed()
        return OK if command is None else command.run()
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # say, `tta methods | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{where}{error.strerror or error}")
        return BAD_INPUT
    except ValueError as error:
        if not isinstance(error, TTAError) and type(error).__name__ != "CorruptionError":
            raise
        complain(str(error))
        return BAD_INPUT


def parse(argv: list[str]) -> Any:
    """The command that the arguments describe; None if help was shown.

    Raises:
        TTAError: They describe none.
    """
    choices = [
        Annotated[command, tyro.conf.subcommand(name, description=text if argv[0] == name else first_line(command))]
        for name, (command, text) in COMMANDS.items()
    ]
    commands: Any = functools.reduce(operator.or_, choices)
    if not argv[0].startswith("-") and argv[0] not in COMMANDS:
        raise unknown("command", argv[0], COMMANDS)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            command, rest = tyro.cli(commands, prog="tta", description=DESCRIPTION, args=argv, return_unknown_args=True)
    except SystemExit as stop:
        if not stop.code:
            return None
        raise TTAError(one_line(complaint.getvalue())) from stop
    if rest:
        known = [f"--{name.replace('_', '-')}" for name in getattr(command, "__dataclass_fields__", ())]
        near = difflib.get_close_matches(rest[0], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"`tta {argv[0]} --help` lists the options"
        raise TTAError(f"unknown option {rest[0]}: {hint}")
    return command


def one_line(box: str) -> str:
    """The first paragraph of an error that tyro has drawn a box around."""
    lines = [line.strip("│╭╮╰╯─ \n") for line in re.split(r"│\s*─+\s*│", box)[0].splitlines()]
    return ": ".join(line for line in lines if line) or "the arguments cannot be read; see tta --help"
