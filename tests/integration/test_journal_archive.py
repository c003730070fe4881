# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is long over leaves the CMDB when a file has it, and never before; what is needed stays."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.chain import append_journal
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, IntegrityError, NotFoundError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import open_envelope
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import Policy
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import build_report
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.register import forward_schedule
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout import archive_file
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.archive_file import deployment_document, documents_in, read_archive
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.data_journal import DataJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.history import PastOf, journal_lines
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import journal_archive
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.journal_archive import archive_journal
from hypothesis import given, settings
from hypothesis import strategies as st
from past import HOSTS, START, history

POLICY = replace(load_policy(None), journal_days=10)
LATER = START + timedelta(days=100)
BULK = ("journal", "deployment_host", "wave", "change_ci")


@pytest.fixture
def cmdb(cmdb_url: str) -> Iterator[Cmdb]:
    """Three deployments that are long over, the last of which is installed."""
    with Cmdb.open(cmdb_url, create=True) as made:
        made.put_cis([{"name": name, "site": "fra"} for name in HOSTS], "test")
        with made.begin() as connection:
            for number in (1, 2, 3):
                history(connection, number)
            install(made, connection, 3)
        yield made


def install(made: Cmdb, connection: sa.Connection, number: int, names: list[str] = HOSTS, release: str = "shop") -> None:
    row = {"release": release, "version": f"{number}.0", "digest": f"sha256:{number:064}", "deployment_id": number}
    made.record_installations(connection, [{"ci": name, **row} for name in names], "test", START)


def archive(made: Cmdb, folder: Path, policy: Policy = POLICY, write: bool = True, **more: Any) -> list[str]:
    return archive_journal(made, policy, folder, more.pop("reason", "it is old"), more.pop("signer", None), LATER, write).deployments


def held(made: Cmdb) -> dict[str, int]:
    """How many rows there are of what grows."""
    tables = schema().metadata.tables
    with made.read() as connection:
        return {name: connection.scalar(sa.select(sa.func.count()).select_from(tables[name])) or 0 for name in (*BULK, "journal_archive")}


def everything(made: Cmdb, *numbers: int) -> list[dict[str, Any]]:
    with made.read() as connection:
        return [deployment_document(connection, number) for number in numbers]


def test_what_is_long_over_is_in_a_file_and_not_in_the_cmdb(cmdb: Cmdb, tmp_path: Path) -> None:
    before, report = everything(cmdb, 1, 2), build_report(cmdb, LATER, ["CHG0000001"])
    assert archive(cmdb, tmp_path / "old", write=False) == ["CHG0000001#1", "CHG0000002#2"]
    assert not (tmp_path / "old").exists()
    done = archive_journal(cmdb, POLICY, tmp_path / "old", " it\nis old ", None, LATER, True)
    assert (done.deployments, done.total) == (["CHG0000001#1", "CHG0000002#2"], 3)
    (file,) = done.files
    assert re.fullmatch(r"journal-1-2-[0-9a-f]{12}\.jsonl\.gz", Path(file).name)
    assert held(cmdb) == {"journal": 22, "deployment_host": 6, "wave": 2, "change_ci": 6, "journal_archive": 2}

    # All that there was is in it, for any reader of such files.
    with gzip.open(file, "rt") as stream:
        head, *documents = map(json.loads, stream)
    assert documents == before
    assert head["statement"]["predicate"] == {"reason": "it is old", "by": done.person, "deployments": [1, 2]}
    with cmdb.read() as connection:
        assert connection.scalar(sa.select(schema().history.c.event).order_by(schema().history.c.seq.desc()).limit(1)) == "journal archived"

    # What stays says what it said, and a report has what is archived when it is asked for.
    assert everything(cmdb, 3)[0]["journal"]
    after = build_report(cmdb, LATER, ["CHG0000001"])
    assert after.deployments["deployments/1"] == report.deployments["deployments/1"]
    assert after.overview["counts"] == report.overview["counts"]
    assert list(build_report(cmdb, LATER).deployments) == ["deployments/3"]
    assert Journal(cmdb).past("shop")[0].waves == 2
    assert len(Journal(cmdb).past("shop")) == 1
    with pytest.raises(ConflictError, match=r"CHG0000001 is over and its journal is archived in .*; raise a new RFC"):
        Journal(cmdb).latest("CHG0000001")
    assert archive(cmdb, tmp_path / "old") == []
    assert len(list((tmp_path / "old").iterdir())) == 1


