# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release of Tidegate is a release: `make release` tags it when Tidegate has archived it, signed, examined and with its SBOM."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import open_envelope
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import collect
from desk import Desk

ROOT = Path(__file__).resolve().parents[2]


class Checkout:
    """A clone of this checkout, as it is now, with somebody who may commit to it."""

    def __init__(self, path: Path) -> None:
        self.root, self.desk = path / "checkout", Desk(path / "desk")
        who = {"NAME": "rita", "EMAIL": "rita@example.com"}
        told = {f"GIT_{person}_{what}": value for person in ("AUTHOR", "COMMITTER") for what, value in who.items()}
        self.environment = {**os.environ, **told, "GIT_CONFIG_GLOBAL": "/dev/null"}
        changed = subprocess.run(["git", "-C", ROOT, "stash", "create"], check=True, capture_output=True, text=True).stdout.strip()
        subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, self.root], check=True)
        self.git("checkout", "--quiet", "--detach", changed or "HEAD")

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), *arguments]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout.strip()

    def release(self, *options: str) -> subprocess.CompletedProcess[str]:
        more = ["-e", f"tidegate_malware_signatures={self.desk.signatures}", *options]
        command = [sys.executable, str(self.root / "tools" / "release.py"), "--key", str(self.desk.key), *more]
        return subprocess.run(command, env=self.environment, check=False, capture_output=True, text=True, timeout=300)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    (tmp_path / "desk").mkdir()
    return Checkout(tmp_path)


def test_it_is_tagged_when_its_own_library_has_it(checkout: Checkout) -> None:
    failed = checkout.release("-e", "tidegate_dsl=/dev/null/library")
    assert failed.returncode == 1
    assert "Nothing is tagged" in failed.stderr
    assert checkout.git("tag") == ""

    done = checkout.release()
    assert done.returncode == 0, done.stdout + done.stderr
    assert checkout.git("tag", "--points-at", "HEAD") == "v0.1.0"
    assert checkout.git("status", "--porcelain") == ""
    assert checkout.git("log", "-1", "--format=%s") == "Release 0.1.0"
    assert 'id="v0-1-0"' in (checkout.root / "CHANGELOG.md").read_text()
    with tarfile.open(checkout.root / "build" / "release" / "tidegate-release-0.1.0.tar.gz") as packed:
        names = packed.getnames()
    assert {"MANIFEST.json", "CHANGELOG.md", "playbooks/deploy.yml", "extensions/molecule/default/molecule.yml"} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "tools", "molecule", "."))]

    home = open_library(str(checkout.root / "build" / "release" / "dsl")).repository("tidegate-release")
    digest = str(home.resolve("tidegate-release", "0.1.0"))
    said = {statement.type: statement.predicate for statement in (open_envelope(one).statement for one in collect(home, digest))}
    (sbom,) = (predicate for kind, predicate in said.items() if "cyclonedx" in kind.lower())
    assert any(one["name"].endswith("playbooks/deploy.yml") for one in sbom["components"])
    assert {one["licenses"][0]["expression"] for one in sbom["components"] if one["name"].lower() == "jinja2"} == {"BSD-3-Clause"}
    (scan,) = (predicate for kind, predicate in said.items() if "scan" in kind)
    assert scan["signatures"][0].startswith("own.hsb sha256:")

    again = checkout.release()
    assert again.returncode == 0, again.stdout + again.stderr
    assert home.resolve("tidegate-release", "0.1.0") == digest
    assert checkout.git("log", "-1", "--format=%s") == "Release 0.1.0"


def test_what_is_not_committed_or_tagged_before_is_no_release(checkout: Checkout) -> None:
    (checkout.root / "README.md").write_text("changed\n")
    refused = checkout.release()
    assert (refused.returncode, "not as committed" in refused.stderr) == (1, True)
    checkout.git("checkout", "--quiet", "--", "README.md")
    checkout.git("tag", "v0.1.0", "HEAD~1")
    refused = checkout.release()
    assert (refused.returncode, "tagged already, on another commit" in refused.stderr) == (1, True)
    assert not (checkout.root / "CHANGELOG.md").exists()


def test_a_fragment_that_the_changelog_of_this_version_would_lack_is_refused(checkout: Checkout) -> None:
    """As when archiving failed, and what mended that brought one."""
    changelog = checkout.root / "changelogs"
    (changelog / "fragments" / "0.1.0.yml").rename(changelog / "fragments" / "mended.yml")
    (changelog / "changelog.yaml").write_text("ancestor: null\nreleases: {0.1.0: {release_date: '2027-03-01'}}\n")
    checkout.git("add", "--all", "changelogs")
    checkout.git("commit", "--quiet", "--message", "Mend it")
    refused = checkout.release()
    assert refused.returncode == 1
    assert refused.stderr == (
        "the changelog of 0.1.0 is written, and mended.yml in changelogs/fragments would be missing in it; take the commit 'Release 0.1.0' "
        "back (git revert), so that it is written again with all of them\n"
    )
    assert not (checkout.root / "build").exists()
