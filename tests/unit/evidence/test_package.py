# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a package may be used, by the signatures beside it in a real DSL: asked again by stage and gate, once in a run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.package import (
    Judged,
    PackageName,
    judge_library,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import release_statement
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import attach
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import stage as trusting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import clear
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.stage import distrust, distrust_once
from releases import HELLO
from seals import EARLIER, KEYS, NOW, ROLE, pem, referring, sealed

Write = Callable[..., Path]


class Bed:
    """A DSL with the example release, and a policy that wants it signed by rita."""

    def __init__(self, path: Path, write: Write) -> None:
        self.path, self.write = path, write
        self.home = OciLayout.create(path / "dsl")
        self.release = PackageName("hello", "1.0", archive(HELLO, self.home).digest)
        self.folder = path / "run"
        self.policy = self.wanting()

    def wanting(self, role: str = ROLE, threshold: int = 1, **key: str) -> str:
        people = {name: {"roles": [role], "keys": [{"public": pem(KEYS[name])}]} for name in ("carl", "dora")}
        people["rita"] = {"roles": [ROLE], "keys": [{"public": pem(KEYS["rita"]), **key}]}
        return str(self.write("policy", approvals=..., people=people, trust={"package": {"role": role, "threshold": threshold}}))

    def sign(self, name: str = "rita") -> None:
        attach(self.home, self.release.digest, sealed(name, release_statement("hello", "1.0", self.release.digest)))

    def distrust(self, **changes: Any) -> str:
        return distrust(str(self.home.path), self.policy, replace(self.release, **changes), NOW)

    def once(self) -> str:
        return distrust_once(self.folder, str(self.home.path), self.policy, self.release, NOW)


@pytest.fixture
def bed(tmp_path: Path, write: Write) -> Bed:
    return Bed(tmp_path, write)


def test_a_package_is_trusted_only_when_it_is_signed(bed: Bed) -> None:
    assert bed.distrust() == "hello 1.0 is not trusted: 0 of 1 with the role release-manager signed the package"
    bed.sign("mallory")
    assert "the policy gives that key to nobody" in bed.distrust()
    bed.sign()
    assert bed.distrust() == ""


def test_a_policy_that_asks_for_no_signature_trusts(bed: Bed) -> None:
    assert distrust(None, str(bed.write("policy")), bed.release, NOW) == ""
    assert distrust(None, None, bed.release, NOW) == ""


def test_what_can_not_be_read_is_distrusted(bed: Bed) -> None:
    bed.sign()
    assert "could not be found out" in distrust(str(bed.home.path), "/none/policy.yml", bed.release, NOW)
    assert "could not be found out" in distrust("/none/dsl", bed.policy, bed.release, NOW)
    assert "no DSL is given" in distrust(None, bed.policy, bed.release, NOW)
    assert "could not be found out" in distrust_once(bed.folder, str(bed.home.path), "/none/policy.yml", bed.release, NOW)
    listing = bed.home.tags()[bed.release.digest.replace(":", "-")].digest
    path = bed.home.path / "blobs" / "sha256" / listing.removeprefix("sha256:")
    path.chmod(0o644)
    path.write_bytes(b"{}")
    assert "can't be read" in bed.distrust()


def test_another_packages_evidence_counts_for_nothing(bed: Bed) -> None:
    """Copied beside this package by somebody who can write to the DSL, under a manifest that says it belongs here."""
    other = sealed("rita", release_statement("hello", "1.0", "sha256:" + "c" * 64))
    bed.home.refer(bed.release.digest, referring(bed.home, bed.release.digest, other))
    assert "it is about sha256:cccc" in bed.distrust()


def test_an_old_release_under_a_new_version_counts_for_nothing(bed: Bed) -> None:
    bed.sign()
    assert "'pkg:generic/hello@1.0', not about pkg:generic/hello@2.0" in bed.distrust(version="2.0")
    assert "not about pkg:generic/other@1.0" in bed.distrust(name="other")


def test_an_rfc_is_cleared_only_for_a_signed_package(bed: Bed) -> None:
    with Cmdb.open(str(bed.path / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "class": "server"}], "test")
    release = {"name": "hello", "version": "1.0", "digest": bed.release.digest}
    rfc = bed.write("rfc", release=release, scope="[*]")

    def signatures(policy: str = bed.policy) -> tuple[str, str, bool]:
        with Sources(str(bed.home.path), str(bed.path / "cmdb.sqlite"), policy, NOW) as sources:
            clearance = clear(sources, str(rfc)).clearance
        control = next(control for control in clearance.controls if control.name == "signatures")
        return str(control.result), control.reason, clearance.granted

    assert signatures() == ("fail", "0 of 1 with the role release-manager signed the package", False)
    bed.sign("mallory")
    assert signatures()[1].splitlines()[1].startswith("a signature by the key ")
    bed.sign()
    assert signatures() == ("pass", "1 of 1 with the role release-manager signed the package (rita)", True)
    listing = bed.home.tags()[bed.release.digest.replace(":", "-")].digest
    path = bed.home.path / "blobs" / "sha256" / listing.removeprefix("sha256:")
    path.chmod(0o644)
    path.write_bytes(b"{}")
    assert signatures()[::2] == ("inconclusive", False)
    assert listing in signatures()[1]


