# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where reports and clearances are put: data and page in one directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import TidegateError
from ..files import make_folder, write_atomically
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
    """Write ``report.json`` and ``report.html``, as :func:`write_documents` does."""
    return write_documents("report", report, "generated", {"report.html": lambda: render(report)}, directory, write=write)


def write_documents(
    name: str,
    data: Mapping[str, Any],
    moment: str,
    others: Mapping[str, Callable[[], str]],
    directory: Path,
    *,
    write: bool,
    stale: bool = False,
) -> list[str]:
    """Write ``data`` to ``<name>.json`` and what goes with it, unless all is there and says the same already, whatever its ``moment``.

    ``stale``: what goes with it has to be written anew, though the data may be the same. Each file is replaced whole. Returns the paths
    that change; with ``write`` false nothing is written. Raises :class:`TidegateError` when it can't be.
    """
    paths = [directory / other for other in others] + [directory / f"{name}.json"]
    try:
        if not stale and _same(data, paths[-1], moment) and all(path.is_file() for path in paths):
            return []
        if write:
            texts = [make() for make in others.values()] + [json.dumps(data, indent=2, ensure_ascii=False) + "\n"]
            make_folder(directory)
            for path, text in zip(paths, texts, strict=True):  # the data last: the next run compares with it
                write_atomically(path, text.encode("utf-8", "replace"))
    except OSError as error:
        raise TidegateError(
            f"the {name} can't be written to {directory}: {error.strerror}; give a directory that can be written"
        ) from error
    return [str(path) for path in paths]


def _same(data: Mapping[str, Any], path: Path, moment: str) -> bool:
    try:
        old = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return False
    return isinstance(old, dict) and old | {moment: None} == {**data, moment: None}
