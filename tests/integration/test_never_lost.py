# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A library that can't be lost, as a user keeps it: in directories and in a registry, while others work and processes are killed."""

from __future__ import annotations

import base64
import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import registry
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.descriptors import MANIFEST
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive, read_release, verify_package
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.recover import recover
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.registry import Registry
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.replica import choose, replicate
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import Library, create_library, open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.scrub import scrub
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import (
    look,
    meant_by,
    remember,
    remember_library,
    remember_sight,
    snapshots,
    watch,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import release_statement
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import attach, collect
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.approve import Decision, decide, load_decision_request
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import clear
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.retire import Retirement, mark_purged, retire
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fleet import Fleet
from securesystemslib.signer import CryptoSigner
from told import tell, told

FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[registry.Server]:
    if registry.PROGRAM is None:
        pytest.skip("needs Distribution (apt install docker-registry)")
    with registry.serve(tmp_path_factory.mktemp("registry")) as served:
        yield served


@pytest.fixture
def desk(tmp_path: Path) -> Fleet:
    """No hosts, just files: hello 1.0 and 2.0 in the library, each with evidence."""
    fleet = Fleet(tmp_path)
    fleet.write_policy(**fleet.policy)
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "class": "server"}], "test")
    for version in ("1.0", "2.0"):
        fleet.archive(version)
        vouch(open_library(str(tmp_path / "dsl")), version)
    return fleet


def vouch(library: Library, version: str) -> None:
    home = library.repository("hello")
    digest = str(home.resolve("hello", version))
    attach(home, digest, sign(release_statement("hello", version, digest), CryptoSigner.generate_ed25519(), utc_now()))


def copy(source: str, target: str) -> tuple[int, list[str]]:
    here = open_library(source)
    copied = replicate(here, create_library(target), choose(here, None), lambda _name, _version, _digest: "", write=True)
    return copied.blobs, copied.problems


def contents(address: str) -> dict[str, tuple[str, set[bytes]]]:
    """The digest of each release and the evidence about it; all of it is checked."""
    library = open_library(address)
    found = {}
    for (name, version), package in library.releases().items():
        verify_package(library.repository(name), package.digest)
        found[f"{name} {version}"] = package.digest, set(collect(library.repository(name), package.digest))
    return found


def run(fleet: Fleet, module: str, *options: str, **arguments: Any) -> dict[str, Any]:
    """One task on localhost; what it returned."""
    return run_all(fleet, (module, arguments), options=options)[0]


