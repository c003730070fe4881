# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read by somebody who has configured nothing, from a directory with nothing in it."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import Fleet

ROOT = Path(__file__).resolve().parents[2]
TIME = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ "
SLOW = {"stop": {"command": ["bin/stop"], "timeout": 10}, "start": {"command": ["bin/slow"], "timeout": 40}}


def deploy(fleet: Fleet, rfc: Path, elsewhere: Path, **environment: str) -> list[str]:
    """The output of a deployment, as it is in a log."""
    kept = {name: value for name, value in fleet.environment.items() if not name.startswith("ANSIBLE_") or "CONTROL_PATH" in name}
    command = ["ansible-playbook", "tidegate.release.deploy", "-i", str(fleet.path / "cmdb.yml"), "-e", f"tidegate_rfc={rfc}"]
    done = subprocess.run(
        [*command, "-e", '{"pin": "hunter2"}'],
        env=kept | {"HOME": str(elsewhere)} | environment,
        cwd=elsewhere,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert "hunter2" not in done.stdout
    return done.stdout.splitlines()


def said(lines: list[str]) -> list[str]:
    """What is not Ansible's own, without times, and without the signs of life that a busy machine may add."""
    return [line for line in timed(lines) if not line.startswith("… ")]


def timed(lines: list[str]) -> list[str]:
    return [re.sub(TIME, "", line) for line in lines if re.match(TIME, line)]


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty home; not below tmp_path, because ssh puts a socket there, whose path has to be short."""
    with tempfile.TemporaryDirectory(prefix="tg-") as path:
        yield Path(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")
def test_waves_gates_and_verdict_are_read_without_any_configuration(fleet: Fleet, home: Path) -> None:
    lines = deploy(fleet, fleet.rfc("CHG0001", "1.0", fleet.archive("1.0")), home)
    assert said(lines) == [
        "CHG0001: hello 1.0 to 3 hosts in 2 waves (1, 2)",
        "with stdout_callback = tidegate.release.progress in ansible.cfg each wave is one line, or a bar on a terminal",
        "stage: web1 web2 web3 staged, gate: proceed",
        "wave 1 of 2: web1 active, gate: proceed",
        "wave 2 of 2: web2 web3 active, gate: proceed",
        "CHG0001: hello 1.0 is live on 3 of 3 hosts.",
    ]
    assert re.fullmatch(TIME + "CHG0001: hello 1.0 is live on 3 of 3 hosts.", lines[-1]), "the verdict is the last of all"
    # A release that takes long and then fails, and a policy that leaves it to a person.
    fleet.write_policy(rollout={"canary": 1, "steps": [100], "budget": {"wave": 0, "total": 0}, "on_failure": "hold"})
    folder = fleet.release("1.1", hooks=SLOW)
    (folder / "payload" / "bin" / "slow").write_text("#!/bin/sh\nsleep 12\nexit 1\n")
    (folder / "payload" / "bin" / "slow").chmod(0o755)
    rfc = fleet.rfc("CHG0002", "1.1", fleet.archive_folder(folder))
    lines = deploy(fleet, rfc, home, ANSIBLE_STDOUT_CALLBACK="tidegate.release.progress")
    assert any(re.fullmatch(r"… activate: web1 under way, \d+ s", line) for line in timed(lines)), "a start of 12 s is not silent"
    assert said(lines)[2].startswith("wave 1 of 2: web1 failed, gate: hold (")
    command = f"-i {fleet.path}/cmdb.yml -e tidegate_rfc={rfc} -e '…'"
    assert lines[-2:] == [
        f"To go on: ansible-playbook tidegate.release.deploy {command}",
        f"To undo it: ansible-playbook tidegate.release.backout {command}",
    ]
    assert " is held: " in said(lines)[-1]
    assert "RECAP" not in "".join(lines)


def test_with_the_lines_of_the_docs_a_verb_without_hosts_says_its_result_and_nothing_else(tmp_path: Path) -> None:
    block = re.search(r"^```ini\n(.*?)^```$", (ROOT / "docs" / "step-by-step.md").read_text(), re.DOTALL | re.MULTILINE)
    assert block
    (tmp_path / ".ansible.cfg").write_text(block[1])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "TIDEGATE_"))}
    command = ["ansible-playbook", "tidegate.release.archive", "-e", f"tidegate_release={ROOT / 'examples' / 'hello'}"]
    done = subprocess.run(
        command,
        env=environment | {"HOME": str(tmp_path), "TIDEGATE_DSL": str(tmp_path / "dsl")},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert "hello 1.0 is sha256:" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")
def test_a_run_whose_output_nobody_reads_any_more_ends_and_is_held(fleet: Fleet) -> None:
    rfc = str(fleet.rfc("CHG0099", "99.0", fleet.archive("99.0")))
    command = fleet.command("tidegate.release.deploy", {"tidegate_rfc": rfc})
    with subprocess.Popen(command, env=fleet.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        assert run.stdout
        lines: list[str] = []
        while not any("99.0 to 3 hosts" in line for line in lines):
            lines.append(run.stdout.readline())
            assert lines[-1], lines
        run.stdout.close()
        assert run.wait(fleet.patience) != 0
    assert fleet.state("CHG0099") == "held"
    assert fleet.play("tidegate.release.deploy", {"tidegate_rfc": rfc}).returncode == 0
