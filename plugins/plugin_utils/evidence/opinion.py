# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opinions of users as signed evidence: what somebody who tried one package thinks of it. A package built anew has none. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .statement import OPINION, Statement, purl

SCORES = range(1, 6)


@dataclass(frozen=True)
class Opinion:
    """What somebody in ``role`` thinks. ``score`` is 1 (useless) to 5 (excellent); ``blocking``: it must not go live as it is."""

    role: str
    score: int
    blocking: bool = False
    functionality: str = ""
    usability: str = ""

    def statement(self, name: str, version: str, digest: str) -> Statement:
        """That this is thought of the package ``digest`` of a release."""
        said = {"role": self.role, "score": self.score, "blocking": self.blocking}
        comments = {"functionality": self.functionality, "usability": self.usability}
        return Statement(purl(name, version), digest, OPINION, said | {"comments": comments})


def opinion_fault(statement: Statement) -> str:
    """Why a statement is no opinion; empty when it is one."""
    said = statement.predicate
    score, blocking, role = said.get("score"), said.get("blocking"), said.get("role")
    if not isinstance(score, int) or isinstance(score, bool) or score not in SCORES:
        return f"its score is {score!a:.40}, not a whole number from {SCORES[0]} to {SCORES[-1]}"
    if not isinstance(blocking, bool):
        return "it does not say whether it is blocking"
    return "" if isinstance(role, str) else "it does not say in which role it was signed"
