# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of homes are taken as people write them."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.tidegate.release.plugins.plugin_utils.settings import expanded


def test_a_home_of_nobody_is_only_a_path_that_is_not_there() -> None:
    assert expanded("~/rfc.yml") == str(Path.home() / "rfc.yml")
    assert expanded("~nobody-of-this-name/rfc.yml") == "~nobody-of-this-name/rfc.yml"
    assert expanded("oci://~/x") == "oci://~/x"
