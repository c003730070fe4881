# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of lab hosts with a library, a CMDB and a small service to release: what the integration tests work on."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import forked
import psycopg
import yaml
from ansible_collections.tidegate.release.plugins.module_utils.lab import processes
from ansible_collections.tidegate.release.plugins.module_utils.lab.hosts import CONNECTING, Lab, Settings
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from documents import open_rfc, policy_of, simple_manifest, write_document

HELLO = Path(__file__).parents[1] / "integration" / "hello"
PORT = 8081
# A setting of every host, which its service prints and which nothing but the inventory and the service's own state may have.
CANARY = "canary-6b1f0c9d/é'2e7a"
_FORMS = tuple(
    form.lower()
    for form in (
        CANARY.encode()[:14],
        CANARY.encode().hex().encode(),
        *(base64.b64encode(bytes(offset) + CANARY.encode())[4:24] for offset in range(3)),
    )
)
# Each worker of pytest-xdist has addresses of its own.
FIRST = 101 + 10 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
SECOND = 141 + 2 * (FIRST - 101)  # of twenty more
BROKEN = {"hooks": {"stop": {"command": ["bin/stop"], "timeout": 10}, "start": {"command": ["/bin/nothing"], "timeout": 10}}}
HEALTH = {"name": "answers", "http": {"url": "http://${address}:${port}/health"}, "timeout": 15}


