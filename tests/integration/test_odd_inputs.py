# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a newcomer types: wrong, missing and odd inputs of every verb, each told in three lines at most, and nothing is changed.

Everything runs from an empty directory, with no configuration but Ansible's own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, PublicFormat
from documents import EXAMPLES, example_rfc, write_document
from forked import Server
from releases import write_release

NONE = "sha256:" + "0" * 64
Edit = Callable[[dict[str, Any]], Any]


def _manifest(change: Edit | str | bytes) -> Callable[[Path], None]:
    """Makes a release at a path whose manifest is the example's, changed, or these very contents."""

    def make(path: Path) -> None:
        document = yaml.safe_load((write_release(path, {"page.txt": b"hello\n"}, version="2.0") / "release.yml").read_text())
        _write(path / "release.yml", document, change)

    return make


def _rfc(change: Edit | str | bytes) -> Callable[[Path], None]:
    """Makes an RFC at a path, the one that is in order but for the change, or these very contents."""

    def make(path: Path) -> None:
        _write(path, yaml.safe_load((path.parents[1] / "desk" / "rfc.yml").read_text()), change)

    return make


def _policy(change: Edit | str | bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        _write(path, yaml.safe_load((path.parents[1] / "desk" / "policy.yml").read_text()), change)

    return make


def _text(content: str | bytes) -> Callable[[Path], None]:
    return lambda path: _write(path, {}, content)


def _write(path: Path, document: dict[str, Any], change: Edit | str | bytes) -> None:
    if callable(change):
        change(document)
        path.write_text(yaml.safe_dump(document))
    else:
        path.write_bytes(change if isinstance(change, bytes) else change.encode())


def _directory(path: Path) -> None:
    path.mkdir()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _fifo_manifest(path: Path) -> None:
    path.mkdir()
    os.mkfifo(path / "release.yml")


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(50 << 20)


@dataclass(frozen=True)
class Case:
    """A verb with variables; ``odd`` makes what the variable ``{odd}`` names. ``says``: a word that has to be in what is printed."""

    id: str
    verb: str
    says: str
    variables: dict[str, Any] = field(default_factory=dict)
    odd: Callable[[Path], None] | None = None
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    status: tuple[int, ...] = (2,)


def _archive(id_: str, says: str, odd: Callable[[Path], None] | None, **variables: Any) -> Case:
    return Case(f"archive-{id_}", "archive", says, {"tidegate_release": "{odd}", **variables}, odd)


def _clear(id_: str, says: str, odd: Callable[[Path], None] | None = None, **variables: Any) -> Case:
    return Case(f"clear-{id_}", "clear", says, {"tidegate_rfc": "{odd}", **variables}, odd)


def _hook(command: Any) -> Edit:
    return lambda it: it.update(hooks={"start": {"command": command, "timeout": 5}})


def _ends_early(rfc: dict[str, Any]) -> None:
    rfc["end_date"] = "2001-01-01T00:00:00Z"


HOMELESS = {"TIDEGATE_DSL": "", "TIDEGATE_CMDB": ""}
RFC = {"tidegate_rfc": "{desk}/rfc.yml"}
SIGNED = {"tidegate_key": "{desk}/carl.pem", "tidegate_policy": "{desk}/policy.yml"}
WAIVER = {**RFC, **SIGNED, "tidegate_control": "documentation", "tidegate_reason": "hurry", "tidegate_expires": "2099-01-01T00:00:00Z"}
OPINION = {**SIGNED, "tidegate_name": "hello", "tidegate_version": "1.0", "tidegate_score": 3}
DUTY = {"tidegate_number": "CHG0030001", "tidegate_duty": "review", "tidegate_note": "done"}
CASES = [
    # archive
    Case("archive-nothing", "archive", "tidegate_release is missing"),
    Case("archive-no-homes", "archive", "TIDEGATE_DSL", environment=HOMELESS),
    Case("archive-mistyped", "archive", "did you mean tidegate_release?", {"tidegate_relase": "{desk}"}, status=(1,)),
    Case("archive-mistyped-prefix", "archive", "did you mean tidegate_release?", {"tidgate_release": "{desk}"}, status=(1,)),
    Case("archive-dashes", "archive", "did you mean tidegate_release?", {"tidegate-release": "{desk}"}, status=(1,)),
    _archive("empty-text", "tidegate_release is missing", None, tidegate_release=""),
    _archive("a-number", "tidegate_release", None, tidegate_release=5),
    _archive("a-list", "tidegate_release", None, tidegate_release=["a", "b"]),
    _archive("nowhere", "No such file", None),
    _archive("a-file", "release.yml", _text("x")),
    _archive("an-empty-directory", "release.yml", _directory),
    _archive("an-empty-manifest", "is empty", _manifest("")),
    _archive("a-list-for-a-manifest", "list", _manifest("- a\n- b\n")),
    _archive("a-tab", "tab", _manifest("schema: 1\n\tname: x\n")),
    _archive("an-unknown-key", "did you mean version?", _manifest(lambda it: it.update(verison=it.pop("version")))),
    _archive("a-number-for-a-version", "quote it", _manifest(lambda it: it.update(version=1.10))),
    _archive("no-utf-8", "UTF-8", _manifest(b"schema: 1\nname: caf\xe9\n")),
    _archive("a-nul", "release.yml:2", _manifest(b"schema: 1\nname: a\0b\n")),
    _archive("50-megabytes", "release.yml", lambda path: (path.mkdir(), _huge(path / "release.yml"))[1]),
    _archive("a-pipe", "release.yml", _fifo_manifest),
    _archive("two-keys-alike", "name", _manifest("schema: 1\nname: a\nname: b\nversion: '1'\ntype: minor\nsummary: x\npayload: payload\n")),
    _archive("nested-deeply", "release.yml", _manifest("a: " + "[" * 5000)),
    _archive("a-python-object", "release.yml", _manifest("a: !!python/object/apply:os.system [id]\n")),
    _archive("no-payload", "payload", _manifest(lambda it: it.update(payload="nowhere"))),
    _archive("payload-outside", "payload", _manifest(lambda it: it.update(payload="../.."))),
    _archive("a-name-with-a-slash", "name", _manifest(lambda it: it.update(name="../x"))),
    _archive("many-faults", "-v lists", _manifest(lambda it: it.update(dict.fromkeys(["aa", "bb", "cc", "dd", "ee"], 1)))),
    _archive("no-key-there", "nokey.pem", None, tidegate_release="{examples}/hello", tidegate_key="/nowhere/nokey.pem"),
    _archive("a-key-that-is-none", "rfc.yml", None, tidegate_release="{examples}/hello", tidegate_key="{desk}/rfc.yml"),
    _archive(
        "a-wrong-passphrase",
        "locked.pem",
        None,
        tidegate_release="{examples}/hello",
        tidegate_key="{desk}/locked.pem",
        tidegate_key_passphrase="wrong-horse",  # noqa: S106 - it opens nothing
    ),
    _archive("no-passphrase", "passphrase", None, tidegate_release="{examples}/hello", tidegate_key="{desk}/locked.pem"),
    _archive("a-link-to-itself", "Too many levels", lambda path: path.symlink_to(path)),
    _archive("a-key-that-is-a-directory", "Is a directory", None, tidegate_release="{examples}/hello", tidegate_key="{desk}"),
    _archive("a-hook-that-is-a-text", "it has to be a list", _manifest(_hook("bin/start"))),
    _archive("a-hook-that-is-not-there", "not in the payload", _manifest(_hook(["bin/start"]))),
    _archive("less-than-no-time", "more than 0", _manifest(lambda it: it["health"][0].update(timeout=-1))),
    _archive("no-checks", "at least one check", _manifest(lambda it: it.update(health=[]))),
    _archive("a-mistyped-setting", "stands for nothing", _manifest(lambda it: it["health"][0].update(command=["/bin/true", "${prot}"]))),
    _archive("a-later-schema", "it has to be 1", _manifest(lambda it: it.update(schema=2))),
    _archive("a-library-in-a-device", "can't be a DSL", None, tidegate_release="{examples}/hello", tidegate_dsl="/dev/null/dsl"),
    _archive("a-registry-without-a-prefix", "no address of a DSL", None, tidegate_release="{examples}/hello", tidegate_dsl="oci://"),
    _archive("a-list-for-a-library", "quotes", None, tidegate_release="{examples}/hello", tidegate_dsl=["a"]),
    _archive("examine-perhaps", "tidegate_examine", None, tidegate_release="{examples}/hello", tidegate_examine="perhaps"),
    _archive("a-file-for-a-library", "rfc.yml", None, tidegate_release="{examples}/hello", tidegate_dsl="{desk}/rfc.yml"),
    _archive("an-odd-scheme", "ocl", None, tidegate_release="{examples}/hello", tidegate_dsl="ocl://127.0.0.1/x"),
    _archive("a-registry-that-is-down", "127.0.0.1:9", None, tidegate_release="{examples}/hello", tidegate_dsl="oci+http://127.0.0.1:9/x"),
    # clear
    Case("clear-nothing", "clear", "tidegate_rfc"),
    Case("clear-no-homes", "clear", "set tidegate_cmdb", environment=HOMELESS),
    _clear("a-closed-one", "is Closed", _rfc(lambda it: it.update(state=3))),
    _clear("a-word-for-a-state", "-2 Scheduled", _rfc(lambda it: it.update(state="open"))),
    _clear("no-number", "number is missing", _rfc(lambda it: it.pop("number"))),
    _clear("approved-by-oneself", "the requester", _rfc(lambda it: it["approvals"][0].update(approver="rita"))),
    _clear(
        "a-window-that-is-over", "is over", _rfc(lambda it: it.update(start_date="2001-01-01T00:00:00Z", end_date="2001-01-02T00:00:00Z"))
    ),
    _clear("a-scope-that-is-no-list", "5 controls that can't be evaluated", _rfc(lambda it: it.update(scope="name"))),
    _clear("a-scope-by-another-function", "Unknown function", _rfc(lambda it: it.update(scope="foo(@)"))),
    _clear("an-endless-scope", "4096", _rfc(lambda it: it.update(scope="[*]" + "|[*]" * 5000))),
    _clear("an-undefined-variable", "'nope' is undefined", tidegate_rfc="{{ nope }}"),
    _clear("an-empty-policy", "it is empty", _text(""), tidegate_policy="{odd}", **RFC),
    _clear("documents-in-a-file", "Not a directory", tidegate_clearance="{desk}/policy.yml", **RFC),
    Case("clear-mistyped-environment", "clear", "did you mean TIDEGATE_CMDB?", RFC, environment={"TIDEGATE_CMBD": "x"}, status=(1,)),
    _clear("nowhere", "No such file"),
    _clear("a-directory", "odd", _directory),
    _clear("empty", "is empty", _text("")),
    _clear("a-list", "list", _text("- a\n")),
    _clear("50-megabytes", "odd", _huge),
    _clear("a-pipe", "odd", _fifo),
    _clear("binary", "UTF-8", _text(b"\x89PNG\r\n\xff\xfe")),
    _clear("html", "odd:1", _text("<!DOCTYPE html><html><body>Sign in</body></html>")),
    _clear("an-unknown-key", "did you mean risk?", _rfc(lambda it: it.update(rsk=4))),
    _clear("a-time-without-zone", "offset", _rfc(lambda it: it.update(start_date="2027-03-01T22:00:00"))),
    _clear("ends-before-it-starts", "end_date", _rfc(lambda it: it.update(end_date="2001-01-01T00:00:00Z"))),
    _clear("a-digest-that-is-none", "digest", _rfc(lambda it: it["release"].update(digest="latest"))),
    _clear("the-digest-of-another", "is sha256:", _rfc(lambda it: it["release"].update(digest=NONE))),
    _clear("another-release", "the DSL has no", _rfc(lambda it: it["release"].update(name="nothing"))),
    _clear("an-odd-scope", "scope", _rfc(lambda it: it.update(scope="[?site=="))),
    _clear("a-scope-of-nothing", "scope", _rfc(lambda it: it.update(scope="[?site=='nowhere']"))),
    _clear("on-hold", "on hold", _rfc(lambda it: it.update(on_hold=True))),
    _clear("no-cmdb", "no CMDB at /nowhere", tidegate_rfc="{desk}/rfc.yml", tidegate_cmdb="/nowhere/cmdb.sqlite"),
    _clear("a-text-for-a-cmdb", "not a CMDB", _text("hello, this is a text\n" * 100), tidegate_rfc="{desk}/rfc.yml", tidegate_cmdb="{odd}"),
    _clear("a-directory-for-a-cmdb", "odd", _directory, tidegate_rfc="{desk}/rfc.yml", tidegate_cmdb="{odd}"),
    _clear("mysql", "mysql", tidegate_rfc="{desk}/rfc.yml", tidegate_cmdb="mysql://127.0.0.1/x"),
    _clear("postgresql-that-is-down", "127.0.0.1", tidegate_rfc="{desk}/rfc.yml", tidegate_cmdb="postgresql://127.0.0.1:9/x"),
    _clear("no-library", "no DSL at /nowhere", tidegate_rfc="{desk}/rfc.yml", tidegate_dsl="/nowhere"),
    _clear("no-policy", "No such file", tidegate_rfc="{desk}/rfc.yml", tidegate_policy="/nowhere/policy.yml"),
    _clear("an-odd-policy", "did you mean approvals?", _policy(lambda it: it.update(aprovals={})), tidegate_policy="{odd}", **RFC),
    _clear("servicenow-without-login", "SN_USERNAME", tidegate_rfc="servicenow+https://127.0.0.1:9/CHG0030001"),
    _clear("servicenow-mistyped", "servicenow", tidegate_rfc="servicenow://127.0.0.1/CHG0030001"),
    _clear("documents-nowhere", "/dev/null", tidegate_clearance="/dev/null/x", **RFC),
    # approve, waive, opine, settle, write_off
    Case("approve-no-homes", "approve", "2 more faults", environment=HOMELESS),
    Case("approve-an-empty-key", "approve", "chmod 600", {**RFC, **SIGNED, "tidegate_key": "{odd}"}, _text("")),
    Case("waive-no-homes", "waive", "5 more faults", environment=HOMELESS),
    Case("waive-next-week", "waive", "next week", {**WAIVER, "tidegate_expires": "next week"}),
    Case("opine-no-homes", "opine", "2 more faults", environment=HOMELESS),
    Case("opine-without-version", "opine", "version or digest", {**OPINION, "tidegate_version": ""}),
    Case("settle-no-note", "settle", "tidegate_note is missing", {**DUTY, "tidegate_note": ""}),
    Case("approve-no-key", "approve", "tidegate_key", {**RFC, "tidegate_policy": "{desk}/policy.yml"}),
    Case("approve-maybe", "approve", "tidegate_decision is 'maybe'", {**RFC, **SIGNED, "tidegate_decision": "maybe"}),
    Case("approve-another-role", "approve", "pope", {**RFC, **SIGNED, "tidegate_role": "pope"}),
    Case("approve-a-stranger", "approve", "policy", {**RFC, **SIGNED, "tidegate_key": "{desk}/mallory.pem"}),
    Case("approve-a-word-cut-short", "approve", "cut short", {**RFC, **SIGNED}, options=("-e", "tidegate_comment=all well"), status=(1,)),
    Case("approve-without-people", "approve", "policy", {**RFC, "tidegate_key": "{desk}/carl.pem"}),
    Case("waive-nothing", "waive", "tidegate_expires is missing", {**RFC, **SIGNED}),
    Case("waive-another-control", "waive", "weather", {**WAIVER, "tidegate_control": "weather"}),
    Case("waive-what-can-not-be", "waive", "digest", {**WAIVER, "tidegate_control": "digest"}),
    Case("waive-without-zone", "waive", "write it like", {**WAIVER, "tidegate_expires": "2099-01-01T00:00:00"}),
    Case("waive-until-yesterday", "waive", "2001-01-01", {**WAIVER, "tidegate_expires": "2001-01-01T00:00:00Z"}),
    Case("waive-no-reason", "waive", "tidegate_reason is missing", {**WAIVER, "tidegate_reason": ""}),
    Case("opine-no-score", "opine", "tidegate_score is missing", {key: OPINION[key] for key in OPINION if key != "tidegate_score"}),
    Case("opine-six", "opine", "tidegate_score is 'six'", {**OPINION, "tidegate_score": "six"}),
    Case("opine-nine", "opine", "9", {**OPINION, "tidegate_score": 9}),
    Case("opine-zero", "opine", "0", {**OPINION, "tidegate_score": 0}),
    Case("opine-of-nothing", "opine", "nothing", {**OPINION, "tidegate_name": "nothing"}),
    Case("opine-blocking-perhaps", "opine", "tidegate_blocking is 'perhaps'", {**OPINION, "tidegate_blocking": "perhaps"}),
    Case("opine-a-number-for-a-version", "opine", "quotes", options=("-e", json.dumps({**OPINION, "tidegate_version": 1.0}))),
    Case("settle-another-change", "settle", "CHG0030001 does not owe", DUTY),
    Case("settle-nothing", "settle", "tidegate_number is missing"),
    Case("write-off-nobody", "write_off", "web9", {"tidegate_host": "web9", "tidegate_reason": "burnt"}),
    Case("write-off-for-nothing", "write_off", "reason", {"tidegate_host": "web1"}),
    Case("write-off-gone", "write_off", "write_off_state is 'gone'", {"tidegate_host": "web1", "write_off_state": "gone"}),
    # stage, deploy, backout
    Case("deploy-nothing", "deploy", "tidegate_rfc"),
    Case("deploy-no-homes", "deploy", "set tidegate_cmdb", environment=HOMELESS),
    Case("deploy-become-perhaps", "deploy", "true or false", {**RFC, "tidegate_become": "perhaps"}, options=("-i", "web1,"), status=(1,)),
    Case("deploy-by-steps", "deploy", "--step", RFC, options=("--step",), status=(1,)),
    Case("deploy-from-the-middle", "deploy", "--start-at-task", RFC, options=("--start-at-task", "Conclude"), status=(1,)),
    Case("stage-no-homes", "stage", "set tidegate_cmdb", environment=HOMELESS),
    Case("backout-no-homes", "backout", "set tidegate_cmdb", environment=HOMELESS),
    Case("deploy-without-inventory", "deploy", "not in the inventory (web1)", RFC),
    Case("deploy-an-inventory-that-is-not-there", "deploy", "not in the inventory", RFC, options=("-i", "/nowhere/hosts.yml")),
    Case("deploy-take-over-perhaps", "deploy", "tidegate_take_over is 'perhaps'", {**RFC, "tidegate_take_over": "perhaps"}),
    Case("deploy-tags", "deploy", "--tags", RFC, options=("--tags", "web"), status=(1,)),
    Case("deploy-limit", "deploy", "--limit", RFC, options=("-i", "web1,web2", "--limit", "web1"), status=(1,)),
    Case("deploy-settings-mistyped", "deploy", "did you mean tidegate_settings?", {**RFC, "tidegate_setings": {}}, status=(1,)),
    Case("stage-on-hold", "stage", "on hold", {"tidegate_rfc": "{odd}"}, _rfc(lambda it: it.update(on_hold=True))),
    Case("backout-nothing", "backout", "tidegate_rfc"),
    Case("backout-never-deployed", "backout", "was never deployed", RFC),
    Case("backout-no-cmdb", "backout", "no CMDB", {**RFC, "tidegate_cmdb": "/nowhere/cmdb.sqlite"}),
    # the library, the CMDB, what is written about them
    Case("sync-nowhere", "dsl_sync", "tidegate_dsl_to is missing"),
    Case("sync-to-itself", "dsl_sync", "dsl", {"tidegate_dsl_to": "{desk}/dsl"}),
    Case("sync-from-nowhere", "dsl_sync", "/nowhere", {"tidegate_dsl": "/nowhere", "tidegate_dsl_to": "{odd}"}),
    Case("verify-library-nowhere", "dsl_verify", "/nowhere", {"tidegate_dsl": "/nowhere"}),
    Case("verify-library-replica-nowhere", "dsl_verify", "/nowhere", {"tidegate_dsl_replica": "/nowhere"}),
    Case("sync-no-homes", "dsl_sync", "TIDEGATE_DSL", environment=HOMELESS),
    Case("sync-of-nothing", "dsl_sync", "correct the names", {"tidegate_dsl_to": "{odd}", "tidegate_dsl_names": ["nothing"]}),
    Case("sync-to-a-registry-that-is-down", "dsl_sync", "reached (Failed", {"tidegate_dsl_to": "oci+http://127.0.0.1:9/x"}),
    Case("verify-library-of-nothing", "dsl_verify", "tidegate_dsl_names", {"tidegate_dsl_names": ["nothing"]}),
    Case("verify-library-by-itself", "dsl_verify", "can't heal itself", {"tidegate_dsl_replica": "{desk}/dsl"}),
    Case("audit-no-homes", "audit", "set tidegate_cmdb", environment=HOMELESS),
    Case("audit-without-time", "audit", "a whole number of seconds", {"audit_timeout": -1}, options=("-i", "web1,"), status=(1,)),
    Case("audit-a-list", "audit", "a text, such as", {"tidegate_hosts": ["web1"]}, status=(1,)),
    Case("audit-a-number", "audit", "a text, such as", {"tidegate_hosts": 9}, status=(1,)),
    Case("audit-nobody", "audit", "no host to audit", {"tidegate_hosts": "web9"}),
    Case("audit-no-library", "audit", "no DSL", {"tidegate_dsl": "/nowhere"}),
    Case("report-nowhere", "report", "tidegate_report is missing"),
    Case("report-over-a-file", "report", "rfc.yml", {"tidegate_report": "{desk}/rfc.yml"}),
    Case("report-no-cmdb", "report", "no CMDB", {"tidegate_report": "{odd}", "tidegate_cmdb": "/nowhere/cmdb.sqlite"}),
    Case("schedule-nowhere", "schedule", "/nowhere", {"tidegate_rfcs": ["/nowhere/rfc.yml"]}),
    Case("schedule-no-homes", "schedule", "TIDEGATE_CMDB", environment=HOMELESS),
    Case("schedule-the-same-twice", "schedule", "before it starts", {"tidegate_rfcs": ["{odd}", "{odd}"]}, _rfc(_ends_early)),
    Case("schedule-a-directory", "schedule", "it is not a file", {"tidegate_rfcs": ["{desk}"]}),
    Case("schedule-a-mapping", "schedule", "it has to be a list", {"tidegate_rfcs": {"a": 1}}),
    Case("schedule-into-a-directory", "schedule", "Is a directory", {"tidegate_schedule": "{desk}"}),
    Case("report-in-a-device", "report", "Not a directory", {"tidegate_report": "/dev/null/x"}),
    Case("archive-journal-nowhere", "journal_archive", "tidegate_journal_archive is missing", {"tidegate_reason": "old"}),
    Case("archive-journal-for-nothing", "journal_archive", "no reason is given", {"tidegate_journal_archive": "{odd}"}),
    Case("archive-journal-no-homes", "journal_archive", "set tidegate_cmdb", environment=HOMELESS),
    Case("report-of-nothing", "report", "CHG9 has no deployment", {"tidegate_report": "{odd}", "report_deployments": ["CHG9"]}),
    Case("upgrade-nothing", "cmdb_upgrade", "is empty", {"tidegate_cmdb": "{odd}"}, _text("")),
    Case("upgrade-no-cmdb", "cmdb_upgrade", "no CMDB", {"tidegate_cmdb": "/nowhere/cmdb.sqlite"}),
    # the lab, and a verification on it
    Case("lab-nowhere", "lab", "lab_path is missing"),
    Case("lab-in-a-file", "lab", "rfc.yml", {"lab_path": "{desk}/rfc.yml", "lab_hosts": [{"name": "web1"}]}),
    Case("lab-state-up", "lab", "lab_state is 'up'", {"lab_path": "{odd}", "lab_state": "up"}),
    Case("lab-port-ssh", "lab", "lab_port is 'ssh'", {"lab_path": "{odd}", "lab_port": "ssh"}),
    Case("lab-host-without-name", "lab", "name", {"lab_path": "{odd}", "lab_hosts": [{"site": "ams"}]}),
    Case("lab-mistyped", "lab", "did you mean lab_path?", {"lab_pth": "{odd}"}, status=(1,)),
    Case("lab-hosts-by-name", "lab", "lab_hosts[0] is 'web1'; it has to be a mapping", {"lab_path": "{odd}", "lab_hosts": "web1"}),
    Case("lab-two-alike", "lab", "distinct names", {"lab_path": "{odd}", "lab_hosts": [{"name": "a"}, {"name": "a"}]}),
    Case("verify-nothing", "verify", "tidegate_rfc"),
    Case("verify-no-homes", "verify", "set tidegate_cmdb", environment=HOMELESS),
    Case("verify-a-directory-without-homes", "verify", "set tidegate_cmdb", {"tidegate_release": "{examples}/hello"}, environment=HOMELESS),
    Case("verify-on-no-host", "verify", "verify_hosts is 0; it has to be 1 or more", {**RFC, "verify_hosts": 0}),
    Case("verify-in-no-time", "verify", "verify_timeout is 0; it has to be 1 or more", {**RFC, "verify_timeout": 0}),
    Case("verify-lab-of-another-kind", "verify", "verify_lab.mode is 'vm'; it has to be", {**RFC, "verify_lab": {"mode": "vm"}}),
    Case("verify-lab-mistyped", "verify", "did you mean mode?", {**RFC, "verify_lab": {"moed": "user"}}),
    Case("verify-variables-that-are-a-list", "verify", "odd:1: it is not a mapping", {**RFC, "verify_vars_file": "{odd}"}, _text("- a\n")),
    Case("verify-variables-that-are-no-yaml", "verify", "odd:2: it is no YAML", {**RFC, "verify_vars_file": "{odd}"}, _text("a: [\n")),
    Case("verify-in-a-place-of-others", "verify", "is not empty", {**RFC, "verify_path": "{desk}"}),
    Case("verify-timeout-soon", "verify", "verify_timeout is 'soon'", {**RFC, "verify_timeout": "soon"}),
    Case("verify-variables-nowhere", "verify", "/nowhere", {**RFC, "verify_vars_file": "/nowhere/vars.yml"}),
]


@dataclass(frozen=True)
class Done:
    """The exit status of a case, and what it printed."""

    status: int
    output: str


@dataclass
class Desk:
    """A directory with what is in order, and servers that run the cases; what they print is waited for one by one."""

    path: Path
    servers: Queue[Server]
    environment: dict[str, str]
    before: dict[str, str] = field(default_factory=dict)
    done: dict[str, Future[Done]] = field(default_factory=dict)

    def run(self, case: Case) -> Done:
        """Run a case as its user would."""
        folder = self.path / case.id
        folder.mkdir()
        if case.odd:
            case.odd(folder / "odd")
        names = {"{odd}": folder / "odd", "{desk}": self.path / "desk", "{examples}": EXAMPLES}
        text = json.dumps(case.variables)
        options = list(case.options)
        for name, path in names.items():
            text = text.replace(name, str(path))
            options = [option.replace(name, str(path)) for option in options]
        empty = folder / "empty"
        empty.mkdir()
        homes = {"TIDEGATE_DSL": str(self.path / "desk" / "dsl"), "TIDEGATE_CMDB": str(self.path / "desk" / "cmdb.sqlite")}
        server = self.servers.get()
        try:
            arguments = [f"tidegate.release.{case.verb}", "-e", text, *options]
            done = server.run(["ansible-playbook", *arguments], {**self.environment, **homes, **case.environment}, empty)
        finally:
            self.servers.put(server)
        return Done(done.returncode, done.stdout)

    def content(self) -> dict[str, str]:
        """Every file of the desk, and all that the CMDB says; the write-ahead files of SQLite left out."""
        desk = self.path / "desk"
        files = (path for path in sorted(desk.rglob("*")) if path.is_file() and not path.name.startswith("cmdb.sqlite"))
        found = {str(path.relative_to(desk)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        with sqlite3.connect(f"file:{desk / 'cmdb.sqlite'}?mode=ro", uri=True) as database:
            # Who clears notes what the library was seen to have, also when it refuses.
            return found | {"CMDB": "\n".join(line for line in database.iterdump() if not line.startswith('INSERT INTO "library_seen"'))}


def _key(path: Path, passphrase: str = "") -> str:
    """Write a private key; return the public one."""
    key = Ed25519PrivateKey.generate()
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    path = tmp_path_factory.mktemp("odd")
    home = path / "desk"
    home.mkdir()
    digest = archive(EXAMPLES / "hello", OciLayout.create(home / "dsl")).digest
    with Cmdb.open(str(home / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "class": "server", "site": "ams", "environment": "live"}], "test")
    carl = _key(home / "carl.pem")
    _key(home / "mallory.pem")
    _key(home / "locked.pem", "correct-horse")
    policy = yaml.safe_load((EXAMPLES / "policy.yml").read_text())
    policy["people"] = {"carl": {"roles": ["change-manager", "tester"], "keys": [{"public": carl}]}}
    policy["approvals"]["normal"] = {"change-manager": 1}
    policy["waivers"] = {"documentation": {"role": "change-manager"}}
    policy["opinions"] = {"tester": {"quorum": 1, "minimum": 3}}
    (home / "policy.yml").write_text(yaml.safe_dump(policy))
    later = (datetime.now(UTC) + timedelta(hours=9)).isoformat(timespec="seconds")
    write_document(home / "rfc.yml", example_rfc(digest, objectives=[], end_date=later))
    (path / "nothing").mkdir()
    given = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "TIDEGATE_", "SN_"))}
    given["ANSIBLE_NOCOLOR"] = "1"
    servers = [Server(path / "nothing", given) for _number in range(os.cpu_count() or 1)]
    desk = Desk(path, Queue(), given)
    desk.before = desk.content()
    for server in servers:
        desk.servers.put(server)
    with ThreadPoolExecutor(len(servers)) as pool:
        desk.done = {case.id: pool.submit(desk.run, case) for case in CASES}
        yield desk
        pool.shutdown(cancel_futures=True)
    for server in servers:
        server.close()


