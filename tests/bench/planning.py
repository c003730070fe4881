# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Big numbers: an inventory of 30,000 hosts, a clearance over 10,000 and one of firmware over 5,000, a plan over 100,000, a journal of
10,000 steps, a stock of 20,000 units."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from measure import Costs, Finding, best

EXAMPLES = Path(__file__).parents[2] / "examples"
_UNITS = 20_000
_MACHINES = 5_000
FROM_MEMORY, FROM_MEMORY_FOR_AWX, OURS_FOR_AWX = "hosts from memory", "hosts from memory, for AWX", "ours, for AWX"
THREE_TIMES = "100,000 hosts"

_FROM_MEMORY = r"""
from ansible.plugins.inventory import BaseInventoryPlugin
DOCUMENTATION = "name: memory\nshort_description: Hosts from memory\noptions: {plugin: {type: str, description: This.}}"
class InventoryModule(BaseInventoryPlugin):
    NAME = "memory"
    def verify_file(self, path):
        return path.endswith("memory.yml")
    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        for n in range(30000):
            name, site, variables = f"h{n:05}", f"s{n % 20}", attributes(n)
            inventory.add_host(name)
            words = {"name": name, "class": "server", "site": site, "environment": None, "installations": {}, "written_off": None}
            unsaid = dict.fromkeys(("owned_by", "support_group", "location", "time_zone")) | {"status": "installed", "revision": 1}
            variables["tidegate_ci"] = words | unsaid | {"attributes": {}}
            variables["address"], variables["label"] = variables["ansible_host"], f"{name}.{site}"
            for key, value in variables.items():
                inventory.set_variable(name, key, value)
            groups = [f"site_{site}", *(f"{key}_{variables[key]}" for key in ("os", "tier", "duty"))]
            for group in groups + ["large"] * (variables["cores"] >= 8):
                inventory.add_group(group)
                inventory.add_child(group, name)
"""
_ATTRIBUTES = """
def attributes(n):
    seen = {"ansible_host": f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", "rack": n % 100, "cores": 4 + n % 8, "memory": 1 + n % 16}
    words = {"os": f"os{n % 6}", "tier": f"t{n % 3}", "duty": f"duty{n % 40}", "owner": f"team{n % 25}"}
    return seen | words | {"asset": f"SN{n:07}", "backup": bool(n % 2)}
"""
_CONFIGURED = {
    "plugin": "tidegate.release.cmdb",
    "keyed_groups": [
        {"key": "tidegate_ci.site", "prefix": "site"},
        *({"key": key, "prefix": key} for key in ("os", "tier", "duty")),
    ],
    "groups": {"large": "cores >= 8"},
    "compose": {"address": "ansible_host", "label": "inventory_hostname ~ '.' ~ tidegate_ci.site"},
}


def inventory_30k() -> Finding:
    """ansible-inventory over a CMDB of 30,000 CIs with ten attributes, as people configure it, with four keyed groups, one group and two
    variables that are composed, against a plugin that adds the same hosts, groups and variables from memory; as AWX reads it; and the same
    of 100,000 CIs."""
    from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb

    folder, costs, names = Path(tempfile.mkdtemp(prefix="tidegate-bench-")), Costs(), {}
    exec(_ATTRIBUTES, names)  # noqa: S102 - the plugin has the same text
    try:
        for file, count in (("cmdb.sqlite", 30_000), ("many.sqlite", 100_000)):
            with Cmdb.open(str(folder / file), create=True) as cmdb:
                cis = [
                    {"name": f"h{n:05}", "class": "server", "site": f"s{n % 20}", "attributes": names["attributes"](n)}
                    for n in range(count)
                ]
                cmdb.put_cis(cis, actor="bench")
                del cis
        (folder / "memory.py").write_text(_FROM_MEMORY + _ATTRIBUTES)
        (folder / "memory.yml").write_text("plugin: memory\n")
        (folder / "cmdb.yml").write_text(yaml.safe_dump(_CONFIGURED))
        environment = {
            **os.environ,
            "ANSIBLE_INVENTORY_PLUGINS": str(folder),
            "ANSIBLE_INVENTORY_ENABLED": "memory,tidegate.release.cmdb",
        }

        def listing(name: str, *how: str, file: str = "cmdb.sqlite") -> None:
            command = ["ansible-inventory", "-i", str(folder / name), *how]
            settings = {**environment, "TIDEGATE_CMDB": str(folder / file)}
            with (folder / f"{name}.listed").open("w") as listed:
                subprocess.run(command, env=settings, check=True, stdout=listed)

        costs.take(FROM_MEMORY, lambda: listing("memory.yml", "--graph"))
        costs.take("ours", lambda: listing("cmdb.yml", "--graph"))
        costs.take(FROM_MEMORY_FOR_AWX, lambda: listing("memory.yml", "--list", "--export"))
        costs.take(OURS_FOR_AWX, lambda: listing("cmdb.yml", "--list", "--export"))
        one, other = (_as_listed(folder / f"{name}.listed") for name in ("memory.yml", "cmdb.yml"))
        if one != other:
            raise RuntimeError("the hosts from memory are not the same")
        costs.take(THREE_TIMES, lambda: listing("cmdb.yml", "--graph", file="many.sqlite"))
        return costs.finding(FROM_MEMORY)
    finally:
        shutil.rmtree(folder)


