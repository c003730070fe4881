# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are directories of this machine, for tests of how verbs are called rather than of what a host does.

``TIDEGATE_TEST_ANSIBLE`` may name another ansible-playbook, of another ansible-core with the collection beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from itertools import count
from typing import Any

import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from fleet import Fleet

NUMBERS = count(7001)
PLAYBOOK = os.environ.get("TIDEGATE_TEST_ANSIBLE", "ansible-playbook")


class Site(Fleet):
    """Hosts that are directories of this machine; Ansible finds no ansible.cfg."""

    settings: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        own = {"HOME": str(self.path / "home"), "ANSIBLE_LOCAL_TEMP": str(self.path / "tmp")}
        return {**super().environment, **own, **self.settings}

    def up(self) -> None:
        self.settings = {}
        (self.path / "home").mkdir()
        self.write_policy(**self.policy)
        with Cmdb.open(self.environment["TIDEGATE_CMDB"], create=True) as cmdb:
            cmdb.put_cis([{"name": name, "class": "server"} for name in self.hosts], "test")
        self.inventory()

    def inventory(self, *names: str, **variables: Any) -> str:
        """An inventory of these hosts, of all without names; with more variables of all."""
        hosts = {name: {"tidegate_root": str(self.path / name)} for name in names or self.hosts}
        wide = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **variables}
        path = self.path / f"{'-'.join(names) or 'all'}.yml"
        path.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": wide}}))
        return str(path)

    def run(self, verb: str, *options: str, inventory: str | None = "", **variables: Any) -> subprocess.CompletedProcess[str]:
        """Run a verb; ``inventory`` is that of all hosts unless it is said, none with ``None``."""
        where = [] if inventory is None else ["-i", inventory or str(self.path / "all.yml")]
        given = json.dumps({"tidegate_become": False, **variables})
        done = subprocess.run(
            [PLAYBOOK, f"tidegate.release.{verb}", *where, "-e", given, *options],
            env=self.environment,
            cwd=self.path / "home",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        assert "Traceback" not in done.stdout, done.stdout
        return done

    def change(self, **rfc: Any) -> tuple[str, str]:
        """The number and the file of a new RFC, for a version of its own."""
        number = next(NUMBERS)
        health = [{"name": "there", "command": ["/bin/true"], "timeout": 5}]
        digest = self.archive(f"{number}.0", settings={}, hooks={}, health=health)
        return f"CHG{number}", str(self.rfc(f"CHG{number}", f"{number}.0", digest, **rfc))

    def record(self, version: str, digest: str) -> None:
        """Have the CMDB say that each host runs a version, whatever it does run."""
        with Cmdb.open(self.environment["TIDEGATE_CMDB"]) as cmdb, cmdb.begin() as connection:
            live = [{"ci": name, "release": "hello", "version": version, "digest": digest} for name in self.hosts]
            cmdb.record_installations(connection, live, "test", utc_now())

    def everything(self) -> dict[str, Any]:
        """Each table of the CMDB, and each file of each host and of the library."""
        found: dict[str, Any] = {}
        with sqlite3.connect(self.path / "cmdb.sqlite", timeout=30) as connection:
            for (name,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
                found[name] = connection.execute(f"select * from {name}").fetchall()  # noqa: S608 - a table of the CMDB
        for root in (*self.hosts, "dsl"):
            for path in sorted((self.path / root).rglob("*")):
                found[str(path)] = (
                    os.readlink(path) if path.is_symlink() else path.is_dir() or hashlib.sha256(path.read_bytes()).hexdigest()
                )
        return found

    def live(self) -> set[str]:
        return {
            link.resolve().joinpath("version").read_text() for name in self.hosts if (link := self.path / name / "hello/current").exists()
        }
