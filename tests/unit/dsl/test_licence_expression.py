# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.licence_expression import normalise, of_debian
from hypothesis import given, settings
from hypothesis import strategies as st

HEAD = "Format: http://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("MIT", "MIT"),
        ("mit or apache-2.0", "MIT OR Apache-2.0"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
        ("LicenseRef-acme", "LicenseRef-acme"),
        ("MIT AND LicenseRef-acme", "MIT AND LicenseRef-acme"),
        ("Free for all", None),
        ("MIT AND", None),
        ("(MIT", None),
        ("LicenseRef-", None),
        ("", None),
        (" ", None),
        ("(" * 2000, None),
    ],
)
def test_only_spdx_expressions_are_taken(text: str, expression: str | None) -> None:
    assert normalise(text) == expression


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40) | st.lists(st.sampled_from(["MIT", "AND", "OR", "WITH", "(", ")", "+"]), max_size=8).map(" ".join))
def test_no_text_breaks_it(text: str) -> None:
    normalise(text)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL-2", "GPL-2.0-only"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("AGPL-3", "AGPL-3.0-only"),
        ("GFDL-1.3+", "GFDL-1.3-or-later"),
        ("Expat", "MIT"),
        ("expat", "MIT"),
        ("Apache-2.0", "Apache-2.0"),
        ("Apache-2", "Apache-2.0"),
        ("BSD-3-clause", "BSD-3-Clause"),
        ("GPL-2+ or Expat", "GPL-2.0-or-later OR MIT"),
        ("GPL-1+ or Artistic", "GPL-1.0-or-later OR Artistic-1.0-Perl"),
        ("Expat and ISC", "MIT AND ISC"),
        ("GPL-2+, and Expat or ISC", None),
        ("GPL-2+ with OpenSSL exception", None),
        ("public-domain", None),
        ("BSD", None),
        ("x" * 10_000, None),
        ("or", None),
        ("and and and", None),
        ("+", None),
    ],
)
def test_names_of_debian_are_written_as_spdx_has_them(said: str, expected: str | None) -> None:
    assert of_debian(f"{HEAD}\nFiles: *\nCopyright: x\nLicense: {said}\n full text\n") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{HEAD}License: Expat\n\nFiles: *\nLicense: Expat\n", "MIT"),
        (f"{HEAD}\nFiles: *\nLicense: Expat\n\nFiles: x/*\nLicense: GPL-2+ or ISC\n", "MIT AND (GPL-2.0-or-later OR ISC)"),
        (f"{HEAD}\nFiles: *\nLicense: Expat\n\nLicense: GPL-2+\n of something that is not in it\n", "MIT"),
        (f"{HEAD}\nFiles: *\nLicense: Expat\n\nFiles: x/*\nLicense: mine\n", None),
        (HEAD.replace("http:", "https:").replace("1.0/", "1.0") + "\r\nFiles: *\r\nLicense: ISC\r\n", "ISC"),
        (f"{HEAD}\nFiles: *\nCopyright: nobody\n", None),
        ("Files: *\nLicense: Expat\n", None),
        ("This is free software.\n\nLicense: Expat\n", None),
        ("", None),
        ("\n\n\n", None),
    ],
)
def test_a_copyright_file_for_machines_says_all_licences_of_the_files(text: str, expected: str | None) -> None:
    assert of_debian(text) == expected
