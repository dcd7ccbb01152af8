"""Prints what .venv needs: everything that pyproject.toml lists, one requirement a line.

Build requirements are among them because the package is built without isolation, in .venv itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib


def main() -> None:
    pyproject = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    project = pyproject["project"]
    groups = [
        pyproject["build-system"]["requires"],
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *pyproject["dependency-groups"].values(),
    ]
    for requirement in dict.fromkeys(line for group in groups for line in group):
        print(requirement)


if __name__ == "__main__":
    main()
