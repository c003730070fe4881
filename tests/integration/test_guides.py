# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages in docs/guides do what they say: every file in them is written, and every command is run, as it stands there.

A block of code after a paragraph that begins with a path in backquotes is that file. A block ``console`` is run; it has to end well, or
with an error when it is marked ``fails``. Each line of a block ``text`` has to be in what the commands above it have printed.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import json
import os
import re
import shlex
import shutil
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import servicenow
import yaml
from ansible_collections.tidegate.release.plugins.module_utils.lab.hosts import CONNECTING
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import move_units, save_rules
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.stock import StockRule
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import MoveOrder
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import DeviceIdentity
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.debts import debts
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.firmware_journal import FirmwareJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from bmc import PASSWORD, USER, Bmc, Component, image
from bmc import serve as serve_bmc
from documents import example_rfc, write_document
from fleet import Fleet
from pages import GUIDES, followed_alike
from postgresql import running_postgresql
from receiver import receive
from registry import make_certificate, serve
from systemd_host import systemd_fleet

_BLOCK = re.compile(r"^(?P<before>[^\n]*)\n\n?```(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"`([\w./-]+)`")
OLD = """
mkdir -p /srv/{name} && echo '{name} of old' >/srv/{name}/index.html
cat >/etc/systemd/system/{name}.service <<END
[Service]
ExecStart=/usr/bin/python3 -B -m http.server --directory /srv/{name} --bind {address} {port}
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload && systemctl enable --quiet --now {name}.service
"""

# A database on the first host, as a team may have one.
DATABASE = """
set -e
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
install -d -o nobody /run/shop
cd /run/shop
as() {{ setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"; }}
as $bin/initdb -D data -U shop -A trust -E UTF8 --no-sync >/dev/null
settings='-c listen_addresses={address} -c unix_socket_directories=/run/shop -c fsync=off'
as $bin/pg_ctl -D data -l log -w -o "$settings" start </dev/null >/dev/null
psql -q -h {address} -U shop postgres -c 'create database shop'
psql -q -h {address} -U shop shop -c "create table customer (id serial, name text); insert into customer (name) values ('Ada Lovelace')"
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with systemd_fleet(tmp_path_factory.mktemp("guides")) as fleet:
        yield fleet


class Reader:
    """Somebody who follows a page in a directory of theirs, after the first steps of docs/step-by-step.md."""

    def __init__(self, fleet: Fleet, folder: Path, number: str) -> None:
        self.folder = folder
        self.number = number
        self.raised = 0
        self.printed = ""
        self.until_the_end = contextlib.ExitStack()
        self.first: dict[str, Callable[[], None]] = {}  # what is done before a command with this text, once
        self.archived: Callable[[str, str, str], None] | None = None  # what is told of name, version and digest
        self.environment = {**fleet.environment, "ANSIBLE_LOCALHOST_WARNING": "false", "TIDEGATE_POLICY": str(fleet.path / "policy.yml")}
        (folder / "cmdb.yml").write_text((fleet.path / "cmdb.yml").read_text())

    def follow(self, page: str) -> None:
        for block in _BLOCK.finditer(page):
            language, mark = (*block["info"].split(" "), "")[:2]
            named = _FILE.match(block["before"])
            if language == "console":
                self.run(block["code"], fails=mark == "fails")
            elif language == "text":
                missing = [line for line in block["code"].splitlines() if line not in self.printed]
                assert not missing, f"{missing} is not in:\n{self.printed}"
            else:
                assert named, f"the page does not say what the file of this block is:\n{block[0]}"
                (self.folder / named[1]).parent.mkdir(exist_ok=True)
                # The hosts of a lab are reached in a way of their own, which their CIs say.
                lab = f"connection_variables: [{', '.join(CONNECTING)}]\n" if named[1] == "cmdb.yml" else ""
                (self.folder / named[1]).write_text(block["code"] + lab)

    def run(self, commands: str, *, fails: bool) -> None:
        for text in [text for text in self.first if text in commands]:
            self.first.pop(text)()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env=self.environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed = done.stdout
        assert (done.returncode != 0) == fails, f"{commands}\nended with {done.returncode}:\n{done.stdout}"
        if "tidegate.release.archive" in commands:
            self.raise_rfc()

    def raise_rfc(self) -> None:
        """What every page asks its reader to do by hand: the RFC of docs/step-by-step.md, for what was just archived."""
        self.raised += 1
        found = re.search(r"(\w+) ([\d.]+)[^\n]*?(sha256:[0-9a-f]{64})", self.printed)
        assert found, self.printed
        name, version, digest = found.groups()
        if self.archived:
            self.archived(name, version, digest)
        said = {"number": f"{self.number}{self.raised}", "release": {"name": name, "version": version, "digest": digest}}
        write_document(self.folder / "rfc.yml", example_rfc(digest, scope="[?class=='server']", objectives=[], **said))


def nothing(fleet: Fleet, reader: Reader) -> None:
    pass


def install(fleet: Fleet, name: str, port: int) -> None:
    """A service that somebody installed by hand, or by a playbook, as the pages have it."""
    for host, variables in fleet.hostvars().items():
        fleet.run_on(host, OLD.format(name=name, port=port, address=variables["ansible_host"]))


def install_board(fleet: Fleet, reader: Reader) -> None:
    install(fleet, "board", 8094)


class Audience(threading.Thread):
    """Asks the old service of each host all the time, until it is told that the first release comes."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(daemon=True)
        self.addresses = [str(variables["ansible_host"]) for variables in fleet.hostvars().values()]
        self.ended = threading.Event()
        self.answers: list[str] = []

    def run(self) -> None:
        while not self.ended.wait(0.1):
            self.answers += [self.ask(address) for address in self.addresses]

    def ask(self, address: str) -> str:
        connection = http.client.HTTPConnection(address, 8096, timeout=10)
        try:
            connection.request("GET", "/index.html")
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        finally:
            connection.close()

    def was_served(self) -> None:
        self.ended.set()
        self.join()
        assert set(self.answers) == {"poster of old\n"}


def old_way(fleet: Fleet, reader: Reader) -> None:
    """Hosts with a service that no release knows of, and the inventory of that time; the CMDB and the library are empty."""
    install(fleet, "poster", 8096)
    hosts = fleet.hostvars()
    for host in hosts:
        fleet.run_on(host, "echo 'of this host' >/srv/poster/access.log")
    lines = [
        f"{host} {' '.join(f'{key}={shlex.quote(str(value))}' for key, value in variables.items())}" for host, variables in hosts.items()
    ]
    groups = ["[server]", *lines, "[ams]", *hosts, "[server:vars]", "poster_password=mine", ""]
    (reader.folder / "hosts.ini").write_text("\n".join(groups))
    reader.environment |= {"TIDEGATE_CMDB": str(reader.folder / "cmdb.sqlite"), "TIDEGATE_DSL": str(reader.folder / "dsl")}
    audience = Audience(fleet)
    audience.start()
    reader.first["tidegate.release.adopt"] = lambda: one_differs(fleet, reader)
    reader.first["tidegate.release.deploy"] = audience.was_served


# Podman does not run on lab hosts. This one fetches with skopeo what it is told to, and what it starts is no container.
PODMAN = """
cat >/usr/local/bin/podman <<'END'
#!/bin/sh
set -eu
for last; do :; done
case $1 in
pull) skopeo copy --quiet --src-tls-verify=false "docker://$last" "oci:/var/lib/images:$(echo "$last" | tr -c 'a-z0-9\\n' -)" ;;
run)
  echo "$last" >/var/lib/running
  address=$(echo "$*" | sed 's/.*ADDRESS=\\([0-9.]*\\).*/\\1/')
  setsid python3 -m http.server --directory /var/lib/images --bind "$address" 8097 </dev/null >/dev/null 2>&1 & ;;
inspect) cat /var/lib/running ;;
esac
END
chmod +x /usr/local/bin/podman
"""


def a_registry(fleet: Fleet, reader: Reader) -> None:
    """An image that was built, a registry that is not on the internet, and a stand-in for Podman on the hosts."""
    server = reader.until_the_end.enter_context(serve(reader.folder / "registry"))
    settings = f'[[registry]]\nlocation = "{server.host}"\ninsecure = true\n'
    # Of a short name, for ssh makes sockets in it.
    home = reader.until_the_end.enter_context(TemporaryDirectory(prefix="home-", dir="/tmp"))
    own = Path(home, ".config", "containers")
    own.mkdir(parents=True)
    (own / "registries.conf").write_text(settings)
    reader.environment |= {"REGISTRY": server.host, "HOME": home}
    layer = gzip.compress(bytes(1024), mtime=0)  # the tar of nothing
    diff = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(bytes(1024)).hexdigest()}"]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": diff}).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _blob(reader.folder, config, "application/vnd.oci.image.config.v1+json"),
            "layers": [_blob(reader.folder, layer, "application/vnd.oci.image.layer.v1.tar+gzip")],
        }
    ).encode()
    index = {"schemaVersion": 2, "manifests": [_blob(reader.folder, manifest, "application/vnd.oci.image.manifest.v1+json")]}
    (reader.folder / "kiosk-image" / "index.json").write_text(json.dumps(index))
    (reader.folder / "kiosk-image" / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    for host in fleet.hosts:
        fleet.run_on(host, PODMAN)


def _blob(folder: Path, content: bytes, kind: str) -> dict[str, Any]:
    """Put a blob into the image, and say how it is named there."""
    name = hashlib.sha256(content).hexdigest()
    place = folder / "kiosk-image" / "blobs" / "sha256"
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(content)
    return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(content)}


