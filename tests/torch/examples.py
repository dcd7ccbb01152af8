"""Checks that the examples in a header's comments are code of a test: line by line, whatever stands between the lines.

usage: examples.py HEADER... --tests SOURCE...
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

EXAMPLE = re.compile(r"^//   (?:    )?(\S.*)$")  # prose has one space, lists have others


def normalised(line: str) -> str:
    return " ".join(line.partition("//")[0].split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("headers", nargs="+", type=Path)
    parser.add_argument("--tests", nargs="+", type=Path, required=True)
    options = parser.parse_args()
    tested = " ".join(normalised(line) for path in options.tests for line in path.read_text().splitlines())
    failed = False
    for header in options.headers:
        lines = [found[1] for line in header.read_text().splitlines() if (found := EXAMPLE.match(line))]
        if not lines:
            print(f"{header.name} has no example")
            failed = True
        for line in lines:
            if normalised(line) not in tested:
                print(f"{header.name}: no test has the example's line: {line}")
                failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
