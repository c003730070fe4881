# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages of a report's site are called, so that whoever links to one calls it the same. Pure."""

from __future__ import annotations

import re
from urllib.parse import quote

NUMBER = re.compile(r"[A-Z]{2,10}[0-9]{3,12}")
"""What the number of an RFC is like that has a page, which has its name."""
STOCK = "stock/1.html"


def change_page(number: str) -> str:
    """The page of a change, from where the site begins."""
    return f"changes/{quote(number, safe='')}.html"


def published_page(pages: str, number: str) -> str:
    """Where the page of a change is published, of a site at the address ``pages``; the first page for a number that has none."""
    return f"{pages.rstrip('/')}/{change_page(number) if NUMBER.fullmatch(number) else ''}"
