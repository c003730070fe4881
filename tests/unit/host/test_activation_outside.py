# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release whose effect is outside its tree: whatever its hooks say, what the device says afterwards decides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from bed import Host, Package, package
from waiting import wait_until

READ = MappingProxyType({"command": ["sh", "-c", 'cat "$TIDEGATE_DEVICE"'], "timeout": 2})


@pytest.fixture
def device(host: Host) -> Path:
    """What the hooks of each release are about: a file that is in no release's home, and says which version it has."""
    path = host.root.with_name("device")
    path.write_text("1.0\n")
    host.settings = {"device": str(path)}
    return path


def release(
    version: str, start: str = "", more: str = "", reads: str | None = None, read: Mapping[str, Any] = READ, **hooks: str
) -> Package:
    """One that says ``reads``, its version unless given; ``start``: what its hook does in place of bringing that to the device."""
    text = reads or version
    commands = {"start": start or f'echo "{text}" >"$TIDEGATE_DEVICE"', "stop": "true", **hooks}
    config: dict[str, Any] = {name: {"command": ["sh", "-c", f"{what}\n{more}"], "timeout": 5} for name, what in commands.items()}
    health = [{"name": "well", "command": ["true"], "timeout": 1}]
    said = {"effect": "outside", "reads": text, "settings": {"device": None}, "health": health}
    return package(version, hooks={**config, "read": dict(read)}, **said)


ONE = release("1.0")


def install(host: Host, what: Package = ONE) -> None:
    """``what`` is there, and its device says so."""
    host.stage(what)
    assert host.activate(what, what if host.live else None)["state"] == "active"


def upgrade(host: Host, two: Package) -> dict[str, Any]:
    install(host)
    return host.deploy(two, ONE)


def test_it_is_active_when_the_device_says_so(host: Host, device: Path) -> None:
    two = release("2.0")
    answer = upgrade(host, two)
    assert (answer["state"], answer["read"]) == ("active", {"text": "2.0", "digest": two.digest})
    back = host.back_out(two, ONE)
    assert (back["state"], back["read"]) == ("backed_out", {"text": "1.0", "digest": ONE.digest})


def test_what_the_device_has_to_say_need_not_be_the_version(host: Host, device: Path) -> None:
    assert upgrade(host, release("2.0", reads="R2 (build 7)"))["state"] == "active"
    assert device.read_text() == "R2 (build 7)\n"


def test_a_hook_that_ends_well_and_changes_nothing_is_failed(host: Host, device: Path) -> None:
    answer = upgrade(host, release("2.0", start="true"))
    assert (answer["state"], answer["read"]) == ("failed", {"text": "1.0", "digest": ONE.digest})
    assert "it says 1.0, and with hello 2.0 it has to say 2.0" in answer["detail"]
    assert host.live == "1.0"


def test_a_hook_that_fails_and_has_changed_the_device_is_brought_back(host: Host, device: Path) -> None:
    answer = upgrade(host, release("2.0", more="exit 1"))
    assert (answer["state"], answer["read"]["text"]) == ("failed", "1.0")


def test_a_prepare_that_fails_and_has_changed_the_device_is_brought_back(host: Host, device: Path) -> None:
    answer = upgrade(host, release("2.0", prepare='echo half >"$TIDEGATE_DEVICE"; exit 1'))
    assert (answer["state"], answer["changed"], answer["read"]["text"]) == ("failed", True, "1.0")
    assert device.read_text() == "1.0\n"


def test_a_prepare_that_fails_before_it_has_changed_anything_is_all_that_is_done(host: Host, device: Path) -> None:
    answer = upgrade(host, release("2.0", prepare="exit 1"))
    assert (answer["state"], answer["changed"], answer["read"]["text"]) == ("failed", False, "1.0")


