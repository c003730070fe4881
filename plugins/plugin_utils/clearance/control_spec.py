# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that is said of a control, in one place. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..policy.model import Waivable

if TYPE_CHECKING:
    from ..rfc.model import Rfc
    from .facts import Facts
    from .findings import Finding


@dataclass(frozen=True)
class ControlSpec:
    """A control: one check of an RFC against the policy and the facts. The file that has the check lists it in its ``CONTROLS``."""

    name: str
    """How policies, waivers and clearances name it: small letters, digits and ``_``."""
    check: Callable[[Facts, Rfc], Finding]
    """What it comes to. Its docstring begins with the sentence that the reference has; it may raise :class:`.facts.NotKnown`."""
    order: int
    """Where it stands in a clearance: after the controls with a lower number."""
    asked_at_gates: bool = False
    """Whether it is asked again before each wave, for what it looks at can change while the others run."""
    waivable: Waivable = Waivable.NEVER
    """For which changes the policy may let people waive it."""
    sources: tuple[str, ...] = ()
    """What is asked on its behalf, by the names in :mod:`..steps.clear`, besides RFC, policy, manifest, CIs and evidence.

    ``contents`` is every byte of the package.
    """

    @property
    def description(self) -> str:
        """One sentence about what it finds out, which begins with "Whether"."""
        return " ".join((self.check.__doc__ or "").partition("\n\n")[0].split())
