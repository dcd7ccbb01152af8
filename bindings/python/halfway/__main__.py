"""The command line: `python -m halfway` or `halfway`."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import halfway

__all__ = ["main"]

_SPEC = re.compile(r"(?P<dtype>.+)\[(?P<shape>[\d,\s]*)\]")
_SECTIONS = ("a", "b", "c", "d", "e", "f", "g", "times")
_WIDTH = 100

# What `config` can tell: the option, the place below the package, how it is printed, and what it is.
_PLACES = (
    ("cmakedir", "lib/cmake/halfway", "{}", "the CMake package, for CMAKE_PREFIX_PATH or halfway_DIR"),
    ("includes", "include", "-I{}", "the compiler's option for the C++ headers"),
    ("libdir", "lib", "{}", "the static libraries"),
    ("pkgconfigdir", "lib/pkgconfig", "{}", "what PKG_CONFIG_PATH needs for halfway-runtime"),
)


class _UsageError(Exception):
    """Something wrong with the arguments: one line and exit code 2."""


class _Refused(Exception):
    """Something that cannot be done: one line and exit code 1."""


def _sections(text: str) -> list[str]:
    keys = [key.strip() for key in text.split(",") if key.strip()]
    for key in keys:
        if key not in _SECTIONS:
            raise argparse.ArgumentTypeError(f"no section {key!r}: choose from {','.join(_SECTIONS)}")
    return keys


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="halfway",
        description="NumPy and torch: the same memory where the dtypes agree, one pass where not.",
    )
    parser.add_argument("--version", action="version", version=f"halfway {halfway.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="real data between NumPy and torch, explained and timed",
        description="Handwritten digits between NumPy and torch: what happens, why, and how fast.",
    )
    demo.add_argument(
        "--section",
        type=_sections,
        default=[],
        metavar="KEYS",
        help=f"only these sections, separated by commas: {','.join(_SECTIONS)}",
    )
    demo.add_argument("--no-times", action="store_true", help="measure nothing")

    explain = commands.add_parser(
        "explain",
        help="what an exchange would do, and why",
        description="What an exchange would do, and why. Nothing is converted.",
        epilog="""examples:
  halfway explain data.npy --dtype bf16
  halfway explain "float64[64,3]" --to numpy
  halfway explain "float32[1024,1024]" --dtype bf16 --device cuda""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    explain.add_argument("source", metavar="FILE.npy|SPEC", help='a .npy file, or a dtype and shape: "float64[64,3]"')
    explain.add_argument("--dtype", help="the dtype wanted (default: the source's)")
    explain.add_argument("--to", choices=("torch", "numpy", "halfway"), default="torch", help="default: torch")
    explain.add_argument("--device", help='where the result is to be, e.g. "cuda"; it need not be there')
    explain.add_argument("--casting", help="the level that the cast must keep to (default: same_kind)")
    explain.add_argument("--overflow", help="default, saturate or raise")
    explain.add_argument("--copy", choices=("never", "always"), help="refuse to copy, or insist on it")
    explain.add_argument("--allow-readonly", action="store_true", help="alias read-only memory in torch")
    explain.add_argument("--json", action="store_true", help="the plan as JSON")

    dtypes = commands.add_parser("dtypes", help="every dtype and what can be done with it")
    dtypes.add_argument("--json", action="store_true", help="the rows as JSON")

    config = commands.add_parser(
        "config",
        help="where the C++ headers, libraries and CMake package are",
        description="Where this installation has its C++ part: one line for each option, or all with their names.",
        epilog="""examples:
  cmake -S . -B build -DCMAKE_PREFIX_PATH="$(python -m halfway config --cmakedir)"
  c++ -std=c++20 main.cpp $(python -m halfway config --includes) -L$(python -m halfway config --libdir) \\
    -lhalfway_runtime -pthread""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, _, _, text in _PLACES:
        config.add_argument(f"--{name}", dest="places", action="append_const", const=name, help=text)
    return parser


def _numpy_dtype(name: str) -> np.dtype[Any]:
    for row in halfway.dtypes():
        if name == row.name or name in row.aliases:
            if row.numpy is None:
                raise _UsageError(f"NumPy has no {row.name}, so there is no array of it to explain")
            if row.numpy.startswith("ml_dtypes."):
                import ml_dtypes

                dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, row.name))
                return dtype
            return np.dtype(row.numpy)
    try:
        return np.dtype(name)
    except TypeError:
        raise _UsageError(f"unknown dtype {name!r}: `halfway dtypes` lists the names") from None


def _source(text: str) -> np.ndarray[Any, Any]:
    spec = _SPEC.fullmatch(text)
    if spec is not None and not Path(text).exists():
        shape = tuple(int(part) for part in spec["shape"].split(",") if part.strip())
        try:
            return np.empty(shape, _numpy_dtype(spec["dtype"].strip()))
        except (ValueError, MemoryError) as error:
            raise _UsageError(f"{text}: {error}") from None
    try:
        # copy-on-write: as np.load() without a map, writable, but nothing is read
        loaded = np.load(text, mmap_mode="c")
    except FileNotFoundError:
        raise _UsageError(f'{text}: no such file; a spec looks like "float64[64,3]"') from None
    except (OSError, ValueError, EOFError) as error:
        raise _UsageError(f"{text}: not a readable .npy file ({error})") from None
    if not isinstance(loaded, np.ndarray):
        loaded.close()
        raise _UsageError(f"{text}: an archive of arrays; extract one and save it as .npy")
    return loaded


def _demo(arguments: argparse.Namespace) -> int:
    from . import _demo as demo

    return demo.run(arguments.section, times=not arguments.no_times)


def _explain(arguments: argparse.Namespace) -> int:
    fields = {"casting": arguments.casting, "overflow": arguments.overflow}
    given: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    if arguments.copy is not None:
        given["copy"] = arguments.copy == "always"
    source = _source(arguments.source)
    try:
        plan = halfway.explain(
            source,
            arguments.dtype,
            to=arguments.to,
            device=arguments.device,
            allow_readonly=arguments.allow_readonly,
            **given,
        )
    except (halfway.ExchangeError, halfway.CastError) as error:
        raise _Refused(str(error)) from None
    except (TypeError, ValueError) as error:
        raise _UsageError(str(error)) from None
    print(json.dumps(plan.to_dict()) if arguments.json else plan)
    return 0


def _dtypes(arguments: argparse.Namespace) -> int:
    rows = halfway.dtypes()
    if arguments.json:
        print(json.dumps([row._asdict() for row in rows], indent=1))
        return 0
    layout = "{:18}  {:>4}  {:9}  {:5}  {:4}  {}"
    print(layout.format("dtype", "bits", "NumPy", "torch", "cast", "also called"))
    for row in rows:
        if row.kind == "refused":
            continue
        in_numpy = "-" if row.numpy is None else "ml_dtypes" if "." in row.numpy else "yes"
        in_torch = "-" if row.torch is None else "yes"
        cast = "yes" if row.castable else "-"
        aliases = textwrap.wrap(", ".join(row.aliases), _WIDTH - 51) or [""]
        print(layout.format(row.name, str(row.bits), in_numpy, in_torch, cast, aliases[0]).rstrip())
        for more in aliases[1:]:
            print(" " * 51 + more)
    print("\ncast: values are converted; otherwise the bytes travel as they are. Refused by name:\n")
    for row in rows:
        if row.kind == "refused":
            print(f"{row.name:22}  {row.note}")
    return 0


def _config(arguments: argparse.Namespace) -> int:
    package = Path(halfway.__file__).resolve().parent
    rows = {}
    for name, place, layout, _ in _PLACES:
        path = package / place
        if not path.is_dir():
            raise _Refused(
                f"no C++ part is installed here ({path} is missing): install the wheel, or use cmake --install"
            )
        rows[name] = layout.format(path)
    for name in arguments.places or ():
        print(rows[name])
    if not arguments.places:
        for name, value in rows.items():
            print(f"{name:12}  {value}")
    return 0


_COMMANDS = {"demo": _demo, "explain": _explain, "dtypes": _dtypes, "config": _config}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the arguments after the program's name; None takes them from the command line.

    Returns:
        int: 0, 1 if what was asked for cannot be done, 2 for wrong arguments.

    Example:
        >>> from halfway.__main__ import main
        >>> main(["explain", "float64[64,3]", "--dtype", "bf16"])
        float64 (64, 3) -> torch bfloat16: one pass
          because   dtype
          cast      float64 -> bfloat16, reads 1536 B, writes 384 B
        0
    """
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed what there is to say
        return stop.code if isinstance(stop.code, int) else 2
    try:
        code = _COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
    except (_UsageError, _Refused) as error:
        print(f"halfway {arguments.command}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, _UsageError) else 1
    except BrokenPipeError:
        # The reader of the output left, as `| head` does. The interpreter flushes again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