STUBBORN = release("1.0", start='[ -f "$TIDEGATE_DEVICE.2" ] || echo 1.0 >"$TIDEGATE_DEVICE"')
"""Brings nothing back, and says that it did, once the device has seen 2.0."""
TWO = release("2.0", start='echo 2.0 >"$TIDEGATE_DEVICE"; touch "$TIDEGATE_DEVICE.2"')
BAD = release("2.0", start='echo 2.0 >"$TIDEGATE_DEVICE"; touch "$TIDEGATE_DEVICE.2"; exit 1')
THIRD = release("2.0", start='echo 3.0 >"$TIDEGATE_DEVICE"; touch "$TIDEGATE_DEVICE.2"')


@pytest.mark.parametrize(("what", "text", "digest"), [(BAD, "2.0", BAD.digest), (THIRD, "3.0", "")], ids=["new", "third"])
def test_a_way_back_that_is_only_said_leaves_it_stuck_with_what_it_says(
    host: Host, device: Path, what: Package, text: str, digest: str
) -> None:
    install(host, STUBBORN)
    answer = host.deploy(what, STUBBORN)
    assert (answer["state"], answer["read"]) == ("stuck", {"text": text, "digest": digest})
    assert f"it says {text}, and with hello 1.0 it has to say 1.0" in answer["detail"]


def test_a_back_out_that_is_only_said_is_owed_as_often_as_it_is_tried(host: Host, device: Path) -> None:
    install(host, STUBBORN)
    assert host.deploy(TWO, STUBBORN)["state"] == "active"
    for _time in range(2):
        answer = host.back_out(TWO, STUBBORN)
        assert (answer["state"], answer["read"]) == ("owed", {"text": "2.0", "digest": TWO.digest})
    device.write_text("1.0\n")
    assert host.back_out(TWO, STUBBORN)["state"] == "backed_out"


def test_a_way_back_whose_hook_fails_is_read_all_the_same(host: Host, device: Path) -> None:
    broken = release("1.0", more='[ ! -f "$TIDEGATE_DEVICE.2" ]')
    install(host, broken)
    assert host.deploy(TWO, broken)["state"] == "active"
    answer = host.back_out(TWO, broken)
    assert (answer["state"], answer["read"]["text"]) == ("owed", "1.0")
    assert "it says 1.0" in answer["detail"]


def test_what_is_at_rest_by_the_log_is_read_before_it_is_called_back(host: Host, device: Path) -> None:
    install(host)
    host.stage(TWO)
    device.write_text("2.0\n")
    answer = host.back_out(TWO, ONE)
    assert (answer["state"], device.read_text()) == ("backed_out", "1.0\n")


def test_what_is_live_by_the_log_is_read_before_it_is_called_started(host: Host, device: Path) -> None:
    install(host)
    assert host.deploy(TWO, ONE)["state"] == "active"
    device.write_text("1.0\n")
    answer = host.activate(TWO, ONE)
    assert (answer["state"], answer["changed"], device.read_text()) == ("active", True, "2.0\n")


def test_the_second_look_reads_again(host: Host, device: Path) -> None:
    install(host)
    host.stage(TWO)
    assert host.start(TWO, ONE)["state"] == "started"
    device.write_text("1.0\n")
    answer = host.confirm(TWO, ONE)
    assert (answer["state"], host.live) == ("failed", "1.0")
    assert "it came up and did not last: it says 1.0" in answer["detail"]


def test_the_release_that_is_left_reads_for_one_that_can_not(host: Host, device: Path) -> None:
    health = [{"name": "well", "command": ["true"], "timeout": 1}]
    start = {"command": ["sh", "-c", "true"], "timeout": 5}
    tree = package("1.0", hooks={"start": start}, health=health, settings={"device": None})
    assert host.deploy(tree)["state"] == "active"
    assert host.deploy(TWO, tree)["state"] == "active"
    answer = host.back_out(TWO, tree)
    assert (answer["state"], answer["read"]["text"]) == ("owed", "2.0")
    device.write_text("1.0\n")
    assert host.back_out(TWO, tree)["state"] == "backed_out"


def test_without_a_release_before_it_is_never_called_backed_out(host: Host, device: Path) -> None:
    assert host.deploy(ONE)["state"] == "active"
    answer = host.back_out(ONE)
    assert (answer["state"], answer["read"]["text"]) == ("owed", "1.0")
    assert "nothing is known of what it said before hello" in answer["detail"]


