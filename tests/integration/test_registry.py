# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole deployments out of a library that is in a registry."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import registry
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import open_library
from desk import EVIL, Desk
from fleet import BROKEN, Fleet

pytestmark = pytest.mark.skipif(registry.PROGRAM is None, reason="needs Distribution (apt install docker-registry)")


def test_a_service_lives_out_of_a_registry(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry.serve(fleet.path / "registry", "token") as server:
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(registry.credentials(fleet.path, server)))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.authority))
        fleet.dsl = server.address
        archived = fleet.play("tidegate.release.archive", {"tidegate_release": str(fleet.release("1.0"))})
        assert archived.returncode == 0, archived.stdout
        first = fleet.deploy("CHG0001", "1.0")
        assert first.returncode == 0, first.stdout
        second = fleet.deploy("CHG0002", "1.1")
        assert second.returncode == 0, second.stdout
        assert set(fleet.served().values()) == {"1.1"}
        third = fleet.deploy("CHG0003", "1.2", **BROKEN)
        assert "CHG0003: hello 1.2 was backed out" in third.stdout
        assert set(fleet.served().values()) == {"1.1"}
        # As if another tool had copied hello there, which enters nothing in the list of releases.
        shutil.rmtree(server.storage / "docker/registry/v2/repositories/releases/live/_manifests")
        audit = fleet.play("tidegate.release.audit")
        assert audit.returncode == 0, audit.stdout
        fleet.dsl = server.address.replace("live", "lvie")
        mistyped = fleet.play("tidegate.release.audit")
        fleet.dsl = server.address
        assert mistyped.returncode != 0
        assert f"there is no release in the DSL {server.address.replace('live', 'lvie')}, so nothing" in " ".join(mistyped.stdout.split())
        assert registry.PASSWORD not in audit.stdout + third.stdout
        rfc = fleet.rfc("CHG0004", "1.3", fleet.archive("1.3"))
    gone = fleet.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc)})
    assert gone.returncode != 0
    assert f"the registry {server.host} can't be reached" in " ".join(gone.stdout.split())
    assert set(fleet.served().values()) == {"1.1"}


def test_hosts_fetch_from_a_registry_as_their_mirror(fleet: Fleet) -> None:
    with registry.serve(fleet.path / "registry") as server:
        fleet.dsl = server.address
        rfc = fleet.rfc("CHG0001", "1.0", fleet.archive("1.0"))
        mirror = f"http://{server.host}/v2/releases/live/hello"
        done = fleet.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc), "tidegate_mirror": mirror}, "-v")
        assert done.returncode == 0, done.stdout
        assert done.stdout.count('"source": "mirror"') == len(fleet.hosts)
        assert set(fleet.served().values()) == {"1.0"}


@pytest.mark.skipif(not shutil.which("clamscan"), reason="needs ClamAV (apt install clamav)")
def test_what_goes_into_a_registry_is_examined_and_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    desk = Desk(tmp_path)
    with registry.serve(tmp_path / "registry", "basic") as server:
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(registry.credentials(tmp_path, server)))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.authority))
        desk.fleet.dsl = server.address
        desk.fleet.release("1.0", licence="MIT")
        done = desk.archive("1.0")
        assert done.returncode == 0, done.stdout
        assert len(desk.said("1.0")) == 4
        assert "changed=0" in desk.archive("1.0").stdout
        (desk.fleet.release("1.1") / "payload" / "evil").write_bytes(EVIL)
        infected = desk.archive("1.1")
        assert infected.returncode == 2
        assert open_library(server.address).repository("hello").resolve("hello", "1.1") is None
    kept = [path.read_bytes() for path in (tmp_path / "data/tidegate/quarantine").iterdir()]
    assert EVIL in kept
