# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment removes what runs before it left, whatever becomes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.leftovers import OWNER
from documents import open_rfc, write_document


@pytest.mark.parametrize("check", [True, False])
def test_packs_of_a_killed_run_go_with_the_next_deployment(tmp_path: Path, check: bool) -> None:
    live = Holder.this_run()
    folders = [tmp_path / ".ansible/tmp" / f"ansible-local-{name}" for name in ("1dead", "2live")]
    for folder, holder in zip(folders, (replace(live, started=live.started + 1), live), strict=True):
        (folder / "tidegate-packs").mkdir(0o700, parents=True)
        (folder / "tidegate-packs" / "x.pack").write_text("much")
        (folder / "tidegate-role-x").mkdir(0o700)  # a release's role, unpacked
        (folder / "tidegate-role-x" / "x.json").write_text("{}")
        folder.chmod(0o700)
        (folder / OWNER).write_text(str(holder))
    create_library(str(tmp_path / "dsl"))
    Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True)
    rfc = write_document(tmp_path / "rfc.yml", open_rfc("CHG0001", "1.0", f"sha256:{1:064}"))
    kept = {name: os.environ[name] for name in ("PATH", "ANSIBLE_COLLECTIONS_PATH", "PYTHONPATH") if name in os.environ}
    given = {"TIDEGATE_RFC": str(rfc), "TIDEGATE_DSL": str(tmp_path / "dsl"), "TIDEGATE_CMDB": str(tmp_path / "cmdb.sqlite")}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "tidegate.release.deploy", "-i", "localhost,"]
    done = subprocess.run(
        [*command, *(["--check"] if check else [])],
        env={**kept, **given, "HOME": str(tmp_path), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "is not cleared" in done.stdout, done.stdout + done.stderr
    assert [folder.exists() for folder in folders] == [check, True]