def test_the_past_of_a_host_and_of_an_rfc_has_what_is_archived(cmdb: Cmdb, tmp_path: Path) -> None:
    def past(archived: bool = True, **of: Any) -> list[dict[str, Any]]:
        with cmdb.read() as connection:
            return journal_lines(connection, PastOf(**of), archived)

    on_web1 = {"deployment_id": 1, "at": START, "event": "migrated", "data": {"host": "web1"}}
    with cmdb.begin() as connection:
        append_journal(connection, [on_web1, on_web1 | {"data": {"host": "web2"}}])
    asked: list[dict[str, Any]] = [{"names": ["web1"]}, {"rfc": "CHG0000001"}, {"names": ["web1"], "rfc": "CHG0000002"}]
    before = [past(**of) for of in asked]
    assert list(map(len, before)) == [10, 24, 3]
    archive(cmdb, tmp_path)
    after = [past(**of) for of in asked]
    assert [[{**line, "file": None} for line in lines] for lines in after] == before
    assert {line["file"] for line in after[1]} == {str(next(tmp_path.glob("*.gz")))}
    assert [len(past(archived=False, **of)) for of in asked] == [3, 0, 0]
    assert past(names=["web1"], until=START + timedelta(hours=1))[-1]["deployment"] == "CHG0000001#1"
    next(tmp_path.glob("*.gz")).unlink()
    with pytest.raises(NotFoundError, match="bring it back from a backup"):
        past(names=["web1"])
    assert past(rfc="CHG0000003")


@pytest.mark.parametrize("why", ["open", "young", "locked", "owed", "lost", "remark", "unrecorded", "under way", "again"])
def test_what_is_needed_is_never_moved(cmdb: Cmdb, tmp_path: Path, why: str) -> None:
    t = schema()
    others = [f"db{number}" for number in range(6)]
    with cmdb.begin() as connection:
        options: dict[str, Any] = {"names": others, "release": "db", "rfc": "CHG9"}
        if why == "open":
            history(connection, 9, "held", **options)
        elif why == "young":
            history(connection, 9, **options, finished=LATER - timedelta(days=9))
        elif why == "lost":
            history(connection, 9, host="lost", **options)
        elif why == "remark":
            history(connection, 9, detail="it was slow", **options)
        else:
            history(connection, 9, **options)
        if why == "locked":
            connection.execute(sa.insert(t.lock), {"ci": HOSTS[0], "deployment_id": 9})
        elif why == "owed":
            debt = {"rfc": "CHG9", "duty": "review", "release": "db", "version": "1", "digest": "", "incurred": START, "due": START}
            connection.execute(sa.insert(t.debt), debt)
        elif why == "unrecorded":
            line = {"deployment_id": 9, "at": START, "event": "change_not_recorded", "data": {"problem": "it was down"}}
            append_journal(connection, [line])
        elif why == "under way":
            connection.execute(t.change.update().where(t.change.c.number == "CHG9").values(work_end=None))
        elif why == "again":
            history(connection, 10, "held", **{**options, "names": others[:1]})
    assert archive(cmdb, tmp_path) == ["CHG0000001#1", "CHG0000002#2"]
    assert len(everything(cmdb, 9)[0]["hosts"]) == 6


def test_what_tells_whether_another_was_superseded_stays_with_it(cmdb: Cmdb, tmp_path: Path) -> None:
    with cmdb.begin() as connection:
        install(cmdb, connection, 1, HOSTS[:1])  # as somebody did by hand
        history(connection, 4, "backed_out", host="backed_out", names=["web9"])
        history(connection, 5, "backed_out", host="backed_out", names=HOSTS[2:3], release="other")
        history(connection, 6, names=HOSTS[:1])
    # The third has changed five of them last, and the sixth the other.
    done = archive_journal(cmdb, POLICY, tmp_path, "it is old", None, LATER, True)
    assert done.deployments == ["CHG0000002#2", "CHG0000004#4", "CHG0000005#5"]
    assert done.kept == {
        "a host of theirs runs what they installed": 2,
        "they changed a host last after another of the same release that stays": 1,
    }
    assert len(everything(cmdb, 6)[0]["hosts"]) == 1


