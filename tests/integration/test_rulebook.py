# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rulebooks of the collection in the real ansible-rulebook, by the commands of the guide."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.audits import save_audit
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from fleet import Fleet
from waiting import wait_until

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "eda.md").read_text()
NUMBER = "CHG0030001"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root"),
    pytest.mark.skipif(not shutil.which("java"), reason="ansible-rulebook needs Java (apt install openjdk-17-jre-headless)"),
]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """One host, and a policy by which one person approves with a key."""
    key = tmp_path / "carl.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True, capture_output=True)
    key.chmod(0o600)
    public = subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout"], check=True, capture_output=True, text=True).stdout
    people = {"carl": {"roles": ["change-manager"], "keys": [{"public": public}]}}
    rollout = {"canary": 1, "steps": [100], "budget": {"wave": 0, "total": 0}}
    fleet = Fleet(tmp_path, count=1, policy={"rollout": rollout, "people": people, "approvals": {"normal": {"change-manager": 1}}})
    try:
        fleet.up()
        yield fleet
    finally:
        fleet.down()


def _command(program: str, folder: Path) -> list[str]:
    """The command of the guide that begins so, its paths in a folder of the test's own."""
    (found,) = re.findall(rf"(?m)^{program} .*$", GUIDE)
    return shlex.split(found.replace("/srv/rfcs", str(folder)))


@contextmanager
def _running(fleet: Fleet, command: list[str]) -> Iterator[Path]:
    """A rulebook that runs, and is killed at the end with all that it has started; yields its log."""
    log = fleet.path / "rulebook.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=fleet.path, env=fleet.environment, stdout=output, stderr=output, start_new_session=True)

    def listens() -> bool:
        assert process.poll() is None, log.read_text()
        return (fleet.path / "rulebook.position").exists()

    try:
        wait_until(listens)
        yield log
        assert process.poll() is None, log.read_text()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _approve(fleet: Fleet, number: str) -> None:
    command = [part.replace(NUMBER, number) for part in _command("ansible-playbook", fleet.path)]
    done = fleet.execute([*command, "-i", "localhost,"])
    assert done.returncode == 0, done.stdout


def test_what_is_approved_is_deployed_once_also_by_a_rulebook_that_was_killed(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fleet.path)
    (variables,) = re.findall(r"(?s)`rulebook.yml`:\n\n```yaml\n(.*?)```", GUIDE)
    (fleet.path / "rulebook.yml").write_text(variables.replace("/srv/rfcs", str(fleet.path)))
    numbers = (NUMBER, "CHG0030002")
    for number, version in zip(numbers, ("1.0", "2.0"), strict=True):
        fleet.rfc(number, version, fleet.archive(version), approvals=[])
    command = _command("ansible-rulebook", fleet.path)
    for number, version in zip(numbers, ("1.0", "2.0"), strict=True):
        with _running(fleet, command):
            _approve(fleet, number)
            wait_until(lambda number=number: (number,) in fleet.rows("select number from change where close_code = 'successful'"), 120)
            assert fleet.served() == {"web1": version}
    deployments = fleet.rows("select rfc, state from deployment order by id")
    assert deployments == [(number, "completed") for number in numbers]
    assert len(fleet.rows("select seq from journal where event = 'completed'")) == 2


def test_differences_become_a_report(fleet: Fleet) -> None:
    variables = {"tidegate_position": "rulebook.position", "tidegate_report": str(fleet.path / "report.html")}
    (fleet.path / "drift.yml").write_text(yaml.safe_dump(variables))
    command = ["ansible-rulebook", "--rulebook", "tidegate.release.report_drift", "--inventory", "cmdb.yml", "--vars", "drift.yml"]
    with _running(fleet, command) as log:
        with Cmdb.open(fleet.environment["TIDEGATE_CMDB"]) as cmdb:
            save_audit(cmdb, 1, 1, [{"host": "web1", "kind": "missing"}], "test", utc_now())
            journal, package = Journal(cmdb), {"name": "hello", "version": "1.0", "digest": "sha256:" + "a" * 64}
            run = journal.begin(NUMBER, package, [["web1"]], Rollout(canary=Share(1), steps=(100,)), Holder.this_run(), utc_now())
            hostile = f"{{{{ lookup('pipe', 'touch {fleet.path}/ran') }}}}"
            journal.decide_staging(run, GateDecision("hold", hostile), utc_now())
        wait_until(lambda: "is held: { { lookup(" in log.read_text(), 120)
        assert "an audit of 1 of 1 hosts found 1 differences, first on web1" in log.read_text()
        assert (fleet.path / "report.html").exists()
    assert not (fleet.path / "ran").exists()
