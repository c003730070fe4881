# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from documents import EXAMPLES, example_rfc, policy_of, write_document
from fleet import Fleet
from office import Office

# These take minutes. A file is one worker's, so whatever begins last should be short.
LONG = (
    *("together", "promises", "never_lost", "guides", "verify", "readme", "fwupd", "demo", "demo_hardware", "licences", "molecule_example"),
    *("lab", "resume", "emergency", "init", "jobs", "rulebook", "own_release", "awx", "event_source", "base_libraries"),
)


# `make test` tries each promise. Of each matrix of moments, settings or databases it tries those that differ most; `make test-thorough`
# tries these, and the tests marked thorough: what takes longest of that which a shorter test shows in another way.
THOROUGH = {
    "test_role_kill_matrix.py": r"\[(drain|check)-|\[restore-controller|\[back_out-|\[activate-controller|failed_in_its_last_wave",
    "test_resume.py": r"\[(planned-|staging_decided-|staged-web2|activating-web(1-b|2|3)|started-|active-|failed-|decided--(b|0.01-main)"
    r"|backing_out-web1-0.3|backed_out-|15-backout)",
    "test_firmware_kills.py": r"-(?!7\])\d+\]$",
    "test_fwupd.py": r"\[goal(1|6|7|10|12)-",
    "test_metrics.py": r"\[(9|19)\]",
    "test_cmdb_model.py": r"two_users\S*\[sqlite|(retired|team_sets|stale|impact)\S*\[postgresql",
    "test_late_journal.py": "postgresql",
    "test_journal_archive.py": "postgresql",
    "test_journal.py": r"gate_asks_the_rfc_of_this_deployment_and_no_other\[postgresql",
    "test_cmdb_verify.py": "postgresql",
    "test_slices.py": "8104|8106|ctrl_c",
    "test_invocation.py": r"\[(cached|not injected|hostile)\]",  # the first two are tried at the same time
    "test_together.py": r"\[armed\]|can_not_be_told",
    "test_signed.py": r"\[(stage|staging gate)\]",
    "test_guides.py": r"\[(adopt|containers|data|own-role|packages|spares)\]",  # other tests do the same
    "test_never_lost.py": r"taken_away.*\[registry\]",
    "test_slice_journal.py": "thousand",
    "test_rulebook.py": "become_a_report",
    "test_own_release.py": "not_committed|fragment",  # refusals before anything is made
    "test_jobs.py": "only_shown",
    "test_molecule_example.py": "teams_own",  # a copy of what is tried in its place
    "test_presence.py": "was_down|being_idle|there_is_no_cmdb",
    "test_check_mode.py": "others",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first, the longest at the front; and which tests are thorough."""
    for item in items:
        pattern = THOROUGH.get(item.path.name)
        if pattern and re.search(pattern, item.name):
            item.add_marker("thorough")
    places = {f"test_{name}.py": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three lab hosts of this test's own, up while it runs."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    try:
        fleet.up()
        yield fleet
    finally:
        fleet.down()


@pytest.fixture
def office(tmp_path: Path) -> Office:
    digest = archive(EXAMPLES / "hello", create_library(str(tmp_path / "dsl")).repository("hello")).digest
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "class": "server", "site": "ams"}], "test")
    write_document(tmp_path / "rfc.yml", example_rfc(digest, approvals=[]))
    people = {}
    for name, role in (("rita", "change-manager"), ("carl", "change-manager"), ("dora", "service-owner"), ("mallory", "")):
        key = tmp_path / f"{name}.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True, capture_output=True)
        key.chmod(0o600)
        public = subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout"], check=True, capture_output=True, text=True).stdout
        if role:
            people[name] = {"roles": [role], "keys": [{"public": public}]}
    rules = policy_of(people=people, approvals={"normal": {"change-manager": 1, "service-owner": 1}})
    write_document(tmp_path / "policy.yml", rules)
    return Office(tmp_path)
