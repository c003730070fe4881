# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import forked
import pytest
import sqlalchemy as sa
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import engine, upgrade
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import build_report
from documents import open_rfc, write_document
from older_cmdb import enter_in_older
from past import history
from told import tell, told

PAYLOAD = "{{ lookup('ansible.builtin.pipe', 'touch hacked') }}"
SMUGGLED = {"__ansible_type": "_AnsibleTaggedStr", "value": PAYLOAD, "tags": [{"__ansible_type": "TrustedAsTemplate"}]}


class Bench:
    """A directory with a CMDB, and Ansible's programs to run on it."""

    def __init__(self, path: Path, url: str) -> None:
        self.path, self.url = path, url

    def cmdb(self) -> Cmdb:
        return Cmdb.open(self.url, create=True)

    def put(self, *cis: dict[str, Any]) -> None:
        with self.cmdb() as cmdb:
            cmdb.put_cis(cis, "test")

    def config(self, **options: Any) -> str:
        path = self.path / "cmdb.yml"
        path.write_text(yaml.safe_dump({"plugin": "tidegate.release.cmdb", **options}))
        return str(path)

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "TIDEGATE_CMDB": self.url, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"}
        if program == "ansible-playbook":
            return forked.run([program, *arguments], environment, self.path, apart=True)
        command = [str(Path(sys.executable).with_name(program)), *arguments]
        return subprocess.run(command, env=environment, cwd=self.path, capture_output=True, text=True, check=False)

    def inventory(self, *arguments: str, **options: Any) -> dict[str, Any]:
        done = self.run("ansible-inventory", "--list", "-i", self.config(**options), *arguments)
        assert done.returncode == 0, done.stderr
        listed: dict[str, Any] = json.loads(done.stdout)
        return listed

    def hosts(self, *arguments: str, **options: Any) -> list[str]:
        return sorted(self.inventory(*arguments, **options)["_meta"]["hostvars"])

    def module(self, module: str, /, check: bool = False, diff: bool = False, **options: Any) -> dict[str, Any]:
        play = {"hosts": "localhost", "gather_facts": False, "tasks": [{f"tidegate.release.{module}": options, "register": "said"}]}
        play["tasks"].append(tell("said"))
        play["tasks"][0]["ignore_errors"] = True
        (self.path / "play.yml").write_text(yaml.safe_dump([play]))
        flags = ["--check"] * check + ["--diff"] * diff
        done = self.run("ansible-playbook", "play.yml", *flags)
        assert done.returncode == 0, done.stdout + done.stderr
        said: dict[str, Any] = told(done.stdout)
        return said


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, str(tmp_path / "cmdb.sqlite"))


@pytest.fixture
def on_both(tmp_path: Path, cmdb_url: str) -> Bench:
    return Bench(tmp_path, cmdb_url)


def _install(bench: Bench, ci: str) -> None:
    with bench.cmdb() as cmdb, cmdb.begin() as connection:
        cmdb.record_installations(
            connection, [{"ci": ci, "release": "hello", "version": "1", "digest": "sha256:1"}], "test", datetime.now(UTC)
        )


def test_cis_are_hosts_with_their_attributes_and_groups(on_both: Bench) -> None:
    on_both.put(
        {"name": "web1", "class": "web", "site": "ams", "attributes": {"ansible_host": "192.0.2.1"}}, {"name": "db1", "site": "fra"}
    )
    _install(on_both, "web1")
    listed = on_both.inventory(
        "--export",
        keyed_groups=[{"key": "tidegate_ci.site", "prefix": "site"}],
        groups={"installed": "'hello' in tidegate_ci.installations"},
        compose={"label": "ansible_host | default('none') ~ '@' ~ tidegate_ci.site"},
    )
    assert listed["site_ams"]["hosts"] == listed["installed"]["hosts"] == ["web1"]
    assert listed["site_fra"]["hosts"] == ["db1"]
    variables = listed["_meta"]["hostvars"]
    assert _plain(variables["web1"]["ansible_host"]) == "192.0.2.1"
    assert _plain(variables["web1"]["label"]) == "192.0.2.1@ams"
    installed = variables["web1"]["tidegate_ci"]["installations"]["hello"]
    assert {key: _plain(value) for key, value in installed.items()} == {"version": "1", "digest": "sha256:1"}


def _plain(value: Any) -> Any:
    return value["__ansible_unsafe"] if isinstance(value, dict) else value


