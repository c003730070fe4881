# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit names each package whose signatures don't count, and every host that runs it."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.auditing import compare

DIGEST = "sha256:" + "a" * 64
LIVE = {"name": "hello", "version": "1.0", "digest": DIGEST, "changed": [], "extra": []}
RECORDED = [{"ci": name, "release": "hello", "version": "1.0", "digest": DIGEST} for name in ("web1", "web2")]


def differences(untrusted: dict[str, tuple[str, str]], **found: Any) -> list[tuple[Any, str, str]]:
    found = {"web1": [LIVE], "web2": [LIVE]} | found
    return [(entry["host"], entry["kind"], entry["detail"]) for entry in compare(found, RECORDED, {DIGEST}, untrusted)]


def test_what_is_trusted_makes_no_difference() -> None:
    assert differences({}) == []


def test_what_is_not_trusted_is_named_once_and_on_each_host_that_runs_it() -> None:
    why = "hello 1.0 is not trusted: nobody signed it"
    assert differences({DIGEST: ("hello", why)}, web2=[LIVE | {"digest": None}]) == [
        (None, "untrusted", why),
        ("web1", "untrusted", f"hello 1.0 is live, but {why}"),
        ("web2", "missing", "the CMDB says hello 1.0, but it is not live"),
    ]
