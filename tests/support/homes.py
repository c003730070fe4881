# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A library, a CMDB and an RFC that are in order, for what reads all three."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import Clearing, clear
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from releases import HELLO

Write = Callable[..., Path]


NOW = datetime(2027, 3, 1, 22, tzinfo=UTC)


class Homes:
    """A DSL with the example release, a CMDB with two CIs, and an RFC for both that is in order."""

    def __init__(self, path: Path, write: Write) -> None:
        self.path, self.write = path, write
        self.dsl, self.cmdb = path / "dsl", path / "cmdb.sqlite"
        self.digest = archive(HELLO, OciLayout.create(self.dsl)).digest
        with Cmdb.open(str(self.cmdb), create=True) as cmdb:
            cmdb.put_cis([{"name": "web1", "class": "server", "site": "ams"}, {"name": "db1", "class": "server", "site": "fra"}], "test")

    def clear(self, policy: Path | None = None, **changes: Any) -> Clearing:
        release = {"name": "hello", "version": "1.0", "digest": self.digest}
        rfc = self.write("rfc", **{"release": release, "scope": "[?class=='server']", **changes})
        with Sources(str(self.dsl), str(self.cmdb), policy and str(policy), NOW) as sources:
            return clear(sources, str(rfc))

    def blob(self, digest: str) -> Path:
        path = self.dsl / "blobs" / "sha256" / digest.removeprefix("sha256:")
        path.chmod(0o644)
        return path