def test_a_query_picks_the_hosts(bench: Bench) -> None:
    bench.put({"name": "web1", "site": "ams"}, {"name": "web2", "site": "fra"})
    assert bench.hosts(query="[?site=='fra']") == ["web2"]
    assert bench.hosts(query="[?site=='nowhere']") == []


def test_a_relative_path_starts_at_the_inventory_file(bench: Bench) -> None:
    bench.put({"name": "web1"})
    (bench.path / "sub").mkdir()
    (bench.path / "sub" / "cmdb.yml").write_text("plugin: tidegate.release.cmdb\ncmdb: ../cmdb.sqlite\n")
    done = bench.run("ansible-inventory", "--list", "-i", "sub/cmdb.yml")
    assert "web1" in json.loads(done.stdout)["_meta"]["hostvars"]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("value", [PAYLOAD, [{"deep": PAYLOAD}], SMUGGLED, {"__ansible_unsafe": PAYLOAD}])
def test_no_attribute_is_ever_templated(bench: Bench, value: object, cached: bool) -> None:
    bench.put({"name": "web1", "site": PAYLOAD, "attributes": {"motd": value, "ansible_connection": "local"}})
    cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(bench.path / "cache")} if cached else {}
    config = bench.config(
        keyed_groups=[{"key": "tidegate_ci.site"}], compose={"composed": "motd"}, connection_variables=["ansible_connection"], **cache
    )
    for _run in range(2 if cached else 1):
        message = json.dumps({"msg": "{{ motd }} {{ composed }} {{ tidegate_ci }}"})
        done = bench.run("ansible", "web1", "-i", config, "-m", "ansible.builtin.debug", "-a", message)
        assert done.returncode == 0, done.stderr
        assert "touch hacked" in done.stdout
    assert not (bench.path / "hacked").exists()


def test_cis_of_other_classes_are_no_hosts_and_break_no_inventory(bench: Bench) -> None:
    address = {"ansible_host": "192.0.2.1"}
    bench.put(*({"name": name, "class": name, "attributes": address} for name in ("server", "web", "appliance")))
    bench.put({"name": "plain", "attributes": address}, {"name": "rack7", "class": "Rack"}, {"name": "ups", "class": "ups"})
    own = {"compose": {"tidegate_settings": "{'address': ansible_host}"}}
    assert bench.hosts(**own) == ["appliance", "plain", "server", "web"]
    (bench.path / "policy.yml").write_text("schema: 1\nhost_classes: [Server, web]\n")
    bench.put({"name": "switch1", "class": "switch"})
    assert bench.hosts(policy="policy.yml", **own) == ["server", "web"]
    assert bench.hosts(policy="policy.yml", query="[?class!='web']", **own) == ["server"]