def test_what_stays_for_another_has_others_stay_for_it_and_what_was_before_goes(cmdb: Cmdb, tmp_path: Path) -> None:
    with cmdb.begin() as connection:
        history(connection, 4, release="db", names=["web2"])
        history(connection, 5, release="db", names=["web0"])
        install(cmdb, connection, 5, ["web0"], "db")
        history(connection, 6, release="db", names=["web0", "web1"])
        history(connection, 7, release="db", names=["web1"])
        history(connection, 8, "held", "planned", release="db", names=["web2"], changes=())
    assert archive(cmdb, tmp_path) == ["CHG0000001#1", "CHG0000002#2", "CHG0000004#4"]


def test_what_changed_data_that_one_which_stays_would_bring_back_stays_with_it(cmdb: Cmdb, tmp_path: Path) -> None:
    with cmdb.begin() as connection:
        history(connection, 4, release="db", data_state="migrated")
        install(cmdb, connection, 4, release="db")
        for number, state in ((5, "kept"), (6, "kept"), (7, "not_migrated")):
            history(connection, number, "backed_out", "backed_out", release="db", names=HOSTS[:1], data_state=state)
        history(connection, 8, release="db", names=["web9"], data_state="migrated")
    data = DataJournal(cmdb)
    before = data.later_change(data.deployment(4))
    assert before.startswith("CHG0000006#6 has changed the data since")
    assert archive(cmdb, tmp_path) == ["CHG0000001#1", "CHG0000002#2", "CHG0000005#5", "CHG0000008#8"]
    assert data.later_change(data.deployment(4)) == before


