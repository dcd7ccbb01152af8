"""Every example in a public docstring, README.md and docs/ runs and prints what it says."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import halfway

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.DOTALL | re.MULTILINE)


def docstrings() -> Iterator[tuple[str, str]]:
    """The package, its public names, and the public members of these."""
    yield "halfway", halfway.__doc__ or ""
    for name in halfway.__all__:
        member = getattr(halfway, name)
        yield name, member.__doc__ or ""
        if isinstance(member, ModuleType):
            for attribute in member.__all__:
                yield f"{name}.{attribute}", getattr(member, attribute).__doc__ or ""
        if isinstance(member, type):
            for attribute, value in vars(member).items():
                text = getattr(value, "__doc__", None)
                if isinstance(text, str) and ">>>" in text and attribute != "__doc__":
                    yield f"{name}.{attribute}", text


EXAMPLES = {name: text for name, text in docstrings() if ">>>" in text}


def run_examples(text: str, name: str, namespace: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(text, namespace, name, None, None)
    assert test.examples
    failures = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(test, out=failures.write, clear_globs=False)
    assert runner.failures == 0, failures.getvalue()


def test_what_readme_says_is_not_there_is_not_there():
    said = re.search(r"^Not yet: (.*?)\n\n", PAGES[0].read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert said is not None
    names = re.findall(r"`(\w+)`", said[1])
    assert "prefetch" in names
    assert [name for name in names if hasattr(halfway, name)] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_docstring(name):
    run_examples(EXAMPLES[name], name, {})


def test_every_public_name_has_an_example():
    memory = [f"memory.{name}" for name in halfway.memory.__all__]
    without = [name for name in ("halfway", *halfway.__all__, *memory) if name not in EXAMPLES]
    assert without == []


def test_docstrings_are_plain():
    for name, text in docstrings():
        assert "self:" not in text.partition("\n")[0], name  # generated signatures
        assert "_core" not in text, name
        assert all(len(line) <= 120 for line in text.splitlines()), name


# --- pages


def blocks(page: Path) -> list[tuple[int, str, str]]:
    """Line, language and text of each fenced block."""
    text = page.read_text()
    return [(text.count("\n", 0, match.start()) + 1, match[1], match[2]) for match in FENCE.finditer(text)]


def test_there_is_a_readme_with_examples():
    assert PAGES[0].is_file()
    assert any(language in ("python", "pycon") for _, language, _ in blocks(PAGES[0]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page, tmp_path, monkeypatch):
    """Blocks of one page share a namespace, in their order."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for line, language, text in blocks(page):
        where = f"{page.relative_to(ROOT)}:{line}"
        if language == "pycon" or (language == "python" and text.lstrip().startswith(">>>")):
            run_examples(text, where, namespace)
        elif language in ("python", "py"):
            code = compile("\n" * line + text, str(page), "exec")
            with contextlib.redirect_stdout(io.StringIO()):
                exec(code, namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_fences_are_closed_and_say_their_language(page):
    fences = re.findall(r"^```.*$", page.read_text(), re.MULTILINE)
    assert len(fences) % 2 == 0
    for line, language, _ in blocks(page):
        assert language, f"{page.name}:{line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_into_the_tree_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target) or target.startswith("#"):
            continue
        assert (page.parent / target.partition("#")[0]).exists(), target