def told(script: str) -> dict[str, Any]:
    return {"command": ["sh", "-c", f'[ "$(cat "$TIDEGATE_DEVICE")" = 2.0 ] || exec cat "$TIDEGATE_DEVICE"; {script}'], "timeout": 1}


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 2.0; exit 3", "ended with status 3"),
        ("true", "printed nothing"),
        ("echo", "printed something else"),
        ("echo 2.0 >&2", "printed nothing"),
        ("printf '2.0\\n2.0\\n'", "printed something else"),
        ("printf ' 2.0'", "printed something else"),
        ("printf '2.0\\033[2K'", "printed something else"),
        ("printf '2.0\\303\\244'", "printed something else"),
        ("printf '%0201d' 0", "printed something else"),
        ("yes", "did not end within 1 s"),
        ("echo 2.0; sleep 30", "did not end within 1 s"),
    ],
)
def test_what_can_not_be_read_is_never_good(host: Host, device: Path, script: str, reason: str) -> None:
    install(host)
    answer = host.deploy(release("2.0", read=told(script)), ONE)
    assert (answer["state"], answer["read"]["text"]) == ("failed", "1.0")
    assert "can't be read" in answer["detail"]
    assert reason in answer["detail"]


def test_what_can_not_be_read_on_the_way_back_is_stuck(host: Host, device: Path) -> None:
    one = release("1.0", read={"command": ["sh", "-c", '[ ! -f "$TIDEGATE_DEVICE.2" ] && cat "$TIDEGATE_DEVICE"'], "timeout": 1})
    install(host, one)
    answer = host.deploy(BAD, one)
    assert (answer["state"], answer["read"]) == ("stuck", {"text": "", "digest": ""})


def test_what_is_left_running_holds_no_reading_up(host: Host, device: Path) -> None:
    read = {"command": ["sh", "-c", 'cat "$TIDEGATE_DEVICE"; (sleep 20) &'], "timeout": 5}
    assert upgrade(host, release("2.0", read=read))["state"] == "active"


def test_what_it_says_on_standard_error_is_in_its_log(host: Host, device: Path) -> None:
    read = {"command": ["sh", "-c", 'echo "asking it" >&2; cat "$TIDEGATE_DEVICE"'], "timeout": 5}
    assert upgrade(host, release("2.0", read=read))["state"] == "active"
    assert host.home.output_of("read").read_text() == "asking it\n" * 2


def test_a_setting_that_is_read_is_not_shown(host: Host, device: Path) -> None:
    host.settings["secret"] = "horse-battery-9"  # noqa: S105 - an invented one
    install(host)
    script = 'grep -q 1.0 "$TIDEGATE_DEVICE" && exec cat "$TIDEGATE_DEVICE"; echo horse-battery-9'
    read = {"command": ["sh", "-c", script], "timeout": 5}
    stubborn = release("1.1", start='[ -f "$TIDEGATE_DEVICE.2" ] || echo 1.0 >"$TIDEGATE_DEVICE"', reads="1.0", read=read)
    host.deploy(stubborn, ONE)
    answer = host.deploy(release("2.0", start='echo 2.0 >"$TIDEGATE_DEVICE"; touch "$TIDEGATE_DEVICE.2"', read=read), stubborn)
    assert answer["state"] == "stuck"
    assert "horse-battery-9" not in str(answer)


@pytest.mark.parametrize("later", ["1.0", "2.0"])
def test_a_host_that_went_back_by_itself_is_read_before_it_says_so(host: Host, device: Path, later: str) -> None:
    two = release("2.0")
    install(host)
    host.stage(two)
    host.confirm_within = 0.4
    host.start(two, ONE)
    wait_until(lambda: host.events[-1] == "restored" and not host.home.guard.exists())
    assert device.read_text().strip() == "1.0"
    device.write_text(later)
    answer = host.confirm(two, ONE)
    assert (answer["state"], answer["unconfirmed"], answer["read"]["text"]) == ("failed", True, "1.0")
    assert device.read_text().strip() == "1.0"
    assert host.events.count("failed") == (1 if later == "1.0" else 2)  # which was brought back once more