def run_all(fleet: Fleet, *wanted: tuple[str, dict[str, Any]], options: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Tasks on localhost, one after the other whatever becomes of them; what each returned."""
    path, tasks = fleet.path / "play.yml", []
    for number, (module, arguments) in enumerate(wanted):
        tasks.append({f"tidegate.release.{module}": arguments, "register": f"done{number}", "ignore_errors": True})
    tasks.append(tell(f"[{', '.join(f'done{number}' for number in range(len(wanted)))}]"))
    path.write_text(yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]))
    done = fleet.play(str(path), {}, *options, inventory="localhost,")
    assert "Traceback" not in done.stdout, done.stdout
    return list(told(done.stdout))


# -- the playbooks -----------------------------------------------------------


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stdout, done.stdout
    return " ".join(done.stdout.split())


def test_a_library_is_copied_scrubbed_and_healed(desk: Fleet) -> None:
    copied = {"tidegate_dsl_to": str(desk.path / "replica")}
    checked = desk.play("tidegate.release.dsl_sync", copied, "--check", inventory="localhost,")
    assert "2 releases and 2 pieces of evidence, " in said(checked)
    assert f" bytes, would be copied to {desk.path}/replica; 0 releases were there already" in said(checked)
    assert not (desk.path / "replica").exists()
    first = desk.play("tidegate.release.dsl_sync", copied, inventory="localhost,")
    assert first.returncode == 0, first.stdout
    assert contents(str(desk.path / "replica")) == contents(str(desk.path / "dsl"))
    again = desk.play("tidegate.release.dsl_sync", copied, inventory="localhost,")
    assert "changed=0" in again.stdout, again.stdout
    assert "0 releases and 0 pieces of evidence, 0 blobs, 0 bytes, were copied" in said(again)
    assert "2 releases were there already" in said(again)

    before = contents(str(desk.path / "dsl"))
    blob = max((desk.path / "dsl" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    seen = desk.play("tidegate.release.dsl_verify", {}, inventory="localhost,")
    assert seen.returncode != 0
    assert f"sha256:{blob.name} is damaged, which touches hello" in said(seen)
    from_replica = {"tidegate_dsl_replica": str(desk.path / "replica")}
    looked = desk.play("tidegate.release.dsl_verify", from_replica, "--check", inventory="localhost,")
    assert "1 are damaged or missing and could be healed" in said(looked)
    healed = desk.play("tidegate.release.dsl_verify", from_replica, inventory="localhost,")
    assert healed.returncode == 0, healed.stdout
    assert "1 were healed" in said(healed)
    assert contents(str(desk.path / "dsl")) == before
    assert "changed=0" in desk.play("tidegate.release.dsl_verify", from_replica, inventory="localhost,").stdout


def test_with_a_cmdb_that_it_cant_read_verifying_heals_nothing_by_halves(desk: Fleet) -> None:
    """Else it changes the library, ends with an error about the CMDB, and nobody reads what was healed."""
    copy(str(desk.path / "dsl"), str(desk.path / "replica"))
    blob = max((desk.path / "dsl" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.chmod(0o644)
    blob.write_bytes(damaged := blob.read_bytes()[:-1] + b"x")
    with Cmdb.open(str(desk.path / "cmdb.sqlite")) as cmdb, cmdb.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0006'")
    done = run(desk, "dsl_verify", replica=str(desk.path / "replica"))
    assert done["failed"] is True
    assert "tidegate.release.cmdb_upgrade" in done["msg"]
    assert blob.read_bytes() == damaged


def test_a_lost_index_is_rebuilt_by_verifying(desk: Fleet) -> None:
    copy(str(desk.path / "dsl"), str(desk.path / "replica"))
    before = contents(str(desk.path / "dsl"))
    (desk.path / "dsl" / "index.json").write_bytes(b"\0" * 300)
    alone = run(desk, "dsl_verify")
    assert alone["failed"]
    assert "with a replica" in alone["msg"]
    checked = run(desk, "dsl_verify", "--check", replica=str(desk.path / "replica"))
    assert checked["failed"]
    done = run(desk, "dsl_verify", replica=str(desk.path / "replica"))
    assert (done["failed"], done["changed"], done["index_rebuilt"]) == (False, True, True), done
    assert contents(str(desk.path / "dsl")) == before


def test_what_is_older_than_a_rule_is_copied_and_what_a_revoked_key_signed_is_not(desk: Fleet) -> None:
    signer = CryptoSigner.generate_ed25519()
    public = signer._private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    home = open_library(str(desk.path / "dsl")).repository("hello")
    digest = str(home.resolve("hello", "2.0"))
    attach(home, digest, sign(release_statement("hello", "2.0", digest), signer, utc_now()))
    people = {"rita": {"roles": ["release-manager"], "keys": [{"public": public, "revoked": "2020-01-01T00:00:00Z"}]}}
    desk.write_policy(**desk.policy, trust={"package": {"role": "release-manager"}}, people=people)
    done = run(desk, "dsl_sync", to=str(desk.path / "replica"))
    (problem,) = done["problems"]
    assert "hello 2.0 was not copied: hello 2.0 is not trusted" in problem
    assert "was revoked at 2020-01-01" in problem
    (unmet,) = done["unmet"]
    assert unmet.startswith("hello 1.0 is not trusted")
    assert "1 packages are short of the signatures that the policy asks of what is new" in done["warnings"][0]
    assert set(open_library(str(desk.path / "replica")).releases()) == {("hello", "1.0")}


def test_conflicts_are_named_and_the_others_are_copied(desk: Fleet) -> None:
    other = OciLayout.create(desk.path / "replica")
    archive(desk.release("1.0", summary="Another one"), other)
    theirs = other.resolve("hello", "1.0")
    done = run(desk, "dsl_sync", to=str(desk.path / "replica"))
    assert done["failed"]
    assert theirs in done["msg"]
    assert other.resolve("hello", "1.0") == theirs
    assert other.resolve("hello", "2.0") == open_library(str(desk.path / "dsl")).repository("hello").resolve("hello", "2.0")


@pytest.mark.parametrize("way", ["dsl/", "link", "dsl/blobs/.."])
@pytest.mark.parametrize("module", ["dsl_sync", "dsl_verify"])
def test_a_library_is_no_copy_of_itself(desk: Fleet, module: str, way: str) -> None:
    (desk.path / "link").symlink_to("dsl")
    done = run(desk, module, **{"to" if module == "dsl_sync" else "replica": f"{desk.path}/{way}"})
    assert done["failed"]
    assert "itself" in done["msg"]


# -- retiring and purging ----------------------------------------------------


def blocking(desk: Fleet, version: str, digest: str) -> dict[str, str]:
    """What stands in the way of deploying it."""
    homes = (str(desk.path / name) for name in ("dsl", "cmdb.sqlite", "policy.yml"))
    with Sources(*homes, utc_now()) as sources:
        clearance = clear(sources, str(desk.rfc("CHG0001", version, digest))).clearance
    return {control.name: f"{control.reason}; {control.remedy}" for control in clearance.controls if control.blocks}


def test_a_retired_release_is_not_cleared_and_can_be_taken_back(desk: Fleet) -> None:
    digest = str(open_library(str(desk.path / "dsl")).repository("hello").resolve("hello", "1.0"))
    release = {"name": "hello", "version": "1.0"}
    assert "no reason is given" in run(desk, "dsl_release", **release, state="retired")["msg"]
    assert run(desk, "dsl_release", "--check", **release, state="retired", reason="CVE-2026-1")["changed"]
    assert blocking(desk, "1.0", digest) == {}
    assert run(desk, "dsl_release", **release, state="retired", reason="CVE-2026-1")["changed"]
    assert not run(desk, "dsl_release", **release, state="retired", reason="CVE-2026-1")["changed"]
    (why,) = blocking(desk, "1.0", digest).values()
    assert why.startswith("hello 1.0 was retired on ")
    assert why.endswith("because: CVE-2026-1; un-retire it with dsl_release, or use another version")
    assert run(desk, "dsl_release", **release, state="archived")["changed"]
    assert blocking(desk, "1.0", digest) == {}


def test_a_release_is_purged_only_when_it_is_retired_and_nothing_needs_it(desk: Fleet) -> None:
    library = open_library(str(desk.path / "dsl"))
    digest = str(library.repository("hello").resolve("hello", "1.0"))
    release = {"name": "hello", "version": "1.0", "reason": "withdrawn"}
    assert "is not retired" in run(desk, "dsl_release", **release, state="absent")["msg"]
    run(desk, "dsl_release", **release, state="retired")
    with Cmdb.open(str(desk.path / "cmdb.sqlite")) as cmdb:
        with cmdb.begin() as connection:
            cmdb.record_installations(
                connection, [{"ci": "web1", "release": "hello", "version": "1.0", "digest": digest}], "test", utc_now()
            )
        assert "it is installed on web1" in run(desk, "dsl_release", **release, state="absent")["msg"]
        with cmdb.begin() as connection:
            cmdb.record_installations(connection, [{"ci": "web1", "release": "hello", "version": None, "digest": None}], "test", utc_now())
    with library.repository("hello").writing():
        assert "somebody is writing" in run(desk, "dsl_release", **release, state="absent")["msg"]
    before = contents(str(desk.path / "dsl"))
    assert run(desk, "dsl_release", "--check", **release, state="absent")["changed"]
    assert contents(str(desk.path / "dsl")) == before
    copy(str(desk.path / "dsl"), str(desk.path / "replica"))
    done = run(desk, "dsl_release", **release, state="absent")
    assert done["changed"]
    assert done["freed"] > 0
    assert done["digest"] == digest
    assert set(contents(str(desk.path / "dsl"))) == {"hello 2.0"}
    assert not run(desk, "dsl_release", **release, state="absent")["changed"]
    query = "select event, actor, data from history where event like 'release %' order by seq"
    (_retired, (event, actor, data)) = desk.rows(query)
    assert event == "release purged"
    assert "@" in actor
    assert json.loads(data) == {"release": "hello", "version": "1.0", "digest": digest, "reason": "withdrawn"}
    # A copy that brings it back changes nothing: it is not cleared, and can be purged there too.
    copy(str(desk.path / "replica"), str(desk.path / "dsl"))
    assert "hello 1.0 was purged on" in blocking(desk, "1.0", digest)["payload_archived"]
    assert run(desk, "dsl_release", **release, state="absent", dsl=str(desk.path / "replica"))["changed"]
    assert set(contents(str(desk.path / "replica"))) == {"hello 2.0"}


def test_a_purge_that_was_killed_when_it_was_on_record_is_finished_by_the_same_task(desk: Fleet) -> None:
    digest = str(open_library(str(desk.path / "dsl")).repository("hello").resolve("hello", "1.0"))
    change = Retirement("hello", "1.0", digest, "withdrawn", "rita@desk", utc_now())
    with Cmdb.open(str(desk.path / "cmdb.sqlite")) as cmdb:
        retire(cmdb, change, write=True)
        mark_purged(cmdb, change, write=True)
    assert "hello 1.0 was purged on" in blocking(desk, "1.0", digest)["payload_archived"]
    done = run(desk, "dsl_release", name="hello", version="1.0", state="absent", reason="again")
    assert (done["changed"], done["digest"]) == (True, digest)
    assert set(contents(str(desk.path / "dsl"))) == {"hello 2.0"}
    assert desk.rows("select count(*) from history where event = 'release purged'") == [(1,)]


# -- registries --------------------------------------------------------------


def test_a_library_goes_to_a_registry_and_comes_back_the_same(desk: Fleet, server: registry.Server) -> None:
    here, there, back = str(desk.path / "dsl"), f"{server.address}/round", str(desk.path / "back")
    assert copy(here, there)[1] == []
    assert contents(there) == contents(here)
    assert copy(here, there) == (0, [])
    vouch(open_library(here), "1.0")
    assert copy(here, there) == (2, [])
    assert copy(there, back)[1] == []
    assert contents(back) == contents(here)
    assert copy(there, back) == (0, [])
    assert not scrub(open_library(there), None, write=True).damaged


def test_what_a_registry_lost_is_named_and_healed_and_what_it_keeps_damaged_is_told(desk: Fleet, server: registry.Server) -> None:
    here, there = str(desk.path / "dsl"), f"{server.address}/heal"
    copy(here, there)
    before = contents(there)
    home = open_library(here).repository("hello")
    package = str(home.resolve("hello", "1.0"))
    payload = json.loads(home.read_manifest(package))["layers"][0]["digest"]
    links = server.storage / "docker/registry/v2/repositories/releases/live/heal/hello/_layers/sha256" / payload[7:] / "link"
    links.unlink()
    (missing,) = scrub(open_library(there), None, write=True).damaged
    assert (missing.digest, missing.what, missing.releases) == (payload, "damaged or missing", (("hello", "1.0"),))
    assert not scrub(open_library(there), open_library(here), write=True).damaged
    assert contents(there) == before
    path = server.blob(payload)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    (damaged,) = scrub(open_library(there), open_library(here), write=True).damaged
    assert "can't be healed" in damaged.what
    path.write_bytes(content)
    assert contents(there) == before


def test_a_library_in_a_directory_is_healed_from_a_registry(desk: Fleet, server: registry.Server) -> None:
    here, there = str(desk.path / "dsl"), f"{server.address}/source"
    copy(here, there)
    before = contents(here)
    for path in (desk.path / "dsl" / "blobs" / "sha256").iterdir():
        path.unlink()
    assert not scrub(open_library(here), open_library(there), write=True).damaged
    assert contents(here) == before


def test_a_release_is_purged_from_a_registry(desk: Fleet, server: registry.Server) -> None:
    here, there = str(desk.path / "dsl"), f"{server.address}/purge"
    copy(here, there)
    release = {"name": "hello", "version": "1.0", "reason": "withdrawn", "dsl": there}
    kept = contents(there)["hello 2.0"]
    digest = contents(there)["hello 1.0"][0]
    run(desk, "dsl_release", **release, state="retired")
    done = run(desk, "dsl_release", **release, state="absent")
    assert (done["changed"], done["freed"]) == (True, 0), done
    assert contents(there) == {"hello 2.0": kept}
    home = open_library(there).repository("hello")
    assert home.referrers(digest) == []
    assert not run(desk, "dsl_release", **release, state="absent")["changed"]


def test_what_has_another_tag_or_digest_in_a_registry_is_not_purged(desk: Fleet, server: registry.Server) -> None:
    there = f"{server.address}/tags"
    copy(str(desk.path / "dsl"), there)
    home = Registry.at(there).repository("hello")
    one, other = (str(home.resolve("hello", version)) for version in ("1.0", "2.0"))
    with pytest.raises(ConflictError, match=f"is {one}, not {other}"), home.purging("hello", "1.0", other):
        pass
    home.put_as("stable", home.read_manifest(one), MANIFEST)
    with pytest.raises(ConflictError, match="another tag"), home.purging("hello", "1.0", one):
        pass
    assert len(contents(there)) == 3


def test_a_registry_that_lets_nobody_delete_is_told_and_nothing_is_recorded(desk: Fleet, tmp_path: Path) -> None:
    if registry.PROGRAM is None:
        pytest.skip("needs Distribution (apt install docker-registry)")
    port, config = registry.free_port(), tmp_path / "keeps.yml"
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "keeps")}}
    config.write_text(yaml.safe_dump({"version": 0.1, "storage": storage, "http": {"addr": f"127.0.0.1:{port}"}}))
    process = subprocess.Popen([registry.PROGRAM, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={})
    try:
        there = f"oci+http://127.0.0.1:{port}/dsl"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(TidegateError):
                open_library(there).releases()
                break
        copy(str(desk.path / "dsl"), there)
        release = {"name": "hello", "version": "1.0", "reason": "withdrawn", "dsl": there}
        run(desk, "dsl_release", **release, state="retired")
        done = run(desk, "dsl_release", **release, state="absent")
        assert "storage.delete.enabled" in done["msg"], done
        assert set(contents(there)) == {"hello 1.0", "hello 2.0"}
        assert desk.rows("select state from release_status") == [("retired",)]
    finally:
        process.terminate()
        process.wait(20)


# -- many at once, and SIGKILL -----------------------------------------------


def spawn(work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    process = FORK.Process(target=work)
    process.start()
    return process


def archive_quietly(folder: Path, dsl: Path) -> None:
    with contextlib.suppress(ConflictError):
        archive(folder, OciLayout.create(dsl))


def test_processes_that_archive_different_and_the_same_releases_at_once_lose_none(desk: Fleet) -> None:
    """Eight releases, each by two processes, and of a ninth two variants, of which one wins; while somebody copies and tries to purge."""
    dsl, replica = desk.path / "new", desk.path / "replica"
    folders = [desk.release(f"{number}.0") for number in range(1, 9)]
    variants = [desk.release("9.0").rename(desk.path / "first"), desk.release("9.0", summary="Another one").rename(desk.path / "second")]
    OciLayout.create(dsl)
    victim = archive(desk.release("0.9"), OciLayout.open(dsl)).digest

    def purge() -> None:
        for _attempt in range(200):
            with contextlib.suppress(ConflictError), OciLayout.open(dsl).purging("hello", "0.9", victim) as go:
                go()

    processes = [spawn(lambda folder=folder: archive_quietly(folder, dsl)) for folder in [*folders, *variants, *folders]]  # type: ignore[misc]
    processes += [spawn(purge), spawn(lambda: copy(str(dsl), str(replica)))]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(processes)
    found = contents(str(dsl))
    assert {f"hello {number}.0" for number in range(1, 10)} <= set(found)
    assert found["hello 9.0"][0] in {read_release(folder).preview(None).digest for folder in variants}
    assert not scrub(open_library(str(dsl)), None, write=True).damaged
    assert contents(str(replica)).items() <= {**found, "hello 0.9": (victim, set())}.items()


@pytest.mark.parametrize("work", ["archive", "copy", "purge"])
def test_a_process_that_is_killed_at_any_moment_leaves_nothing_by_halves(desk: Fleet, work: str) -> None:
    dsl, replica = desk.path / "dsl", desk.path / "replica"
    OciLayout.create(replica)
    victim = str(OciLayout.open(dsl).resolve("hello", "2.0"))
    before = contents(str(dsl))
    source = random.Random(work)  # noqa: S311 - moments, not secrets

    def once() -> None:
        if work == "archive":
            for number in range(3, 6):
                archive(desk.path / "releases" / f"{number}.0", OciLayout.open(dsl))
        elif work == "copy":
            copy(str(dsl), str(replica))
        else:
            with OciLayout.open(replica).purging("hello", "2.0", victim) as go:
                go()

    for number in range(3, 6):
        (desk.release(f"{number}.0") / "payload" / "big").write_bytes(source.randbytes(3 << 20))
    if work == "purge":
        copy(str(dsl), str(replica))
    begun = time.monotonic()
    killed = 0
    for _round in range(25):
        process = spawn(once)
        time.sleep(source.uniform(0, 0.06 if work != "purge" else 0.02))
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid or 0, signal.SIGKILL)
        process.join(20)
        killed += process.exitcode == -signal.SIGKILL
        for path in (dsl, replica):
            contents(str(path))
            assert not scrub(open_library(str(path)), None, write=True).damaged
        assert contents(str(dsl)).items() >= before.items()
        if time.monotonic() - begun > 60:
            break
    assert killed
    process = spawn(once)
    process.join(60)
    assert process.exitcode == 0
    if work == "archive":
        assert {f"hello {number}.0" for number in range(1, 6)} == set(contents(str(dsl)))
    elif work == "copy":
        assert contents(str(replica)) == before
    else:
        assert set(contents(str(replica))) == {"hello 1.0"}


# -- what was seen is missed -------------------------------------------------


class Review:
    """carl, whose decision counts, and the library that it is in, with a second home; the CMDB sees what he signs."""

    def __init__(self, desk: Fleet, dsl: str, replica: str) -> None:
        self.desk, self.dsl, self.replica = desk, dsl, replica
        self.signer = CryptoSigner.generate_ed25519()
        key = desk.path / "carl.pem"
        key.touch(mode=0o600)
        key.write_bytes(self.signer.private_bytes)
        public = self.signer._private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        people = {"carl": {"roles": ["manager"], "keys": [{"public": public}]}}
        desk.write_policy(**desk.policy, people=people, approvals={"normal": {"manager": 1}})
        self.key, self.cmdb = str(key), str(desk.path / "cmdb.sqlite")
        self.digest = str(open_library(dsl).repository("hello").resolve("hello", "1.0"))
        self.rfc = str(desk.rfc("CHG0001", "1.0", self.digest))

    def decide(self, decision: str) -> None:
        question = load_decision_request(self.rfc, self.dsl, self.cmdb, str(self.desk.path / "policy.yml"))
        now = utc_now() + timedelta(seconds=len(collect(question.home, self.digest)))  # each in a second of its own
        assert decide(question, self.signer, Decision(decision, None, ""), now, write=True)[2]
        assert watch(self.cmdb, question.home, ("hello", "1.0", self.digest), now, self.signer) == []

    def clear(self, dsl: str | None = None) -> dict[str, str]:
        """What stands in the way, as clear says it, and remembers what it saw."""
        with Sources(dsl or self.dsl, self.cmdb, str(self.desk.path / "policy.yml"), utc_now() + timedelta(minutes=1)) as sources:
            found = clear(sources, self.rfc)
            remember_sight(sources.cmdb, found.sight, utc_now())
        return {control.name: f"{control.result} {control.reason}" for control in found.clearance.controls if control.blocks}

    def numbers(self) -> list[tuple[str, int, bool]]:
        """Of each release that is remembered the number of its snapshot, and whether it is signed."""
        rows = self.desk.rows("select version, document, envelope from library_seen order by version")
        return [(version, json.loads(document)["number"], bool(envelope)) for version, document, envelope in rows]

    def recover(self, replica: bool = True, write: bool = True) -> tuple[list[str], list[str]]:
        """What dsl_verify finds lost, and what it heals."""
        library = open_library(self.dsl)
        found = recover(library, open_library(self.replica) if replica else None, meant_by(self.cmdb, None), write)
        assert found.problems == []
        if write:
            assert remember_library(self.cmdb, library, None, utc_now()) == []
        return [str(loss) for loss in found.lost], [str(loss) for loss in found.healed]


@pytest.fixture(params=["directory", "registry"])
def lossy(request: pytest.FixtureRequest, desk: Fleet) -> tuple[Review, Callable[[], Callable[[], None]]]:
    """A review, and what keeps a backup of the library, which gives what restores it."""
    here = str(desk.path / "dsl")
    address, folder = here, desk.path / "dsl"
    if request.param == "registry":
        server = request.getfixturevalue("server")
        address = f"{server.address}/{desk.path.name.replace('_', '-').strip('-')}"
        folder = server.storage / "docker/registry/v2/repositories" / address.split("/", 3)[3]
        copy(here, address)

    def backup() -> Callable[[], None]:
        kept = desk.path / "backup"
        shutil.copytree(folder, kept)

        def restore() -> None:
            shutil.rmtree(folder)
            shutil.copytree(kept, folder)

        return restore

    return Review(desk, address, str(desk.path / "replica")), backup


def test_a_rejection_does_not_vanish_with_the_library_that_had_it(lossy: tuple[Review, Callable[[], Callable[[], None]]]) -> None:
    review, backup = lossy
    review.decide("approved")
    assert review.clear() == {}
    restore = backup()
    review.decide("rejected")
    assert "rejected by carl" in review.clear()["approvals"]
    copy(review.dsl, review.replica)
    before = contents(review.dsl)
    restore()
    assert contents(review.dsl) != before
    blocked = review.clear()
    assert blocked.keys() == {"library"}
    assert "the library lacks what was seen in it before, hello 1.0: approval (rejected) sha256:" in blocked["library"]

    (lost,) = review.recover(replica=False)[0]
    assert lost.startswith("hello 1.0: approval (rejected) sha256:")
    assert review.recover(write=False) == ([], [lost])
    assert contents(review.dsl) != before
    assert review.recover() == ([], [lost])
    assert contents(review.dsl) == before
    assert review.recover() == ([], [])
    blocked = review.clear()
    assert blocked.keys() == {"approvals"}
    assert "rejected by carl" in blocked["approvals"]


def test_releases_that_a_library_lost_come_back_with_their_evidence(lossy: tuple[Review, Callable[[], Callable[[], None]]]) -> None:
    review, backup = lossy
    review.decide("rejected")
    assert review.recover(replica=False) == ([], [])
    copy(review.dsl, review.replica)
    before = contents(review.dsl)
    wipe = backup()
    shutil.rmtree(review.desk.path / "backup")
    create_library(str(review.desk.path / "empty"))
    if "://" in review.dsl:
        (review.desk.path / "backup").mkdir()
    else:
        (review.desk.path / "empty").rename(review.desk.path / "backup")
    wipe()
    assert "hello 1.0: the package sha256:" in review.clear()["library"]
    lost = review.recover(replica=False)[0]
    assert [one[:10] for one in lost] == ["hello 1.0:", "hello 2.0:"]
    assert review.recover(write=False) == ([], lost)
    assert review.recover() == ([], lost)
    assert contents(review.dsl) == before


def test_evidence_is_taken_away_with_a_reason_and_a_signature(lossy: tuple[Review, Callable[[], Callable[[], None]]]) -> None:
    review, _backup = lossy
    desk, home = review.desk, open_library(review.dsl).repository("hello")
    before = {entry.digest for entry in home.referrers(review.digest)}
    review.decide("approved")
    (piece,) = {entry.digest for entry in home.referrers(review.digest)} - before
    copy(review.dsl, review.replica)
    wanted = {"name": "hello", "version": "1.0", "state": "absent", "evidence": [piece], "dsl": review.dsl}
    assert "no reason is given" in run(desk, "dsl_release", **wanted, key=review.key)["msg"]
    assert "with a signature" in run(desk, "dsl_release", **wanted, reason="it is over")["msg"]
    assert run(desk, "dsl_release", "--check", **wanted, reason="it is over", key=review.key)["changed"]
    assert review.clear() == {}
    done = run(desk, "dsl_release", **wanted, reason="it is over", key=review.key)
    assert (done["changed"], done["retired"]) == (True, [f"approval (approved) {piece}"]), done
    assert not run(desk, "dsl_release", **wanted, reason="it is over", key=review.key)["changed"]
    nothing = run(desk, "dsl_release", **{**wanted, "evidence": []}, reason="it is over", key=review.key)
    assert not nothing["changed"], nothing  # and least of all is the release purged
    assert review.clear().keys() == {"approvals"}  # and the library lacks nothing
    assert review.recover() == ([], [])
    assert {entry.digest for entry in home.referrers(review.digest)} == before
    (row,) = desk.rows("select actor, data from history where event = 'evidence retired'")
    assert (row[0], json.loads(row[1])["reason"]) == ("carl", "it is over")


def test_what_is_lost_for_good_is_given_up_with_a_reason_and_a_signature(desk: Fleet) -> None:
    review = Review(desk, str(desk.path / "dsl"), str(desk.path / "replica"))
    review.decide("approved")
    shutil.copytree(review.dsl, desk.path / "backup")
    review.decide("rejected")
    assert review.numbers() == [("1.0", 2, True)]
    shutil.rmtree(review.dsl)
    shutil.copytree(desk.path / "backup", review.dsl)
    release = {"name": "hello", "version": "1.0", "state": "accepted"}
    assert "no reason is given" in run(desk, "dsl_release", **release, key=review.key)["msg"]
    assert "with a signature" in run(desk, "dsl_release", **release, reason="the disk burnt")["msg"]
    assert run(desk, "dsl_release", "--check", **release, reason="the disk burnt", key=review.key)["changed"]
    assert review.clear().keys() == {"library"}
    done = run(desk, "dsl_release", **release, reason="the disk burnt", key=review.key)
    assert done["changed"], done
    assert "approval (rejected)" in done["lost"][0]
    assert review.clear() == {}
    assert review.numbers() == [("1.0", 3, True)]
    (row,) = desk.rows("select actor, data from history where event = 'library loss accepted'")
    assert row[0] == "carl"
    assert json.loads(row[1])["reason"] == "the disk burnt"
    assert not run(desk, "dsl_release", **release, reason="the disk burnt", key=review.key)["changed"]


def test_what_was_signed_is_missed_whatever_was_done_to_the_cmdb(desk: Fleet) -> None:
    review = Review(desk, str(desk.path / "dsl"), str(desk.path / "replica"))
    review.decide("approved")
    shutil.copytree(review.dsl, desk.path / "backup")
    review.decide("rejected")
    shutil.rmtree(review.dsl)
    shutil.copytree(desk.path / "backup", review.dsl)
    with Cmdb.open(str(desk.path / "cmdb.sqlite")) as cmdb, cmdb.begin() as connection:
        table = schema().library_seen
        (row,) = connection.execute(table.select()).all()
        document = {**row.document, "evidence": {}}
        connection.execute(table.update().values(document=document))
    assert "approval (rejected)" in review.clear()["library"]
    with Cmdb.open(str(desk.path / "cmdb.sqlite")) as cmdb, cmdb.begin() as connection:
        signed = json.loads(row.envelope)
        signed["payload"] = base64.b64encode(base64.b64decode(signed["payload"]).replace(b"rejected", b"approved")).decode()
        connection.execute(table.update().values(envelope=json.dumps(signed)))
    assert "was changed after it was signed" in review.clear()["library"]


def test_what_was_purged_is_not_missed_and_not_brought_back(desk: Fleet) -> None:
    review = Review(desk, str(desk.path / "dsl"), str(desk.path / "replica"))
    review.decide("rejected")
    copy(review.dsl, review.replica)
    release = {"name": "hello", "version": "1.0", "reason": "withdrawn"}
    run(desk, "dsl_release", **release, state="retired")
    assert run(desk, "dsl_release", **release, state="absent")["changed"]
    assert review.recover() == ([], [])
    assert set(contents(review.dsl)) == {"hello 2.0"}
    # Brought back by hand, it is barred, and nobody misses it when it goes again.
    copy(review.replica, review.dsl)
    assert review.recover() == ([], [])
    assert [version for version, _number, _signed in review.numbers()] == ["1.0", "2.0"]


def test_a_rejection_is_not_got_rid_of_by_purging_the_release_and_archiving_it_again(desk: Fleet) -> None:
    """A purge takes a reason, but no signature of anybody whom the policy knows."""
    review = Review(desk, str(desk.path / "dsl"), str(desk.path / "replica"))
    review.decide("rejected")
    release = {"name": "hello", "version": "1.0", "reason": "withdrawn"}
    run(desk, "dsl_release", **release, state="retired")
    assert run(desk, "dsl_release", **release, state="absent")["changed"]
    archive(desk.path / "releases" / "1.0", OciLayout.open(desk.path / "dsl"))
    assert review.recover(replica=False) == ([], [])
    assert run(desk, "dsl_release", **release, state="archived")["changed"]
    review.decide("approved")
    assert "approval (rejected)" in review.clear()["library"]
    lost, _healed = review.recover(replica=False)
    assert any("approval (rejected)" in loss for loss in lost)
    # Who may sign can say that this is how it is meant.
    assert "key" in run(desk, "dsl_release", **release, state="accepted")["msg"]
    assert run(desk, "dsl_release", **release, state="accepted", key=review.key)["changed"]
    assert "library" not in review.clear()


def test_what_the_second_home_has_and_the_first_does_not_is_named_and_brought_back(desk: Fleet) -> None:
    """By the tasks; the CMDB has not seen it."""
    dsl, replica = str(desk.path / "dsl"), str(desk.path / "replica")
    run(desk, "dsl_verify", "--check")
    assert desk.rows("select * from library_seen") == []
    copy(dsl, replica)
    vouch(open_library(replica), "1.0")
    archive(desk.release("3.0"), OciLayout.open(replica))
    synced = run(desk, "dsl_sync", to=replica)
    assert (synced["failed"], synced["changed"]) == (False, False)
    assert synced["lacking"][0].startswith("1 pieces of evidence about hello 1.0, such as sha256:")
    assert synced["lacking"][1] == "the release hello 3.0"
    assert "bring it back with dsl_verify and tidegate_dsl_replica" in synced["warnings"][0]
    done = run(desk, "dsl_verify", replica=replica)
    assert (done["failed"], done["changed"], len(done["healed"])) == (False, True, 2), done
    assert contents(dsl) == contents(replica)
    # All that is remembered now. A home for some releases only is told which.
    assert desk.rows("select version from library_seen order by version") == [("1.0",), ("2.0",), ("3.0",)]
    copy(dsl, str(desk.path / "third"))
    shutil.rmtree(dsl)
    create_library(dsl)
    lost = run(desk, "dsl_verify")
    assert lost["failed"]
    assert {(one["what"][:18], one["releases"][0]["version"]) for one in lost["damaged"]} == {
        ("lost (the package,", version) for version in ("1.0", "2.0", "3.0")
    }
    other = run(desk, "dsl_verify", names=["other"])
    assert other["failed"]
    assert other["msg"].startswith(f"there is no release of other in {dsl}, so nothing was verified; ")


def test_what_clear_saw_is_remembered_unless_it_is_only_asked_what_it_would_say(desk: Fleet) -> None:
    review = Review(desk, str(desk.path / "dsl"), str(desk.path / "replica"))
    run(desk, "clear", "--check", rfc=review.rfc)
    assert review.numbers() == []
    run(desk, "clear", rfc=review.rfc)
    assert review.numbers() == [("1.0", 1, False)]
    shutil.rmtree(review.dsl)
    desk.archive("2.0")
    audited = desk.play("tidegate.release.audit", {}, inventory="localhost,")
    assert audited.returncode != 0
    assert "DSL: it lacks what was seen in it before, hello 1.0: the package" in said(audited)


def test_nothing_new_is_remembered_of_what_was_purged(desk: Fleet) -> None:
    """Else what somebody brings back by hand, and adds to, would be missed when it goes again."""
    review = Review(desk, str(desk.path / "dsl"), str(desk.path / "replica"))
    review.decide("rejected")
    home = open_library(review.dsl).repository("hello")
    digests = {version: str(home.resolve("hello", version)) for version in ("1.0", "2.0")}
    change = [Retirement("hello", version, digest, "withdrawn", "rita@desk", utc_now()) for version, digest in digests.items()]
    with Cmdb.open(review.cmdb) as cmdb:
        before = snapshots(cmdb)
        assert before.keys() == {("hello", "1.0")}
        for one in change:
            retire(cmdb, one, write=True)
            mark_purged(cmdb, one, write=True)
        vouch(open_library(review.dsl), "1.0")
        sights = [look(home, "hello", version, digest, {}) for version, digest in digests.items()]
        assert remember(cmdb, sights, utc_now()) == 0
        assert snapshots(cmdb) == before


# -- the library is what is in it --------------------------------------------


def skopeo(*words: str) -> None:
    options = ["--src-tls-verify=false", "--dest-tls-verify=false"] if words[0] == "copy" else ["--tls-verify=false"]
    subprocess.run(["skopeo", "--insecure-policy", words[0], *options, *words[1:]], check=True, timeout=60, stdout=subprocess.DEVNULL)


needs_skopeo = pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo (apt install skopeo)")


@needs_skopeo
def test_a_package_that_skopeo_brought_is_seen_and_entered(desk: Fleet, server: registry.Server) -> None:
    there = f"{server.address}/brought"
    image = f"docker://{there.partition('://')[2]}/hello:1.0"
    skopeo("copy", f"oci:{desk.path}/dsl:hello:1.0", image)
    library = open_library(there)
    assert library.listed() == set()
    seen = run(desk, "dsl_verify", "--check", dsl=there)
    assert (seen["failed"], seen["releases"]) == (False, 1), seen
    assert seen["msg"].startswith("1 release, 5 blobs, ")
    assert library.listed() == set()
    # Without the evidence, which refers to it and is not part of it.
    review = Review(desk, str(desk.path / "dsl"), str(desk.path / "replica"))
    desk.write_policy(**desk.policy, people=yaml.safe_load((desk.path / "policy.yml").read_text())["people"],
                      trust={"package": {"role": "manager"}})  # fmt: skip
    tag = review.digest.replace(":", "-")
    with Sources(there, review.cmdb, str(desk.path / "policy.yml"), utc_now()) as sources:
        judged = clear(sources, review.rfc)
    remedies = [control.remedy for control in judged.clearance.controls if control.name == "signatures"]
    assert f"bring its evidence with dsl_sync, or copy the tag {tag} too" in remedies[0]
    run(desk, "clear", rfc=review.rfc, dsl=there)
    assert open_library(there).listed() == {"hello"}
    copied = run(desk, "dsl_sync", dsl=there, to=str(desk.path / "backup"))
    assert [(one["version"], one["new"], one["evidence"]) for one in copied["releases"]] == [("1.0", True, 0)]
    assert set(contents(str(desk.path / "backup"))) == {"hello 1.0"}
    # By hand as it is said.
    skopeo("copy", "--all", f"oci:{desk.path}/dsl:{tag}", f"docker://{there.partition('://')[2]}/hello:{tag}")
    assert contents(there)["hello 1.0"] == contents(str(desk.path / "dsl"))["hello 1.0"]


@needs_skopeo
def test_what_skopeo_deleted_is_named_and_comes_back(desk: Fleet, server: registry.Server) -> None:
    here, there = str(desk.path / "dsl"), f"{server.address}/deleted"
    copy(here, there)
    before = contents(there)
    assert not run(desk, "dsl_verify", dsl=there)["failed"]
    skopeo("delete", f"docker://{there.partition('://')[2]}/hello:1.0")
    alone, synced, healed = run_all(
        desk,
        ("dsl_verify", {"dsl": there}),
        ("dsl_sync", {"dsl": there, "to": str(desk.path / "second")}),
        ("dsl_verify", {"dsl": there, "replica": here}),
    )
    assert alone["failed"]
    assert "lost (the package, seen " in alone["msg"]
    assert synced["failed"]
    assert f"{there} lacks what it had: hello 1.0: the package sha256:" in synced["msg"]
    assert set(contents(str(desk.path / "second"))) == {"hello 2.0"}
    assert (healed["failed"], contents(there)) == (False, before), healed
    assert "1 were healed from" in healed["msg"]
    for version in ("1.0", "2.0"):
        skopeo("delete", f"docker://{there.partition('://')[2]}/hello:{version}")
    # The list of releases still has it, so that it is missed without a CMDB as well.
    archive(desk.release("1.0", name="other"), open_library(there).repository("other"))
    gone = run(desk, "dsl_verify", dsl=there, cmdb=str(desk.path / "none.sqlite"))
    assert gone["failed"]
    assert "there is no version of hello, which is in the list of releases" in gone["msg"]


def test_what_umoci_untagged_is_named_and_comes_back(desk: Fleet) -> None:
    dsl, replica, none = str(desk.path / "dsl"), str(desk.path / "replica"), str(desk.path / "none.sqlite")
    archive(desk.release("3.0"), OciLayout.open(dsl))
    copy(dsl, replica)
    before = contents(dsl)
    for version in ("1.0", "3.0"):
        if shutil.which("umoci"):
            subprocess.run(["umoci", "rm", "--image", f"{dsl}:hello:{version}"], check=True, timeout=60)
        else:
            OciLayout.open(dsl)._untag(f"hello:{version}")
    alone, healed = run_all(desk, ("dsl_verify", {"cmdb": none}), ("dsl_verify", {"cmdb": none, "replica": replica}))
    assert alone["failed"]
    assert "'hello' '1.0', sha256:" in alone["msg"]
    assert "has evidence in the blobs and no tag; bring it back from a replica" in alone["msg"]
    # What nobody ever signed anything about may be left of an archiving that was interrupted.
    assert any("'hello' '3.0', sha256:" in warning and "archive it again if it is one" in warning for warning in alone["warnings"])
    assert (healed["failed"], contents(dsl)) == (False, before), healed


@pytest.mark.parametrize("kind", ["directory", "registry"])
def test_an_empty_or_mistyped_library_is_no_pass_and_stays_empty(desk: Fleet, request: pytest.FixtureRequest, kind: str) -> None:
    wrong, replica = str(desk.path / "dls"), str(desk.path / "dsl")
    if kind == "registry":
        wrong = f"{request.getfixturevalue('server').address}/lvie"
    create_library(wrong)
    *empty, replicated = run_all(
        desk,
        ("dsl_verify", {"dsl": wrong}),
        ("dsl_verify", {"dsl": wrong, "replica": replica}),
        ("dsl_sync", {"dsl": wrong, "to": replica}),
        ("dsl_verify", {"replica": wrong}),
    )
    for number, done in enumerate(empty):
        assert done["failed"], done
        assert f"there is no release in {wrong}" in done["msg"]
        assert "correct tidegate_dsl" in done["msg"]
        assert (f"tidegate_dsl {replica} and tidegate_dsl_to {wrong}" in done["msg"]) == (number > 0)
    assert not open_library(wrong).releases()
    assert replicated["failed"]
    assert f"the replica {wrong} has no release, so nothing was compared with it" in replicated["msg"]


def test_releases_without_evidence_in_a_library_that_has_some_are_named(desk: Fleet) -> None:
    archive(desk.release("3.0"), OciLayout.open(desk.path / "dsl"))
    digest = contents(str(desk.path / "dsl"))["hello 3.0"][0]
    done = run(desk, "dsl_verify", cmdb=str(desk.path / "none.sqlite"))
    assert not done["failed"]
    (warning,) = done["warnings"]
    assert warning.startswith("hello 3.0 has no evidence; if another tool copied it here")
    assert warning.endswith(f"or copy the tag {digest.replace(':', '-')} too")
