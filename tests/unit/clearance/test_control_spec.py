# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever there is to say of a control is said where its function is; a control that is added in one file is everywhere."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.evaluate import CONTROLS, evaluate_controls
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.findings import Control, Result
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import Waivable
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import load_rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import Question, gather
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

Write = Callable[..., Path]
ROOT = Path(__file__).parents[3]
NOW = datetime(2027, 3, 1, 22, tzinfo=UTC)
FILES = sorted((ROOT / "plugins/plugin_utils/clearance/controls").glob("*.py"))


@pytest.mark.parametrize("spec", CONTROLS.values(), ids=list(CONTROLS))
def test_every_control_says_what_it_finds_out_and_has_a_place_of_its_own(spec: Any) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", spec.name)
    assert re.fullmatch(r"Whether [^|]+[^.]\.", spec.description)
    assert [other.name for other in CONTROLS.values() if other.order == spec.order] == [spec.name]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_every_function_that_finds_something_out_is_a_control_in_order(file: Path) -> None:
    """By the signature that controls have, so that none is written and never asked."""
    found = [
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and getattr(node.returns, "id", "") == "Finding"
    ]
    assert found
    asked = [spec for spec in CONTROLS.values() if spec.check.__module__.endswith(f".controls.{file.stem}")]
    assert sorted(spec.check.__name__ for spec in asked) == sorted(found)
    assert len({spec.check for spec in asked}) == len(asked)


def test_a_policy_lets_people_waive_what_may_be_waived_and_nothing_else(write: Write) -> None:
    public = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    people = {"carl": {"roles": ["change-manager"], "keys": [{"public": public}]}}
    never, in_emergencies = (
        [name for name, spec in CONTROLS.items() if spec.waivable is when] for when in (Waivable.NEVER, Waivable.IN_EMERGENCIES)
    )
    able = CONTROLS.keys() - set(never)

    def policy(*names: str) -> Path:
        return write("policy", approvals=..., people=people, waivers={name: {"role": "change-manager"} for name in names})

    loaded = load_policy(policy(*able))
    assert loaded.waivers.keys() == able
    assert able - loaded.narrowed_to("minor", "normal", 3).waivers.keys() == set(in_emergencies) != set()
    with pytest.raises(DocumentError) as caught:
        load_policy(policy(*CONTROLS))
    assert sorted(problem.what for problem in caught.value.problems) == sorted(f"{name} can't be waived" for name in never)


def test_the_list_of_controls_is_current() -> None:
    spec = importlib.util.spec_from_file_location("control_page", ROOT / "tools/control_page.py")
    assert spec
    assert spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.PAGE.read_text() == tool.page(), "run tools/control_page.py"


def test_a_control_that_is_asked_alone_comes_to_what_it_comes_to_among_all(tmp_path: Path, write: Write) -> None:
    """Whatever it looks at is asked on its behalf."""
    shutil.copytree(ROOT / "examples/hello", tmp_path / "hello")
    with (tmp_path / "hello/release.yml").open("a") as file:
        file.write("licensed_product: hello\n")
    digest = archive(tmp_path / "hello", OciLayout.create(tmp_path / "dsl")).digest
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "class": "server", "site": "ams"}], "test")
    told = {"required": True, "channels": {"ops": {"environment": "NOWHERE"}}, "tell": {"start": ["ops"]}}
    policy = write("policy", approvals=..., communication=told, versions={"minor": 2}, documentation={"minor": ["*"]})
    release = {"name": "hello", "version": "1.0", "digest": digest}
    rfc = load_rfc(write("rfc", release=release, communication_plan="We say so."))

    def ask(*names: str) -> tuple[Control, ...]:
        only = frozenset(names) or None
        with Sources(str(tmp_path / "dsl"), str(tmp_path / "cmdb.sqlite"), str(policy), NOW) as sources:
            return evaluate_controls(gather(sources, rfc, Question(only)).facts, only)

    together = ask()
    assert tuple(control for name in CONTROLS for control in ask(name)) == together
    assert {control.name for control in together if control.result is not Result.PASS} >= {"licences", "communication"}
    assert Result.INCONCLUSIVE not in {control.result for control in together}
    blobs = (tmp_path / "dsl/blobs/sha256").iterdir()
    payload = max(blobs, key=lambda blob: blob.stat().st_size)
    payload.chmod(0o644)
    payload.write_bytes(payload.read_bytes()[::-1])
    assert ask("payload_intact")[0].result is Result.FAIL


