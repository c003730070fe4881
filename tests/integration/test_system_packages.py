# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases that bring packages of Debian, with the real dpkg and apt, each test in a root directory of its own."""

from __future__ import annotations

import fcntl
import io
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.release_facts import release_facts
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package_files import rpm_header
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.system_packages import CONFIG, NOREPLACE
from apart import apart, build_deb, build_rpm
from bed import HOOKS, Host, Package, package
from waiting import wait_until

LOCK = "/var/lib/dpkg/lock-frontend"
DATABASE = Path("/var/lib/dpkg/status")
# Healthy is what has its own version installed; the service of the bed says so too.
HEALTH = [{"name": "runs", "command": ["bin/healthy"], "timeout": 5}]


def on_a_host(test: Callable[[Host], None]) -> Callable[[Path], None]:
    def run(tmp_path: Path) -> None:
        before = DATABASE.read_bytes()
        apart(lambda: test(Host(Path("/opt/tidegate"))), tmp_path)
        assert DATABASE.read_bytes() == before  # this machine's own

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def release(
    version: str, *debs: bytes, files: Mapping[str, bytes] | None = None, hooks: Mapping[str, Any] | None = None, **said: Any
) -> Package:
    """A release with these packages, and more files and hooks; the rest is said of its packages."""
    files, contents = dict(files or {}), []
    for deb in debs:
        shown = subprocess.run(
            ["dpkg-deb", "--show", "--showformat", "${Package} ${Version} ${Architecture}", "/dev/stdin"],
            input=deb,
            check=True,
            capture_output=True,
        )
        name, number, architecture = shown.stdout.decode().split()
        files[f"debs/{name}.deb"] = deb
        contents.append({"path": f"debs/{name}.deb", "name": name, "version": number, "architecture": architecture})
    options = {"format": "deb", "files": "debs/*.deb", "hold": True, "config": "keep", "on_first": "refuse", "timeout": 60}
    return package(
        version, files, health=HEALTH, hooks=HOOKS if hooks is None else hooks, packages={**options, "contents": contents, **said}
    )


LIB1, LIB2 = build_deb("tg-lib", "1.0"), build_deb("tg-lib", "2.0")
APP1 = build_deb("tg-app", "1.0", "Depends: tg-lib (>= 1.0)\n")
APP2 = build_deb("tg-app", "2.0", "Depends: tg-lib (>= 2.0)\n")
NEW2 = build_deb("tg-new", "2.0")
ONE = release("1.0", LIB1, APP1)
TWO = release("2.0", APP2, LIB2, NEW2)


def installed() -> dict[str, str]:
    """What dpkg has of the packages of the tests: the first three letters of its own table, and the version."""
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev} ${Version}\\n", "tg-*"], check=False, capture_output=True, text=True
    )
    rows = [line.split() for line in asked.stdout.splitlines()]
    return {row[0]: f"{row[1]} {row[2]}" for row in rows if row[1] not in ("un", "rc", "pn")}


def dpkg(*arguments: str, deb: bytes = b"") -> None:
    """Somebody else's change."""
    Path("/srv/other.deb").write_bytes(deb)
    subprocess.run(["dpkg", *arguments, *(["/srv/other.deb"] if deb else [])], check=True, capture_output=True)


def version(name: str) -> str:
    return Path(f"/usr/share/{name}/version").read_text().strip()


@on_a_host
def test_packages_come_go_up_and_come_back(host: Host) -> None:
    assert host.deploy(ONE)["state"] == "active"
    assert installed() == {"tg-app": "hi 1.0", "tg-lib": "hi 1.0"}
    Path("/etc/tg-app.conf").write_text("mine\n")
    assert host.deploy(TWO, ONE)["state"] == "active"
    assert installed() == {"tg-app": "hi 2.0", "tg-lib": "hi 2.0", "tg-new": "hi 2.0"}
    assert Path("/etc/tg-app.conf").read_text() == "mine\n"  # who edited it keeps it
    assert Path("/etc/tg-lib.conf").read_text() == "of 2.0\n"
    assert host.back_out(TWO, ONE)["state"] == "backed_out"
    assert installed() == {"tg-app": "hi 1.0", "tg-lib": "hi 1.0"}
    assert Path("/etc/tg-app.conf").read_text() == "mine\n"
    assert host.back_out(ONE)["state"] == "backed_out"
    assert installed() == {}
    assert Path("/etc/tg-app.conf").read_text() == "mine\n"


