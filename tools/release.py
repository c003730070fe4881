# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a release of Tidegate, the version in galaxy.yml: changelog, tarball, and the same archived by Tidegate itself; the tag comes last.

Each step is done once, so that what failed half-way is run again. All of it is in ``build/release``: the tarball for Galaxy, and a library
with the release ``tidegate-release``, signed, examined, and with its SBOM. Other arguments go to ``ansible-playbook``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import yaml
from components import make_sbom
from install import tagged, written_version

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "release"
COLLECTION = "ansible_collections/tidegate/release"
DOCUMENTS = ("README.md", "CHANGELOG.md", "LICENSE")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a release of Tidegate, the version in galaxy.yml.")
    parser.add_argument("--key", type=Path, required=True, help="the private key that signs it, see tidegate_key")
    given, options = parser.parse_known_args()
    version = written_version(ROOT)
    if not given.key.is_file():
        raise SystemExit(f"there is no key {given.key}; make one: openssl genpkey -algorithm ed25519 -out {given.key}")
    if _git("status", "--porcelain"):
        raise SystemExit("the checkout has files that are not as committed; commit or remove them")
    if not tagged(ROOT, version) and _git("tag", "--list", f"v{version}"):
        raise SystemExit(f"v{version} is tagged already, on another commit; put the next version into galaxy.yml")
    write_changelog(version)
    tarball = build(version)
    archive(prepare(tarball, version), given.key.resolve(), options)
    if not tagged(ROOT, version):
        _git("tag", "--annotate", "--message", f"Tidegate {version}", f"v{version}")
    print(f"{tarball.relative_to(ROOT)} is Tidegate {version}, and tagged; push v{version} and publish it")


def write_changelog(version: str) -> None:
    """Make the fragments the changelog of this version, and commit that."""
    if version in yaml.safe_load((ROOT / "changelogs" / "changelog.yaml").read_text())["releases"]:
        fragments = (ROOT / "changelogs" / "fragments").glob("[!.]*")
        if left := sorted(path.name for path in fragments if path.suffix in (".yml", ".yaml")):
            raise SystemExit(
                f"the changelog of {version} is written, and {', '.join(left)} in changelogs/fragments would be missing in it; take the "
                f"commit 'Release {version}' back (git revert), so that it is written again with all of them"
            )
        return
    _run(sys.executable, "-m", "antsibull_changelog", "release", "--version", version)
    _git("add", "--all", "changelogs", "CHANGELOG.md")
    _git("commit", "--quiet", "--message", f"Release {version}")


def build(version: str) -> Path:
    """The tarball as Galaxy wants it, of what is committed."""
    shutil.rmtree(BUILD / "source", ignore_errors=True)
    _git("worktree", "prune")
    _git("worktree", "add", "--detach", "--quiet", str(BUILD / "source"), "HEAD")
    try:
        _run(
            sys.executable, "-m", "ansible", "galaxy", "collection", "build", "--force", "--output-path", str(BUILD), str(BUILD / "source")
        )
    finally:
        _git("worktree", "remove", "--force", str(BUILD / "source"))
    return BUILD / f"tidegate-release-{version}.tar.gz"


def prepare(tarball: Path, version: str) -> Path:
    """The directory of a release of Tidegate: its payload is a place that ``ANSIBLE_COLLECTIONS_PATH`` can name."""
    folder = BUILD / "tidegate-release"
    shutil.rmtree(folder, ignore_errors=True)
    inside = folder / "payload" / COLLECTION
    inside.mkdir(parents=True)
    with tarfile.open(tarball) as packed:
        packed.extractall(inside, filter="data")
    (folder / "payload" / "tidegate-release.cdx.json").write_bytes(make_sbom(ROOT, folder / "payload", version))
    for name in DOCUMENTS:
        shutil.copy(ROOT / name, folder / name)
    manifest = {
        "schema": 1,
        "name": "tidegate-release",
        "version": version,
        "type": "minor",
        "summary": f"The collection tidegate.release {version}",
        "licence": "GPL-3.0-or-later",
        "payload": "payload",
        "documentation": list(DOCUMENTS),
        "health": [{"name": "is there", "command": ["grep", "-q", f'"version": "{version}"', f"{COLLECTION}/MANIFEST.json"], "timeout": 5}],
    }
    (folder / "release.yml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    return folder


def archive(folder: Path, key: Path, options: list[str]) -> None:
    """Archive it in a library of its own, by the collection that is installed here."""
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "tidegate.release.archive", "-e", f"tidegate_release={folder}", *options],
        env={**os.environ, "TIDEGATE_DSL": str(BUILD / "dsl"), "TIDEGATE_KEY": str(key)},
        check=False,
    )
    if done.returncode:
        raise SystemExit("Tidegate did not archive its own release; what it says above is why. Nothing is tagged")


def _run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout.strip()


def _git(*arguments: str) -> str:
    return _run("git", *arguments)


if __name__ == "__main__":
    main()
