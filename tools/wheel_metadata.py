# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the package for pip needs: the libraries of ``requirements/base.txt``, and with an extra those of another file there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Requirements(MetadataHookInterface):
    """Called by hatchling, see ``pyproject.toml``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put the requirements into ``metadata``."""
        needs = {path.stem: _lines(path) for path in sorted(Path(self.root, "requirements").glob("*.txt"))}
        del needs["bindep"]  # packages of the operating system
        metadata["dependencies"] = needs.pop("base")
        metadata["optional-dependencies"] = needs


def _lines(path: Path) -> list[str]:
    lines = (line.partition(" #")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]