@on_a_host
def test_what_did_not_change_is_left_alone_and_what_did_is_put_right(host: Host) -> None:
    host.deploy(ONE)
    log = host.home.output_of("packages")
    log.unlink()
    more = release("1.1", LIB1, APP1, NEW2)
    assert host.deploy(more, ONE)["state"] == "active"
    assert re.findall(r"Unpacking (\S+)", log.read_text()) == ["tg-new"]
    # The same version from another file is another package.
    rebuilt = release("1.2", build_deb("tg-lib", "1.0", files=(("usr/share/tg-lib/more", "x"),)), APP1, NEW2)
    assert host.deploy(rebuilt, more)["state"] == "active"
    assert Path("/usr/share/tg-lib/more").exists()
    Path("/usr/share/tg-lib/more").unlink()
    answer = host.activate(rebuilt, more)
    assert answer["state"] == "active"
    assert answer["detail"] == "packages were put right: /usr/share/tg-lib/more of tg-lib was changed or removed"
    assert Path("/usr/share/tg-lib/more").exists()
    assert host.activate(rebuilt, more)["changed"] is False


@on_a_host
def test_a_package_is_not_taken_for_the_same_one_of_another_architecture(host: Host) -> None:
    own = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
    other = "i386" if own != "i386" else "amd64"
    mine, theirs = (build_deb("tg-lib", "1.0", "Multi-Arch: same\n", architecture=one) for one in (own, other))
    dpkg("--add-architecture", other)
    dpkg("-i", deb=theirs)
    one = release("1.0", mine)
    assert host.deploy(one)["state"] == "active"

    def there() -> list[str]:
        shown = ["dpkg-query", "-W", "-f", "${Package}:${Architecture} ${db:Status-Abbrev}\n", "tg-*"]
        return sorted(subprocess.run(shown, check=True, capture_output=True, text=True).stdout.splitlines())

    assert there() == sorted([f"tg-lib:{own} hi ", f"tg-lib:{other} ii "])
    assert host.activate(one)["changed"] is False
    Path("/usr/share/tg-lib/version").unlink()
    facts = release_facts(str(host.root))[0]
    assert facts["packages"] == ["/usr/share/tg-lib/version of tg-lib was changed or removed"]
    assert facts["since"]["packages"] == [Path("/usr/share/tg-lib").stat().st_ctime] * 2
    # That one can't go to another version without the other, which is nobody's here.
    newer = release("2.0", build_deb("tg-lib", "2.0", "Multi-Arch: same\n", architecture=own))
    with pytest.raises(HostError, match=f"tg-lib:{other} would have to change with them"):
        host.stage(newer)
    assert host.back_out(one)["state"] == "backed_out"
    assert there() == sorted([f"tg-lib:{own} rc ", f"tg-lib:{other} ii "])


@on_a_host
def test_a_dependency_that_is_nowhere_refuses_before_anything_changes(host: Host) -> None:
    host.deploy(ONE)
    calls = host.calls
    with pytest.raises(HostError, match=r"can't be installed: tg-app : Depends: tg-lib \(>= 2.0\) but 1.0 is to be installed"):
        host.stage(release("2.0", APP2, LIB1))
    needy = build_deb("tg-needy", "1.0", "Depends: tg-nowhere (>= 3)\n")
    with pytest.raises(HostError, match=r"tg-needy : Depends: tg-nowhere .* but it is not installable"):
        host.stage(release("3.0", LIB1, APP1, needy))
    # What is installed may not have to go either.
    rival = build_deb("tg-rival", "1.0", "Conflicts: tg-other\n")
    dpkg("--install", deb=build_deb("tg-other", "1.0"))
    with pytest.raises(HostError, match="tg-other would have to change with them, which no file of the release is for"):
        host.stage(release("4.0", LIB1, APP1, rival))
    # What was there when it was staged may be gone.
    more = release("5.0", LIB1, APP1, build_deb("tg-needy", "2.0", "Depends: tg-other\n"))
    assert host.stage(more)["state"] == "staged"
    dpkg("--remove", "tg-other")
    with pytest.raises(HostError, match="tg-needy : Depends: tg-other but it is not installable"):
        host.activate(more, ONE)
    assert host.calls == calls
    assert (host.live, installed()) == ("1.0", {"tg-app": "hi 1.0", "tg-lib": "hi 1.0"})