def _as_listed(path: Path) -> dict[str, Any]:
    """What ansible-inventory listed, in no order."""
    listed: dict[str, Any] = json.loads(path.read_text())
    variables = listed.pop("_meta")["hostvars"]
    return {name: {key: sorted(members) for key, members in group.items()} for name, group in listed.items()} | {"variables": variables}


def plan_100k() -> Finding:
    """Plan 100,000 hosts with 300,000 pairs of which one has to come first, 12,500 redundant sets and three rings, against putting the
    same hosts in an order that keeps the pairs."""
    from graphlib import TopologicalSorter

    from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Constraints, Rings, Rollout
    from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.planner import Limit, Limits, PlanHost, plan_waves

    chance, names = random.Random(1), [f"h{number:06}" for number in range(100_000)]  # noqa: S311 - no secret
    hosts = [PlanHost(name, None, number // 40_000) for number, name in enumerate(names)]
    pairs = [(names[chance.randrange(20_000)], names[chance.randrange(20_000, 100_000)]) for _pair in range(300_000)]
    limits = Limits(tuple(Limit(f"set{place} keeps 6 of 8 up", tuple(names[place : place + 8]), 2) for place in range(0, 100_000, 8)))
    rollout = Rollout(steps=(10, 50, 100), constraints=Constraints(rings=Rings("ring", ("early", "broad", "rest"))))

    def ordered() -> None:
        sorter = TopologicalSorter(dict.fromkeys(sorted(names), ()))
        for first, later in pairs:
            sorter.add(later, first)
        list(sorter.static_order())

    costs = Costs()
    costs.take("an order", ordered)
    costs.take("ours", lambda: plan_waves(hosts, rollout, pairs, limits))
    return costs.finding("an order", waves=len(plan_waves(hosts, rollout, pairs, limits).waves))


def clearance_10k() -> Finding:
    """Clear an RFC over 10,000 CIs under a policy with 200 controls of its own, against reading the CIs once."""
    from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
    from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import clear
    from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources

    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    try:
        digest = archive(EXAMPLES / "hello", OciLayout.create(folder / "dsl")).digest
        cis = [{"name": f"h{n:05}", "class": "server", "site": f"s{n % 20}", "attributes": {"tier": n % 3}} for n in range(10_000)]
        now = datetime.now(UTC)
        rfc = yaml.safe_load((EXAMPLES / "rfc.yml").read_text())
        rfc["release"]["digest"], rfc["scope"] = digest, "[?class=='server']"
        rfc["start_date"], rfc["end_date"] = ((now + timedelta(hours=hours)).isoformat() for hours in (-1, 9))
        rfc["approvals"][0]["decided_at"] = now.isoformat()
        (folder / "rfc.yml").write_text(yaml.safe_dump(rfc))
        conditions = (
            "cmdb.cis | selectattr('site', 'equalto', 's{}') | list | length == 500",
            "cmdb.cis | map(attribute='attributes.tier') | max < {} + 3",
            "rfc.risk > 2 or release.version is version('{}.0', '>')",
            "cmdb.cis | rejectattr('class', 'equalto', 'server') | list == []",
        )
        own = [{"name": f"own_{n}", "that": conditions[n % len(conditions)].format(n % 20), "reason": "it is not so"} for n in range(200)]
        (folder / "policy.yml").write_text(yaml.safe_dump({"schema": 1, "controls": own}))
        with Cmdb.open(str(folder / "cmdb.sqlite"), create=True) as cmdb:
            cmdb.put_cis(cis, actor="bench")
            floor = best(lambda: list(cmdb.cis()))

        def cleared() -> None:
            dsl, cmdb_url, policy = (str(folder / name) for name in ("dsl", "cmdb.sqlite", "policy.yml"))
            with Sources(dsl, cmdb_url, policy, now) as sources:
                clearance = clear(sources, str(folder / "rfc.yml")).clearance
            if not clearance.granted:
                raise RuntimeError(clearance.text())

        return Finding(best(cleared), ("reading the CIs", floor))
    finally:
        shutil.rmtree(folder)


def clearance_firmware() -> Finding:
    """Clear an RFC of firmware over 5,000 machines with their units, against one of software over the same."""
    from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
    from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import move_units
    from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import MoveOrder
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
    from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import clear
    from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources

    folder, now, costs = Path(tempfile.mkdtemp(prefix="tidegate-bench-")), datetime.now(UTC), Costs()
    try:
        library = OciLayout.create(folder / "dsl")
        attributes = {"model": "R750", "firmware": {"BIOS": "2.4.0"}, "redfish": "https://bmc.example"}
        cis = [{"name": f"h{n:04}", "class": "server", "site": f"s{n % 20}", "attributes": attributes} for n in range(_MACHINES)]
        with Cmdb.open(str(folder / "cmdb.sqlite"), create=True) as cmdb, cmdb.begin() as connection:
            cmdb.put_cis(cis, actor="bench", connection=connection)
            new = [MoveOrder("receive", f"A{n}", "Contoso", f"S{n}", "R750", stockroom="ams") for n in range(_MACHINES + 100)]
            ours = [MoveOrder("install", f"A{n}", ci=f"h{n:04}") for n in range(_MACHINES)]
            move_units(connection, [*new, *ours], "bench", now, True)
        image = {"component": "BIOS", "models": ["R750"], "image": "b.bin", "version": "2.5.0", "from": ["2.4.0"], "back_to": []}
        (folder / "bios" / "images").mkdir(parents=True)
        (folder / "bios" / "images" / "b.bin").write_bytes(b"image")
        (folder / "bios" / "README.md").write_text("# bios\n")
        manifest = yaml.safe_load((EXAMPLES / "hello" / "release.yml").read_text())
        about = {"name": "bios", "kind": "firmware", "payload": "images", "documentation": ["README.md"], "firmware": [image]}
        for what in ("hooks", "health", "settings", "logs", "verification"):
            manifest.pop(what, None)
        image["takes_effect"] = "host_reset"
        (folder / "bios" / "release.yml").write_text(yaml.safe_dump({**manifest, **about}))
        rfc = yaml.safe_load((EXAMPLES / "rfc.yml").read_text())
        rfc["scope"] = "[?class=='server']"
        rfc["start_date"], rfc["end_date"] = ((now + timedelta(hours=hours)).isoformat() for hours in (-1, 9))
        rfc["approvals"][0]["decided_at"] = now.isoformat()
        (folder / "policy.yml").write_text(yaml.safe_dump({"schema": 1}))
        for name, path in (("software", EXAMPLES / "hello"), ("ours", folder / "bios")):
            said = yaml.safe_load((path / "release.yml").read_text())
            digest = archive(path, library.repository(said["name"])).digest
            release = {"name": said["name"], "version": str(said["version"]), "digest": digest}
            (folder / f"{name}.yml").write_text(yaml.safe_dump({**rfc, "release": release}))

        def cleared(name: str) -> None:
            dsl, cmdb_url, policy = (str(folder / part) for part in ("dsl", "cmdb.sqlite", "policy.yml"))
            with Sources(dsl, cmdb_url, policy, now) as sources:
                clearance = clear(sources, str(folder / f"{name}.yml")).clearance
            spares = next(one for one in clearance.controls if one.name == "spares")
            if (str(spares.result), name) not in (("pass", "ours"), ("not_applicable", "software")):
                raise RuntimeError(clearance.text())

        for name in ("software", "ours"):
            costs.take(name, lambda name=name: [cleared(name) for _time in range(3)])
        return costs.finding("software")
    finally:
        shutil.rmtree(folder)


def journal_10k() -> Finding:
    """Journal 10,000 hosts as staged, each as a task of its own does, against as many bare commits."""
    from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
    from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
    from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
    from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
    from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout

    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    cmdb_url, hosts, costs = str(folder / "cmdb.sqlite"), [f"h{number:05}" for number in range(10_000)], Costs()
    try:
        with Cmdb.open(cmdb_url, create=True) as cmdb:
            cmdb.put_cis([{"name": host, "class": "server"} for host in hosts], actor="bench")
            package = {"name": "hello", "version": "1.0", "digest": "sha256:" + "a" * 64}
            Journal(cmdb).begin("CHG1", package, (hosts,), Rollout(), Holder.this_run(), utc_now())

        def journalled() -> None:
            for host in hosts:
                with Cmdb.open(cmdb_url) as cmdb:
                    journal = Journal(cmdb)
                    journal.staged(journal.driven_by("CHG1", Holder.this_run()).run, host, None, utc_now())

        def committed() -> None:
            connection = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
            connection.execute("pragma journal_mode=wal")
            connection.execute("create table step (host text, state text)")
            for host in hosts:
                connection.execute("insert into step values (?, 'staged')", (host,))
            connection.close()

        costs.take("bare commits", committed)
        costs.take("ours", journalled)
        return costs.finding("bare commits")
    finally:
        shutil.rmtree(folder)


def stock() -> Finding:
    """Count the stock of 500 rules among 20,000 units whose firmware was read, against reading the units once."""
    from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
    from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
    from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
    from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import list_units, move_units, save_rules
    from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.stock import StockRule
    from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import MoveOrder
    from ansible_collections.tidegate.release.plugins.plugin_utils.steps.stock import count_spares

    folder, now, policy = Path(tempfile.mkdtemp(prefix="tidegate-bench-")), datetime.now(UTC), load_policy(None)
    try:
        with Cmdb.open(str(folder / "cmdb.sqlite"), create=True) as cmdb:
            orders = [MoveOrder("receive", f"A{n}", "Contoso", f"S{n}", f"M{n % 50}", stockroom=f"room{n % 10}") for n in range(_UNITS)]
            rules = [StockRule(f"M{model}", f"room{room}", 10, 50, 5) for model in range(50) for room in range(10)]
            with cmdb.begin() as connection:
                move_units(connection, orders, "bench", now, True)
                save_rules(connection, rules, "bench", now, True)
                read, level, t = schema().asset_firmware, schema().firmware_level, schema().deployment
                run = {
                    "rfc": "C",
                    "release": "r",
                    "version": "1",
                    "digest": "d",
                    "state": "completed",
                    "options": {},
                    "holder": "",
                    "token": 1,
                }
                connection.execute(t.insert(), run | {"reason": "", "created": now})
                reading = {"component": "BIOS", "version": "2", "at": now}
                connection.execute(read.insert(), [{"asset_id": n + 1, **reading} for n in range(_UNITS)])
                wanted = {"component": "BIOS", "version": "2", "release": "r", "deployment_id": 1, "at": now}
                connection.execute(level.insert(), [{"model": f"M{model}", **wanted} for model in range(25)])

            def listed() -> None:
                with cmdb.read() as connection:
                    list_units(connection)

            return Finding(best(lambda: count_spares(cmdb, policy, now)), ("reading the units", best(listed)))
    finally:
        shutil.rmtree(folder)