def test_a_ci_that_lacks_what_an_expression_needs_is_named_with_its_class_and_a_remedy(bench: Bench) -> None:
    bench.put({"name": "web1", "attributes": {"ansible_host": "192.0.2.1"}})
    bench.put(*({"name": f"odd{n}", "class": "switch"} for n in range(7)))
    done = bench.run("ansible-inventory", "--list", "-i", bench.config(compose={"tidegate_settings": "{'address': ansible_host}"}))
    assert done.returncode == 4
    assert done.stdout == ""
    assert "so it is for odd0 (switch), odd1 (switch), odd2 (switch), odd3 (switch), odd4 (switch) and 2 more" in done.stderr
    assert "host_classes" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_names_that_ansible_has_for_itself_are_no_host_variables_and_nothing_warns(bench: Bench) -> None:
    names = [
        "omit",
        "lookup",
        "range",
        "name",
        "tags",
        "environment",
        "hostvars",
        "groups",
        "vars",
        "serial",
        "item",
        "verify_facts",
        "true",
        "inventory_hostname",
    ]
    attributes = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "rack": 7}
    bench.put({"name": "web1", "class": "server", "site": "AMS-1 {{ x }}", "attributes": attributes | dict.fromkeys(names, "taken")})
    tasks = [
        {"ansible.builtin.ping": None, "loop": [1]},
        {"ansible.builtin.debug": {"msg": "{{ inventory_hostname }} {{ range(2) | list }} {{ rack }} {{ tidegate_ci.attributes }}"}},
    ]
    (bench.path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tags": "x", "tasks": tasks}]))
    groups = [{"key": "tidegate_ci.site", "prefix": "site"}, {"key": "tidegate_ci.attributes.serial", "prefix": "serial"}]
    done = bench.run(
        "ansible-playbook",
        "play.yml",
        "-i",
        bench.config(keyed_groups=groups, connection_variables=["ansible_connection", "ansible_python_interpreter"]),
    )
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout + done.stderr
    assert "web1 [0, 1] 7" in done.stdout
    assert done.stdout.count("taken") == len(names)
    listed = bench.inventory(keyed_groups=groups)
    assert not set(names) - {"inventory_hostname"} & listed["_meta"]["hostvars"]["web1"].keys()
    assert listed["serial_taken"]["hosts"] == ["web1"]


def _gone(bench: Bench) -> None:
    (bench.path / "cmdb.sqlite").unlink()


def _rubbish(bench: Bench) -> None:
    (bench.path / "cmdb.sqlite").write_text("rubbish " * 500)


@pytest.mark.parametrize(
    ("options", "fault", "said"),
    [
        ({}, _gone, "there is no CMDB"),
        ({}, _rubbish, "is not a CMDB"),
        ({"query": "[?site=="}, None, "the query"),
        ({"querry": "[]"}, None, "querry is not an option"),
        ({"compose": {"x": "nonsense.y"}}, None, "Could not set x for host web"),
        ({"groups": {"x": "nonsense.y"}}, None, "Could not add host web"),
        ({"keyed_groups": [{"key": "attributes_typo"}]}, None, "Could not generate group for host web"),
        ({"groups": {"web2": "true"}}, None, "would be a host and a group"),
        ({"cmdb": "mysql://me:hunter2@db/x"}, None, "mysql can't be a CMDB"),
    ],
)
def test_a_run_without_its_whole_inventory_stops_with_one_message(
    bench: Bench, options: dict[str, Any], fault: Callable[[Bench], None] | None, said: str
) -> None:
    bench.put(
        {"name": "web1", "attributes": {"ansible_connection": "local"}}, {"name": "web2", "attributes": {"ansible_connection": "local"}}
    )
    if fault:
        fault(bench)
    (bench.path / "other.ini").write_text("other ansible_connection=local\n")
    (bench.path / "play.yml").write_text("- hosts: all\n  gather_facts: false\n  tasks: [{ansible.builtin.debug: {}}]\n")
    done = bench.run("ansible-playbook", "-i", "other.ini", "-i", bench.config(**options), "play.yml")
    assert done.returncode == 4
    assert done.stdout == ""
    assert said in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "hunter2" not in done.stderr


def test_a_cached_inventory_is_never_outdated(bench: Bench) -> None:
    cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(bench.path / "cache")}
    bench.put({"name": "web1"})
    assert bench.hosts(**cache) == ["web1"]
    assert bench.hosts(**cache) == ["web1"]
    bench.put({"name": "web2", "site": "ams"})
    assert bench.hosts(**cache) == ["web1", "web2"]
    assert bench.hosts(query="[?site=='ams']", **cache) == ["web2"]
    _install(bench, "web1")
    assert bench.inventory(**cache)["_meta"]["hostvars"]["web1"]["tidegate_ci"]["installations"]


def test_the_cache_is_used_until_it_is_flushed(bench: Bench) -> None:
    cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(bench.path / "cache")}
    bench.put({"name": "web1"})
    bench.hosts(**cache)
    (file,) = (bench.path / "cache").iterdir()
    file.write_text(file.read_text().replace("web1", "from-the-cache"))
    assert bench.hosts(**cache) == ["from-the-cache"]
    assert bench.hosts("--flush-cache", **cache) == ["web1"]


def test_cmdb_ci_creates_the_cmdb_and_is_idempotent(on_both: Bench) -> None:
    cis = [{"name": "web1", "site": "ams", "attributes": {"rack": 7}, "relations": [{"kind": "uses", "target": "db1"}]}, {"name": "db1"}]
    said = on_both.module("cmdb_ci", cis=cis)
    assert (said["changed"], said["created"]) == (True, ["web1", "db1"])
    assert on_both.module("cmdb_ci", cis=cis)["changed"] is False
    said = on_both.module("cmdb_ci", name="web1", site="", check=True, diff=True)
    assert (said["changed"], said["updated"]) == (True, ["web1"])
    assert (said["diff"][0]["before"]["site"], said["diff"][0]["after"]["site"]) == ("ams", None)
    with on_both.cmdb() as cmdb:
        assert [ci["site"] for ci in cmdb.cis()] == [None, "ams"]


