# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment does not use is not imported, and what it does is not compiled anew."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from documents import open_rfc, policy_of, simple_manifest, write_document

_OURS = "ansible_collections.tidegate.release.plugins"
# Of the libraries that not every deployment needs, those of two things that policies have.
_SIGNING = {"securesystemslib"}
_CALENDARS = {"icalendar", "recurring_ical_events", "dateutil"}
_SEVERAL = {
    *_SIGNING, *_CALENDARS, "alembic", "ansible_runner", "apprise", "cyclonedx", "license_expression", "molecule", "requests",
    "rich", "univers",
}  # fmt: skip
# Whatever deploy loads, and then what it does on the controller until a host is visited.
_PLAN = f"""
import importlib, json, sys
from datetime import datetime, timezone
for name in ("lookup.controller", "lookup.waves", "inventory.cmdb", *(f"action.{{step}}" for step in sys.argv[1].split())):
    importlib.import_module(f"{_OURS}.{{name}}")
from {_OURS}.plugin_utils.steps.plan import Reach, RunRequest, plan
from {_OURS}.plugin_utils.steps.sources import Sources
with Sources("dsl", "cmdb.sqlite", "policy.yml", datetime.now(timezone.utc)) as sources:
    said = plan(sources, RunRequest("rfc.yml", Reach({{"web1"}}), False, str))["msg"]
print(json.dumps([said, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""
_STEPS = "plan stage gate activate soak confirm backout conclude"
_COMPILED = """
import importlib, sys
from importlib.machinery import SourceFileLoader
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader()
importlib.import_module(f"{sys.argv[1]}.plugin_utils.errors")
module = importlib.import_module(f"{sys.argv[1]}.{sys.argv[2]}")
assert type(module.__loader__) is SourceFileLoader, module.__loader__
assert module.__spec__.cached.endswith(".pyc"), module.__spec__.cached
"""
_NEVER = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Example//EN
BEGIN:VEVENT
UID:1@example
DTSTAMP:20200101T000000Z
DTSTART:20200101T000000Z
DTEND:20200102T000000Z
SUMMARY:Long ago
END:VEVENT
END:VCALENDAR
"""


def _imported(folder: Path, policy: dict[str, Any]) -> set[str]:
    """Those of the libraries that a plan under ``policy`` imports."""
    release = folder / "release"
    (release / "payload").mkdir(parents=True)
    (release / "payload" / "file").write_text("1\n")
    (release / "README.md").write_text("# hello\n")
    write_document(release / "release.yml", simple_manifest())
    digest = read_release(release).archive(create_library(str(folder / "dsl")).repository("hello")).digest
    with Cmdb.open(str(folder / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "class": "server", "site": "ams"}], "test")
    write_document(folder / "policy.yml", policy_of(**policy))
    write_document(folder / "rfc.yml", open_rfc("CHG0001", "1.0", digest))
    done = subprocess.run([sys.executable, "-c", _PLAN, _STEPS], cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said, modules = json.loads(done.stdout)
    assert "1 host" in said
    return _SEVERAL & set(modules)


def test_a_plain_deployment_imports_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    assert _imported(tmp_path, {}) == set()


def test_who_has_calendars_gets_their_libraries(tmp_path: Path) -> None:
    (tmp_path / "never.ics").write_text(_NEVER)
    assert _imported(tmp_path, {"calendars": {"freezes": ["never.ics"]}}) == _CALENDARS


def test_who_names_people_gets_those_of_signatures(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
    public = subprocess.run(["openssl", "pkey", "-in", key, "-pubout"], check=True, capture_output=True, text=True).stdout
    people = {"rita": {"roles": ["change-manager"], "keys": [{"public": public}]}}
    assert _imported(tmp_path, {"people": people}) == _SIGNING


@pytest.mark.parametrize("module", ["plugin_utils.errors", "plugin_utils.rollout.states", "module_utils.redaction"])
def test_python_keeps_what_it_compiled_of_a_module(module: str) -> None:
    done = subprocess.run([sys.executable, "-c", _COMPILED, _OURS, module], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
