"""Every example of the documentation runs: Python blocks of Markdown, examples of docstrings."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path

import pytest

import halfway
import halfway.__main__

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    if BLOCK.search(path.read_text())
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_run_in_order(page, capsys):
    """The blocks of a page share one namespace; what they print is what their comments say."""
    text = page.read_text()
    names: dict[str, object] = {"__name__": page.stem}
    for match in BLOCK.finditer(text):
        line = text[: match.start(1)].count("\n")
        code = compile("\n" * line + match[1], str(page), "exec")
        exec(code, names)
        printed = capsys.readouterr().out.splitlines()
        for claimed in re.findall(r"^# (.+(?:\n#   .+)*)", match[1], re.MULTILINE):
            claim = [part.removeprefix("# ").removeprefix("#") for part in claimed.splitlines()]
            assert claim[0] in printed, claimed
            at = printed.index(claim[0])
            assert [line.strip() for line in printed[at : at + len(claim)]] == [
                line.strip() for line in claim
            ]


def test_pages_are_found():
    assert {page.name for page in PAGES} >= {"README.md", "casting.md", "errors.md", "ownership.md"}


def documented():
    """Everything public with a docstring of its own, by name."""
    found = {"halfway": halfway, "halfway.__main__.main": halfway.__main__.main}
    for name in halfway.__all__:
        public = getattr(halfway, name)
        found[f"halfway.{name}"] = public
        if inspect.isclass(public):
            found |= {
                f"halfway.{name}.{attribute}": member
                for attribute, member in vars(public).items()
                if getattr(member, "__doc__", None) and not attribute.startswith("_")
            }
    return found


@pytest.mark.parametrize("name", [name for name, x in documented().items() if ">>>" in x.__doc__])
def test_docstring_examples(name):
    text = documented()[name].__doc__
    examples = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(examples, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)


def test_public_functions_and_classes_have_examples():
    without = [
        f"halfway.{name}"
        for name in halfway.__all__
        if ">>>" not in (inspect.getdoc(getattr(halfway, name)) or "")
    ]
    assert without == []
