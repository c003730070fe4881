# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Licences as SPDX licence expressions."""

from __future__ import annotations

import contextlib
import re
from functools import cache
from typing import Any

with contextlib.suppress(ImportError):
    import license_expression

_OWN = re.compile(r"(?:DocumentRef-[A-Za-z0-9.-]+:)?LicenseRef-[A-Za-z0-9.-]+")
_LIMIT = 1000  # characters


@cache
def _spdx() -> Any:
    return license_expression.get_spdx_licensing()  # type: ignore[no-untyped-call]  # the library has no types


def normalise(expression: str) -> str | None:
    """The expression in SPDX's spelling, or ``None`` when it is not one; own licences are ``LicenseRef-<name>``."""
    if not expression.strip() or len(expression) > _LIMIT:
        return None
    # The list does not know own licences; any known one stands in while the rest is looked at.
    own = _OWN.findall(expression)
    try:
        # Its errors are of many kinds, some of them defects of the library on odd input.
        info = _spdx().validate(_OWN.sub("0BSD", expression))
    except Exception:
        return None
    if info.errors or not info.normalized_expression:
        return None
    return expression.strip() if own else str(info.normalized_expression)
