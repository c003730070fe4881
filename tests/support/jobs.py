# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of ansible-runner as AWX lays them out: a script as the inventory, credentials in the environment, a project of playbooks."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_RUNNER = str(Path(sys.executable).with_name("ansible-runner"))
_SCRIPT = "#!/usr/bin/env python3\nprint(r'''{}''')\n"


@dataclass(frozen=True)
class Ended:
    """How a job ended, and what ansible-runner kept of it in ``folder``."""

    folder: Path

    @property
    def status(self) -> int:
        return int((self.folder / "rc").read_text())

    @property
    def said(self) -> list[str]:
        return (self.folder / "stdout").read_text().splitlines()

    @property
    def events(self) -> list[dict[str, Any]]:
        files = sorted((self.folder / "job_events").glob("[0-9]*.json"), key=lambda path: int(path.name.partition("-")[0]))
        return [json.loads(path.read_text()) for path in files]

    @property
    def artifacts(self) -> dict[str, Any]:
        """What AWX would keep as the artifacts of the job."""
        (last,) = (event for event in self.events if event["event"] == "playbook_on_stats")
        return dict(last["event_data"]["artifact_data"])


@dataclass(frozen=True)
class Job:
    """A private data directory of ansible-runner.

    ``hosts``: variables by host; ``environment``: what the job's credentials put there.
    """

    folder: Path
    hosts: Mapping[str, Mapping[str, Any]]
    environment: Mapping[str, str]

    def lay_out(self, variables: Mapping[str, Any] | None = None, *options: str, project: Mapping[str, str] | None = None) -> None:
        """Write it, with extra variables, options of ansible-playbook and playbooks; what an earlier job was given goes."""
        inventory = {"all": {"hosts": list(self.hosts)}, "_meta": {"hostvars": dict(self.hosts)}}
        for name, content in {
            "inventory/hosts": _SCRIPT.format(json.dumps(inventory)),
            "env/envvars": json.dumps(dict(self.environment)),
            "env/extravars": json.dumps(dict(variables or {})),
            "env/cmdline": shlex.join(options),
            **{f"project/{name}": text for name, text in (project or {}).items()},
        }.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(content)
        (self.folder / "inventory/hosts").chmod(0o755)
        (self.folder / "project").mkdir(exist_ok=True)

    def run(self, playbook: str, *options: str, **variables: Any) -> Ended:
        """Run a playbook of the project, which is mounted so that nobody can write there."""
        self.lay_out(variables, *options)
        ident = f"job{len(list((self.folder / 'artifacts').glob('job*')))}"
        run = [_RUNNER, "run", str(self.folder), "-p", playbook, "--ident", ident, "-q"]
        project = shlex.quote(str(self.folder / "project"))
        read_only = f"mount --bind {project} {project} && mount -o remount,ro,bind {project} && exec {shlex.join(run)}"
        before = tree(self.folder / "project")
        subprocess.run(
            ["unshare", "--mount", "sh", "-c", read_only], check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=300
        )
        assert tree(self.folder / "project") == before
        return Ended(self.folder / "artifacts" / ident)

    def stream(self, playbook: str, scratch: Path) -> str:
        """The shell command that sends the job to a worker and takes in what it did; :meth:`streamed` finds that below ``scratch``."""
        folder, inside, out = (shlex.quote(str(path)) for path in (self.folder, scratch / "in", scratch / "out"))
        runner = shlex.quote(_RUNNER)
        return (
            f"{runner} transmit {folder} -p {playbook} --ident job | {runner} worker --private-data-dir {inside} "
            f"| {runner} process {out} --ident job; cat {out}/artifacts/job/rc"
        )

    @staticmethod
    def streamed(scratch: Path) -> Ended:
        return Ended(scratch / "out" / "artifacts" / "job")


def tree(folder: Path) -> dict[str, str]:
    """Each file below a folder, with the digest of its contents."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}