@on_a_host
def test_a_package_from_elsewhere_or_of_another_release_is_refused(host: Host) -> None:
    dpkg("--install", deb=LIB1)
    with pytest.raises(HostError, match=r"tg-lib 1\.0 is here already and no release brought that"):
        host.stage(ONE)
    assert installed() == {"tg-lib": "ii 1.0"}
    taken = release("1.0", LIB1, APP1, on_first="remove")
    assert host.deploy(taken)["state"] == "active"
    assert host.back_out(taken)["state"] == "backed_out"
    assert installed() == {}
    host.deploy(ONE)
    (host.root / "hello").rename(host.root / "other")
    for record in (host.root / "other" / "releases").glob("*/release.json"):
        record.chmod(0o644)
    with pytest.raises(HostError, match=r"the package tg-app belongs to other 1\.0 here; have one release bring it"):
        host.stage(release("5.0", APP1))


@on_a_host
def test_nobody_goes_back_to_a_package_that_another_release_has_by_now(host: Host) -> None:
    host.deploy(ONE)
    shutil.copytree(host.root / "hello", "/srv/other", symlinks=True)
    two = release("2.0", NEW2)
    assert host.deploy(two, ONE)["state"] == "active"
    shutil.move("/srv/other", host.root / "other")
    calls = host.calls
    with pytest.raises(HostError, match=r"the package tg-app belongs to other 1\.0 here; have one release bring it"):
        host.back_out(two, ONE)
    assert (host.live, installed(), host.calls) == ("2.0", {"tg-new": "hi 2.0"}, calls)
    # One that can't be read keeps nobody from the way back.
    (host.root / "other" / "current").unlink()
    (host.root / "other" / "current").touch()
    assert host.back_out(two, ONE)["state"] == "backed_out"


@on_a_host
def test_a_maintainers_script_that_fails_brings_the_host_back(host: Host) -> None:
    host.deploy(ONE)
    bad = release("2.0", LIB2, build_deb("tg-app", "2.0", postinst="echo it is the disk >&2; exit 1"), NEW2)
    answer = host.deploy(bad, ONE)
    assert (answer["state"], answer["version"]) == ("failed", "1.0")
    assert "it is the disk" in answer["detail"]
    assert installed() == {"tg-app": "hi 1.0", "tg-lib": "hi 1.0"}
    assert (version("tg-app"), host.running) == ("1.0", "1.0")
    host.back_out(bad, ONE)
    assert host.back_out(ONE)["state"] == "backed_out"
    # The first release of a host goes altogether.
    assert host.deploy(bad)["state"] == "failed"
    assert installed() == {}


def kill_activation(host: Host, target: Package, before: Package | None) -> None:
    """Activate a release, a script of which says that it began and waits, and kill that in the middle of it."""
    child = os.fork()
    if child == 0:
        host.activate(target, before)
        os._exit(0)
    wait_until(Path("/srv/began").exists, 30)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with host.home.locked(30):  # all that it had started is gone
        pass


@pytest.mark.parametrize(("script", "way"), [("postinst", "again"), ("preinst", "back"), ("preinst", "away")])
def test_what_a_kill_leaves_is_healed(tmp_path: Path, script: str, way: str) -> None:
    def scenario(host: Host) -> None:
        # Only the first time: what is killed must not be in the way of what follows.
        slow = build_deb("tg-app", "2.0", "Depends: tg-lib (>= 2.0)\n", **{script: "[ -e /srv/began ] || { : >/srv/began; sleep 600; }"})
        two = release("2.0", LIB2, slow, NEW2)
        before = None if way == "away" else ONE
        if before:
            host.deploy(before)
        host.stage(two)
        kill_activation(host, two, before)
        # Half-configured, or half-installed and to be installed again before anything else.
        assert installed()["tg-app"] == {"again": "iF 2.0", "back": "iHR 1.0", "away": "iHR 2.0"}[way]
        if way == "again":
            assert host.activate(two, before)["state"] == "active"
            assert installed() == {"tg-app": "hi 2.0", "tg-lib": "hi 2.0", "tg-new": "hi 2.0"}
        else:
            answer = host.back_out(two, before)
            assert answer["state"] == "backed_out", answer
            assert installed() == ({"tg-app": "hi 1.0", "tg-lib": "hi 1.0"} if before else {})
        assert subprocess.run(["dpkg", "--audit"], check=True, capture_output=True).stdout == b""

    on_a_host(scenario)(tmp_path)


@on_a_host
def test_what_dpkg_says_in_the_end_counts(host: Host) -> None:
    host.deploy(ONE)
    hook = Path("/etc/apt/apt.conf.d/of-a-test")
    hook.write_text('DPkg::Post-Invoke {"dpkg --remove tg-new";};\n')
    answer = host.deploy(TWO, ONE)
    assert (answer["state"], host.running) == ("failed", "1.0")
    assert "after the installation tg-new 2.0 is not installed" in answer["detail"]
    assert installed() == {"tg-app": "hi 1.0", "tg-lib": "hi 1.0"}


