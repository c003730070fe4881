# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploy, resume, back out and audit on real hosts, with whichever ansible-core there is; tox runs it with each supported one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence

import pytest
from fleet import Fleet
from kills import killing

KILLED = killing("activating", [], "web2", "0.01")


@pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")
def test_a_deployment_is_finished_after_a_kill_audited_and_backed_out_without_a_warning(fleet: Fleet) -> None:
    rfc = str(fleet.rfc("CHG0001", "1.0", fleet.archive("1.0")))
    with tempfile.TemporaryDirectory(prefix="tg-") as home:  # its path has to be short, for ssh puts a socket there
        run(fleet, home, rfc, "deploy", before=KILLED)
        assert (fleet.state("CHG0001"), fleet.installed()) == ("activating", {"web1": "1.0"})
        said = run(fleet, home, rfc, "deploy", "audit", "backout")
    assert "hello 1.0 was backed out of all 3 hosts it had touched" in said
    assert set(fleet.served().values()) == {None}
    assert (fleet.state("CHG0001"), fleet.installed()) == ("backed_out", {})


def run(fleet: Fleet, home: str, rfc: str, *verbs: str, before: Sequence[str] = ()) -> str:
    """The output of verbs, of Ansible without any settings, that have to end well and without a warning of any kind."""
    kept = {name: value for name, value in fleet.environment.items() if not name.startswith("ANSIBLE_") or "CONTROL_PATH" in name}
    given = json.dumps({"tidegate_rfc": rfc, "tidegate_reason": "tried"})
    command = ["ansible-playbook", "-i", str(fleet.path / "cmdb.yml"), "-e", given, *(f"tidegate.release.{verb}" for verb in verbs)]
    done = subprocess.run(
        [*before, *command],
        env=kept | {"HOME": home, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_DEPRECATION_WARNINGS": "true"},
        cwd=home,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert not re.search(r"WARNING|DEPRECAT|Traceback", done.stdout), done.stdout
    return done.stdout
