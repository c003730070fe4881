# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The execution environment of the examples gets this collection and all that it needs, by ansible-builder itself; no image is built."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.libs import required
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "execution-environment.yml"
SYSTEM = ROOT / "requirements" / "bindep.txt"
NEEDS = [path.stem for path in (ROOT / "requirements").glob("*.txt") if path != SYSTEM]
IN_EVERY_IMAGE = {"ansible-core", "PyYAML"}


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A team's directory, where the commands of the page were run, with ``create`` for ``build``; ``image`` has the collections of one."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "execution-environment.yml").write_text(EXAMPLE.read_text())
    galaxy = (sys.executable, "-m", "ansible", "galaxy", "collection")
    run(*galaxy, "build", ROOT, folder=folder)
    builder = Path(sys.executable).with_name("ansible-builder")
    run(builder, "create", "--file", "execution-environment.yml", "--context", "context", folder=folder)
    # As the image would have it installed, from the context alone.
    build = folder / "context" / "_build"
    run(*galaxy, "install", "--offline", "-r", "requirements.yml", "--collections-path", folder / "image", folder=build)
    return folder


def names(lines: list[str]) -> set[str]:
    return {Requirement(line.partition("#")[0]).name for line in lines if line.partition("#")[0].strip()}


def test_what_ansible_builder_finds_is_what_the_code_requires(team: Path) -> None:
    builder = Path(sys.executable).with_name("ansible-builder")
    found = yaml.safe_load(run(builder, "introspect", "--sanitize", team / "image", folder=team))
    ours = {name for need in NEEDS for name in required(need)}
    assert names(found["python"]) == ours - IN_EVERY_IMAGE - {"molecule"}
    wanted = [text for line in SYSTEM.read_text().splitlines() if (text := line.partition("#")[0].strip())]
    assert sorted(line.partition("#")[0].strip() for line in found["system"]) == sorted(wanted)
    assert any(line.startswith("clamav ") for line in found["system"])


def test_an_image_gets_molecule_too(team: Path) -> None:
    """By what would run in the build: the context's own script, on what the context brings."""
    build = team / "context" / "_build"
    script = build / "scripts" / "introspect.py"
    written = (f"--write-pip={team / 'pip.txt'}", f"--write-bindep={team / 'bindep.txt'}")
    run(sys.executable, script, "introspect", team / "image", "--user-pip=requirements.txt", *written, folder=build)
    brought = names((team / "pip.txt").read_text().splitlines())
    given = yaml.safe_load(EXAMPLE.read_text())["dependencies"]
    brought |= {Requirement(given[part]["package_pip"]).name for part in ("ansible_core", "ansible_runner")}
    assert brought == {name for need in NEEDS for name in required(need)} - {"PyYAML"}


def test_the_example_names_the_versions_that_requirements_do() -> None:
    given = yaml.safe_load(EXAMPLE.read_text())["dependencies"]
    named = [Requirement(text) for text in (given["ansible_core"]["package_pip"], given["ansible_runner"]["package_pip"], *given["python"])]
    lines = [line.partition("#")[0] for need in NEEDS for line in (ROOT / "requirements" / f"{need}.txt").read_text().splitlines()]
    ours = {one.name: one.specifier for one in map(Requirement, filter(str.strip, lines))}
    assert all(one.specifier == ours[one.name] for one in named)
