# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines with a BMC each, a library, a CMDB and its hardware storage."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import forked
import sqlalchemy as sa
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import move_units
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import MoveOrder
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from bmc import PASSWORD, USER, Bmc, Component, image, serve
from documents import open_rfc, policy_of, simple_manifest, write_document
from registry import make_certificate

HOSTS = ("srv1", "srv2", "srv3")
MINUTES = {"transfer": 2, "silence": 0.05, "restart": 0.05}


class Rack:
    """Machines with a BMC each, a library and a CMDB."""

    def __init__(self, path: Path, machines: dict[str, Bmc], authority: Path, minutes: Mapping[str, float] = MINUTES) -> None:
        self.path, self.machines, self._minutes = path, machines, dict(minutes)
        self.authority = str(authority)  # the file of whoever has signed the certificates of the machines
        self.said = ""
        self.settings: dict[str, str] = {}  # variables of the environment that Ansible gets
        (path / "cmdb.yml").write_text(
            yaml.safe_dump(
                {"plugin": "tidegate.release.cmdb", "connection_variables": ["ansible_connection", "ansible_python_interpreter"]}
            )
        )
        self.waves(1)
        with Cmdb.open(str(path / "cmdb.sqlite"), create=True) as cmdb:
            cmdb.put_cis([self._ci(name) for name in machines], "test")
        ours = [MoveOrder("receive", one.tag, "Contoso", one.serial, one.model, stockroom="ams-1") for one in machines.values()]
        self.move(*ours, *(MoveOrder("install", one.tag, ci=name) for name, one in machines.items()))
        (path / "vault.yml").write_text(yaml.safe_dump({"tidegate_redfish_user": USER, "tidegate_redfish_password": PASSWORD}))
        self.archive("2.4.0", ["2.3.0"])

    def move(self, *orders: MoveOrder) -> None:
        """Do something with units of the hardware storage."""
        with Cmdb.open(str(self.path / "cmdb.sqlite")) as cmdb, cmdb.begin() as connection:
            move_units(connection, orders, "test", datetime.now(UTC), True)

    def spoil_stock(self) -> None:
        """Nothing in stock is a spare any more."""
        stocked = [tag for (tag,) in self.rows("select tag from asset where state = 'in_stock'")]
        self.move(*(MoveOrder("inspect", tag, substate="defective") for tag in stocked))

    def read_on_bench(self, *tags: str, version: str) -> None:
        """Units in stock were read to be at the level at which the others are."""
        t, now = schema(), datetime.now(UTC)
        with Cmdb.open(str(self.path / "cmdb.sqlite")) as cmdb, cmdb.begin() as connection:
            for number in connection.scalars(sa.select(t.asset.c.id).where(t.asset.c.tag.in_(tags))).all():
                connection.execute(sa.insert(t.asset_firmware), {"asset_id": number, "component": "BIOS", "version": version, "at": now})

    def _ci(self, name: str, url: str = "", **more: Any) -> dict[str, Any]:
        machine = self.machines[name]
        attributes = {"redfish": url or machine.url, "serial": machine.serial, "model": machine.model, "asset_tag": machine.tag, **more}
        return {"name": name, "class": "server", "attributes": {**attributes, "ansible_host": "192.0.2.1"}}

    def point(self, name: str, url: str = "", **more: Any) -> None:
        """Have the CMDB give the address for a machine, its own unless one is given, and ``more`` attributes."""
        with Cmdb.open(str(self.path / "cmdb.sqlite")) as cmdb:
            cmdb.put_cis([self._ci(name, url, **more)], "test")

    def waves(self, canary: int) -> None:
        """The first wave is of so many."""
        rollout = {"stable": 0, "canary": canary, "steps": [100], "budget": {"wave": 0, "total": 0}}
        write_document(self.path / "policy.yml", policy_of(rollout=rollout))

    def fresh(self) -> None:
        """As new, with BIOS 2.4.0."""
        for machine in self.machines.values():
            machine.components = {"BIOS": Component("2.4.0")}
            machine.faults, machine.seconds = set(), 0.1
            for past in (machine.tasks, machine.resets, machine.flashed, machine.requests, machine.down):
                past.clear()
            machine.reset("host")
            machine.resets.clear()

    def archive(self, version: str, before: list[str], back_to: list[str] | None = None) -> str:
        folder = self.path / "releases" / version
        (folder / "images").mkdir(parents=True)
        (folder / "images" / "bios.bin").write_bytes(image("BIOS", version))
        (folder / "README.md").write_text("# bios\n")
        entry = {"component": "BIOS", "models": ["R750"], "image": "bios.bin", "version": version, "from": before}
        entry |= {"back_to": before if back_to is None else back_to, "takes_effect": "host_reset", "minutes": self._minutes}
        said = {"name": "bios", "version": version, "summary": "BIOS", "payload": "images", "health": ..., "kind": "firmware"}
        write_document(folder / "release.yml", simple_manifest(**said, firmware=[entry]))
        return read_release(folder).archive(create_library(str(self.path / "dsl")).repository("bios")).digest

    def archive_parts(self, version: str, slot: str, models: list[str], model: str) -> str:
        """Archive a release of hardware that exchanges a part."""
        folder = self.path / "parts" / version
        folder.mkdir(parents=True)
        (folder / "README.md").write_text("# How it is done\n")
        part = {"slot": slot, "models": models, "model": model, "instructions": "README.md"}
        said = {"name": "parts", "version": version, "summary": "parts", "payload": ..., "health": ..., "kind": "hardware"}
        write_document(folder / "release.yml", simple_manifest(**said, hardware=[part]))
        return read_release(folder).archive(create_library(str(self.path / "dsl")).repository("parts")).digest

    def rfc(self, number: str, version: str, digest: str, name: str = "bios") -> str:
        release = {"name": name, "version": version, "digest": digest}
        return str(write_document(self.path / f"{number}.yml", open_rfc(number, version, digest, release=release)))

    @property
    def _environment(self) -> dict[str, str]:
        own = {"DSL": "dsl", "CMDB": "cmdb.sqlite", "POLICY": "policy.yml"}
        return {
            **os.environ,
            **{f"TIDEGATE_{name}": str(self.path / file) for name, file in own.items()},
            "REQUESTS_CA_BUNDLE": self.authority,
            "ANSIBLE_LOG_PATH": str(self.path / "ansible.log"),
            "ANSIBLE_NOCOLOR": "1",
            **self.settings,
        }

    def _command(self, verb: str, rfc: str, *options: str) -> list[str]:
        what = {"tidegate_rfc": rfc, **({"tidegate_reason": "a test"} if verb == "backout" else {})}
        command = ["ansible-playbook", f"tidegate.release.{verb}", "-i", str(self.path / "cmdb.yml"), "-e", f"@{self.path}/vault.yml"]
        return [*command, "-e", json.dumps(what), *options]

    def start(self, verb: str, rfc: str, *options: str) -> subprocess.Popen[str]:
        """Begin with a playbook in a process group of its own."""
        return self.run(self._command(verb, rfc, *options))

    def run(self, command: list[str]) -> subprocess.Popen[str]:
        """Begin with a command in a process group of its own, and the variables that a playbook here gets."""
        return subprocess.Popen(
            command,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def play(self, verb: str, rfc: str, *options: str) -> tuple[int, str]:
        """Run a playbook; its exit status, and what it says."""
        done = forked.run(self._command(verb, rfc, *options), self._environment, timeout=180)
        self.said += done.stdout
        return done.returncode, done.stdout

    @property
    def versions(self) -> list[str]:
        return [machine.components["BIOS"].version for machine in self.machines.values()]

    @property
    def flashed(self) -> list[list[str]]:
        return [machine.flashed for machine in self.machines.values()]

    def swap(self, rfc: str, host: str, old: str, new: str, slot: str = "", **more: str) -> tuple[int, str]:
        """Say with ``tidegate.release.swap`` that a unit was exchanged for another."""
        said = {"host": host, "slot": slot, "old_serial": old, "new_serial": new, **more}
        return self.play("swap", rfc, "-e", json.dumps({f"tidegate_{name}": value for name, value in said.items()}))

    def rows(self, query: str, *values: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.path / "cmdb.sqlite", timeout=30)) as connection:
            found = connection.execute(query, values).fetchall()
            connection.commit()
            return found

    @property
    def installed(self) -> dict[str, str]:
        return dict(self.rows("select ci.name, i.version from installation i join ci on ci.id = i.ci_id"))

    def states(self, number: str) -> dict[str, str]:
        query = "select h.host, h.state from deployment_host h join deployment d on d.id = h.deployment_id where d.rfc = ?"
        return dict(self.rows(query, number))

    def deployment(self, number: str) -> str:
        return str(self.rows("select state from deployment where rfc = ? order by id desc limit 1", number)[0][0])


@contextlib.contextmanager
def build_rack(path: Path, minutes: Mapping[str, float] = MINUTES) -> Iterator[Rack]:
    """Three machines with BIOS 2.4.0, which is archived."""
    key, certificate = make_certificate(path)
    machines = {name: Bmc(serial=f"SN-{name}", tag=f"A-{name}") for name in HOSTS}
    with contextlib.ExitStack() as stack:
        for machine in machines.values():
            stack.enter_context(serve(machine, key, certificate))
        yield Rack(path, machines, certificate, minutes)