@on_a_host
def test_somebody_elses_lock_is_waited_for_and_not_for_ever(host: Host) -> None:
    two = release("2.0", LIB2, APP2, timeout=1)
    host.deploy(ONE)
    host.stage(two)
    calls = host.calls
    holder = hold_the_lock(600)
    try:
        with pytest.raises(HostError, match="somebody else has been changing packages for more than 1 s"):
            host.activate(two, ONE)
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
    assert (installed(), host.calls) == ({"tg-app": "hi 1.0", "tg-lib": "hi 1.0"}, calls)
    # Taken behind that look, it keeps no host from going back.
    hold = (
        b'#!/bin/sh\npython3 -c \'import fcntl, os, time; lock = open("/var/lib/dpkg/lock-frontend", "r+b"); '
        b'fcntl.lockf(lock, fcntl.LOCK_EX); open("/srv/locked", "w").write(str(os.getpid())); time.sleep(600)\' &\n'
        b"while ! [ -s /srv/locked ]; do sleep 0.1; done\n"
    )
    prepare = {"prepare": {"command": ["bin/hold"], "timeout": 20}}
    three = release("3.0", LIB2, APP2, files={"bin/hold": hold}, hooks={**HOOKS, **prepare}, timeout=1)
    Path("/srv/locked").unlink()
    host.stage(three)
    answer = host.activate(three, ONE)
    os.kill(int(Path("/srv/locked").read_text()), signal.SIGKILL)
    assert "somebody else has been changing packages for more than 1 s" in answer["detail"]
    assert (answer["state"], host.running, installed()) == ("failed", "1.0", {"tg-app": "hi 1.0", "tg-lib": "hi 1.0"})
    patient = release("2.1", LIB2, APP2)
    host.stage(patient)
    holder = hold_the_lock(1)
    assert host.activate(patient, ONE)["state"] == "active"
    os.waitpid(holder, 0)


def hold_the_lock(seconds: float) -> int:
    """Start a process that changes packages for so long, and return its id."""
    Path("/srv/locked").unlink(missing_ok=True)
    child = os.fork()  # the lock is a process's own
    if child == 0:
        with open(LOCK, "r+b") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            Path("/srv/locked").touch()
            time.sleep(seconds)
            os._exit(0)
    wait_until(Path("/srv/locked").exists, 10)
    return child


@on_a_host
def test_facts_say_what_was_changed_and_what_moved(host: Host) -> None:
    host.deploy(ONE)

    def found() -> list[str]:
        (entry,) = release_facts(str(host.root))
        assert "error" not in entry
        return list(entry["packages"])

    def in_this_test() -> list[bool]:
        """Whether each moment that the host says of it is no earlier than the first change; a log has whole seconds."""
        (entry,) = release_facts(str(host.root))
        return [at > Path("/etc/tg-app.conf").stat().st_ctime - 1 for at in entry["since"].get("packages", [])]

    assert found() == []
    Path("/etc/tg-app.conf").write_text("mine\n")
    assert found() == []  # a conffile is for whoever runs the host
    Path("/usr/share/tg-app/version").write_text("changed\n")
    dpkg("--install", deb=LIB2)
    assert found() == [
        "/usr/share/tg-app/version of tg-app was changed or removed",
        "tg-lib is installed as 2.0 all, and its release has 1.0 all",
    ]
    dpkg("--unpack", deb=LIB1)
    assert found()[1:] == ["tg-lib 1.0 is not wholly installed"]
    assert in_this_test() == [True, True]
    dpkg("--remove", "--force-depends", "tg-lib")
    assert in_this_test() == [True, True]
    subprocess.run(["dpkg", "--set-selections"], input=b"tg-app install\n", check=True)
    assert found() == [
        "/usr/share/tg-app/version of tg-app was changed or removed",
        "tg-app 1.0 is not held, so an upgrade may replace it",
        "tg-lib 1.0 is not installed",
    ]
    assert in_this_test() == []  # of what is held no host says since when
    answer = host.activate(ONE)
    assert answer["state"] == "active", answer
    assert found() == []


