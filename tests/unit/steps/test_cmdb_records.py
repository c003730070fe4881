# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.recorded_sets import record_sets
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.team_model import set_model
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import move_units, save_rules
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.stock import StockRule
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import MoveOrder
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.seen import Piece, Snapshot
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import enter_seen
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.entitlements import save
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.seats import Entitlement
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit_sets import digest_of
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_records import (
    EXPORTED,
    NOT_EXPORTED,
    PARTS,
    export_records,
    import_records,
    read_records,
    write_records,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_verify import verify_cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.retire import ReleaseState, Retirement, enter_status

NOW = datetime(2026, 5, 3, 12, tzinfo=UTC)
DIGEST = "sha256:" + "1" * 64
MODEL = {"classes": {"kiln": {"host": True}}, "relations": {"heats": {"from": ["kiln"], "to": ["room"]}}}
PACKAGES = {"nginx:amd64": "1.24-1", "żółw:all": "2"}
WRITE_OFF = {"ci": "web1", "by": "rita", "reason": "burnt", "since": NOW.isoformat()}
PAYLOAD = "{{ lookup('pipe', 'touch hacked') }}"


def _fill(url: str) -> None:
    with Cmdb.open(url, create=True) as cmdb, cmdb.begin() as connection:
        runs = [{"kind": "runs_on", "target": "srv1"}, {"kind": "uses", "target": "db1"}]
        cis: list[dict[str, Any]] = [
            {
                "name": "web1",
                "class": "web",
                "site": "fra",
                "attributes": {"motd": PAYLOAD, "deep": {"a": [1, None, "é\u2028"]}},
                "relations": runs,
            },
            {"name": "srv1", "class": "server"},
            {"name": "db1"},
        ]
        set_model(connection, MODEL, "carl", NOW, {})
        cmdb.put_cis(cis, "test", connection=connection)
        sets = {"packages": (digest_of(PACKAGES), PACKAGES), "cron": (digest_of({}), {})}
        record_sets(connection, "web1", sets, "carl", "as it was made", NOW)
        gone = Retirement("hello", "0.9", DIGEST, "it leaks", "rita", NOW)
        enter_status(connection, gone, ReleaseState.RETIRED)
        seen = Snapshot("hello", "1", DIGEST, 3, NOW, {DIGEST: Piece("approval", NOW)})
        row = {"release": "hello", "version": "1", "digest": DIGEST, "document": seen.to_json(), "envelope": ""}
        enter_seen(connection, [row])
        installed = [{"ci": "web1", "release": "hello", "version": "1", "digest": "sha256:1"}]
        cmdb.record_installations(connection, installed, "test", NOW)
        cmdb.write_off(connection, "db1", "its disk died", "rita", NOW, {})
        save(connection, Entitlement("acme 5", "acme", 5, NOW, None, "order 7"), "test", NOW, True)
        orders = [
            MoveOrder("receive", "A1", "Contoso", "S1", "R750", stockroom="ams"),
            MoveOrder("receive", "A2", "Contoso", "S2", "R750", stockroom="ams"),
            MoveOrder("install", "A2", ci="srv1"),
        ]
        move_units(connection, orders, "test", NOW, True)
        save_rules(connection, [StockRule("R750", "ams", 1, 3, 1, "Contoso", ("R740",))], "test", NOW, True)


def _records(url: str) -> dict[str, Any]:
    with Cmdb.open(url) as cmdb, cmdb.read() as connection:
        return export_records(cmdb, connection)


def _import(url: str, records: dict[str, Any]) -> bool:
    with Cmdb.open(url, create=True) as cmdb, cmdb.begin() as connection:
        return import_records(cmdb, connection, records, "test", datetime.now(UTC))


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    _fill(str(tmp_path / "old.sqlite"))
    write_records(tmp_path / "cmdb.json", _records(str(tmp_path / "old.sqlite")), dry_run=False)
    return tmp_path / "cmdb.json"


def test_an_empty_cmdb_has_the_same_records_after_an_import(exported: Path, cmdb_url: str) -> None:
    records = read_records(exported)
    assert all(records[part] for part in PARTS)
    assert _import(cmdb_url, records)
    assert _records(cmdb_url) == records == _records(str(exported.with_name("old.sqlite")))
    assert not _import(cmdb_url, records)
    with Cmdb.open(cmdb_url) as cmdb:
        assert verify_cmdb(cmdb, []).findings == []
        with cmdb.begin() as connection:  # the team's model applies there
            cmdb.put_cis([{"name": "kiln1", "class": "kiln"}], "test", connection=connection)


def test_each_table_is_in_the_records_or_it_is_said_why_not() -> None:
    exported = [table for tables in EXPORTED.values() for table in tables]
    assert sorted([*exported, *NOT_EXPORTED]) == sorted(schema().chain.metadata.tables)


def test_the_file_is_the_same_while_nothing_changes(exported: Path) -> None:
    records = _records(str(exported.with_name("old.sqlite")))
    before = exported.stat()
    assert not write_records(exported, records, dry_run=False)
    assert exported.stat().st_mtime_ns == before.st_mtime_ns
    records["cis"].pop()
    assert write_records(exported, records, dry_run=True)
    assert exported.stat().st_mtime_ns == before.st_mtime_ns


def test_a_cut_file_is_refused_wherever_it_was_cut(exported: Path) -> None:
    content = exported.read_bytes()
    for end in range(0, len(content.rstrip()), 7):
        exported.write_bytes(content[:end])
        with pytest.raises(TidegateError):
            read_records(exported)


def test_a_file_that_was_cut_is_refused_in_words(exported: Path) -> None:
    exported.write_bytes(exported.read_bytes()[:300])
    with pytest.raises(TidegateError, match="or it was cut; nothing was imported, export again"):
        read_records(exported)


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("cis", {"name": "all"}, "can't be the name of a CI"),
        ("cis", {"surprise": 1}, "is not a part of a CI"),
        ("installations", {"ci": "nobody"}, "has no CI nobody"),
        ("installations", {"since": "yesterday"}, "not RFC 3339"),
        ("write_offs", {"ci": "nobody"}, "has no CI nobody"),
        ("entitlements", {"product": "A b"}, "can't be a product"),
        ("units", {"state": "lost"}, "lost"),
        ("units", {"stockroom": ""}, "contradict each other"),
        ("units", {"ci": "nobody"}, "in use by nobody"),
        ("stock_rules", {"target": 1}, "the target has to be more"),
        ("model", {"document": {"classes": {"kiln": {"hsot": True}}}}, "the model of CIs can't be one: .*hsot"),
        ("host_sets", {"ci": "nobody"}, "a record of 'nobody', which is none of the CIs"),
        ("host_sets", {"entries": {"a": "1"}}, "the entries of 'cron' of web1 are not those of its sha256"),
        ("releases", {"state": "lost"}, "'lost' is not a valid ReleaseState"),
        ("library", {"document": {"number": 1}}, "as seen of hello 1 can't be read"),
    ],
)
def test_a_record_that_can_not_be_leaves_the_cmdb_empty(
    exported: Path, tmp_path: Path, part: str, change: dict[str, Any], said: str
) -> None:
    records = read_records(exported)
    records[part][0].update(change)
    with pytest.raises(TidegateError, match=said):
        _import(str(tmp_path / "new.sqlite"), records)
    found = _records(str(tmp_path / "new.sqlite"))
    assert not any(found[part] for part in PARTS)


