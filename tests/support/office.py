# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""People with keys who decide on an RFC by the playbooks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked
import yaml


def run_playbook(folder: Path, playbook: str, *options: str) -> str:
    """Run a playbook on localhost with the library and the CMDB in a folder; return what it prints, on one line, after its exit status."""
    environment = {
        **os.environ,
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "TIDEGATE_DSL": str(folder / "dsl"),
        "TIDEGATE_CMDB": str(folder / "cmdb.sqlite"),
    }
    done = forked.run(["ansible-playbook", playbook, "-i", "localhost,", *options], environment, timeout=120)
    return f"{done.returncode} {' '.join(done.stdout.split())}"


@dataclass
class Office:
    """An RFC with a library, a CMDB, a policy and people with keys."""

    path: Path

    def play(self, playbook: str, *options: str, **variables: Any) -> str:
        """Run a playbook; return what it prints, on one line, after its exit status."""
        given = {"tidegate_rfc": self.path / "rfc.yml", "tidegate_policy": self.path / "policy.yml", **variables}
        extra = [part for name, value in given.items() for part in ("-e", f"{name}={value}")]
        return run_playbook(self.path, playbook, *extra, *options)

    def approve(self, name: str, *options: str, **variables: Any) -> str:
        return self.play("tidegate.release.approve", *options, tidegate_key=self.path / f"{name}.pem", **variables)

    def edit(self, **changes: Any) -> None:
        path = self.path / "rfc.yml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
