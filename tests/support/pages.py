# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The blocks of code in README and docs, and which pages are followed by which test, block by block."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
GUIDES = ROOT / "docs" / "guides"
_FENCED = re.compile(r"^(?P<indent> *)```(?P<info>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?<=\n\n)(?: {4}\S[^\n]*\n)+(?=\n|\Z)")
_NAMED = 60  # letters of a block's first line
# Guides that need a test of their own, beside those that test_guides.py follows one like the other.
OWN_TESTS = {
    "awx": "tests/integration/test_awx.py",
    "eda": "tests/integration/test_rulebook.py",
    "first-release": "tests/integration/test_init.py",
    "molecule": "tests/integration/test_molecule_example.py",
}


class Block(NamedTuple):
    """A block of code: its language as the page has it, ``indented`` for one without fences, and what is in it."""

    page: str
    language: str
    code: str

    @property
    def name(self) -> str:
        """By what a list names it: the page and the beginning of the first line."""
        return f"{self.page}: {self.code.splitlines()[0].strip()[:_NAMED].rstrip()}"


def followed_alike() -> list[str]:
    """The guides that test_guides.py follows, by name."""
    return sorted({path.stem for path in GUIDES.glob("*.md")} - OWN_TESTS.keys())


def pages() -> list[Path]:
    """Every page that is written by hand."""
    root = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "MAINTAINERS.md", "SECURITY.md")]
    return [*root, *(path for path in sorted((ROOT / "docs").rglob("*.md")) if path.parent.name != "schemas")]


def blocks(path: Path) -> Iterator[Block]:
    """The blocks of code on a page."""
    text, page = path.read_text(), path.relative_to(ROOT).as_posix()
    for found in _FENCED.finditer(text):
        yield Block(page, found["info"].strip(), found["code"])
    for found in _INDENTED.finditer(_FENCED.sub("", text)):
        yield Block(page, "indented", found[0])