def every_host_has_the_image(fleet: Fleet, folder: Path) -> None:
    digest = (folder / "digest").read_text()
    for host in fleet.hosts:
        assert digest in fleet.run_on(host, "cat /var/lib/images/index.json")
        assert fleet.run_on(host, "cat /var/lib/running").strip().endswith(f"/images/kiosk@{digest}")


def start_database(fleet: Fleet, reader: Reader) -> None:
    """A PostgreSQL on web1, which all hosts reach; it ends with the host."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")):
        pytest.skip("needs PostgreSQL's server programs in /usr/lib/postgresql/*/bin (apt install postgresql)")
    fleet.run_on("web1", DATABASE.format(address=fleet.hostvars()["web1"]["ansible_host"]))


def token_is_nowhere(fleet: Fleet, folder: Path) -> None:
    found = [
        path
        for place in (fleet.path, folder)
        for path in place.rglob("*")
        if path.is_file() and not path.is_symlink() and b"open sesame" in path.read_bytes()
    ]
    assert not found


def haproxy_is_tried_by_molecule(fleet: Fleet, folder: Path) -> None:
    """What the page says of HAProxy is what the scenario ``drain`` runs under load."""
    tried, shown = GUIDES.parents[1] / "molecule" / "drain" / "role", folder / "app" / "ansible" / "haproxy"
    for name in ("defaults/main.yml", "tasks/drain.yml", "tasks/restore.yml"):
        assert yaml.safe_load((tried / name).read_text()) == yaml.safe_load((shown / name).read_text())


def a_second_time_nothing_changes(fleet: Fleet, folder: Path) -> None:
    """Neither for the inventory nor for hosts that went back to what they were adopted with, of which the tree is fetched again."""
    homes = {"tidegate_cmdb": str(folder / "cmdb.sqlite"), "tidegate_dsl": str(folder / "dsl")}
    done = fleet.play("tidegate.release.import", homes, inventory=str(folder / "hosts.ini"))
    assert "2 as before" in done.stdout, done.stdout
    page = _BLOCK.finditer((GUIDES / "adopt.md").read_text())
    (folder / "poster" / "release.yml").write_text(next(block["code"] for block in page if block["before"] == "`poster/release.yml`:"))
    shutil.rmtree(folder / "poster" / "payload")
    done = adopt(fleet, folder, **homes)
    assert "on 2 of 2 hosts, as before" in done.stdout, done.stdout


def adopt(fleet: Fleet, folder: Path, *options: str, **homes: str) -> subprocess.CompletedProcess[str]:
    about = {"tidegate_release": str(folder / "poster"), "tidegate_path": "/srv/poster", "tidegate_leave": ["*.log"]}
    return fleet.play("tidegate.release.adopt", {**homes, **about}, *options, inventory=str(folder / "cmdb.yml"))


def one_differs(fleet: Fleet, reader: Reader) -> None:
    """What the page does not have: a run in check mode, and a host that is not like the first."""
    homes = {"tidegate_cmdb": reader.environment["TIDEGATE_CMDB"], "tidegate_dsl": reader.environment["TIDEGATE_DSL"]}
    done = adopt(fleet, reader.folder, "--check", **homes)
    assert done.returncode == 0, done.stdout
    assert "would be fetched" in done.stdout
    assert not (reader.folder / "poster" / "payload").exists()
    fleet.run_on("web2", "touch /srv/poster/more.html")
    done = adopt(fleet, reader.folder, **homes)
    assert done.returncode != 0
    assert "is adopted on 1 of 2 hosts" in done.stdout, done.stdout
    assert "web2: /srv/poster is not poster 1.0: it has besides more.html" in done.stdout
    fleet.run_on("web2", "rm /srv/poster/more.html")


def a_bench(fleet: Fleet, reader: Reader) -> None:
    """A spare with a BMC in stock, and the image for it; before stock is counted, a machine of its model got the release."""
    key, certificate = make_certificate(reader.folder)
    spare = reader.until_the_end.enter_context(serve_bmc(Bmc(serial="SN1002", tag="A-1002", seconds=0.1), key, certificate))
    spare.components = {"BIOS": Component("2.4.0")}
    (reader.folder / "vault.yml").write_text(yaml.safe_dump({"tidegate_redfish_user": USER, "tidegate_redfish_password": PASSWORD}))
    (reader.folder / "BIOS_2.5.0.bin").write_bytes(image("BIOS", "2.5.0"))
    reader.environment |= {"BENCH": spare.url, "REQUESTS_CA_BUNDLE": str(certificate), "VENDOR": str(reader.folder)}
    now = datetime.now(UTC)
    with Cmdb.open(reader.environment["TIDEGATE_CMDB"]) as cmdb, cmdb.begin() as connection:
        received = MoveOrder("receive", "A-1002", "Contoso", "SN1002", "R750", stockroom="ams-1", substate="available")
        move_units(connection, [received], "test", now, True)
        save_rules(connection, [StockRule("R750", "ams-1", 0, 1)], "test", now, True)
    folder = reader.folder / "before"
    page = yaml.safe_load(next(block["code"] for block in _BLOCK.finditer((GUIDES / "spares.md").read_text()) if "kind:" in block["code"]))
    page["firmware"][0] |= {"version": "2.4.0", "from": ["2.3.0"], "back_to": ["2.3.0"], "image": "BIOS_2.4.0.bin"}
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "BIOS_2.4.0.bin").write_bytes(image("BIOS", "2.4.0"))
    (folder / "README.md").write_text("# before\n")
    write_document(folder / "release.yml", {**page, "version": "2.4.0"})
    home = create_library(reader.environment["TIDEGATE_DSL"]).repository("bios")
    read_release(folder).archive(home)
    reader.first["tidegate.release.stock"] = lambda: bring_machine_to_level(reader, str(home.resolve("bios", "2.5.0")))

    reader.until_the_end.callback(give_addresses, reader, "srv1", "bench1")


def give_addresses(reader: Reader, *names: str) -> None:
    """So that a page with an inventory that needs one of each CI is read after this one."""
    with Cmdb.open(reader.environment["TIDEGATE_CMDB"]) as cmdb:
        known = cmdb.cis(names)
        cmdb.put_cis([{**ci, "attributes": {**ci["attributes"], "ansible_host": "192.0.2.1"}} for ci in known], "test")


def two_machines(fleet: Fleet, reader: Reader) -> None:
    """Two machines with BMCs that run what they came with, and the images of their maker."""
    key, certificate = make_certificate(reader.folder)
    for number in (1, 2):
        device = Bmc(model="R650", serial=f"SN200{number}", tag=f"A-200{number}", seconds=0.1)
        device.components = {"BIOS": Component("1.8.2")}
        reader.environment[f"BMC{number}"] = reader.until_the_end.enter_context(serve_bmc(device, key, certificate)).url
    for version in ("1.8.2", "1.9.2"):
        (reader.folder / f"BIOS_{version}.bin").write_bytes(image("BIOS", version, ("R650",)))
    (reader.folder / "vault.yml").write_text(yaml.safe_dump({"tidegate_redfish_user": USER, "tidegate_redfish_password": PASSWORD}))
    # Other pages have Ansible visit all hosts of the fleet's own.
    own = reader.folder / "machines.sqlite"
    theirs = fleet.environment["TIDEGATE_CMDB"]
    with contextlib.closing(sqlite3.connect(theirs)) as shared, contextlib.closing(sqlite3.connect(own)) as copy:
        shared.backup(copy)
    reader.environment |= {"REQUESTS_CA_BUNDLE": str(certificate), "VENDOR": str(reader.folder), "TIDEGATE_CMDB": str(own)}


def bring_machine_to_level(reader: Reader, digest: str) -> None:
    """A deployment to a machine of the same model, as its journal has it; its level is owed to the spare."""
    package, now = {"name": "bios", "version": "2.5.0", "digest": digest}, datetime.now(UTC)
    with Cmdb.open(reader.environment["TIDEGATE_CMDB"]) as cmdb:
        cmdb.put_cis([{"name": "srv1", "class": "machine"}], "test")
        journal, device = FirmwareJournal(cmdb), DeviceIdentity("SN1", "R750")
        run = journal.begin("CHG0099001", package, [["srv1"]], Rollout(firmware=True), Holder.this_run(), now)
        journal.note_read(run, "srv1", device, {"BIOS": "2.4.0"}, now)
        journal.staged(run, "srv1", None, now)
        journal.decide_staging(run, GateDecision("proceed", ""), now)
        journal.activating(run, "srv1", now)
        journal.activated(run, "srv1", HostState.STARTED, "", now)
        journal.note_read(run, "srv1", device, {"BIOS": "2.5.0"}, now)
        journal.activated(run, "srv1", HostState.ACTIVE, "", now)
        journal.decide_wave(run, 1, GateDecision("proceed", ""), now)
        journal.release_lease(run, now)
        assert [debt.duty for debt in debts(cmdb, settled=False) if debt.rfc == "CHG0099001"] == ["spares"]


def watch_tills(fleet: Fleet, reader: Reader) -> None:
    """A Prometheus that has the page's own configuration, from when that is written."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    reader.environment["PROMETHEUS_URL"] = f"http://127.0.0.1:{port}"

    def start() -> None:
        program = shutil.which("prometheus")
        if program is None:
            pytest.skip("needs Prometheus (apt install prometheus)")
        own = [f"--config.file={reader.folder}/prometheus.yml", f"--storage.tsdb.path={reader.folder}/prometheus"]
        with (reader.folder / "prometheus.log").open("wb") as log:
            process = subprocess.Popen([program, *own, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
        reader.until_the_end.callback(process.wait)
        reader.until_the_end.callback(process.kill)

    reader.first["tidegate.release.archive"] = start


def an_instance(fleet: Fleet, reader: Reader) -> None:
    """A stand-in for ServiceNow, in which the page's change is raised and approved when its release is archived."""
    instance = reader.until_the_end.enter_context(servicenow.serve(reader.folder))
    reader.environment |= {**instance.environment, "INSTANCE": instance.host}
    reader.archived = lambda *release: str(instance.change("CHG0040001", release)) and None
    reader.until_the_end.callback(lambda: course_is_written(instance))


def course_is_written(instance: servicenow.Instance) -> None:
    if instance.tables["change_request"]:  # the page came so far
        change = instance.record("CHG0040001")
        assert (change["state"], change["close_code"]) == ("0", "successful")
        assert change["work_start"]
        assert change["work_end"]
        assert "doorsign 1.0" in change["close_notes"]
        assert [step["state"] for step in instance.course if "state" in step] == ["-1", "0"]
        assert "gate" in instance.said("CHG0040001")


def shared_homes(fleet: Fleet, reader: Reader) -> None:
    """A PostgreSQL and a registry, both empty, and something in the library that it is before."""
    fleet.archive("1.0")
    server = reader.until_the_end.enter_context(running_postgresql())
    registry = reader.until_the_end.enter_context(serve(reader.folder / "registry"))
    reader.environment |= {"DATABASE_HOST": str(server.home), "REGISTRY": registry.host}


def a_chat(_fleet: Fleet, reader: Reader) -> None:
    """Somebody who takes messages."""
    reader.environment["CHAT_URL"] = reader.until_the_end.enter_context(receive()).url


BEFORE: dict[str, Callable[[Fleet, Reader], None]] = {
    "running-service": install_board,
    "data": start_database,
    "adopt": old_way,
    "containers": a_registry,
    "spares": a_bench,
    "firmware": two_machines,
    "metrics": watch_tills,
    "servicenow": an_instance,
    "team": shared_homes,
    "telling-people": a_chat,
}
_WITHOUT_A_RELEASE = frozenset({"telling-people"})
AFTER: dict[str, Callable[[Fleet, Path], None]] = {
    "secrets": token_is_nowhere,
    "load-balancer": haproxy_is_tried_by_molecule,
    "adopt": a_second_time_nothing_changes,
    "containers": every_host_has_the_image,
}


def test_there_are_pages() -> None:
    assert {path.stem for path in GUIDES.glob("*.md")} >= {
        "systemd",
        "secrets",
        "configuration",
        "running-service",
        "own-role",
        "packages",
        *BEFORE,
        *AFTER,
    }


def test_each_page_has_releases_of_its_own() -> None:
    """The pages are followed with one library and one CMDB, as a reader may."""
    named = [name for path in GUIDES.glob("*.md") for name in set(re.findall(r"(?m)^name: (\S+)$", path.read_text()))]
    assert sorted(named) == sorted(set(named))


@pytest.mark.parametrize("page", followed_alike())
def test_a_page_does_what_it_says(page: str, fleet: Fleet, tmp_path: Path) -> None:
    reader = Reader(fleet, tmp_path, f"CHG{sum(page.encode()):06d}")
    with reader.until_the_end:
        BEFORE.get(page, nothing)(fleet, reader)
        reader.follow((GUIDES / f"{page}.md").read_text())
        assert reader.raised or page in _WITHOUT_A_RELEASE, "every other page archives something"
        if page in AFTER:
            AFTER[page](fleet, tmp_path)
