# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How grave it is what an audit found, and the same as JUnit's XML, a test case for each host. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Any
from xml.sax.saxutils import escape, quoteattr

KNOWN = frozenset({"written_off", "by_hand", "late"})
"""Kinds of what is named and fails no audit, for somebody said so, or it is under way."""
NOT_SEEN = frozenset({"unreachable", "unreadable", "invalid_answer", "left_out", "not_in_inventory"})
"""Kinds of what an audit could not look at, so that there may be more than it has found."""
_OF_LIBRARY = "the library and the stock"  # the test case of what is of no host
# XML 1.0 has no place for these, not even as references.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Severity(StrEnum):
    """What an audit came to. Of two that are so the graver one counts."""

    CLEAN = "clean"
    DIFFERENCES = "differences"
    INCOMPLETE = "incomplete"


EXIT_STATUS: Mapping[Severity, int] = {Severity.CLEAN: 0, Severity.DIFFERENCES: 2, Severity.INCOMPLETE: 3}
"""How the command ends after an audit. ansible-playbook ends with 2 for both of the graver ones."""


def severity(differences: Iterable[Mapping[str, Any]]) -> Severity:
    """How grave the ``differences`` of an audit are, all of them as :mod:`..steps.audit` has them."""
    kinds = {one["kind"] for one in differences} - KNOWN
    return Severity.INCOMPLETE if kinds & NOT_SEEN else Severity.DIFFERENCES if kinds else Severity.CLEAN


def junit(hosts: Collection[str], differences: Iterable[Mapping[str, Any]]) -> str:
    """An audit of ``hosts`` as JUnit's XML: one test case for each of them, and one more for what is of no host.

    A difference is a failure, what could not be looked at an error. What is known of is in the case's output; a host of which nothing but
    that is said because it is written off is skipped.
    """
    of: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in differences:
        of[one["host"] or _OF_LIBRARY].append(one)
    cases = [_case(name, of[name]) for name in sorted({*hosts, *of} - {_OF_LIBRARY})] + [_case(_OF_LIBRARY, of[_OF_LIBRARY])]
    numbers = {what: sum(f"<{tag}" in case for case in cases) for what, tag in _TAGS.items()}
    counts = " ".join(f'{what}="{number}"' for what, number in {"tests": len(cases), **numbers}.items())
    inner = "\n".join(cases)
    suite = f'<testsuites {counts}>\n<testsuite name="tidegate.release.audit" {counts}>\n{inner}\n</testsuite>\n</testsuites>'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{suite}\n'


_TAGS = {"failures": "failure ", "errors": "error ", "skipped": "skipped "}


def _case(name: str, found: Iterable[Mapping[str, Any]]) -> str:
    """One test case. JUnit counts cases, so each has one verdict, the gravest, with all that is to be said in its text."""
    found = list(found)
    grave = [one for one in found if one["kind"] not in KNOWN]
    head = f'<testcase classname="tidegate.release.audit" name={quoteattr(_clean(name))}'
    said = [f"<system-out>{escape(_lines(found))}</system-out>"] if found and not grave else []
    if grave:
        tag = "error" if any(one["kind"] in NOT_SEEN for one in grave) else "failure"
        kinds = ", ".join(sorted({one["kind"] for one in grave}))
        first = quoteattr(_clean(grave[0]["detail"]))
        said = [f"<{tag} type={quoteattr(_clean(kinds))} message={first}>{escape(_lines(found))}</{tag}>"]
    elif any(one["kind"] == "written_off" for one in found):
        said = [f"<skipped message={quoteattr(_clean(found[0]['detail']))}/>"]
    return f"{head}>{''.join(said)}</testcase>" if said else f"{head}/>"


def _lines(found: Iterable[Mapping[str, Any]]) -> str:
    return _clean("\n".join(f"{one['kind']}: {one['detail']}{'; ' if one['remedy'] else ''}{one['remedy']}" for one in found))


def _clean(text: str) -> str:
    return _NO_XML.sub("?", text)
