# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A version is in a range by the rules of its scheme, or it can't be said."""

from __future__ import annotations

import contextlib

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.versions import UnorderedError, check_range, fits
from hypothesis import given
from hypothesis import strategies as st

SCHEMES = ("pep440", "semver", "deb", "rpm")


@pytest.mark.parametrize(
    ("version", "versions", "scheme", "expected"),
    [
        ("2.10", ">=2.9,<3", "pep440", True),
        ("3.0", ">=2.9,<3", "pep440", False),
        ("3.0rc1", ">=2.9,<3", "pep440", False),
        ("2.10rc1", ">=2.9", "pep440", True),
        ("1.0.0-alpha", "<1.0.0", "semver", True),
        ("1.10.0", ">1.9.0", "semver", True),
        ("1.0~rc1", "<1.0", "deb", True),
        ("2:1.0", ">9", "deb", True),
        ("3.0.11-1~deb12u2", ">=3.0,<3.1", "deb", True),
        ("1.0-9", ">=1.0-10", "deb", False),
        ("1.0~rc1-1", "<1.0-1", "rpm", True),
        ("5.14.0-70.el9", ">5.9", "rpm", True),
        ("0:3.0.7-27.el9", "==3.0.7", "rpm", True),
        ("0:3.0.7-27.el9", ">3.0.7", "rpm", False),
        ("0:3.0.7-27.el9", ">=3.0.7-28", "rpm", False),
        ("1:3.0.7-27.el9", "==3.0.7", "rpm", False),
        ("1.0.0+b2", "==1.0.0+b1", "semver", True),
        ("1.0.0+b2", "!=1.0.0", "semver", False),
        ("01.0", "==1.0", "deb", True),
        ("anything", "", "pep440", True),
    ],
)
def test_a_version_is_in_a_range_by_its_scheme(version: str, versions: str, scheme: str, expected: bool) -> None:
    assert fits(version, versions, scheme) is expected


@pytest.mark.parametrize(
    ("version", "versions", "scheme"),
    [
        ("latest", ">=1", "pep440"),
        ("2:1.0", ">=1", "pep440"),
        ("2:1.0~rc1", ">=1.0.0", "semver"),
        ("1.2", ">=1.0.0", "semver"),
        ("v1.2.3", ">=1.0.0", "semver"),
        ("garbage x", ">=1", "rpm"),
        ("v1", ">=1", "deb"),
        ("", ">=1", "deb"),
        ("1" * 201, ">=1", "deb"),
        (f"1.{'0' * 200}5", "==1.0", "pep440"),
        ("1.0", "1.0", "deb"),
        ("1.0", ">=", "rpm"),
        ("1.0", ">=1,", "semver"),
        ("1.0", "about 1", "pep440"),
    ],
)
def test_what_can_not_be_ordered_is_never_in_a_range(version: str, versions: str, scheme: str) -> None:
    with pytest.raises(UnorderedError):
        fits(version, versions, scheme)


@given(st.text(max_size=30), st.text(max_size=30), st.sampled_from(SCHEMES))
def test_any_text_is_ordered_or_refused(version: str, versions: str, scheme: str) -> None:
    with contextlib.suppress(UnorderedError):
        fits(version, versions, scheme)
    with contextlib.suppress(UnorderedError):
        check_range(versions, scheme)