_MADE = st.fixed_dictionaries(
    {
        "rfc": st.integers(1, 5),
        "release": st.sampled_from(["shop", "db"]),
        "names": st.lists(st.sampled_from(HOSTS[:3]), min_size=1, unique=True),
        "state": st.sampled_from(["completed", "backed_out", "held"]),
        "installed": st.booleans(),
        "touched": st.booleans(),
    }
)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CMDB with hosts and no deployment."""
    path = tmp_path_factory.mktemp("fresh") / "cmdb.sqlite"
    with Cmdb.open(str(path), create=True) as cmdb:
        cmdb.put_cis([{"name": name, "site": "fra"} for name in HOSTS], "test")
    return path


@pytest.mark.thorough
@settings(deadline=None, max_examples=60)
@given(made=st.lists(_MADE, min_size=2, max_size=7), order=st.randoms(use_true_random=False))
def test_what_stays_is_told_the_same_about_its_hosts_as_before(fresh: Path, made: list[dict[str, Any]], order: Random) -> None:
    with TemporaryDirectory() as folder, Cmdb.open(shutil.copy(fresh, folder)) as cmdb:
        with cmdb.begin() as connection:
            for number, one in enumerate(made, 1):
                host = {"completed": "active", "backed_out": "backed_out", "held": "planned"}[one["state"]]
                changes = ["activating"] if one["touched"] else []
                of = {"names": one["names"], "release": one["release"], "rfc": f"CHG{one['rfc']}"}
                history(connection, number, one["state"], host, changes=changes, **of)
                if one["installed"]:
                    install(cmdb, connection, number, one["names"], one["release"])
            # Deployments go on beside each other: later lines may be those of an earlier one.
            for number, one in order.sample(list(enumerate(made, 1)), k=len(made) // 2):
                lines = [{"deployment_id": number, "at": START, "data": {}, "event": "backing_out", "host": name} for name in one["names"]]
                append_journal(connection, lines)
        journal = Journal(cmdb)

        def told(numbers: list[int]) -> dict[int, Any]:
            with cmdb.read() as connection:
                loaded = {number: journal._load(connection, number) for number in numbers}
                return {
                    number: journal._superseded(connection, deployment, made[number - 1]["names"]) for number, deployment in loaded.items()
                }

        before = told(list(range(1, len(made) + 1)))
        gone = {int(label.rpartition("#")[2]) for label in archive(cmdb, Path(folder))}
        staying = [number for number in before if number not in gone]
        assert told(staying) == {number: before[number] for number in staying}


def test_nothing_is_archived_without_a_reason_or_by_nobody(cmdb: Cmdb, tmp_path: Path) -> None:
    with pytest.raises(TidegateError, match="no reason is given for archiving"):
        archive(cmdb, tmp_path, reason=" ")
    named = replace(POLICY, people={"rita": None})  # type: ignore[dict-item]
    with pytest.raises(TidegateError, match="archived with a signature; give the key of one of them"):
        archive(cmdb, tmp_path, named)
    assert list(tmp_path.glob("*.gz")) == []


def test_a_head_is_signed_about_all_that_follows(cmdb: Cmdb, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    assert os.system(f"openssl genpkey -algorithm ed25519 -out {key}") == 0  # noqa: S605 - a path of the test's own
    signer = load_signer(key, None)
    archive(cmdb, tmp_path / "old", signer=signer)
    with cmdb.read() as connection:
        file, digest = connection.execute(sa.select(schema().journal_archive.c.file, schema().journal_archive.c.sha256).limit(1)).one()
    head, body = read_archive(Path(file), digest)
    sealed = open_envelope(json.dumps(head["envelope"]).encode())
    assert sealed.signed_by(signer.public_key)
    assert sealed.statement.digest == archive_file.digest_of(body)
    assert sealed.statement.to_json(sealed.signed_at) == head["statement"]


@pytest.mark.parametrize("harm", ["gone", "other", "torn", "another"])
def test_a_file_that_is_not_as_it_was_written_is_not_believed(cmdb: Cmdb, tmp_path: Path, harm: str) -> None:
    archive(cmdb, tmp_path)
    (file,) = tmp_path.glob("*.gz")
    content = file.read_bytes()
    if harm == "gone":
        file.unlink()
    elif harm == "torn":
        file.write_bytes(content[:-1])
    elif harm == "another":  # whole, and not the one that was written
        head, *documents = gzip.decompress(content).splitlines()
        body = documents[0] + b"\n"
        told = json.loads(head)
        told["statement"]["subject"][0]["digest"]["sha256"] = archive_file.digest_of(body)[7:]
        written, _digest = archive_file.write_archive(tmp_path, "other", told, body)
        written.replace(file)
    else:
        file.write_bytes(gzip.compress(gzip.decompress(content).replace(b"web1", b"web7")))
    with pytest.raises(NotFoundError if harm == "gone" else IntegrityError, match="bring it back from a backup"):
        build_report(cmdb, LATER, ["CHG0000001"])
    assert build_report(cmdb, LATER).overview["counts"]["deployments"] == {"completed": 3}


def test_a_disk_that_gives_back_something_else_costs_nothing(cmdb: Cmdb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = held(cmdb)
    real = archive_file.write_new

    def rotten(path: Path, content: bytes) -> None:
        real(path, content[:-3] + b"xxx")

    monkeypatch.setattr(archive_file, "write_new", rotten)
    with pytest.raises(IntegrityError, match="is not as it was written"):
        archive(cmdb, tmp_path)
    assert held(cmdb) == before

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive_file, "write_new", full)
    with pytest.raises(TidegateError, match=r"No space left on device.*; nothing of it left the CMDB"):
        archive(cmdb, tmp_path)
    assert held(cmdb) == before


@pytest.mark.parametrize("what", ["rows", "use", "again", "owed", "under way"])
def test_what_changes_meanwhile_is_not_lost(cmdb: Cmdb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    real = journal_archive.write_archive

    def meanwhile(*arguments: Any) -> tuple[Path, str]:
        with cmdb.begin() as connection:
            if what == "rows":
                append_journal(connection, [{"deployment_id": 2, "at": LATER, "event": "noted", "data": {"late": True}}])
            elif what == "use":
                install(cmdb, connection, 2)
            elif what == "again":
                history(connection, 4, "held", rfc="CHG0000002", names=["web9"])
            elif what == "owed":
                debt = {"rfc": "CHG0000002", "duty": "review", "release": "shop", "version": "2", "digest": ""}
                debt |= {"incurred": START, "due": START}
                connection.execute(sa.insert(schema().debt), debt)
            else:
                connection.execute(schema().change.update().where(schema().change.c.number == "CHG0000002").values(work_end=None))
        return real(*arguments)

    monkeypatch.setattr(journal_archive, "write_archive", meanwhile)
    with pytest.raises((IntegrityError, ConflictError), match=r"nothing of .* left the CMDB, run this again"):
        archive(cmdb, tmp_path)
    assert held(cmdb)["journal_archive"] == 0
    assert len(everything(cmdb, 1)[0]["hosts"]) == 6
    monkeypatch.undo()
    assert archive(cmdb, tmp_path) == (["CHG0000001#1", "CHG0000002#2"] if what == "rows" else ["CHG0000001#1"])


def test_a_cancelled_change_is_in_calendars_as_it_was(cmdb: Cmdb, tmp_path: Path) -> None:
    t = schema()
    cancelled = {"work_start": None, "work_end": None, "state": -2, "end_date": LATER + timedelta(days=4)}
    with cmdb.begin() as connection:
        connection.execute(t.change.update().where(t.change.c.number == "CHG0000001").values(cancelled))
    (before,) = forward_schedule(cmdb, LATER)
    assert archive(cmdb, tmp_path) == ["CHG0000001#1", "CHG0000002#2"]
    assert before.cis
    assert forward_schedule(cmdb, LATER) == [before]


def test_two_runs_at_once_leave_the_file_that_the_cmdb_names(cmdb: Cmdb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(cmdb, 1, 2)
    real = journal_archive.write_archive

    def overtaken(*arguments: Any) -> tuple[Path, str]:
        monkeypatch.undo()
        assert archive(cmdb, tmp_path, reason="the other's") == ["CHG0000001#1", "CHG0000002#2"]
        return real(*arguments)

    monkeypatch.setattr(journal_archive, "write_archive", overtaken)
    with pytest.raises(IntegrityError, match="is not what the CMDB has"):
        archive(cmdb, tmp_path)
    assert [_whole(cmdb, number) for number in (1, 2)] == before


@pytest.mark.parametrize("step", range(1, 30, 2))
def test_a_run_that_is_killed_loses_nothing(cmdb: Cmdb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """At each call that a disk or the database notices; each deployment has a file of its own."""
    monkeypatch.setattr(journal_archive, "_DEPLOYMENTS", 1)
    before = {document["deployment"]["id"]: document for document in everything(cmdb, 1, 2)}
    child = os.fork()
    if child == 0:
        _die_at(step)
        archive(cmdb, tmp_path / "old")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (0, -signal.SIGKILL)
    for number, document in before.items():
        assert _whole(cmdb, number) == document
    archive(cmdb, tmp_path / "old")
    assert held(cmdb)["journal_archive"] == 2
    for number, document in before.items():
        assert _whole(cmdb, number) == document
    assert len(list((tmp_path / "old").glob("journal-*"))) == 2
    assert archive(cmdb, tmp_path / "old") == []


def _whole(cmdb: Cmdb, number: int) -> dict[str, Any]:
    """A deployment from where it is: the CMDB, or the file that the CMDB names."""
    with cmdb.read() as connection:
        found = archive_file.archived_in(connection, [number])
        document = deployment_document(connection, number)
    if number not in found:
        return document
    assert not document["hosts"]
    assert not document["journal"]
    _head, body = read_archive(*found[number])
    return next(one for one in documents_in(body) if one["deployment"]["id"] == number)


def _die_at(step: int) -> None:
    """Have this process killed before its so-many-th call of these."""
    left = step

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            count()
            return function(*arguments, **options)

        return call

    for name in ("fsync", "link", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))

    def writing(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("INSERT", "DELETE")):
            count()

    sa.event.listen(sa.Engine, "before_cursor_execute", writing)
    sa.event.listen(sa.Engine, "commit", count)


def test_the_journal_lets_go_of_nothing_but_what_is_archived(cmdb: Cmdb, tmp_path: Path) -> None:
    archive(cmdb, tmp_path)
    t = schema()
    archived = {"deployment_id": 1, "file": "x", "sha256": "x", "at": LATER, "actor": "x", "reason": "x"}
    for statement in (
        sa.delete(t.journal).where(t.journal.c.deployment_id == 3),
        sa.update(t.journal).values(event="x"),
        sa.delete(t.journal_archive),
        sa.update(t.journal_archive).values(file="x"),
        sa.insert(t.journal_archive).values(archived),
    ):
        with pytest.raises(sa.exc.IntegrityError, match=r"append-only|duplicate key|UNIQUE"), cmdb.begin() as connection:
            connection.execute(statement)
    assert held(cmdb)["journal"] == 22
