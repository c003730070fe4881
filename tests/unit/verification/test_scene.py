# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a verification is played with: nothing in it leads to a live host or to a key, and a scenario is what was released."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.module_utils.lab.hosts import CONNECTING
from ansible_collections.tidegate.release.plugins.module_utils.redaction import Redactor
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.clearance import Clearance
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.manifest import Manifest, OwnAnsible
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive, load_package, load_package_manifest, read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import Library, create_library
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.system_packages import SystemPackages
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, DocumentError, NotFoundError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.package import PackageName
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import collect
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Constraints, Share
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import verify
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import Clearing, clear
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.verify import Asked, claim, prepare, unplayable
from ansible_collections.tidegate.release.plugins.plugin_utils.verification import play
from ansible_collections.tidegate.release.plugins.plugin_utils.verification import scene as scene_module
from ansible_collections.tidegate.release.plugins.plugin_utils.verification.miniature import LiveHost, Miniature
from ansible_collections.tidegate.release.plugins.plugin_utils.verification.model import model
from ansible_collections.tidegate.release.plugins.plugin_utils.verification.scene import (
    LIVE_POLICY,
    RFC,
    Given,
    LabHosts,
    Scene,
    build,
    own_scenario,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from documents import STRICT, policy_of, write_document
from releases import HELLO
from securesystemslib.signer import CryptoSigner

NOW = datetime(2027, 3, 1, 22, tzinfo=UTC)


def ci(name: str, class_: str, site: str, attributes: Mapping[str, Any] = MappingProxyType({}), **installations: Any) -> dict[str, Any]:
    """A CI as a query gives it."""
    row = {"name": name, "class": class_, "site": site, "environment": "live", "attributes": dict(attributes)}
    return {**row, "installations": installations}


class Bed:
    """A library with two versions of the example, the first of which is live on web1."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.library: Library = create_library(str(path / "dsl"))
        self.former = self.archive("1.0")
        self.digest = self.archive("1.1")
        self.live = LiveHost("web1.example", "server", "ams", frozenset([("hello", "1.0", self.former)]))
        self.attributes: dict[str, Any] = {}
        self.given = Given()
        self.mode = "isolated"

    def archive(self, version: str, name: str = "hello", **changes: Any) -> str:
        return archive(self.folder(version, name=name, **changes), self.library.repository(name)).digest

    def with_role(self, version: str, **own: Any) -> str:
        """Archive a release with a role that changes data; ``own`` replaces what its manifest says of that."""
        described = {"role": "ansible/app", "steps": ["migrate", "activate"], "on_first": "back_out", "atomic": False, **own}
        folder = self.folder(version, ansible=described)
        (folder / "ansible" / "app" / "tasks").mkdir(parents=True, exist_ok=True)
        for step in (*described["steps"], "back_out"):
            (folder / "ansible" / "app" / "tasks" / f"{step}.yml").write_text("- {name: Nothing, ansible.builtin.debug: {msg: nothing}}\n")
        return archive(folder, self.library.repository("hello")).digest

    def folder(self, version: str, **changes: Any) -> Path:
        folder = self.path / "releases" / f"{changes.get('name', 'hello')}-{version}"
        shutil.copytree(HELLO, folder, dirs_exist_ok=True)
        manifest = yaml.safe_load((folder / "release.yml").read_text()) | {"version": version, **changes}
        (folder / "release.yml").write_text(yaml.safe_dump(manifest))
        return folder

    def build(self, *hosts: LiveHost, around: Iterable[dict[str, Any]] = (), relations: Iterable[tuple[str, str, str]] = ()) -> Scene:
        plan = Miniature({host.name.replace(".", "-"): host for host in hosts or (self.live,)})
        cis = {host.name: ci(host.name, host.class_, host.site, self.attributes) for host in plan.hosts.values()}
        like = model(plan, cis, {one["name"]: one for one in around}, relations)
        package = load_package(self.library.repository("hello"), self.digest)
        release = PackageName("hello", "1.1", self.digest)
        return build(self.path / "work", plan, like, self.library, release, package, LabHosts(self.mode), self.given, NOW)

    def cleared(self, scene: Scene, version: str) -> Clearance:
        """What a deployment of the release in the lab comes to."""
        rfc = scene.path / f"{RFC}.yml"
        rfc.write_text(rfc.read_text().replace("1.1", version))
        return self.clear(scene, rfc).clearance

    def clear(self, scene: Scene, rfc: Path, policy: str = "policy.yml") -> Clearing:
        with Sources(str(self.path / "dsl"), str(scene.cmdb), str(scene.path / policy), NOW) as sources:
            return clear(sources, str(rfc))

    def written(self, name: str) -> Any:
        return yaml.safe_load((self.path / "work" / name).read_text())


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


def test_a_double_has_what_its_host_has_but_for_how_that_is_reached(bed: Bed) -> None:
    bed.attributes = {
        "rack": 7,
        "ansible_host": "192.0.2.1",
        "ansible_port": 22,
        "ansible_ssh_common_args": "-J jump",
        "tidegate_root": "/srv",
        "tidegate_become": False,
        "tidegate_mirror": "http://192.0.2.9/",
        "name": "other",
        "site": "other",
    }
    bed.build()
    assert bed.written("scene.json")["hosts_of_the_lab"] == [
        {"rack": 7, "name": "web1-example", "class": "server", "site": "ams", "environment": "lab"}
    ]


def test_the_inventory_is_the_labs_whatever_the_live_one_computes(bed: Bed) -> None:
    live = {
        "plugin": "tidegate.release.cmdb",
        "cmdb": "postgresql+psycopg://cmdb@live/cmdb",
        "query": "[*]",
        "cache": True,
        "strict": False,
        "compose": {"tidegate_settings": "{'address': ansible_host}", "ansible_host": "tidegate_ci.name", "tidegate_mirror": "'x'"},
        "keyed_groups": [{"key": "tidegate_ci.site", "prefix": "site"}],
    }
    (bed.path / "cmdb.yml").write_text(json.dumps(live))
    (bed.path / "other.yml").write_text("all: {hosts: {web1: {ansible_host: 192.0.2.1}}}")
    (bed.path / "hosts").write_text("web1 ansible_host=192.0.2.1")
    sources = [str(bed.path / name) for name in ("other.yml", "cmdb.yml", "hosts", "missing.yml")] + ["localhost,"]
    bed.given = Given(inventory=tuple(sources))
    scene = bed.build()
    inventory = {
        "plugin": "tidegate.release.cmdb",
        "cmdb": str(scene.cmdb),
        "query": '[?contains(`["web1-example"]`, name)]',
        "connection_variables": list(CONNECTING),
        "strict": False,
        "compose": {"tidegate_settings": "{'address': ansible_host}"},
        "keyed_groups": [{"key": "tidegate_ci.site", "prefix": "site"}],
    }
    assert bed.written("inventory/cmdb.yml") == inventory
    shutil.rmtree(bed.path / "work")
    bed.given = Given(inventory=(str(bed.path),))  # or the directory that they are in
    bed.build()
    assert bed.written("inventory/cmdb.yml") == inventory


def test_what_the_inventory_does_not_say_the_caller_can(bed: Bed) -> None:
    path = bed.path / "vars.yml"
    path.write_text("tidegate_settings: {address: '{{ ansible_host }}'}  # as it is\n")
    bed.given = Given(vars_file=str(path))
    bed.build()
    assert (bed.path / "work" / "inventory" / "host_vars" / "web1-example.yml").read_text() == path.read_text()
    bed.given = Given(vars_file=str(bed.path / "nowhere.yml"))
    with pytest.raises(TidegateError, match=r"nowhere\.yml, the variables of the lab's hosts, can't be read \(No such file"):
        bed.build()


def test_what_live_has_around_the_hosts_is_in_the_cmdb_of_the_lab_and_not_in_its_inventory(bed: Bed) -> None:
    """The release asks for another that is on what it depends on. Without that nothing could be verified."""
    database = bed.archive("3.1", "database", conflicts=[{"release": "hello", "versions": "<1", "scheme": "pep440"}])
    bed.digest = bed.archive("1.2", requires=[{"release": "database", "versions": ">=3", "scheme": "pep440"}])
    bed.given = Given()
    reached = {"ansible_host": "192.0.2.7", "rack": 3}
    db1 = ci("db.1", "database", "fra", reached, database={"version": "3.1", "digest": database})
    scene = bed.build(
        around=[db1, ci("db2", "database", "fra")], relations=[("web1.example", "db.1", "depends_on"), ("db2", "db.1", "stands_in")]
    )
    with Cmdb.open(str(scene.cmdb)) as cmdb:
        assert [(one["name"], one["environment"], one["attributes"]) for one in cmdb.cis()] == [
            ("db-1", "live", {"rack": 3}),
            ("web1-example", "lab", {}),
        ]
        assert cmdb.relations() == [{"source": "web1-example", "target": "db-1", "kind": "depends_on"}]
        assert [(row["ci"], row["version"]) for row in cmdb.installations()] == [("db-1", "3.1")]
        assert [one["name"] for one in cmdb.query(bed.written("inventory/cmdb.yml")["query"])] == ["web1-example"]
    assert bed.cleared(scene, "1.2").granted


def test_a_licensed_product_has_seats_for_the_lab(bed: Bed) -> None:
    bed.former = bed.archive("1.0.1", licensed_product="hello-pro")
    bed.digest = bed.archive("1.2", licensed_product="hello-pro")
    scene = bed.build(replace(bed.live, releases=frozenset([("hello", "1.0.1", bed.former)])), LiveHost("web2"))
    cleared = bed.cleared(scene, "1.2")
    assert cleared.granted, cleared.text()
    assert "2 are free" in next(control.reason for control in cleared.controls if control.name == "licences")


def test_what_was_live_is_installed_after_what_it_requires(bed: Bed) -> None:
    tools = bed.archive("2.0", "tools")
    mine = bed.archive("1.0", "aardvark", requires=[{"release": "tools"}, {"release": "aardvark", "versions": "<9", "scheme": "pep440"}])
    live = replace(bed.live, releases=frozenset([("aardvark", "1.0", mine), ("tools", "2.0", tools)]))
    bed.build(live)
    assert [bed.written(f"{number}.yml")["release"]["name"] for number in bed.written("scene.json")["former"]] == ["tools", "aardvark"]


def test_an_inventory_that_can_not_be_read_is_told(bed: Bed) -> None:
    (bed.path / "cmdb.yml").write_text("plugin: [")
    bed.given = Given(inventory=(str(bed.path / "cmdb.yml"),))
    with pytest.raises(TidegateError, match=r"the inventory .*cmdb.yml can't be read"):
        bed.build()


def test_the_rfcs_of_the_lab_are_cleared_there_by_a_policy_that_asks_what_a_lab_can_have(bed: Bed) -> None:
    policy = bed.path / "policy.yml"
    rules = policy_of(
        approvals={"standard": 3},
        documentation={"minor": ["nothing*"]},
        # The lab has no web9, and who is alone there.
        rollout={"canary": 2, "steps": [100], "canary_hosts": ["web9"], "stay_up": {"groups": {"name": "50%"}}},
        people={"nobody": {"roles": ["cook"]}},
    )
    write_document(policy, rules)
    bed.given = Given(str(policy))
    scene = bed.build()
    with Cmdb.open(str(scene.cmdb)) as cmdb:
        cmdb.put_cis([{"name": "another", "class": "server"}], "test")
    for number, digest in (("CHG0000001", bed.digest), ("CHG0000002", bed.former)):
        clearing = bed.clear(scene, scene.path / f"{number}.yml")
        assert clearing.clearance.granted, clearing.clearance.text()
        assert clearing.clearance.digest == digest
        assert [ci["name"] for ci in clearing.cis] == ["web1-example"]
    rollout = load_policy(scene.path / "policy.yml").rollout
    assert (rollout.canary.value, rollout.constraints) == (2, Constraints())
    assert (rollout.support_hours, rollout.late_days) == (0, 0)  # in a lab nobody is waited for
    assert bed.written("scene.json")["former"] == ["CHG0000002"]


@pytest.mark.parametrize(
    ("data", "variables", "why"),
    [
        ({"migrate_on": "[?attributes.primary]"}, "lab.yml", ""),
        ({"migrate_on": "[?attributes.primary]"}, None, "hello 1.1 changes data, and variables that"),
        (
            {"migrate_on": "[?name=='web1.example']"},
            "lab.yml",
            "has to give one CI of the plan and gives none; a double has its host's site",
        ),
        ({"migrate_on": "[?attributes.primary]", "no_return": True}, "lab.yml", ""),
        # What live has is deployed in the lab before, with all that it does.
        ({"migrate_on": "[?attributes.primary]", "live": True}, None, "hello 1.0 changes data, and variables that"),
        ({"migrate_on": "[?attributes.primary]", "live": True, "no_return": True}, "lab.yml", ""),
    ],
)
def test_a_release_whose_data_a_lab_can_not_play_is_not_played(
    bed: Bed, data: dict[str, Any], variables: str | None, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would be signed that it failed, or the data of live be changed."""
    bed.attributes = {"primary": True}
    scene = bed.build()
    assert unplayable(scene, bed.library, Given()) == ""
    load = verify.load_package_manifest
    changing = bed.former if data.pop("live", False) else bed.digest
    own = OwnAnsible("ansible/app", ("migrate",), **data)
    monkeypatch.setattr(
        verify,
        "load_package_manifest",
        lambda home, digest: replace(load(home, digest), ansible=own if digest == changing else None),
    )
    found = unplayable(scene, bed.library, Given(vars_file=variables))
    assert (why in found) if why else found == ""


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_what_acts_outside_its_tree_is_not_played_with_the_settings_of_live(
    bed: Bed, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, load = bed.build(), verify.load_package_manifest
    acting = {"1.0": bed.former, "1.1": bed.digest}[version]
    monkeypatch.setattr(
        verify,
        "load_package_manifest",
        lambda home, digest: replace(load(home, digest), reads="R1" if digest == acting else None),
    )
    assert f"hello {version} has its effect outside its tree, and settings" in unplayable(scene, bed.library, Given())
    assert unplayable(scene, bed.library, Given(vars_file="lab.yml")) == ""


@pytest.mark.parametrize("rule", STRICT)
def test_what_is_live_is_installed_in_the_lab_though_it_is_older_than_a_rule(bed: Bed, rule: str) -> None:
    policy = bed.path / "policy.yml"
    public = public_keys()
    people = {name: {"roles": ["signer"], "keys": [{"public": public[name]}]} for name in public}
    write_document(policy, policy_of(people=people) | STRICT[rule])
    bed.given = Given(str(policy))
    scene = bed.build()
    cleared = bed.clear(scene, scene.path / "CHG0000002.yml", LIVE_POLICY).clearance
    assert cleared.granted, cleared.text()
    # What is new is judged in the lab too.
    new = bed.clear(scene, scene.path / f"{RFC}.yml").clearance
    assert new.granted is (rule != "trust"), new.text()
    assert load_policy(scene.path / LIVE_POLICY).rollout == load_policy(scene.path / "policy.yml").rollout
    prepare = (scene.scenario / "prepare.yml").read_text()
    assert f"tidegate_policy={{{{ work }}}}/{LIVE_POLICY}" in prepare


def test_live_metrics_are_not_asked_for_in_the_lab(bed: Bed) -> None:
    policy = bed.path / "policy.yml"
    write_document(policy, policy_of(**STRICT["rollout"]))
    assert load_policy(policy).rollout.bake is not None
    bed.given = Given(str(policy))
    rollout = load_policy(bed.build().path / "policy.yml").rollout
    assert (rollout.bake, rollout.canary_bake, rollout.wave_budget) == (None, None, Share(0))


def test_every_rule_of_a_policy_was_thought_of() -> None:
    """A new one has to say what it means for what is older."""
    schema = json.loads((Path(scene_module.__file__).parents[1] / "schemas" / "policy.schema.json").read_text())
    assert schema["properties"].keys() - {"$schema", "schema"} == STRICT.keys()


def public_keys() -> dict[str, str]:
    """The public keys of two people."""
    found = {}
    for name in ("rita", "carl"):
        key = CryptoSigner.generate_ed25519()._private_key.public_key()
        found[name] = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return found


def test_what_live_has_that_the_library_lacks_is_told_and_not_installed(bed: Bed) -> None:
    gone = ("tools", "3.0", "sha256:" + "0" * 64)
    moved = ("hello", "1.0", "sha256:" + "1" * 64)
    scene = bed.build(replace(bed.live, releases=bed.live.releases | {gone}), LiveHost("web2", releases=frozenset([moved])))
    assert scene.before == {"web1-example": bed.live.releases, "web2": frozenset()}
    assert scene.lacking == ("hello 1.0, which is live, is not in the DSL", "tools 3.0, which is live, is not in the DSL")


def test_the_files_of_a_releases_own_scenario_take_the_place_of_the_shipped_ones(bed: Bed) -> None:
    folder = bed.folder("1.2")
    (folder / "verification" / "converge.yml").write_text("own")
    (folder / "verification" / "__pycache__").mkdir()
    (folder / "verification" / "__pycache__" / "x.pyc").write_text("stale")
    plain = bed.build().fingerprint()
    shutil.rmtree(bed.path / "work")
    bed.digest = archive(folder, bed.library.repository("hello")).digest
    scene = bed.build()
    assert (scene.scenario / "converge.yml").read_text() == "own"
    assert (scene.scenario / "tests" / "deployed" / "test_hello.py").is_file()
    assert (scene.scenario / "tests" / "both" / "test_live.py").is_file()
    assert not list(scene.scenario.rglob("*.pyc"))
    assert scene.fingerprint() != plain


def test_a_scenario_without_a_way_back_ends_when_the_release_was_tested(bed: Bed) -> None:
    def sequence() -> list[str]:
        scenario = yaml.safe_load((bed.build().scenario / "molecule.yml").read_text())
        shutil.rmtree(bed.path / "work")
        return list(scenario["scenario"]["test_sequence"])

    whole = sequence()
    bed.digest = bed.with_role("2.0", migrate_on="web1", reverse="none")
    there = ["create", "prepare", "converge", "verify tests/both tests/deployed"]
    assert sequence() == [*there, "destroy"]
    assert whole == [*there, "side_effect back_out.yml", "verify tests/both tests/backed_out", "destroy"]


@pytest.mark.parametrize(
    ("brought", "what"),
    [
        ({"packages": SystemPackages("deb", "debs/*.deb")}, "packages of the operating system"),
        ({"ansible": OwnAnsible.of({"role": "ansible/hello", "steps": ["activate"], "on_first": "back_out", "atomic": False})}, "a role"),
    ],
)
def test_no_package_of_the_operating_system_and_no_role_comes_onto_this_machine(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, brought: dict[str, Any], what: str
) -> None:
    def bringing(library: Any, digest: str) -> Manifest:
        return replace(load_package_manifest(library, digest), **brought)

    monkeypatch.setattr(scene_module, "load_package_manifest", bringing)  # of what the lab has before
    bed.build()
    shutil.rmtree(bed.path / "work")
    for bed.mode in ("user", "local"):
        with pytest.raises(TidegateError, match=rf"hello 1\.0 brings {what}, and the hosts of a lab of mode \w+ are this machine"):
            bed.build()
        assert not (bed.path / "work").exists()
    folder = bed.folder("1.2")
    (folder / "verification" / "create.yml").write_text("hosts of its own")
    bed.digest = archive(folder, bed.library.repository("hello")).digest
    bed.build()


def test_the_files_of_a_scenario_are_in_the_library_and_never_in_the_payload(bed: Bed) -> None:
    package = load_package(bed.library.repository("hello"), bed.digest)
    assert package.manifest.scenario == "verification"
    assert "verification/tests/deployed/test_hello.py" in package.manifest.documentation
    assert not [entry.path for entry in package.files if "test" in entry.path]
    assert type(package.manifest).from_config(package.manifest.to_config()) == package.manifest


def test_a_document_beside_the_scenario_is_no_part_of_it_and_one_of_it_documents_nothing(bed: Bed) -> None:
    folder = bed.folder("1.2", documentation=["README.md", "verification-notes.md"])
    (folder / "verification-notes.md").write_text("notes")
    bed.digest = archive(folder, bed.library.repository("hello")).digest
    package = load_package(bed.library.repository("hello"), bed.digest)
    assert set(own_scenario(bed.library, "hello", package)) == {"tests/deployed/test_hello.py"}


def test_a_package_whose_scenario_names_a_path_outside_is_refused(bed: Bed) -> None:
    package = load_package(bed.library.repository("hello"), bed.digest)
    for folder, name in (("../verification", "../verification/x"), ("verification", "verification/../../x")):
        manifest = replace(package.manifest, scenario=folder, documentation=(name,))
        parts = tuple(part._replace(annotations={"org.opencontainers.image.title": name}) for part in package.documentation[:1])
        with pytest.raises(DocumentError):
            own_scenario(bed.library, "hello", replace(package, manifest=manifest, documentation=parts))


@pytest.mark.parametrize("harm", ["missing", "a file", "a link", "empty", "links in it", "too many", "backslash"])
def test_a_scenario_that_can_not_be_archived_is_told(bed: Bed, harm: str) -> None:
    folder = bed.folder("1.2")
    own = folder / "verification"
    shutil.rmtree(own)
    if harm == "a file":
        own.write_text("x")
    elif harm == "a link":
        (bed.path / "elsewhere").mkdir()
        (bed.path / "elsewhere" / "test_x.py").touch()
        own.symlink_to(bed.path / "elsewhere")
    elif harm != "missing":
        own.mkdir()
    if harm == "links in it":
        (own / "secret").symlink_to("/etc/passwd")
    elif harm == "too many":
        for number in range(60):
            (own / f"{number}.py").touch()
    elif harm == "backslash":
        (own / "a\\b").touch()
    with pytest.raises(DocumentError):
        read_release(folder)


def test_a_scenario_is_played_without_the_callers_homes_and_keys(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = bed.build()
    for name in (
        "TIDEGATE_KEY",
        "TIDEGATE_KEY_PASSPHRASE",
        "TIDEGATE_CMDB",
        "TIDEGATE_RFC",
        "ANSIBLE_INVENTORY",
        "ANSIBLE_CONFIG",
        "MOLECULE_X",
        "SN_USERNAME",
        "SN_PASSWORD",
        "SSH_AUTH_SOCK",
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
    ):
        monkeypatch.setenv(name, "live")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "/auth.json")
    before = dict(os.environ)
    with play._around(scene, "/dsl", "/collections", isolated=False):
        around = dict(os.environ)
    assert "live" not in around.values()
    assert around["TIDEGATE_CMDB"] == str(scene.cmdb)
    assert around["TIDEGATE_DSL"] == "/dsl"
    assert around["REGISTRY_AUTH_FILE"] == "/auth.json"  # the library is read
    assert around["TIDEGATE_BECOME"] == "false"
    assert dict(os.environ) == before


def test_the_first_failure_is_that_of_a_task_and_not_of_the_run_around_it() -> None:
    def event(created: str, message: str, **more: Any) -> dict[str, Any]:
        return {"event": "runner_on_failed", "created": created, "event_data": {"host": "web1", "res": {"msg": message}, **more}}

    events = [
        event("3", "non-zero return code"),
        event("2", "hook start\nended"),
        event("1", "nothing", ignore_errors=True),
        {"event": "runner_on_ok", "created": "0", "event_data": {"res": {"msg": "fine"}}},
        {"event": "runner_on_failed", "created": "0"},
    ]
    assert play.first_failure(events) == "web1: hook start ended"
    assert play.first_failure([event("1", f"{'x' * 990} hidden-1")], Redactor({"token": "hidden-1"})).endswith("x ${t")
    assert play.first_failure([]) == ""


def test_what_a_scenario_leaves_has_no_secret(bed: Bed) -> None:
    scene = bed.build()
    folder = scene.path / "artifacts" / "verify" / "job_events"
    folder.mkdir(parents=True)
    for path in (folder / "1.json", folder.parent / "stdout", scene.results):
        path.write_text('{"said": "a \\"hidden-1\\" b"}')
    (folder / "link").symlink_to(scene.path / "policy.yml")
    play.redact_records(scene, Redactor({"token": "hidden-1"}))
    for path in (folder / "1.json", folder.parent / "stdout", scene.results):
        assert path.read_text() == '{"said": "a \\"${token}\\" b"}'


def test_facts_of_the_lab_are_those_that_can_be_read(bed: Bed) -> None:
    scene = bed.build(bed.live, LiveHost("web2"), LiveHost("web3"))
    (scene.path / "facts" / "web1-example.json").write_text('{"python": "3.11.2"}')
    (scene.path / "facts" / "web2.json").write_text("{")
    assert scene.facts() == {"web1-example": {"python": "3.11.2", "releases": [["hello", "1.0", bed.former]]}}


class TestSubject:
    """What is verified, against which hosts."""

    @pytest.fixture
    def cmdb(self, bed: Bed) -> str:
        path = str(bed.path / "cmdb.sqlite")
        with Cmdb.open(path, create=True) as cmdb:
            cmdb.put_cis([{"name": name, "class": "server", "site": "ams"} for name in ("web1", "web2", "web3")], "test")
            rows = [("web1", "1.0", bed.former), ("web2", "1.1", bed.digest)]
            with cmdb.begin() as connection:
                listed = [{"ci": ci, "release": "hello", "version": version, "digest": digest} for ci, version, digest in rows]
                cmdb.record_installations(connection, listed, "test", NOW)
        return path

    def prepare(self, bed: Bed, cmdb: str, asked: Asked) -> list[str]:
        return [host.name for host in prepare(asked, str(bed.path / "dsl"), cmdb, None, 8, NOW).plan.hosts.values()]

    def test_hosts_that_have_it_already_are_no_upgrade(self, bed: Bed, cmdb: str) -> None:
        assert self.prepare(bed, cmdb, Asked(name="hello", version="1.1")) == ["web1"]
        with Cmdb.open(cmdb) as opened, opened.begin() as connection:
            new = {"ci": "web1", "release": "hello", "version": "1.1", "digest": bed.digest}
            opened.record_installations(connection, [new], "test", NOW)
        with pytest.raises(NotFoundError, match=r"no host to upgrade to hello 1\.1"):
            self.prepare(bed, cmdb, Asked(name="hello", digest=bed.digest))

    def test_an_rfc_says_which_hosts(self, bed: Bed, cmdb: str) -> None:
        rfc = yaml.safe_load((HELLO.parent / "rfc.yml").read_text())
        rfc |= {"release": {"name": "hello", "version": "1.1", "digest": bed.digest}, "scope": "[?name!='web2']"}
        path = bed.path / "rfc.yml"
        path.write_text(yaml.safe_dump(rfc))
        assert self.prepare(bed, cmdb, Asked(rfc=str(path))) == ["web1", "web3"]
        rfc["release"]["version"] = "1.0"
        path.write_text(yaml.safe_dump(rfc))
        with pytest.raises(ConflictError, match=r"names hello 1\.0, but its digest is that of 1\.1"):
            self.prepare(bed, cmdb, Asked(rfc=str(path)))

    @pytest.mark.parametrize("by", ["the RFC", "tidegate_digest"])
    def test_a_directory_is_the_package_that_is_named(self, bed: Bed, cmdb: str, by: str) -> None:
        folder = bed.path / "hello"
        shutil.copytree(HELLO, folder)
        digest = read_release(folder).preview(None).digest
        rfc = yaml.safe_load((HELLO.parent / "rfc.yml").read_text())
        rfc |= {"release": {"name": "hello", "version": "1.0", "digest": digest}, "scope": "[?name=='web3']"}

        def asked() -> Asked:
            (bed.path / "rfc.yml").write_text(yaml.safe_dump(rfc))
            source = read_release(folder)
            return Asked(str(bed.path / "rfc.yml"), source=source) if by == "the RFC" else Asked(None, "hello", None, digest, source)

        assert self.prepare(bed, cmdb, asked()) == (["web3"] if by == "the RFC" else ["web2"])
        (folder / "README.md").write_text("changed since it was archived\n")
        other = read_release(folder).preview(None).digest
        who = rfc["number"] if by == "the RFC" else by
        with pytest.raises(ConflictError, match=f"^{who} names the package {digest}, and the directory {folder} is {other}; correct "):
            self.prepare(bed, cmdb, asked())
        if by == "the RFC":
            rfc["release"] |= {"digest": other, "version": "1.1"}
            with pytest.raises(ConflictError, match=r"names hello 1\.1, but its digest is that of 1\.0; correct the RFC"):
                self.prepare(bed, cmdb, asked())

    def subject(self, bed: Bed, cmdb: str, version: str, hosts: int) -> verify.Subject:
        """A version of hello that is for all CIs."""
        digest = bed.library.repository("hello").resolve("hello", version)
        rfc = yaml.safe_load((HELLO.parent / "rfc.yml").read_text())
        rfc |= {"release": {"name": "hello", "version": version, "digest": digest}, "scope": "[*]"}
        (bed.path / "rfc.yml").write_text(yaml.safe_dump(rfc))
        return prepare(Asked(rfc=str(bed.path / "rfc.yml")), str(bed.path / "dsl"), cmdb, None, hosts, NOW)

    def record(self, cmdb: str, version: str, digest: str, *cis: str) -> None:
        with Cmdb.open(cmdb) as opened, opened.begin() as connection:
            rows = [{"ci": ci, "release": "hello", "version": version, "digest": digest} for ci in cis]
            opened.record_installations(connection, rows, "test", NOW)

    @pytest.mark.parametrize("migrates", ["2.0", "1.5"])
    def test_where_data_are_migrated_has_a_double_also_of_a_release_that_is_live(self, bed: Bed, cmdb: str, migrates: str) -> None:
        bed.with_role("2.0", **({"migrate_on": "[?name=='web3']", "reverse": "none"} if migrates == "2.0" else {"steps": ["activate"]}))
        live = bed.with_role("1.5", migrate_on="[?name=='web3']", reverse="none")
        self.record(cmdb, "1.5", live, "web1", "web3")
        subject = self.subject(bed, cmdb, "2.0", 1)
        assert {host.name for host in subject.plan.hosts.values()} == {"web3"}
        # From where there is no way back none is rehearsed to having nothing.
        assert [double for double in subject.plan.hosts if "untouched" in double] == ([] if migrates == "2.0" else ["web3-untouched"])

    def test_in_the_lab_and_nowhere_else_a_point_of_no_return_needs_nobodys_approval(
        self, bed: Bed, cmdb: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The releases that are live have some, too, and what is beside the lab's hosts is in the library of the lab."""
        digests = {version: bed.with_role(version, migrate_on="[?name=='web1']", reverse="none") for version in ("1.5", "2.0")}
        self.record(cmdb, "1.5", digests["1.5"], "web1", "web2", "web3")
        subject = self.subject(bed, cmdb, "2.0", 3)
        near = {"ci": "db1", "release": "hello", "version": "1.0", "digest": bed.former}
        subject = replace(subject, like=replace(subject.like, neighbours=({"name": "db1"},), installed=(near,)))
        (bed.path / "lab.yml").write_text("{}")
        played: list[tuple[Scene, str]] = []
        monkeypatch.setattr(verify, "play", lambda scene, dsl, *_: played.append((scene, dsl)) or play.Played("it is a test", (), ""))
        for number in (1, 2):
            given = Given(vars_file=str(bed.path / "lab.yml"))
            place = verify.Place(bed.path / f"work{number}", str(bed.path / "dsl"), LabHosts("isolated"), given, "", 1)
            with pytest.raises(TidegateError, match="was not verified, and nothing is signed"):
                verify.verify(subject, place, {}, NOW, Redactor({}))

        (scene, dsl), (other, _dsl) = played
        assert create_library(dsl).releases().keys() == {("hello", "1.0"), ("hello", "1.5"), ("hello", "2.0")}
        for number in (RFC, "CHG0000002"):

            def cleared(policy: Path | None, library: str = dsl, number: str = number) -> Clearance:
                with Sources(library, str(scene.cmdb), str(policy) if policy else None, NOW) as sources:
                    return clear(sources, str(scene.path / f"{number}.yml")).clearance

            granted = cleared(scene.policy_of(number))
            assert granted.granted, granted.text()
            for policy, library in ((other.policy_of(number), dsl), (None, dsl), (scene.policy_of(number), str(bed.path / "dsl"))):
                why = [control.name for control in cleared(policy, library).controls if control.blocks]
                assert why == ["no_return"]
        for digest in digests.values():
            assert len(collect(bed.library.repository("hello"), digest)) == 0, "nothing is approved in the library of live"
        secret = [path for path in (bed.path / "work1").rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
        assert secret == []

    def test_what_is_not_archived_is_approved_in_the_library_that_was_made_for_it(
        self, bed: Bed, cmdb: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bed.with_role("2.0", migrate_on="[?name=='web1']", reverse="none")
        subject = self.subject(bed, cmdb, "2.0", 3)
        (bed.path / "lab.yml").write_text("{}")
        played: list[str] = []
        monkeypatch.setattr(verify, "play", lambda _scene, dsl, *_: played.append(dsl) or play.Played("it is a test", (), ""))
        given = Given(vars_file=str(bed.path / "lab.yml"), archived=False)
        place = verify.Place(bed.path / "work", str(bed.path / "dsl"), LabHosts("isolated"), given, "", 1)
        with pytest.raises(TidegateError, match="was not verified"):
            verify.verify(subject, place, {}, NOW, Redactor({}))
        assert played == [str(bed.path / "dsl")]
        assert len(collect(bed.library.repository("hello"), subject.release.digest)) == 1

    def test_a_directory_is_tried_with_what_is_beside_its_hosts(self, bed: Bed, cmdb: str, tmp_path: Path) -> None:
        database = bed.archive("3.1", "database")
        subject = self.subject(bed, cmdb, "1.1", 3)
        near = {"ci": "db1", "release": "database", "version": "3.1", "digest": database}
        subject = replace(subject, like=replace(subject.like, installed=(near,)))
        source = read_release(bed.path / "releases" / "hello-1.1")
        assert verify.lay_out(source, bed.library, subject, tmp_path / "tried")
        assert create_library(str(tmp_path / "tried")).releases().keys() == {("hello", "1.0"), ("hello", "1.1"), ("database", "3.1")}

    @pytest.mark.parametrize("asked", [Asked(), Asked(rfc="rfc.yml", name="hello")])
    def test_what_is_not_clear_is_refused(self, bed: Bed, cmdb: str, asked: Asked) -> None:
        with pytest.raises(TidegateError, match="is not clear"):
            self.prepare(bed, cmdb, asked)

    def test_a_directory_with_something_in_it_is_not_taken(self, tmp_path: Path) -> None:
        claim(tmp_path / "new" / "deeper")
        claim(tmp_path / "new" / "deeper")
        with pytest.raises(ConflictError, match="is not empty"):
            claim(tmp_path)
        (tmp_path / "file").touch()
        with pytest.raises(TidegateError, match="can't be used"):
            claim(tmp_path / "file")
