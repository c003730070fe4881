# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rpm says of packages that have one name."""

from __future__ import annotations

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import rpm
from ansible_collections.tidegate.release.plugins.module_utils.package_manager import PackageEntry


@pytest.mark.parametrize(
    ("rows", "sought", "found"),
    [
        (["1.0-1 x86_64", "1.0-1 i686"], ["x86_64"], ("x86_64", "1.0-1", True)),
        (["1.0-1 i686"], ["x86_64"], None),
        (["1.0-1 x86_64", "2.0-1 x86_64"], ["x86_64"], ("x86_64", "2.0-1", False)),  # an upgrade was interrupted
        (["1.0-1 noarch", "2.0-1 x86_64"], ["x86_64", "noarch"], ("x86_64", "2.0-1", False)),
        (["1.0-1 noarch"], ["x86_64"], ("noarch", "1.0-1", True)),
        (["1.0-1 x86_64"], ["noarch"], ("x86_64", "1.0-1", True)),
    ],
)
def test_a_package_is_not_taken_for_the_same_one_of_another_architecture(
    monkeypatch: pytest.MonkeyPatch, rows: list[str], sought: list[str], found: tuple[str, str, bool] | None
) -> None:
    said = "".join("tg-lib\t{}\t{}\n".format(*row.split()) for row in rows)
    monkeypatch.setattr(rpm, "check_tools", lambda *_: None)
    monkeypatch.setattr(rpm, "ask", lambda *_: (said, "", 0))
    entry = {} if found is None else {"tg-lib": PackageEntry("tg-lib", *found, held=False)}
    assert rpm.Rpm().installed({"tg-lib": sought}) == entry
