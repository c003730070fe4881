# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The release policy: what an RFC has to carry, and how a rollout is cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..documents import Document, load_document
from ..rollout.options import Rollout, Share

DEFAULT = Path(__file__).parent / "default.yml"


@dataclass(frozen=True)
class Policy:
    """``approvals``: how many distinct people have to approve an RFC of each type."""

    approvals: Mapping[str, int]
    rollout: Rollout


def load_policy(path: str | Path | None = None) -> Policy:
    """Load a policy.yml, the shipped one when ``path`` is ``None``; what it leaves out has the shipped value.

    Raises :class:`DocumentError` with every problem.
    """
    base = _load(DEFAULT)
    own = base if path is None else _load(path)
    rollout: dict[str, Any] = {**base["rollout"], **own.get("rollout", {})}
    budget: dict[str, Any] = {**base["rollout"]["budget"], **rollout["budget"]}
    return Policy(
        approvals={**base["approvals"], **own.get("approvals", {})},
        rollout=Rollout(
            canary=_share(rollout["canary"]),
            steps=tuple(rollout["steps"]),
            order_by=rollout["order_by"],
            wave_budget=_share(budget["wave"]),
            total_budget=_share(budget["total"]),
            on_failure=rollout["on_failure"],
            keep=rollout["keep"],
        ),
    )


def _load(path: str | Path) -> dict[str, Any]:
    document = load_document(path, "policy")
    _check_steps(document)
    document.finish()
    return document.data


def _check_steps(document: Document) -> None:
    place = ("rollout", "steps")
    if document.is_good(place):
        steps = document.data["rollout"]["steps"]
        if steps != sorted(set(steps)) or steps[-1] != 100:
            document.problem(place, f"the steps are {steps}", "let them rise and end with 100")


def _share(value: int | str) -> Share:
    return Share(int(value[:-1]), percent=True) if isinstance(value, str) else Share(value)