@on_a_host
def test_a_release_may_leave_packages_free_and_replace_configuration(host: Host) -> None:
    Path("/etc/dpkg/dpkg.cfg.d/small").write_text("path-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\n")
    documented = (("usr/share/doc/tg-lib/notes", "x"), ("usr/share/doc/tg-lib/copyright", "x"))
    host.deploy(ONE)
    Path("/etc/tg-lib.conf").write_text("mine\n")
    free = release("1.1", build_deb("tg-lib", "1.1", files=documented), APP1, hold=False, config="replace")
    assert host.deploy(free, ONE)["state"] == "active"
    assert installed() == {"tg-app": "ii 1.0", "tg-lib": "ii 1.1"}
    assert Path("/etc/tg-lib.conf").read_text() == "of 1.1\n"
    doc = Path("/usr/share/doc/tg-lib")
    assert ((doc / "copyright").exists(), (doc / "notes").exists()) == (True, False)
    assert release_facts(str(host.root))[0]["packages"] == []  # what this host does not want is nothing that it lacks
    # A release that brings none takes them away, and brings them back.
    plain = package("1.2")
    assert host.deploy(plain, free)["state"] == "active"
    assert installed() == {}
    assert host.back_out(plain, free)["state"] == "backed_out"
    assert installed() == {"tg-app": "ii 1.0", "tg-lib": "ii 1.1"}


def rpm_release(version: str, rpms: Mapping[str, bytes]) -> Package:
    """A release with these packages of rpm, each with the version of the release."""
    contents = [{"path": f"rpms/{name}.rpm", "name": name, "version": f"{version}-1", "architecture": "noarch"} for name in rpms]
    options = {"format": "rpm", "files": "rpms/*.rpm", "hold": False, "config": "keep", "on_first": "refuse", "timeout": 60}
    files = {f"rpms/{name}.rpm": rpm for name, rpm in rpms.items()}
    return package(version, files, health=HEALTH, packages={**options, "contents": contents})


def installed_rpms() -> list[str]:
    # Debian's rpm has its database in root's home.
    environment = {**os.environ, "HOME": "/root"}
    return sorted(subprocess.run(["rpm", "-qa", "tg-*"], env=environment, check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.skipif(not shutil.which("rpmbuild"), reason="needs rpmbuild")
@pytest.mark.parametrize("way", ["forward", "killed"])
def test_packages_of_rpm_come_go_up_and_come_back(tmp_path: Path, way: str) -> None:
    wait = "f = io.open('/srv/began'); if f == nil then io.open('/srv/began', 'w'):close(); while true do end end"
    one = rpm_release("1.0", {"tg-app": build_rpm("tg-app", "1.0", "Requires: tg-lib >= 1.0"), "tg-lib": build_rpm("tg-lib", "1.0")})
    needs = "Requires: tg-lib >= 2.0"
    app = build_rpm("tg-app", "2.0", needs, pre=wait if way == "killed" else "")
    two = rpm_release("2.0", {"tg-app": app, "tg-lib": build_rpm("tg-lib", "2.0"), "tg-new": build_rpm("tg-new", "2.0")})

    # What archive reads is what rpm wrote.
    header = rpm_header(io.BytesIO(app))
    assert {key: header[key] for key in ("name", "version", "release", "licence", "architecture")} == {
        **{"name": "tg-app", "version": "2.0", "release": "1", "licence": "MIT", "architecture": "noarch"}
    }
    assert set(header["flags"]) == {0, CONFIG | NOREPLACE}

    def scenario(host: Host) -> None:
        assert host.deploy(one)["state"] == "active"
        assert installed_rpms() == ["tg-app-1.0-1.noarch", "tg-lib-1.0-1.noarch"]
        with pytest.raises(HostError, match=r"can't be installed: .*tg-lib >= 2\.0 is needed by tg-app-2.0-1.noarch"):
            host.stage(rpm_release("2.0", {"tg-app": app}))
        Path("/etc/tg-app.conf").write_text("mine\n")
        if way == "killed":
            host.stage(two)
            kill_activation(host, two, one)
            assert len(installed_rpms()) > 2  # the new ones beside the old ones
        assert host.deploy(two, one)["state"] == "active"
        assert installed_rpms() == ["tg-app-2.0-1.noarch", "tg-lib-2.0-1.noarch", "tg-new-2.0-1.noarch"]
        Path("/usr/share/tg-lib/version").write_text("changed\n")
        assert release_facts(str(host.root))[0]["packages"] == ["/usr/share/tg-lib/version of tg-lib was changed or removed"]
        assert host.back_out(two, one)["state"] == "backed_out"
        assert installed_rpms() == ["tg-app-1.0-1.noarch", "tg-lib-1.0-1.noarch"]
        assert Path("/etc/tg-app.conf").read_text() == "mine\n"
        assert release_facts(str(host.root))[0]["packages"] == []
        assert host.back_out(one)["state"] == "backed_out"
        assert installed_rpms() == []

    on_a_host(scenario)(tmp_path)
