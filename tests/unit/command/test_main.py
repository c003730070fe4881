# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command says without Ansible, and how it ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.command import main as command
from ansible_collections.tidegate.release.plugins.plugin_utils.command import verbs
from ansible_collections.tidegate.release.plugins.plugin_utils.command.main import main
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from documents import EXAMPLES, simple_manifest, write_document


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TIDEGATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_every_verb_and_look_is_listed_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    for name in (*verbs.verb_names(), "check", "diff", "history", "hold", "init", "resume", "status", "try"):
        assert re.search(rf"(?m)^  {name} +[A-Z]", said), name


@pytest.mark.parametrize("columns", [80, 132])
def test_the_list_of_verbs_fits_the_terminal_and_says_where_to_begin(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) < columns
    assert "tidegate init" in said.split("\n  ")[0]
    assert re.search(r"(?m)^  plan +Shows which host would be in which wave", said)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["deplyo"], "'deplyo' is no verb; did you mean deploy?"),
        (["../../x"], "is no verb; tidegate --help lists them"),
        (["status"], "no CMDB is given; set --cmdb or the environment variable TIDEGATE_CMDB"),
        (["status", "--cmdb", "nowhere.sqlite"], "there is no CMDB at nowhere.sqlite"),
        (["diff", "hello", "1.0", "--dsl", "nowhere"], "there is no DSL at nowhere"),
        (["check"], "there is no release.yml, rfc.yml or policy.yml here"),
        (["hold", "--reason", "x", "--cmdb", "y"], "no RFC is given"),
    ],
)
def test_what_can_not_be_done_is_one_sentence_and_no_traceback(given: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given) == 1
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.startswith("tidegate: ")
    assert len(said.err.splitlines()) == 1


def test_documents_are_checked_and_all_faults_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hello").symlink_to(EXAMPLES / "hello")
    (tmp_path / "policy.yml").write_text("schema: 1\nrolout: {}\nnobody: 1\n")
    assert main(["check"]) == 1
    said = capsys.readouterr()
    assert said.out == "hello: release hello 1.0, 4 files\n"
    assert "policy.yml:2" in said.err
    assert "policy.yml:3" in said.err
    assert main(["check", "hello", str(EXAMPLES / "rfc.yml"), str(EXAMPLES / "policy.yml")]) == 0


def test_two_versions_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = create_library(str(tmp_path / "dsl")).repository("hello")
    for version, content in (("1.0", "one"), ("2.0", "other")):
        folder = tmp_path / version
        (folder / "payload").mkdir(parents=True)
        (folder / "payload" / "same").write_text("same")
        (folder / "payload" / "said").write_text(content)
        (folder / "payload" / f"only{version}").write_text("")
        (folder / "README.md").write_text("# hello\n")
        write_document(folder / "release.yml", simple_manifest(version=version))
        archive(folder, library)
    assert main(["diff", "hello:1.0", "2.0", "--dsl", str(tmp_path / "dsl")]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "! release.yml version: '1.0' -> '2.0'",
        "- payload only1.0",
        "+ payload only2.0",
        "! payload said: size 3 -> 5",
    ]
    assert main(["diff", "hello:1.0", "hello:1.0", "--dsl", str(tmp_path / "dsl")]) == 0
    assert main(["diff", "hello:1.0", "3.0", "--dsl", str(tmp_path / "dsl")]) == 1
    assert "hello 3.0 is not in the library, which has 1.0, 2.0" in capsys.readouterr().err


def test_a_verb_becomes_its_playbook(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(command.verbs, "play", lambda *given: seen.append(given) or 0)
    assert main(["cmdb-upgrade", "--cmdb", "a b", "-i", "x", "-vv", "-C", "--", "-K"]) == 0
    assert main(["try"]) == 0
    assert main(["try", "there", "--rfc", "rfc.yml"]) == 0
    assert main(["resume", "rfc.yml"]) == 0
    assert [(one[0], one[1]) for one in seen] == [  # type: ignore[index]
        ("cmdb_upgrade", ["-i", "x", "--check", "-vv", "-e", '{"tidegate_cmdb": "a b"}', "-K"]),
        ("verify", ["-e", '{"tidegate_release": "."}']),
        ("verify", ["-e", '{"tidegate_rfc": "rfc.yml", "tidegate_release": "there"}']),
        ("deploy", ["-e", '{"tidegate_rfc": "rfc.yml"}']),
    ]


def test_a_reader_that_leaves_is_no_error() -> None:
    program = (
        "import sys; from ansible_collections.tidegate.release.plugins.plugin_utils.command.main import main; sys.exit(main(['--help']))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