def test_a_cmdb_that_has_other_records_is_left_alone(exported: Path, tmp_path: Path) -> None:
    with Cmdb.open(str(tmp_path / "new.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": "other"}], "test")
    with pytest.raises(ConflictError, match="has 1 cis, and records are imported into an empty one"):
        _import(str(tmp_path / "new.sqlite"), read_records(exported))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "is of the format 2"),
        ({"units": None}, "units: it is not what the format has there"),
        ({"more": []}, "'more' was unexpected"),
        ({"units": [{"tag": "A1"}]}, "'manufacturer' is a required property"),
        ({"write_offs": [WRITE_OFF | {"reason": "a\0"}]}, r"records\.write_offs\[0\]\.reason: it has a NUL"),
        ({"write_offs": [WRITE_OFF | {"by": "a\ud800"}]}, "has half a character, or it was cut"),
        ({"cis": [{"name": "a", "attributes": {"a": {"\0": 1}}, "relations": []}]}, r"cis\[0\]\.attributes\.a, a key: it has a NUL"),
    ],
)
def test_a_document_of_another_format_is_refused(exported: Path, change: dict[str, Any], said: str) -> None:
    exported.write_text(json.dumps(json.loads(exported.read_text()) | change))
    with pytest.raises(TidegateError, match=said):
        read_records(exported)
