# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where releases come in, with a scanner that knows one signature."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import open_envelope
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import collect
from fleet import Fleet

EVIL = b"the bytes that these tests call malware\n"


class Desk:
    """Where releases come in: a library, a key and a scanner with one signature."""

    def __init__(self, path: Path) -> None:
        self.fleet = Fleet(path)
        self.key = path / "key.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(self.key)], check=True, capture_output=True)
        self.signatures = path / "signatures"
        self.signatures.mkdir()
        (self.signatures / "own.hsb").write_text(f"{hashlib.sha256(EVIL).hexdigest()}:{len(EVIL)}:Tidegate.Test\n")
        self.quarantine = Path(f"{path}/dsl.quarantine")

    def archive(self, version: str, *options: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        given = {
            "tidegate_release": str(self.fleet.path / "releases" / version),
            "tidegate_key": str(self.key),
            "tidegate_malware_signatures": str(self.signatures),
            **variables,
        }
        done = self.fleet.play("tidegate.release.archive", given, *options, inventory="localhost,")
        assert "Traceback" not in done.stdout
        return done

    def said(self, version: str) -> dict[str, dict[str, Any]]:
        """The predicates beside a package, by their type."""
        home = open_library(self.fleet.environment["TIDEGATE_DSL"]).repository("hello")
        statements = [open_envelope(envelope).statement for envelope in collect(home, str(home.resolve("hello", version)))]
        assert len({statement.type for statement in statements}) == len(statements)
        return {statement.type: dict(statement.predicate) for statement in statements}
