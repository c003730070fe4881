# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs outside the trees before the first release becomes the one to go back to, without being activated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.baseline import read_now, take_baseline
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError
from bed import Host, Package, package


def release(version: str, **config: Any) -> Package:
    scripts = {
        "start": f'echo start {version} >>"$TIDEGATE_STATE/calls"; echo {version} >"$TIDEGATE_DEVICE"',
        "stop": f'echo stop {version} >>"$TIDEGATE_STATE/calls"',
        "read": 'cat "$TIDEGATE_DEVICE"',
    }
    hooks = {name: {"command": ["sh", "-c", script], "timeout": 5} for name, script in scripts.items()}
    health = [{"name": "well", "command": ["true"], "timeout": 1}]
    said = {"effect": "outside", "reads": version, "settings": {"device": None}, "health": health}
    return package(version, **{"hooks": hooks, **said, **config})


ONE, TWO = release("1.0"), release("2.0")


@pytest.fixture
def device(host: Host) -> Path:
    path = host.root.with_name("device")
    path.write_text("1.0\n")
    host.settings = {"device": str(path)}
    host.stage(TWO)
    host.stage(ONE)
    return path


def take(host: Host, what: Package) -> dict[str, Any]:
    home = host.home
    with home.locked(1):
        return take_baseline(home, what.digest, host.order)


def read(host: Host, what: Package) -> tuple[str, str]:
    home = host.home
    with home.locked(1):
        answer = read_now(home, what.digest, host.order)
        return answer["read"]["text"], answer["detail"]


def test_the_staged_release_reads_what_runs(host: Host, device: Path) -> None:
    assert read(host, TWO) == ("1.0", "")
    assert host.live is None
    device.unlink()
    with pytest.raises(HostError, match=r"can't be read: hook read of hello 2\.0"):
        read(host, TWO)
    with pytest.raises(HostError, match="is not staged here"):
        read(host, release("9.0"))


def test_what_is_not_that_of_the_live_release_is_said(host: Host, device: Path) -> None:
    take(host, ONE)
    assert read(host, TWO) == ("1.0", "")
    device.write_text("3.0\n")
    said = "it says 3.0, and with hello 1.0, which is live here, it has to say 1.0"
    assert read(host, TWO)[1].startswith(said)


def test_it_is_live_without_a_hook_and_what_goes_back_to_it_runs_its_hooks(host: Host, device: Path) -> None:
    assert take(host, ONE) == {"state": "baseline", "changed": True, "version": "1.0"}
    assert (host.live, host.calls) == ("1.0", [])
    assert take(host, ONE)["changed"] is False
    assert host.activate(TWO, ONE)["state"] == "active"
    assert host.back_out(TWO, ONE)["state"] == "backed_out"
    assert (host.live, device.read_text()) == ("1.0", "1.0\n")
    assert host.calls == ["stop 1.0", "start 2.0", "stop 2.0", "start 1.0"]


def test_what_runs_already_is_its_own_baseline(host: Host, device: Path) -> None:
    device.write_text("2.0\n")
    assert take(host, TWO)["changed"] is True
    assert host.activate(TWO, TWO)["state"] == "active"
    assert host.back_out(TWO, TWO)["state"] == "backed_out"
    assert host.calls == []


def test_what_is_not_read_is_no_baseline(host: Host, device: Path) -> None:
    device.write_text("0.9\n")
    with pytest.raises(HostError, match=r"it says 0.9, and with hello 1.0 it has to say 1.0"):
        take(host, ONE)
    assert host.live is None


def test_a_release_that_is_its_tree_is_no_baseline(host: Host, device: Path) -> None:
    tree = release("1.1", effect="tree")
    host.stage(tree)
    with pytest.raises(HostError, match="does not say effect: outside"):
        take(host, tree)
    assert host.live is None


def test_where_another_release_is_live_there_is_no_baseline(host: Host, device: Path) -> None:
    take(host, ONE)
    device.write_text("2.0\n")
    with pytest.raises(HostError, match=r"hello 1.0 is live here already"):
        take(host, TWO)
    assert host.live == "1.0"


def test_an_order_that_is_superseded_does_nothing(host: Host, device: Path) -> None:
    take(host, ONE)
    host.token = 0
    for step in (take, read):
        with pytest.raises(HostError, match="another controller"):
            step(host, ONE)


@pytest.mark.parametrize("change", [{"hooks": {}}, {"reads": 1}, {"reads": None}])
def test_a_package_that_nobody_could_read_is_none(host: Host, change: dict[str, Any]) -> None:
    with pytest.raises(HostError, match="incomplete config"):
        host.stage(release("3.0", **change))
