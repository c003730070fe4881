# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts that a release of hardware exchanges. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

KIND = "hardware"
"""What the manifest of such a release says that it is."""


@dataclass(frozen=True)
class PartChange:
    """One part that each CI gets in place of another.

    ``slot``: where it is in the CI, empty for the machine itself. ``models``: which models may be there before, none for an empty slot.
    ``model``: what is there afterwards. ``instructions``: which file of the documentation says how that is done.
    """

    slot: str
    models: tuple[str, ...]
    model: str
    instructions: str

    def to_config(self) -> dict[str, Any]:
        """All of it in the shape of the schema."""
        return {
            "models": list(self.models),
            "model": self.model,
            "instructions": self.instructions,
            **({"slot": self.slot} if self.slot else {}),
        }

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> PartChange:
        """Read it from the shape of the schema."""
        return cls(data.get("slot", ""), tuple(data["models"]), data["model"], data["instructions"])


def contradictions(
    parts: Iterable[PartChange], numbers: Iterable[int], documentation: Collection[str]
) -> Iterator[tuple[int, str, str, str]]:
    """What of parts can't be so: the one of ``numbers`` by which messages call the part, key, sentence and remedy."""
    taken: dict[str, int] = {}
    for number, part in zip(numbers, parts, strict=True):
        slot = f"the slot {part.slot}" if part.slot else "the machine itself"
        other = taken.setdefault(part.slot.casefold(), number)
        if other != number:
            yield number, "slot", f"{slot} is exchanged by hardware.{other} already", "have one entry for each slot"
        if not part.slot and not part.models:
            yield number, "models", "a machine can't come into an empty slot", "list the models that are exchanged"
        if part.model in part.models:
            yield number, "model", f"{part.model} is in models too, so nothing would change there", "leave it out of models"
        if part.instructions not in documentation:
            what = f"hardware.{number}.instructions is {part.instructions}, which is not among the documentation"
            yield number, "instructions", what, "list it under documentation, so that it is archived"