def test_cmdb_ci_in_check_mode_does_not_make_a_cmdb(bench: Bench) -> None:
    assert bench.module("cmdb_ci", name="web1", check=True)["created"] == ["web1"]
    assert not Path(bench.url).exists()


def _stored(bench: Bench) -> Any:
    """All that the database is: the file and what is beside it, or the revision and tables of a server."""
    address = engine.DatabaseAddress.parse(bench.url)
    if address.path:
        return {path.name: path.read_bytes() for path in bench.path.glob("cmdb.sqlite*")}
    with engine.reading(address, engine.engine(address)) as connection:
        tables = sorted(sa.inspect(connection).get_table_names())
        return tables, connection.exec_driver_sql("SELECT version_num FROM alembic_version").all() if tables else None


READING: dict[str, dict[str, Any]] = {
    "audit": {"hosts": ["web1"]},
    "clear": {},
    "cmdb_ci": {"name": "web2"},
    "cmdb_ci_info": {},
    "cmdb_history_info": {"names": ["web1"]},
    "cmdb_impact": {"names": ["web1"]},
    "cmdb_model": {},
    "cmdb_reconcile": {"rfc": "rfc.yml", "reason": "so"},
    "cmdb_relation": {"relations": [{"source": "web1", "kind": "uses", "target": "web1"}], "state": "absent"},
    "licence": {"name": "acme", "product": "acme", "seats": 1},
    "licence_info": {},
    "report": {"dest": "report"},
    "schedule": {"rfcs": ["rfc.yml"], "dest": "schedule.ics"},
    "settlement": {"number": "CHG1", "duty": "review", "note": "done"},
    "plan": {},
    "write_off": {"host": "web1", "reason": "its disk died"},
    "dsl_verify": {},
}


