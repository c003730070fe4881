# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where reports and clearances are put: each page with its data beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import TidegateError
from ..files import make_folder, write_atomically
from .document_file import DocumentFile, beginning
from .html import (
    generator,
    render_change,
    render_deployment,
    render_hosts,
    render_list,
    render_overview,
    render_plan,
    render_plan_drawing,
    render_release,
    render_search,
    render_stock,
)
from .model import Report
from .pages import NUMBER
from .releases import NAME

_FOLDERS = ("deployments", "hosts", "stock", "search")  # with pages that have numbers
_PAGE = re.compile(r"[0-9]+\.(html|json)")
_NAMED_FOLDERS = {"changes": NUMBER, "releases": NAME}  # with pages that have names
_MARK = b'<meta name="generator" content="Tidegate '


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


def write_report(report: Report, directory: Path, *, write: bool) -> list[str]:
    """Write ``index.html`` with ``report.json``, and a page with its data for each deployment, the hosts and the stock, where they changed.

    What an earlier report had a page for and this one has not goes. Returns the paths that change; with ``write`` false nothing does.
    Raises :class:`TidegateError` when it can't be written, or when the directory has another's ``index.html``.
    """
    _refuse_others_page(directory / "index.html")
    changes = {page["number"] for page in report.changes.values()}
    releases = {page["release"] for page in report.releases.values()}
    numbers = {page["id"] for page in report.deployments.values()}
    changed = []
    of_pages: tuple[tuple[Mapping[str, Mapping[str, Any]], Callable[[Mapping[str, Any]], str]], ...] = (
        (report.deployments, partial(render_deployment, changes=changes)),
        (report.hosts, partial(render_hosts, deployments=numbers)),
        (report.stock, render_stock),
        (report.changes, partial(render_change, releases=releases)),
        (report.releases, partial(render_release, changes=changes)),
        (report.search, render_search),
    )
    for pages, render in of_pages:
        for name, page in pages.items():
            folder, number = (directory / name).parent, (directory / name).name
            stale = not _is_current(folder / f"{number}.html")
            one = {f"{number}.html": partial(render, page)}
            changed += write_documents(number, page, "", one, folder, write=write, stale=stale, compact=True)
    for name, page in report.lists.items():
        stale = not _is_current(directory / f"{name}.html")
        one = {f"{name}.html": partial(render_list, name, page)}
        changed += write_documents(name, page, "from", one, directory, write=write, stale=stale, compact=True)
    # The pages that it leads to are there by now.
    index = {"index.html": lambda: render_overview(report.overview, report.deployments, changes)}
    stale = not _is_current(directory / "index.html")
    changed += write_documents("report", report.overview, "generated", index, directory, write=write, stale=stale)
    there = {name for pages, _render in of_pages for name in pages}
    outdated = [path for folder in _FOLDERS for path in _outdated(directory / folder, there)]
    outdated += [path for folder, name in _NAMED_FOLDERS.items() for path in _outdated_named(directory / folder, name, there)]
    try:
        for path in outdated if write else []:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise TidegateError(f"{path} can't be removed: {error.strerror}; remove it, the report has no such page any more") from error
    return [*changed, *map(str, outdated)]


def _refuse_others_page(index: Path) -> None:
    """A report is made anew again and again; what lies where it is to go must not be somebody's only copy of something else."""
    found = beginning(index)
    if found is not None and _MARK not in found:
        raise TidegateError(f"{index} is not a report's; give the report a directory of its own")


def _is_current(page: Path) -> bool:
    """Whether a page that is there was made from these templates: that its data is the same does not say so."""
    return f'content="{generator()}"'.encode() in (beginning(page) or b"")


def _outdated(folder: Path, pages: Collection[str]) -> list[Path]:
    """The pages of earlier reports, and their data, that are none of this one's ``pages``."""
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    return [path for path in found if _PAGE.fullmatch(path.name) and f"{folder.name}/{path.stem}" not in pages]


def _outdated_named(folder: Path, name: re.Pattern[str], pages: Collection[str]) -> list[Path]:
    """The same of pages with names, the data first: a person may have given such a name to a page, so what is a report's says so."""
    try:
        found = sorted(folder.glob("*.html"))
    except OSError:
        return []
    gone = [path for path in found if name.fullmatch(path.stem) and f"{folder.name}/{path.stem}" not in pages]
    gone = [path for path in gone if _MARK in (beginning(path) or b"")]
    return [path for page in gone for path in (page.with_suffix(".json"), page) if path.exists()]


def write_documents(
    name: str,
    data: Mapping[str, Any],
    moment: str,
    others: Mapping[str, Callable[[], str]],
    directory: Path,
    *,
    write: bool,
    stale: bool = False,
    compact: bool = False,
) -> list[str]:
    """Write ``data`` to ``<name>.json`` and what goes with it, unless all is there and says the same already, whatever its ``moment``.

    ``stale``: what goes with it has to be written anew, though the data may be the same. ``compact``: of the data, for many of which
    indenting them is most of the work. Each file is replaced whole. Returns the paths
    that change; with ``write`` false nothing is written. Raises :class:`TidegateError` when it can't be.
    """
    paths = [directory / other for other in others] + [directory / f"{name}.json"]
    try:
        if not stale and _same(data, paths[-1], moment) and all(path.is_file() for path in paths):
            return []
        if write:
            texts = [make() for make in others.values()] + [json.dumps(data, indent=None if compact else 2, ensure_ascii=False) + "\n"]
            make_folder(directory)
            for path, text in zip(paths, texts, strict=True):  # the data last: the next run compares with it
                write_atomically(path, text.encode("utf-8", "replace"))
    except OSError as error:
        raise TidegateError(
            f"the {name} can't be written to {directory}: {error.strerror}; give a directory that can be written"
        ) from error
    return [str(path) for path in paths]


PLAN_FILE = DocumentFile[Mapping[str, Any]](
    "a plan",
    {
        ".html": ((_MARK, b"<title>Plan of "), render_plan),
        ".svg": ((b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ', b'aria-label="Waves of '), render_plan_drawing),
        ".json": ((b'{\n  "rfc": ', b'"release": '), lambda plan: json.dumps(plan, indent=2, ensure_ascii=False) + "\n"),
    },
)


def _same(data: Mapping[str, Any], path: Path, moment: str) -> bool:
    try:
        old = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return False
    return isinstance(old, dict) and old | {moment: None} == {**data, moment: None}
