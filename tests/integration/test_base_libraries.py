# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A first release, on a Python that has the libraries of requirements/base.txt and no others; and what is said of those it lacks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from documents import open_rfc, policy_of, simple_manifest, write_document
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
BASE = (ROOT / "requirements" / "base.txt").read_text()


def base_python(folder: Path) -> Path:
    """A Python with links to what base.txt brings, and to the collections, in place of what pip would install."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (there,) = folder.glob("lib/python*/site-packages")
    seen: set[tuple[str, ...]] = set()
    left = [Requirement(text) for line in BASE.splitlines() if (text := line.partition("#")[0].strip())]
    while left:
        wanted = left.pop()
        key = (wanted.name.lower(), *sorted(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        found = distribution(wanted.name)
        for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (there / name).exists():
                (there / name).symlink_to(Path(str(found.locate_file(name))))
        for text in found.requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
                left.append(needed)
    if not (there / "ansible_collections").exists():
        (there / "ansible_collections").symlink_to(Path(str(distribution("ansible-core").locate_file("ansible_collections"))))
    return folder / "bin" / "python"


class Desk:
    """A directory with a release, its RFC, a policy and the CMDB as inventory, and that Python."""

    def __init__(self, path: Path) -> None:
        self.path, self.python = path, base_python(path / "python")
        release = path / "release"
        (release / "payload").mkdir(parents=True)
        (release / "payload" / "file").write_bytes(b"1\n" * 200_000)  # large enough to be cut
        (release / "README.md").write_text("# hello\n")
        write_document(release / "release.yml", simple_manifest(licence="MIT"))
        digest = read_release(release).archive(create_library(str(path / "elsewhere")).repository("hello")).digest
        write_document(path / "rfc.yml", open_rfc("CHG0001", "1.0", digest))
        write_document(path / "policy.yml", policy_of(rollout={"stable": 0}))
        here = {"ansible_connection": "'local'", "ansible_python_interpreter": f"'{self.python}'"}
        write_document(path / "cmdb.yml", {"plugin": "tidegate.release.cmdb", "compose": here})

    def run(self, program: str, *arguments: str, **variables: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "TIDEGATE_", "PYTHON"))}
        homes = {"TIDEGATE_DSL": "dsl", "TIDEGATE_CMDB": "cmdb.sqlite", "TIDEGATE_POLICY": "policy.yml", "TIDEGATE_RFC": "rfc.yml"}
        ours = {
            "ANSIBLE_STDOUT_CALLBACK": "tidegate.release.progress",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
        }
        given = [part for name, value in variables.items() for part in ("-e", f"{name}={value}")]
        command = [str(self.python), "-m", "ansible", program, *arguments, *given]
        done = subprocess.run(
            command, cwd=self.path, env=kept | homes | ours, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return f"{done.stdout}\nended with {done.returncode}"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("base"))


def test_a_first_release_needs_no_more_than_the_base(desk: Desk) -> None:
    others = subprocess.run([desk.python, "-c", "import requests"], check=False, capture_output=True, text=True)
    assert "No module named 'requests'" in others.stderr
    entered = desk.run("adhoc", "localhost", "-m", "tidegate.release.cmdb_ci", "-a", "name=web1 class=server site=ams")
    assert "ended with 0" in entered
    verbs = [f"tidegate.release.{verb}" for verb in ("archive", "clear", "deploy", "audit", "backout")]
    own = {"tidegate_root": str(desk.path / "web1"), "tidegate_become": "false", "tidegate_reason": "tried"}
    said = desk.run("playbook", "-i", "cmdb.yml", *verbs, tidegate_release="release", **own)
    assert "ended with 0" in said, said
    assert "hello 1.0 is live on 1 host" in said, said
    assert "is backed out" in said or "was backed out" in said
    assert "WARNING" not in said


def test_what_a_verb_lacks_by_its_settings_is_one_sentence(desk: Desk) -> None:
    (desk.path / "calendars.yml").write_text("schema: 1\ncalendars: {freezes: [a.ics]}\nprometheus: {address: {file: a}}\n")
    said = desk.run(
        "playbook",
        *("-i", "localhost,", "tidegate.release.clear"),
        tidegate_dsl="oci://127.0.0.1:1/releases",
        tidegate_cmdb="postgresql://cmdb@127.0.0.1:1/cmdb",
        tidegate_rfc="servicenow+https://127.0.0.1:1/CHG0030001",
        tidegate_policy="calendars.yml",
    )
    lacks = re.search(r"lacks (.*); install that with \S+ -m pip install ((?:-r \S+ ?)+), or run this in an execution environment", said)
    assert lacks, said
    needs = ["calendars", "metrics", "registry", "postgres", "servicenow"]
    assert re.findall(r"\((\w+)\)", lacks[1]) == needs
    files = [Path(part) for part in lacks[2].split() if part != "-r"]
    assert [file.stem for file in files] == needs
    assert all(file.is_file() for file in files)


@pytest.mark.parametrize(
    ("verb", "variables", "needs"),
    [
        ("archive", {"tidegate_release": "release", "tidegate_key": "nothing.pem"}, ["intake"]),
        ("verify", {}, ["verify"]),
        pytest.param("schedule", {}, ["calendars"], marks=pytest.mark.thorough),
    ],
)
def test_what_a_verb_lacks_is_named(desk: Desk, verb: str, variables: dict[str, str], needs: list[str]) -> None:
    said = desk.run("playbook", "-i", "localhost,", f"tidegate.release.{verb}", **variables)
    assert re.findall(r"\((\w+)\)[,;]", said) == needs, said
    assert "Traceback" not in said
