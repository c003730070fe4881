# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the report is put: ``report.json`` and ``report.html`` in one directory."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import TidegateError
from .html import render


def merge(report: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """``report`` with the top-level keys of ``extra``; raises :class:`TidegateError` for one that the report has itself."""
    taken = sorted(str(key) for key in extra if key in report)
    if taken:
        raise TidegateError(f"extra has {', '.join(taken)}, which the report writes itself; use other names")
    try:
        plain = json.loads(json.dumps(dict(extra), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise TidegateError(f"extra can't be written as JSON ({error}); use text, numbers, lists and mappings") from error
    return {**report, **plain}


def write_report(report: Mapping[str, Any], directory: Path, *, write: bool) -> list[str]:
    """Write both files unless they say the same already, whenever that was generated; return the paths that change.

    Each file is replaced whole. With ``write`` false nothing is written. Raises :class:`TidegateError` when it can't be.
    """
    # The data last: it is what the next run compares with, so it must not be newer than the page.
    texts = {"report.html": render(report), "report.json": json.dumps(report, indent=2, ensure_ascii=False) + "\n"}
    try:
        if _same(report, directory / "report.json") and (directory / "report.html").is_file():
            return []
        if write:
            directory.mkdir(parents=True, exist_ok=True)
            for name, text in texts.items():
                _replace(directory / name, text)
    except OSError as error:
        raise TidegateError(
            f"the report can't be written to {directory}: {error.strerror}; give a directory that can be written"
        ) from error
    return [str(directory / name) for name in texts]


def _same(report: Mapping[str, Any], path: Path) -> bool:
    try:
        old = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    return isinstance(old, dict) and old | {"generated": None} == {**report, "generated": None}


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
