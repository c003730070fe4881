# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Licences as SPDX licence expressions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

_OWN = re.compile(r"(?:DocumentRef-[A-Za-z0-9.-]+:)?LicenseRef-[A-Za-z0-9.-]+")
_LIMIT = 1000  # characters


@cache
def _spdx() -> Any:
    import license_expression  # noqa: PLC0415 - slow to import, and not every manifest names a licence

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


# What the classifiers of Python packages mean that mean just one licence; those for a family, such as all of BSD, are not here.
_CLASSIFIERS = {
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "OSI Approved :: Academic Free License (AFL)": "AFL-3.0",
    "OSI Approved :: Apache License 2.0": "Apache-2.0",
    "OSI Approved :: Blue Oak Model License (BlueOak-1.0.0)": "BlueOak-1.0.0",
    "OSI Approved :: Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "OSI Approved :: CMU License (MIT-CMU)": "MIT-CMU",
    "OSI Approved :: Common Development and Distribution License 1.0 (CDDL-1.0)": "CDDL-1.0",
    "OSI Approved :: Common Public License": "CPL-1.0",
    "OSI Approved :: Eclipse Public License 1.0 (EPL-1.0)": "EPL-1.0",
    "OSI Approved :: Eclipse Public License 2.0 (EPL-2.0)": "EPL-2.0",
    "OSI Approved :: European Union Public Licence 1.1 (EUPL 1.1)": "EUPL-1.1",
    "OSI Approved :: European Union Public Licence 1.2 (EUPL 1.2)": "EUPL-1.2",
    "OSI Approved :: GNU Affero General Public License v3": "AGPL-3.0-only",
    "OSI Approved :: GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "OSI Approved :: GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "OSI Approved :: GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "OSI Approved :: GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "OSI Approved :: GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "OSI Approved :: GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
    "OSI Approved :: GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "OSI Approved :: GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "OSI Approved :: ISC License (ISCL)": "ISC",
    "OSI Approved :: MIT License": "MIT",
    "OSI Approved :: MIT No Attribution License (MIT-0)": "MIT-0",
    "OSI Approved :: Mozilla Public License 1.0 (MPL)": "MPL-1.0",
    "OSI Approved :: Mozilla Public License 1.1 (MPL 1.1)": "MPL-1.1",
    "OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "OSI Approved :: Mulan Permissive Software License v2 (MulanPSL-2.0)": "MulanPSL-2.0",
    "OSI Approved :: PostgreSQL License": "PostgreSQL",
    "OSI Approved :: Python Software Foundation License": "PSF-2.0",
    "OSI Approved :: SIL Open Font License 1.1 (OFL-1.1)": "OFL-1.1",
    "OSI Approved :: The Unlicense (Unlicense)": "Unlicense",
    "OSI Approved :: Universal Permissive License (UPL)": "UPL-1.0",
    "OSI Approved :: University of Illinois/NCSA Open Source License": "NCSA",
    "OSI Approved :: W3C License": "W3C",
    "OSI Approved :: Zero-Clause BSD (0BSD)": "0BSD",
    "OSI Approved :: zlib/libpng License": "Zlib",
    "OSI Approved :: Zope Public License": "ZPL-2.1",
}
_HEADINGS = frozenset({"OSI Approved"})  # classifiers that are above others and say nothing alone

# Names of Debian's copyright files that SPDX has others for.
_DEBIAN = {
    "expat": "MIT",
    "artistic": "Artistic-1.0-Perl",
    "artistic-1": "Artistic-1.0-Perl",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause",
    "cc0": "CC0-1.0",
    "perl": "GPL-1.0-or-later OR Artistic-1.0-Perl",
    "psf-2": "PSF-2.0",
    "zope-2.1": "ZPL-2.1",
    "boost-1.0": "BSL-1.0",
}
_GNU = re.compile(r"(?P<name>[AL]?GPL|GFDL)-(?P<number>[0-9](?:\.[0-9])?)(?P<later>\+?)", re.IGNORECASE)
_PLUS = re.compile(r"(?P<name>.+)\+")
_BETWEEN = re.compile(r"\s*(?:,\s*)?\b(and|or)\b\s*", re.IGNORECASE)
_FORMAT = "://www.debian.org/doc/packaging-manuals/copyright-format/1.0"
_NAMES = 30  # licences that one package says


def of_classifiers(classifiers: Iterable[str]) -> str | None:
    """All licences that the classifiers of a Python package say; ``None`` when one of them does not say which licence it is."""
    said = [text.split("::", 1)[1].strip() for text in classifiers if text.startswith("License ::")]
    known = [_CLASSIFIERS.get(text) for text in said if text not in _HEADINGS]
    return None if None in known else _all_of(text for text in known if text)


def of_debian(copyright_file: str) -> str | None:
    """All licences that a copyright file of Debian's says, if it is one for machines (copyright-format 1.0).

    ``None`` when one of them has no name in SPDX; a paragraph that only has the text of a licence says nothing of which files have it.
    """
    paragraphs = re.split(r"\n[ \t]*\n", copyright_file.replace("\r\n", "\n").strip("\n"))
    fields = [_fields(paragraph) for paragraph in paragraphs]
    if _FORMAT not in fields[0].get("format", "").replace("/dep5", ""):
        return None
    said = [found["license"] for found in (fields[0], *(found for found in fields[1:] if "files" in found)) if found.get("license")]
    known = [_of_debian_name(text) for text in dict.fromkeys(said)]
    return None if None in known else _all_of(text for text in known if text)


def _fields(paragraph: str) -> dict[str, str]:
    """The first line of each field of a paragraph."""
    found = (line.partition(":") for line in paragraph.splitlines() if not line.startswith((" ", "\t", "#")))
    return {name.strip().lower(): value.strip() for name, colon, value in found if colon}


def _of_debian_name(text: str) -> str | None:
    """An expression of Debian's in SPDX's words; ``and`` binds stronger than ``or``, but not across a comma, which is not understood."""
    if "," in text or len(text) > _LIMIT:
        return None
    parts = _BETWEEN.split(text)
    names = [_of_debian_word(name) for name in parts[::2]]
    if any(name is None for name in names):
        return None
    words = [f"({name})" if name and " OR " in name and len(names) > 1 else name for name in names]
    between = [word.upper() for word in parts[1::2]]
    return normalise(" ".join(str(word) for pair in zip(words, [*between, ""], strict=True) for word in pair))


def _of_debian_word(name: str) -> str | None:
    gnu = _GNU.fullmatch(name)
    if gnu:
        number = gnu["number"] if "." in gnu["number"] else f"{gnu['number']}.0"
        return normalise(f"{gnu['name'].upper()}-{number}-{'or-later' if gnu['later'] else 'only'}")
    plus = _PLUS.fullmatch(name)
    bare = plus["name"] if plus else name
    found = _DEBIAN.get(bare.lower()) or normalise(bare) or normalise(f"{bare}.0")
    return None if found is None or (plus and " " in found) else f"{found}+" if plus else found


def _all_of(licences: Iterable[str]) -> str | None:
    """That each of these licences is said."""
    found = list(dict.fromkeys(licences))
    if not 0 < len(found) <= _NAMES:
        return None
    return normalise(" AND ".join(f"({one})" if " OR " in one and len(found) > 1 else one for one in found))