# What CONTRIBUTING says of adding a control, done: one with everything, and one with nothing but its name and its place.
ADDED = '''

def title(facts: Facts, rfc: Rfc) -> Finding:
    """Whether the title of the change is long enough to say something."""
    facts.known(facts.debts, "debts")
    if len(rfc.short_description) < 20:
        return failed("the title is short", "write what the change is for")
    return passed("the title is long enough")


def urgency(facts: Facts, _rfc: Rfc) -> Finding:
    """Whether the CMDB says how urgent it is."""
    facts.known(None, "scope")
    return passed("it says so")


CONTROLS += (
    ControlSpec("title", title, 25, asked_at_gates=True, waivable=Waivable.ALWAYS, sources=("debts",)),
    ControlSpec("urgency", urgency, 255),
)
'''

PROGRAM = """
import importlib.util, json, sys
from datetime import datetime, timedelta
from pathlib import Path
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import load_rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.approve import load_decision_request
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import Wave, check_wave_start, clear
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.waive import WaiverRequest, waive

rfc, dsl, cmdb, policy, unfit, key, tool = sys.argv[1:]
now = datetime.fromisoformat("2027-03-01T22:00:00+00:00")

def look():
    with Sources(dsl, cmdb, policy, now) as sources:
        controls = clear(sources, rfc).clearance.controls
    with Sources(dsl, cmdb, policy, now) as sources:
        stop = check_wave_start(sources, load_rfc(rfc), Wave(("web1",))).stop
    return [[one.name, str(one.result), one.reason.splitlines()[0]] for one in controls], stop

found = {"before": look()}
asked = load_decision_request(rfc, dsl, cmdb, policy)
waive(asked, load_signer(key, None), WaiverRequest("title", "They know.", now + timedelta(days=1)), now, True)
found["after"] = look()
try:
    load_policy(unfit)
except DocumentError as error:
    found["refused"] = [problem.what for problem in error.problems]
spec = importlib.util.spec_from_file_location("control_page", tool)
page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(page)
found["page"] = page.page().splitlines()
print(json.dumps(found))
"""


def test_a_control_that_is_added_in_one_file_is_asked_by_clear_and_gates_can_be_waived_and_is_listed(tmp_path: Path, write: Write) -> None:

    copy = tmp_path / "copy/ansible_collections/tidegate/release"
    shutil.copytree(ROOT / "plugins", copy / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "meta", copy / "meta")
    with (copy / "plugins/plugin_utils/clearance/controls/change.py").open("a") as file:
        file.write(ADDED)

    digest = archive(ROOT / "examples/hello", OciLayout.create(tmp_path / "dsl")).digest
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "class": "server", "site": "ams"}], "test")
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").touch(mode=0o600)
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    people = {"carl": {"roles": ["change-manager"], "keys": [{"public": public}]}}

    def policy(name: str) -> Path:
        path = write("policy", approvals=..., people=people, waivers={name: {"role": "change-manager"}})
        return path.rename(tmp_path / f"{name}.yml")

    words = [
        write("rfc", release={"name": "hello", "version": "1.0", "digest": digest}),
        *(tmp_path / "dsl", tmp_path / "cmdb.sqlite", policy("title"), policy("urgency"), tmp_path / "key.pem"),
        ROOT / "tools/control_page.py",
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "copy")},
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)

    controls, stop = found["before"]
    names = [name for name, _result, _reason in controls]
    assert names == [*list(CONTROLS)[:2], "title", *list(CONTROLS)[2:-2], "urgency", *list(CONTROLS)[-2:]]
    results = {name: result for name, result, _reason in controls}
    assert (results.pop("title"), results.pop("urgency")) == ("fail", "inconclusive")
    assert set(results.values()) == {"pass", "not_applicable"}
    assert stop == "the title is short"
    controls, stop = found["after"]
    assert ({name: result for name, result, _reason in controls}["title"], stop) == ("waived", "")
    assert found["refused"] == ["urgency can't be waived"]
    assert [line.split(" | ")[:4] for line in found["page"] if line.startswith(("| `title`", "| `urgency`"))] == [
        ["| `title`", "Whether the title of the change is long enough to say something.", "yes", "yes"],
        ["| `urgency`", "Whether the CMDB says how urgent it is.", "no", "no"],
    ]
