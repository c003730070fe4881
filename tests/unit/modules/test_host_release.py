# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two modules as Ansible runs them: arguments in, one JSON document out, never a traceback."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import ansible
import pytest
from ansible_collections.tidegate.release.plugins import module_utils
from bed import Host, link, package

ONE = package("1.0", {"lib/a": b"a", "lib/b": b"b", "to-lib": link("lib")})
COLLECTION = "ansible_collections.tidegate.release.plugins.modules"


def run(module: str, user: int | None = None, **arguments: Any) -> dict[str, Any]:
    """Run a module in a process of its own, as the user with the id ``user`` if given."""
    folders = [str(Path(next(iter(module_utils.__path__))).parents[4]), str(Path(ansible.__file__).parents[1])]
    code = (
        "import json, os, sys\n"
        "from ansible.module_utils import basic\n"
        f"from {COLLECTION}.{module} import main\n"
        "try:\n    from ansible.module_utils.testing import patch_module_args\n"
        "except ImportError:\n    basic._ANSIBLE_ARGS = json.dumps({'ANSIBLE_MODULE_ARGS': json.loads(sys.argv[1])}).encode(); main()\n"
        # Once for nothing: Ansible loads the last of itself now, which another user may not be able to read.
        "import contextlib, io\n"
        "with patch_module_args({}), contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    basic.AnsibleModule({}).exit_json()\n"
        + (f"os.setuid({user})\n" if user else "")
        + "with patch_module_args(json.loads(sys.argv[1])):\n    main()\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*folders, *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in outcome.stdout + outcome.stderr, outcome.stderr
    answer: dict[str, Any] = json.loads(outcome.stdout)
    return answer


def facts(host: Host, **options: Any) -> dict[str, Any]:
    answer = run("release_facts", root=str(host.root), **options)
    assert answer["changed"] is False
    assert len(answer["releases"]) == 1
    entry: dict[str, Any] = answer["releases"][0]
    return entry


def orders(host: Host, operation: str, **other: Any) -> dict[str, Any]:
    texts = [base64.b64encode(zlib.compress(document)).decode() for document in ONE.documents]
    arguments = {"operation": operation, "root": str(host.root), "name": "hello", "digest": ONE.digest, "deployment": "x", "token": 1}
    return run("host_release", **{**arguments, **({"documents": texts} if operation == "stage" else {}), **other})


# -- host_release -----------------------------------------------------------


def test_a_release_goes_all_the_way_through_the_module(host: Host, tmp_path: Path) -> None:
    asked = orders(host, "stage")
    assert (asked["state"], asked["live"]) == ("lacking", None)
    (tmp_path / "pack").write_bytes(ONE.pack(asked["need"]))
    assert orders(host, "stage", pack=str(tmp_path / "pack"))["state"] == "staged"
    assert orders(host, "activate")["state"] == "started"
    assert orders(host, "confirm")["state"] == "active"
    assert host.running == "1.0"
    first, again = orders(host, "backout"), orders(host, "backout")
    assert again["clock"] >= first["clock"]
    assert {**first, "clock": 0} == {**again, "clock": 0, "state": "backed_out", "changed": True}
    assert host.running is None


@pytest.mark.parametrize(
    "documents",
    [[], ["x"], ["!", "!", "!"], [base64.b64encode(b"x").decode()] * 3, [base64.b64encode(zlib.compress(b"x")).decode()] * 3, ["é"] * 3],
)
def test_documents_that_are_none_are_one_sentence(host: Host, documents: list[str]) -> None:
    answer = orders(host, "stage", documents=documents)
    assert answer["failed"] is True
    assert "document" in answer["msg"] or "manifest" in answer["msg"]


@pytest.mark.parametrize("bad", [{"root": "/proc/none"}, {"name": "../x"}, {"digest": "x"}])
def test_bad_orders_are_one_sentence(host: Host, bad: dict[str, str]) -> None:
    answer = orders(host, "activate", **bad)
    assert answer["failed"] is True
    assert answer["msg"]


def test_a_root_that_is_a_file_is_one_sentence(host: Host) -> None:
    host.root.write_text("x")
    assert "Not a directory" in orders(host, "stage")["msg"]


# -- release_facts ----------------------------------------------------------


def test_a_host_without_releases_has_none(host: Host) -> None:
    assert run("release_facts", root=str(host.root))["releases"] == []


def test_what_is_live_is_reported_and_check_mode_changes_nothing(host: Host) -> None:
    host.deploy(ONE)
    host.stage(package("2.0"))
    (host.root / "lost+found").mkdir()
    (host.root / "file").write_text("x")
    entry = facts(host, _ansible_check_mode=True)
    expected = {"name": "hello", "version": "1.0", "digest": ONE.digest, "staged": ["1.0", "2.0"]}
    assert entry == {**expected, "changed": [], "extra": [], "others": [], "strangers": []}


def test_what_is_not_as_released_is_named(host: Host) -> None:
    host.deploy(ONE)
    tree = host.tree(ONE)
    (tree / "lib/a").write_bytes(b"x")
    (tree / "lib/b").unlink()
    (tree / "bin/start").chmod(0o777)
    (tree / "to-lib").unlink()
    (tree / "to-lib").symlink_to("/etc")
    (tree / "lib/new").mkdir()
    (tree / "lib/new/file").write_text("x")
    (tree / "lib/__pycache__").mkdir()
    (tree / "lib/__pycache__/x.pyc").write_text("x")
    os.mkfifo(tree / "pipe")
    with open(os.fsencode(tree) + b"/\xff", "w"):
        pass
    entry = facts(host)
    assert entry["changed"] == ["bin/start", "lib/a", "lib/b", "to-lib"]
    assert entry["extra"] == ["\\xff", "lib/new", "lib/new/file", "pipe"]


def test_a_file_that_releases_share_is_reported_for_each_and_does_not_spread(host: Host) -> None:
    host.share = True
    host.deploy(ONE)
    two, three = package("2.0", {"lib/a": b"a", "lib/b": b"2"}), package("3.0", {"lib/a": b"a", "lib/b": b"3"})
    host.stage(two)
    assert (host.tree(ONE) / "lib/a").stat().st_ino == (host.tree(two) / "lib/a").stat().st_ino
    (host.tree(two) / "lib/a").write_bytes(b"x")
    entry = facts(host)
    assert entry["changed"] == ["lib/a"]
    assert entry["others"] == [{"version": "2.0", "digest": two.digest, "changed": ["lib/a"], "extra": []}]
    host.stage(three)
    assert (host.tree(three) / "lib/a").read_bytes() == b"a"
    assert [other["version"] for other in facts(host)["others"]] == ["2.0"]


def test_links_and_files_that_somebody_planted_are_named(host: Host, tmp_path: Path) -> None:
    host.deploy(ONE)
    host.stage(package("2.0"))
    home = host.home
    (host.tree(ONE) / "lib/evil").symlink_to("/etc/passwd")
    (host.tree(ONE) / "folder").symlink_to(tmp_path)
    (host.tree(ONE) / "__pycache__").symlink_to(tmp_path)
    (host.tree(ONE) / "lib/__pycache__").mkdir()
    (host.tree(ONE) / "lib/__pycache__/tool").write_text("x")
    (host.tree(ONE) / "lib/__pycache__/m.cpython-311.pyc").write_text("x")
    (host.tree(ONE) / "lib/__pycache__/n.pyc").symlink_to("/etc/passwd")
    (home.releases / "9.9-0123456789ab").symlink_to(home.releases / ONE.id)
    (home.releases / ONE.id / "more").write_text("x")
    (home.path / "note.txt").write_text("x")
    (home.path / ".current.new").symlink_to("x")  # what a killed switch leaves
    entry = facts(host)
    assert entry["extra"] == ["__pycache__", "folder", "lib/__pycache__/n.pyc", "lib/__pycache__/tool", "lib/evil"]
    assert entry["strangers"] == ["note.txt", f"releases/{ONE.id}/more", "releases/9.9-0123456789ab"]
    assert (entry["changed"], entry["others"], entry["staged"]) == ([], [], ["1.0", "2.0"])


def test_the_kind_of_each_thing_counts(host: Host) -> None:
    host.deploy(ONE)
    tree = host.tree(ONE)
    (tree / "to-lib").unlink()
    (tree / "to-lib").mkdir()
    (tree / "lib/a").unlink()
    (tree / "lib/a").symlink_to("b")
    (tree / "lib").chmod(0o777)
    assert facts(host)["changed"] == ["lib", "lib/a", "to-lib"]


def test_a_folder_that_became_a_link_is_changed(host: Host, tmp_path: Path) -> None:
    host.deploy(ONE)
    (host.tree(ONE) / "lib").rename(tmp_path / "lib")
    (host.tree(ONE) / "lib").symlink_to(tmp_path / "lib")
    assert facts(host)["changed"] == ["lib"]


@pytest.mark.parametrize("target", ["/etc", "releases/none/tree", "nowhere"])
def test_a_broken_link_is_said(host: Host, target: str) -> None:
    host.deploy(ONE)
    host.home.current.unlink()
    host.home.current.symlink_to(target)
    entry = facts(host)
    assert "which is not a release" in entry["error"]
    assert (entry["version"], entry["staged"]) == (None, ["1.0"])


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"config": 1}', "\0"])
def test_a_damaged_record_is_said(host: Host, record: str) -> None:
    host.deploy(ONE)
    (host.home.releases / ONE.id / "release.json").write_text(record)
    assert "which is not a release" in facts(host)["error"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody who may not read")
@pytest.mark.parametrize("which", ["", "hello", "hello/releases", "tree"])
def test_what_can_not_be_read_is_said(which: str) -> None:
    # Not below pytest's directory, which nobody else may enter.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        host = Host(Path(folder) / "root")
        host.deploy(ONE)
        (host.tree(ONE) / "lib" if which == "tree" else host.root / which).chmod(0o700)
        answer = run("release_facts", user=65534, root=str(host.root))
    if which:
        entry = answer["releases"][0]
        assert entry.get("error")
    else:
        assert answer["failed"] is True
        assert "can't be read (Permission denied)" in answer["msg"]


def test_a_root_that_is_no_directory_is_said(host: Host) -> None:
    host.root.write_text("x")
    assert "Not a directory" in run("release_facts", root=str(host.root))["msg"]