def test_reading_an_older_cmdb_on_either_database_changes_nothing(on_both: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    _read_with_everything(on_both, monkeypatch, "older")


@pytest.mark.parametrize("state", ["current", "absent"])
def test_reading_changes_nothing_and_makes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    _read_with_everything(bench, monkeypatch, state)


def _read_with_everything(bench: Bench, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    """Run everything that reads, or would write if this were no check mode, and see that it changes nothing and says why it can't."""
    if state != "absent":
        with monkeypatch.context() as patched:
            patched.setattr(upgrade, "HEAD", "0004" if state == "older" else upgrade.HEAD)
            enter_in_older(bench.url) if state == "older" else bench.put({"name": "web1", "class": "server"})
    create_library(str(bench.path / "dsl"))
    write_document(bench.path / "rfc.yml", open_rfc("CHG0001", "1", "sha256:" + "0" * 64, scope="[]", approvals=[]))
    monkeypatch.setenv("TIDEGATE_DSL", str(bench.path / "dsl"))
    monkeypatch.setenv("TIDEGATE_RFC", str(bench.path / "rfc.yml"))
    tasks: list[dict[str, Any]] = [
        {f"tidegate.release.{name}": options, "register": name, "ignore_errors": True} for name, options in READING.items()
    ]
    tasks.append(tell("{" + ", ".join(f"'{name}': {name}.msg | default('')" for name in READING) + "}"))
    (bench.path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    before = _stored(bench)
    done = bench.run("ansible-playbook", "play.yml", "--check")
    assert _stored(bench) == before
    assert done.returncode == 0, done.stdout
    messages = told(done.stdout)
    listing = bench.run("ansible-inventory", "--list", "-i", bench.config())
    assert _stored(bench) == before
    assert listing.returncode == (0 if state == "current" else 4)
    if state == "current":
        return
    words = "tidegate.release.cmdb_upgrade" if state == "older" else "there is no CMDB"
    refused = {name for name, message in messages.items() if words in " ".join(message.split())}
    assert refused == READING.keys() - ({"cmdb_ci", "dsl_verify"} if state == "absent" else set()), messages
    assert words in listing.stderr


def test_the_upgrade_is_a_verb_of_its_own_with_a_check_mode(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(upgrade, "HEAD", "0001")
        enter_in_older(bench.url, "coffee", ansible_host="192.0.2.1", ansible_become=True)
    before = _stored(bench)
    done = bench.run("ansible-playbook", "tidegate.release.cmdb_upgrade", "--check")
    assert done.returncode == 0, done.stdout
    assert "the model of CIs does not have class 'coffee' of 1 CI; all of it stays as it is" in " ".join(done.stdout.split())
    assert "ansible_become of CIs says how Ansible connects" in " ".join(done.stdout.split())
    assert f"would be upgraded from revision 0001 to {upgrade.HEAD}; make a backup" in done.stdout
    assert _stored(bench) == before
    done = bench.run("ansible-playbook", "tidegate.release.cmdb_upgrade")
    assert done.returncode == 0, done.stdout
    assert f"was upgraded from revision 0001 to {upgrade.HEAD}" in done.stdout
    assert bench.hosts() == ["web1"]
    assert bench.module("cmdb_upgrade")["changed"] is False
    bench.module("cmdb_ci", name="web1", status="maintenance")
    assert "no place for status of 1 ci, revision of 1 ci; make a backup" in bench.module("cmdb_upgrade", revision="0018")["msg"]
    back = ("ansible-playbook", "tidegate.release.cmdb_upgrade", "-e", '{"tidegate_cmdb_revision": "0018", "tidegate_cmdb_lose": true}')
    for how, said in (("--check", "would be taken back"), ("-v", "was taken back"), ("-v", "is of revision 0018; nothing to do")):
        done = bench.run(*back, how)
        assert done.returncode == 0, done.stdout
        assert said in " ".join(done.stdout.split())
    assert "is of revision 0018" in bench.module("cmdb_ci_info")["msg"]


def test_cmdb_ci_with_bad_input_does_not_make_a_cmdb(bench: Bench) -> None:
    said = bench.module("cmdb_ci", cis=[{"name": "all"}, {"name": "a b"}])
    assert said["failed"]
    assert said["msg"].count("can't be the name of a CI") == 2
    assert not Path(bench.url).exists()


@pytest.mark.parametrize(("options", "said"), [({}, "set name, or cis"), ({"cis": [{"name": "web1"}], "site": "ams"}, "inside cis")])
def test_cmdb_ci_says_which_options_to_give(bench: Bench, options: dict[str, Any], said: str) -> None:
    assert said in bench.module("cmdb_ci", **options)["msg"]


def test_cmdb_ci_removes_what_is_free_and_refuses_the_rest(bench: Bench) -> None:
    bench.put({"name": "web1"}, {"name": "web2"})
    _install(bench, "web2")
    said = bench.module("cmdb_ci", cis=[{"name": "web1"}, {"name": "web2"}], state="absent")
    assert said["failed"]
    assert "web2 has hello 1 installed" in said["msg"]
    assert bench.module("cmdb_ci", name="web1", state="absent", check=True)["removed"] == ["web1"]
    assert bench.module("cmdb_ci", name="web1", state="absent")["removed"] == ["web1"]
    assert bench.module("cmdb_ci", name="web1", state="absent")["changed"] is False


def test_cmdb_history_info_tells_what_happened_to_a_ci_and_under_an_rfc(bench: Bench) -> None:
    bench.put({"name": "web1", "class": "server"}, {"name": "web2", "class": "server"})
    with Cmdb.open(bench.url) as cmdb, cmdb.begin() as connection:
        history(connection, 1, names=["web1", "web2"])
        history(connection, 2, names=["web2"])
    past = bench.module("cmdb_history_info", names=["web1"])
    assert [(line["event"], line["actor"]) for line in past["history"]] == [("installed", "CHG0000001"), ("created", "test")]
    assert [(line["event"], line["deployment"], line["version"], line["file"]) for line in past["journal"]] == [
        (event, "CHG0000001#1", "1.0", None) for event in ("staged", "activating", "active")
    ]
    assert len(bench.module("cmdb_history_info", number="CHG0000001", since="2024-03-01T12:00:00+01:00")["journal"]) == 10
    assert "neither names nor number is given" in bench.module("cmdb_history_info")["msg"]
    assert "since is 'May', not RFC 3339" in bench.module("cmdb_history_info", names=["web1"], since="May")["msg"]


def test_records_go_out_of_one_cmdb_and_into_another_and_stay_inert(bench: Bench) -> None:
    bench.put({"name": "web1", "site": PAYLOAD, "attributes": {"motd": [PAYLOAD], "ansible_connection": "local"}})
    file, new = str(bench.path / "cmdb.json"), str(bench.path / "new.sqlite")
    assert bench.module("cmdb_export", dest=file, check=True)["changed"]
    assert not Path(file).exists()
    assert bench.module("cmdb_export", dest=file)["counts"]["cis"] == 1
    assert not bench.module("cmdb_export", dest=file)["changed"]
    assert bench.module("cmdb_import", src=file, cmdb=new, check=True)["created"] == ["web1"]
    assert not Path(new).exists()
    wrong = json.loads(Path(file).read_text())
    wrong["write_offs"] = [{"ci": "nobody", "by": "me", "reason": "burnt", "since": "2026-05-03T12:00:00+00:00"}]
    (bench.path / "wrong.json").write_text(json.dumps(wrong))
    for check in (True, False):
        assert "has no CI nobody" in bench.module("cmdb_import", src=str(bench.path / "wrong.json"), cmdb=new, check=check)["msg"]
        assert Path(new).exists() == (not check)
    assert bench.module("cmdb_import", src=file, cmdb=new)["changed"]
    assert not bench.module("cmdb_import", src=file, cmdb=new)["changed"]
    bench.url = new
    config = bench.config(compose={"composed": "motd"}, keyed_groups=[{"key": "motd"}])
    done = bench.run("ansible", "web1", "-i", config, "-m", "ansible.builtin.debug", "-a", json.dumps({"msg": "{{ motd }} {{ composed }}"}))
    assert "touch hacked" in done.stdout
    assert not (bench.path / "hacked").exists()


def test_cmdb_ci_info_gives_installations_and_relations(on_both: Bench) -> None:
    on_both.put({"name": "web1", "site": "ams", "relations": [{"kind": "uses", "target": "db1"}]}, {"name": "db1", "site": "ams"})
    _install(on_both, "web1")
    uses = [{"source": "web1", "target": "db1", "kind": "uses"}]
    (web1,) = on_both.module("cmdb_ci_info", names=["web1", "nobody"])["cis"]
    assert web1["installations"] == {"hello": {"version": "1", "digest": "sha256:1"}}
    assert web1["relations"] == uses
    said = on_both.module("cmdb_ci_info", query="[?site=='ams'].name", names=["db1"])
    assert [(ci["name"], ci["relations"]) for ci in said["cis"]] == [("db1", uses)]


def test_cis_are_written_under_an_rfc_by_who_launched_the_job(bench: Bench) -> None:
    bench.put({"name": "web1", "attributes": {"rack": 7, "old": 1}}, {"name": "rack7", "class": "rack"})
    (bench.path / "model.yml").write_text("schema: 1\nclasses: {kiln: {host: true}}\n")
    write = {"name": "web1", "attributes": {"bios": "2", "old": None}, "revision": 1, "number": "CHG7", "reason": "read it"}
    relation = {"relations": [{"source": "web1", "kind": "stands_in", "target": "rack7"}]}
    steps = {
        "relate": {"tidegate.release.cmdb_relation": relation},
        "again": {"tidegate.release.cmdb_relation": relation},
        "hit": {"tidegate.release.cmdb_impact": {"names": ["rack7"]}},
        "would": {"tidegate.release.cmdb_model": {"src": "model.yml"}, "check_mode": True},
        "model": {"tidegate.release.cmdb_model": {"src": "model.yml"}},
        "kiln": {"tidegate.release.cmdb_ci": {"name": "k1", "class": "kiln", "status": "planned", "time_zone": "Europe/Berlin"}},
        "past": {"tidegate.release.cmdb_history_info": {"number": "CHG7"}},
        "stale": {"tidegate.release.cmdb_ci": write},
        "ghost": {"tidegate.release.cmdb_impact": {"names": ["ghost"]}},
        "cis": {"tidegate.release.cmdb_ci_info": {}},
    }
    tasks = [
        {**task, "register": name, "ignore_errors": True} for name, task in ({"write": {"tidegate.release.cmdb_ci": write}} | steps).items()
    ]
    keys = ("write", *steps)
    tasks.append(tell("{" + ", ".join(f"'{key}': {key}" for key in keys) + "}"))
    play = {"hosts": "localhost", "gather_facts": False, "vars": {"awx_user_name": "alice {{ x }}"}, "tasks": tasks}
    (bench.path / "play.yml").write_text(yaml.safe_dump([play]))
    done = bench.run("ansible-playbook", "play.yml")
    assert done.returncode == 0, done.stdout
    said = told(done.stdout)
    assert (said["write"]["updated"], said["write"]["revisions"]) == (["web1"], {"web1": 2})
    assert (said["relate"]["changed"], said["again"]["changed"]) == (True, False)
    assert said["hit"]["hits"] == [{"name": "web1", "hops": 1, "chain": ["web1 stands_in rack7"]}]
    assert (said["would"]["changed"], said["model"]["changed"], said["kiln"]["created"]) == (True, True, ["k1"])
    (line,) = said["past"]["history"]
    assert line["actor"].startswith("alice {{ x }} (")
    assert (line["ci"], line["number"], line["reason"], line["revision"]) == ("web1", "CHG7", "read it", 2)
    assert "web1 is of revision 3 and not 1: alice" in said["stale"]["msg"]
    assert "has no CI ghost" in said["ghost"]["msg"]
    k1, _rack7, web1 = said["cis"]["cis"]
    assert (web1["attributes"], web1["revision"], web1["install_status"]) == ({"rack": 7, "bios": "2"}, 3, 1)
    assert (k1["status"], k1["operational_status"], k1["time_zone"]) == ("planned", 2, "Europe/Berlin")
    assert bench.hosts() == ["web1"]


def test_how_ansible_connects_is_taken_only_from_what_the_file_lists(bench: Bench) -> None:
    attributes = {
        "ansible_host": "192.0.2.1",
        "ansible_port": 22,
        "ansible_user": "me",
        "ansible_connection": "local",
        "ansible_become": True,
    }
    bench.put({"name": "web1", "attributes": attributes})
    (variables,) = bench.inventory()["_meta"]["hostvars"].values()
    assert {"ansible_host", "ansible_port", "ansible_user"} == {name for name in variables if name.startswith("ansible_")}
    assert variables["tidegate_ci"]["attributes"].keys() == {"ansible_connection", "ansible_become"}
    (variables,) = bench.inventory(connection_variables=["ansible_become"])["_meta"]["hostvars"].values()
    assert variables["ansible_become"] is True
    assert "ansible_connection" not in variables


def test_the_past_can_be_asked_for_and_verified_in_plays(on_both: Bench, tmp_path: Path) -> None:
    on_both.put({"name": "web1", "site": "ams"}, {"name": "web2", "relations": [{"kind": "uses", "target": "web1"}]})
    _install(on_both, "web1")
    then = datetime.now(UTC).isoformat()
    on_both.put({"name": "web1", "site": "fra"}, {"name": "web3"})
    (web1,) = on_both.module("cmdb_ci_info", names=["web1"], at=then)["cis"]
    assert (web1["site"], web1["installations"]["hello"]["version"], [one["source"] for one in web1["relations"]]) == ("ams", "1", ["web2"])
    assert on_both.module("cmdb_history_info", names=["web1"], at=then)["cis"] == [web1]
    assert on_both.hosts(at=then) == ["web1", "web2"]
    assert on_both.hosts() == ["web1", "web2", "web3"]
    assert "not over yet" in on_both.module("cmdb_ci_info", at="2999-01-01T00:00Z")["msg"]
    assert "at is 'May', not RFC 3339" in on_both.module("cmdb_ci_info", at="May")["msg"]
    report = tmp_path / "report.json"
    with on_both.cmdb() as cmdb:
        report.write_text(json.dumps(build_report(cmdb, datetime.now(UTC)).overview))
    verb = ("ansible-playbook", "tidegate.release.cmdb_verify", "-e", json.dumps({"tidegate_cmdb_documents": [str(report)]}))
    for check in ((), ("--check",)):
        done = on_both.run(*verb, *check)
        assert done.returncode == 0, done.stdout
        assert "3 CIs as the history says, and the ends that 1 document saw" in done.stdout
    with on_both.cmdb() as cmdb, cmdb.begin() as connection:
        connection.exec_driver_sql("UPDATE ci SET site = 'lhr' WHERE name = 'web1'")
        connection.exec_driver_sql("UPDATE chain SET seq = 2")
    done = on_both.run(*verb)
    assert done.returncode == 2
    assert "site of web1 is 'lhr' in the CMDB, and the history says 'fra'" in done.stdout
