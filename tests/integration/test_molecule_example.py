# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release is tested by the scenario of molecule that the collection brings: in its place, and copied into a team's own project."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ansible_collections.tidegate.release
import pytest
import yaml
from documents import EXAMPLES
from fleet import FIRST

SHIPPED = Path(ansible_collections.tidegate.release.__path__[0], "extensions", "molecule")
SCENARIO = Path("molecule", "default")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of a team's own, with the copied scenario and the release ``hello``; no other test has its addresses."""
    shutil.copytree(EXAMPLES / "hello", tmp_path / "hello")
    shutil.copytree(SHIPPED, tmp_path / "project" / "molecule")
    create = tmp_path / "project" / SCENARIO / "create.yml"
    plays = yaml.safe_load(create.read_text())
    plays[0]["vars"]["lab_first"] = FIRST
    create.write_text(yaml.safe_dump(plays))
    return tmp_path / "project"


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty home; not below tmp_path, because ssh puts a socket there, whose path has to be short."""
    with tempfile.TemporaryDirectory(prefix="tg-") as path:
        yield Path(path)


def molecule(project: Path, home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "TIDEGATE_", "MOLECULE_"))}
    return subprocess.run(
        ["molecule", *arguments],
        cwd=project,
        env={**clean, "HOME": str(home), "NO_COLOR": "1", **more},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")
def test_it_tests_each_of_its_hosts_where_it_is_installed(home: Path, tmp_path: Path) -> None:
    addresses = {"provisioner": {"inventory": {"group_vars": {"all": {"lab_first": FIRST}}}}}
    (tmp_path / "addresses.yml").write_text(yaml.safe_dump(addresses))
    before = set(SHIPPED.rglob("*"))
    done = molecule(SHIPPED.parent, home, "--base-config", str(tmp_path / "addresses.yml"), "test")
    assert done.returncode == 0, done.stdout
    assert "hello 1.0 is live on 2 of 2 hosts" in done.stdout
    assert "2 passed" in done.stdout
    assert set(SHIPPED.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")
def test_it_tests_another_release_in_a_project_of_a_teams_own(project: Path, home: Path) -> None:
    manifest = project.parent / "hello" / "release.yml"
    manifest.write_text(manifest.read_text().replace('"1.0"', '"1.1"'))
    done = molecule(project, home, "test", TIDEGATE_RELEASE=str(manifest.parent))
    assert done.returncode == 0, done.stdout
    assert "hello 1.1 is live on 2 of 2 hosts" in done.stdout
    assert "2 passed" in done.stdout


@pytest.mark.thorough
def test_hosts_that_only_create_names_are_in_the_inventory_too(project: Path, home: Path) -> None:
    settings = yaml.safe_load((project / SCENARIO / "molecule.yml").read_text())
    del settings["platforms"]
    (project / SCENARIO / "molecule.yml").write_text(yaml.safe_dump(settings))
    create = yaml.safe_load((project / SCENARIO / "create.yml").read_text())
    create[0]["vars"].update(lab_hosts=[{"name": "db1"}], lab_mode="local")
    (project / SCENARIO / "create.yml").write_text(yaml.safe_dump(create))
    (project / SCENARIO / "prepare.yml").unlink()
    (project / SCENARIO / "converge.yml").write_text("- hosts: all\n  gather_facts: false\n  tasks: [{ansible.builtin.ping: }]\n")
    try:
        done = molecule(project, home, "converge")
        assert done.returncode == 0, done.stdout
        assert "ok: [db1]" in done.stdout
    finally:
        assert molecule(project, home, "destroy").returncode == 0
    assert not list(home.rglob("lab.yml")), "the inventory names no host that is gone"


def test_a_scenario_without_hosts_fails(project: Path, home: Path) -> None:
    settings = yaml.safe_load((project / SCENARIO / "molecule.yml").read_text())
    settings["platforms"] = []
    (project / SCENARIO / "molecule.yml").write_text(yaml.safe_dump(settings))
    done = molecule(project, home, "create")
    assert done.returncode != 0
    assert "has no hosts; name them in hosts, or as platforms" in " ".join(done.stdout.replace("│", " ").split())
