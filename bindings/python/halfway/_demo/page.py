"""The demo's output: prose, tables and transcripts of code that really ran."""

from __future__ import annotations

import ast
import contextlib
import io
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

WIDTH = 96
_INDENT = "  "


class Page:
    """Plain text on standard output, at most WIDTH columns wide."""

    def line(self, text: str = "") -> None:
        print(text)

    def title(self, text: str) -> None:
        self.line()
        self.line(f"== {text} ".ljust(WIDTH, "="))

    def heading(self, text: str) -> None:
        self.line()
        self.line(f"-- {text}")

    def text(self, text: str) -> None:
        self.line(textwrap.fill(" ".join(text.split()), WIDTH))

    def items(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Name and explanation, one a line, the explanations in a column."""
        pairs = list(pairs)
        column = len(_INDENT) + 2 + max(len(name) for name, _ in pairs)
        for name, explanation in pairs:
            self.line(
                textwrap.fill(
                    explanation,
                    WIDTH,
                    initial_indent=f"{_INDENT}{name}".ljust(column),
                    subsequent_indent=" " * column,
                )
            )

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Columns as wide as they need to be; those that hold numbers are aligned to the right."""
        body = [list(row) for row in rows]
        widths = [max(len(cell) for cell in column) for column in zip(header, *body, strict=True)]
        numeric = [all(_is_number(row[i]) for row in body) for i in range(len(header))]
        for row in [list(header), ["-" * width for width in widths], *body]:
            cells = [
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, numeric, strict=True)
            ]
            self.line((_INDENT + "  ".join(cells)).rstrip())

    def run(self, source: str, names: dict[str, Any], *, raises: tuple[type[Exception], ...] = ()) -> None:
        """Run statements one by one and show each with its result, as an interactive session does.

        Warnings are shown, and exceptions of the types in `raises`; others propagate.
        """
        source = textwrap.dedent(source).strip()
        lines = source.splitlines()
        for node in ast.parse(source).body:
            prompt = ">>> "
            for line in lines[node.lineno - 1 : node.end_lineno]:
                self.line(f"{_INDENT}{prompt}{line}")
                prompt = "... "
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    result = _execute(node, names)
                except raises as error:
                    result = f"{type(error).__name__}: {error}"
            for warning in caught:
                self._result(f"{warning.category.__name__}: {warning.message}")
            self._result(result)

    def _result(self, text: str) -> None:
        for line in text.splitlines():
            indented = _INDENT + line
            if len(indented) > WIDTH:
                indented = textwrap.fill(line, WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
            self.line(indented)


def _is_number(cell: str) -> bool:
    return cell == "" or cell[0].isdigit()


def _execute(node: ast.stmt, names: dict[str, Any]) -> str:
    """What an interactive session would print for the statement."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if isinstance(node, ast.Expr):
            value = eval(compile(ast.Expression(node.value), "<demo>", "eval"), names)
            if value is not None:
                print(repr(value))
        else:
            exec(compile(ast.Module([node], []), "<demo>", "exec"), names)
    return printed.getvalue()