class ProcessWatcher(threading.Thread):
    """Looks now and then at the arguments of every process, here and on the hosts, for what is not for everybody's eyes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.found: set[bytes] = set()

    def run(self) -> None:
        while not self.ended.wait(0.5):
            for process in Path("/proc").iterdir():
                if process.name.isdigit():
                    with contextlib.suppress(OSError):
                        line = (process / "cmdline").read_bytes()
                        self.found |= {line} if _has_canary(line) else set()


@dataclass
class Fleet:
    """Hosts ``web1`` .. ``webN`` under ``path``; every method runs what a user would run.

    ``dsl`` is ``path``/dsl unless it is said, and ``cmdb``, the URL of a PostgreSQL, the file cmdb.sqlite there.
    """

    path: Path
    count: int = 3
    first: int = FIRST
    dsl: str = ""
    cmdb: str = ""
    patience: int = 300  # seconds that a playbook may take
    said: list[str] = field(default_factory=list)
    watcher: ProcessWatcher = field(default_factory=ProcessWatcher)
    policy: dict[str, Any] = field(default_factory=lambda: {"rollout": {"canary": 1, "steps": [100], "budget": {"wave": 0, "total": 0}}})

    @property
    def own_lab(self) -> Lab:
        """As the playbook of that name makes it, at a tenth of its cost."""
        return Lab(str(self.path / "lab"))

    @property
    def hosts(self) -> list[str]:
        return [f"web{number}" for number in range(1, self.count + 1)]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "TIDEGATE_DSL": self.dsl or str(self.path / "dsl"),
            "TIDEGATE_CMDB": self.cmdb or str(self.path / "cmdb.sqlite"),
            "TIDEGATE_POLICY": str(self.path / "policy.yml"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORKS": "10",
        }

    def up(self) -> None:
        """Bring the hosts up and enter them in the CMDB."""
        self.watcher.start()
        settings = Settings("isolated", user="deploy", network="127.0.1", first=self.first, port=2022, disk="1g")
        _started, variables = self.own_lab.up(self.hosts, settings)
        self.own_lab.write_inventory({"all": {"hosts": variables}})
        with Cmdb.open(self.environment["TIDEGATE_CMDB"], create=True) as cmdb:
            known = {"class": "server", "site": "ams", "environment": "lab"}
            cmdb.put_cis([{"name": name, **known, "attributes": variables[name]} for name in self.hosts], "test")
        self.write_policy(**self.policy)
        self.write_inventory()

    def write_inventory(self) -> None:
        (self.path / "cmdb.yml").write_text(
            yaml.safe_dump(
                {
                    "plugin": "tidegate.release.cmdb",
                    "connection_variables": list(CONNECTING),
                    "compose": {
                        "tidegate_settings": f"{{'address': ansible_host, 'port': {PORT}, 'token': {CANARY!r}, "
                        "'python': ansible_python_interpreter | default('python3')}"
                    },
                }
            )
        )

    def down(self) -> None:
        """Take the hosts down; raises :class:`AssertionError` when a secret was left somewhere."""
        try:
            self.assert_silent()
        finally:
            self.watcher.ended.set()
            self.own_lab.down()

    def assert_silent(self) -> None:
        """No output of a verb, no file here and no file of a host says the canary, but for the inventory and the service's own state."""
        own = {self.path / "cmdb.yml", self.path / "lab" / "hosts"}
        leaks = [f"argument of a process: {line!r}" for line in self.watcher.found]
        leaks += [f"output: {line[:300]}" for line in self.said if _has_canary(line.encode())]
        leaks += [str(path) for path in _files(self.path, own) if _has_canary(path.read_bytes())]
        seen = {
            process.host: Path("/proc", str(process.pid), "root")
            for process in processes.find(self.path / "lab")
            if _is_inside(process.pid)
        }
        for host, root in seen.items():
            leaks += [f"{host}: {path}" for path in _host_files(root) if _has_canary(path.read_bytes())]
        assert leaks == [], "\n".join(leaks)

    def hostvars(self) -> dict[str, dict[str, Any]]:
        """What the lab says of each host: address, key, user."""
        return dict(json.loads((self.path / "lab" / "inventory.yml").read_text())["all"]["hosts"])

    def play(
        self, name: str, variables: Mapping[str, Any] | None = None, *options: str, inventory: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a playbook of the collection; output is in ``stdout``."""
        done = self.execute(self.command(name, variables, *options, inventory=inventory))
        self.said.extend(done.stdout.splitlines())
        return done

    def execute(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return forked.run(command, self.environment, timeout=self.patience)

    def command(self, name: str, variables: Mapping[str, Any] | None = None, *options: str, inventory: str | None = None) -> list[str]:
        where = inventory or str(self.path / "cmdb.yml")
        return ["ansible-playbook", name, "-i", where, "-e", json.dumps(dict(variables or {})), *options]

    def run_on(self, host: str, command: str) -> str:
        """Run a command as root on a host, by ssh as Ansible does; return what it prints."""
        variables = self.hostvars()[host]
        target = f"{variables['ansible_user']}@{variables['ansible_host']}"
        options = [*shlex.split(str(variables["ansible_ssh_common_args"])), "-i", str(variables["ansible_ssh_private_key_file"])]
        ssh = ["ssh", *options, "-p", str(variables["ansible_port"]), target, f"sudo sh -c {shlex.quote(command)}"]
        return subprocess.run(ssh, check=True, capture_output=True, text=True, timeout=30).stdout

    def write_policy(self, **sections: Any) -> None:
        """Under it nothing is waited for after activation, unless its rollout says so: that is its own test's business."""
        sections["rollout"] = {"stable": 0, **sections.get("rollout", {})}
        write_document(self.path / "policy.yml", policy_of(**sections))

    def release(self, version: str, **changes: Any) -> Path:
        """A release directory of the hello service; ``changes`` replace keys of its manifest."""
        folder = self.path / "releases" / version
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(HELLO, folder / "payload")
        (folder / "payload" / "version").write_text(version)
        (folder / "README.md").write_text("# hello\n")
        hooks = {"stop": {"command": ["bin/stop"], "timeout": 10}, "start": {"command": ["bin/start"], "timeout": 20}}
        settings = {"address": None, "port": PORT, "python": "python3", "token": "none"}
        said = {"version": version, "summary": "Says which version it is", "settings": settings, "hooks": hooks, "health": [HEALTH]}
        write_document(folder / "release.yml", simple_manifest(**{**said, **changes}))
        return folder

    def archive(self, version: str, **changes: Any) -> str:
        """Archive a release of the hello service; return its digest."""
        return self.archive_folder(self.release(version, **changes))

    def archive_folder(self, folder: Path) -> str:
        """Archive what is in the directory of a release of the hello service; return its digest."""
        home = create_library(self.environment["TIDEGATE_DSL"]).repository("hello")
        return read_release(folder).archive(home).digest

    def rfc(self, number: str, version: str, digest: str, **changes: Any) -> Path:
        """An approved RFC for all hosts, its window open now; ``changes`` replace keys."""
        return write_document(self.path / f"{number}.yml", open_rfc(number, version, digest, **changes))

    def deploy(self, number: str, version: str, **changes: Any) -> subprocess.CompletedProcess[str]:
        """Archive a version and deploy it under a fresh RFC."""
        rfc = self.rfc(number, version, self.archive(version, **changes))
        return self.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc)})

    def served(self) -> dict[str, str | None]:
        """The version that the service on each host itself says it is; ``None`` where it does not answer."""
        variables = self.hostvars()
        return {name: ask(str(variables[name]["ansible_host"])) for name in self.hosts}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the CMDB's database."""
        if self.cmdb:
            with psycopg.connect(self.cmdb.replace("+psycopg", "", 1)) as server:
                return server.execute(query.encode()).fetchall()
        connection = sqlite3.connect(self.path / "cmdb.sqlite", timeout=30)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def installed(self) -> dict[str, str]:
        """The version that the CMDB says is on each host."""
        return dict(self.rows("select ci.name, i.version from installation i join ci on ci.id = i.ci_id"))

    def host_states(self, number: str) -> dict[str, str]:
        return dict(
            self.rows(
                f"select h.host, h.state from deployment_host h join deployment d on d.id = h.deployment_id where d.rfc = '{number}'"  # noqa: S608 - a test's own RFC number
            )
        )

    def state(self, number: str) -> str | None:
        rows = self.rows(f"select state from deployment where rfc = '{number}' order by id desc limit 1")  # noqa: S608 - a test's own RFC number
        return str(rows[0][0]) if rows else None


def _has_canary(data: bytes) -> bool:
    lowered = data.lower()
    return any(form in lowered for form in _FORMS)


def _is_inside(pid: int) -> bool:
    """Whether a process of a lab's host has the host's own root directory, as the first ones don't."""
    return Path("/proc", str(pid), "root", "etc", "ssh", "lab_config").exists()


def _files(folder: Path, without: Collection[Path] = ()) -> Iterator[Path]:
    """The regular files below a folder, without those in some places."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path not in without and not path.is_symlink():
                if path.is_dir():
                    yield from _files(path, without)
                elif path.is_file() and path.stat().st_size < 64 << 20:  # what is larger only fills a disk
                    yield path


def _host_files(root: Path) -> Iterator[Path]:
    """What a host may have kept of what was done to it; of the releases all but what the services wrote themselves."""
    releases = root / "opt" / "tidegate"
    states = {home / "state" for home in (releases.iterdir() if releases.is_dir() else ())}
    for folder in (releases, root / "tmp", root / "var" / "tmp", root / "home", root / "root"):
        yield from _files(folder, states)


def ask(address: str, path: str = "/") -> str | None:
    connection = http.client.HTTPConnection(address, PORT, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