def _said(output: str) -> list[str]:
    """What is printed but for Ansible's frame: banners, recap, what it says of the inventory, and steps that did well."""
    lines = re.sub(r"(?ms)^ok: \[[^\n]*\] => \{$.*?^\}$", "", output.partition("\nPLAY RECAP")[0]).splitlines()
    inventory = r"\[WARNING\]: (No inventory|provided hosts list|Unable to parse|Could not match)"
    frame = re.compile(rf"$|(PLAY|TASK) \[.*\*|(ok|changed|skipping|included): |{inventory}")
    return [line for line in lines if not frame.match(line)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_is_wrong_is_told_in_three_lines_and_nothing_is_changed(desk: Desk, case: Case) -> None:
    done = desk.done[case.id].result()
    said = _said(done.output)
    assert case.says in " ".join(" ".join(said).split()), done.output
    assert done.status in case.status, done.output
    assert 1 <= len(said) <= 3, done.output
    causes = [line for text in said for line in text.split("\\n")]
    assert len(causes) == len({*causes}) <= 3, done.output
    assert max(map(len, said)) < 800, done.output
    for noise in ("Origin:", "<<<", "Traceback", "argument_spec", "Task failed", "{{", "site-packages", "horse", "PRIVATE KEY"):
        assert noise not in done.output
    assert not list((desk.path / case.id / "empty").iterdir())


def test_nothing_was_changed_by_any_of_them(desk: Desk) -> None:
    for case in CASES:
        desk.done[case.id].result()
    assert desk.content() == desk.before
    assert len(CASES) >= 60
    made = {path.parent.name for path in desk.path.glob("*/odd") if path.is_dir() and not path.is_symlink()}
    assert made <= {case.id for case in CASES if case.odd}