def test_a_revoked_key_is_told(bed: Bed) -> None:
    bed.sign()
    bed.wanting(revoked="2026-01-01T00:00:00Z")
    assert "was revoked at 2026-01-01T00:00:00+00:00" in bed.distrust()
    assert EARLIER < NOW
    bed.wanting(revoked="2027-02-28T00:00:00Z")
    assert bed.distrust() == ""


def test_every_package_of_a_library_is_judged(bed: Bed) -> None:
    policy = load_policy(bed.policy)
    bed.sign()
    assert judge_library(bed.home, policy, NOW) == Judged()
    revoked = load_policy(bed.wanting(revoked="2027-02-28T00:00:00Z"))
    (sentence,) = judge_library(bed.home, revoked, NOW).by_revoked
    assert sentence.startswith("hello 1.0: rita's key ")
    bed.home.tag("hello", "2.0", bed.home.tags()["hello:1.0"])
    assert judge_library(bed.home, policy, NOW).untrusted[bed.release.digest][1].startswith("hello 2.0 is not trusted")
    assert judge_library(bed.home, load_policy(), NOW) == Judged()


def spoil_evidence(bed: Bed) -> None:
    listing = bed.home.tags()[bed.release.digest.replace(":", "-")].digest
    path = bed.home.path / "blobs" / "sha256" / listing.removeprefix("sha256:")
    path.chmod(0o644)
    path.write_bytes(b"{}")


def forge(bed: Bed) -> None:
    other = sealed("rita", release_statement("hello", "1.0", "sha256:" + "c" * 64))
    bed.home.refer(bed.release.digest, referring(bed.home, bed.release.digest, other))


STRICTER: dict[str, Callable[[Bed], object]] = {
    "a signature": lambda _bed: None,
    "another's signature": lambda bed: bed.sign("mallory"),
    "two signatures": lambda bed: (bed.sign(), bed.wanting(threshold=2)),
    "another role": lambda bed: (bed.sign(), bed.wanting(role="librarian")),
}
DANGERS: dict[str, Callable[[Bed], object]] = {
    "a revoked key": lambda bed: (bed.sign(), bed.wanting(revoked="2026-01-01T00:00:00Z")),
    "a revoked key, and another role": lambda bed: (bed.sign(), bed.wanting(role="librarian", revoked="2026-01-01T00:00:00Z")),
    "evidence of something else": forge,
    "evidence that can't be read": lambda bed: (bed.sign(), spoil_evidence(bed)),
}


@pytest.mark.parametrize("rule", STRICTER)
def test_what_is_older_than_a_rule_is_kept_from_being_new_and_from_nothing_else(bed: Bed, rule: str) -> None:
    STRICTER[rule](bed)
    assert bed.distrust()
    judged = judge_library(bed.home, load_policy(bed.policy), NOW)
    assert (judged.untrusted, len(judged.unmet)) == ({}, 1)
    assert judged.unmet[0].startswith("hello 1.0 is not trusted")


@pytest.mark.parametrize("danger", DANGERS)
def test_what_no_policy_ever_let_count_is_untrusted_wherever_it_is(bed: Bed, danger: str) -> None:
    DANGERS[danger](bed)
    assert bed.distrust()
    judged = judge_library(bed.home, load_policy(bed.policy), NOW)
    assert (judged.untrusted.keys(), judged.unmet) == ({bed.release.digest}, [])


def test_a_run_looks_once_as_long_as_the_policy_is_the_same(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(trusting, "distrust", lambda *what: asked.append(what) or distrust(*what))
    bed.sign()
    assert [bed.once() for _host in range(3)] == ["", "", ""]
    assert len(asked) == 1
    bed.wanting(revoked="2026-01-01T00:00:00Z")
    assert ["was revoked" in bed.once() for _host in range(3)] == [True, True, True]
    assert len(asked) == 2


def test_hosts_after_the_first_load_nothing_that_does_cryptography(bed: Bed) -> None:
    bed.sign()
    assert bed.once() == ""
    program = (
        "import json, sys\nfrom pathlib import Path\nfrom datetime import datetime\n"
        "from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.package import PackageName\n"
        "from ansible_collections.tidegate.release.plugins.plugin_utils.steps.stage import distrust_once\n"
        "folder, dsl, policy, name, version, digest, now = sys.argv[1:]\n"
        "said = distrust_once(Path(folder), dsl, policy, PackageName(name, version, digest), datetime.fromisoformat(now))\n"
        "slow = ('securesystemslib', 'cryptography', 'jsonschema', 'clearance.evaluate')\n"
        "print(json.dumps([said, [name for name in sys.modules if name.endswith(slow)]]))"
    )
    words = [str(bed.folder), str(bed.home.path), bed.policy, bed.release.name, bed.release.version, bed.release.digest, NOW.isoformat()]
    done = subprocess.run([sys.executable, "-c", program, *words], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == ["", []]
