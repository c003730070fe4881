# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host says since when the entries of its sets are there, and no log that somebody has written to makes it say another time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import set_moments
from ansible_collections.tidegate.release.plugins.module_utils.set_moments import moments_of

DAY = 86400.0
NOW = time.time()


def stamp(moment: float) -> str:
    """As dpkg writes it: in the time of the host."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def removed(moment: float, package: str = "gone:all") -> str:
    return f"{stamp(moment)} remove {package} 1.0 <none>\n"


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A host with nothing on it."""
    monkeypatch.setattr(set_moments, "_LISTS", str(tmp_path))
    monkeypatch.setattr(set_moments, "_LOGS", (str(tmp_path / "log.1"), str(tmp_path / "log")))
    monkeypatch.setattr(set_moments, "rpm_databases", list)
    return tmp_path


def gone(host: Path, text: str | bytes) -> dict[str, float]:
    (host / "log").write_bytes(text if isinstance(text, bytes) else text.encode())
    return moments_of("packages", {}, "/nowhere")


def test_a_package_is_there_since_its_list_of_files_was_written_whatever_the_log_says(host: Path) -> None:
    for name in ("one", "two:amd64"):
        (host / f"{name}.list").write_text("/.\n")
        os.utime(host / f"{name}.list", (0, 0))
    (host / "log").write_text(f"{stamp(NOW - 9 * DAY)} install one:all <none> 1.0\n")
    found = moments_of("packages", {"one:all": "1.0", "two:amd64": "2", "three:all": "3"}, "/nowhere")
    assert found == {"one:all": (host / "one.list").stat().st_ctime, "two:amd64": (host / "two:amd64.list").stat().st_ctime}
    assert min(found.values()) > NOW - DAY


def test_a_package_went_when_the_log_says_it(host: Path) -> None:
    last = int(NOW - DAY)
    (host / "log.1").write_text(removed(NOW - 40 * DAY, "older:amd64"))
    lines = [
        removed(NOW - 5 * DAY),
        f"{stamp(NOW - 4 * DAY)} install gone:all <none> 1.0\n",
        f"{stamp(NOW - 3 * DAY)} install back:all <none> 1.0\n",
        removed(NOW - 2 * DAY, "here:all"),
        removed(last),
    ]
    (host / "log").write_text("".join(lines))
    found = moments_of("packages", {"here:all": "1"}, "/nowhere")
    assert found == {"gone:all": last, "older:amd64": int(NOW - 40 * DAY)}


ODD: dict[str, str | bytes] = {
    "nothing": "",
    "no line": "\n\n\n",
    "not UTF-8": b"\xff\xfe" * 50 + b"\n",
    "NUL": b"\0" * 100 + b"\n",
    "another form": f"{stamp(NOW - DAY)} remove\n{stamp(NOW - DAY)} remove gone:all\t1\n",
    "a date that there is not": "2026-02-31 10:00:00 remove gone:all 1 <none>\n0000-00-00 00:00:00 remove gone:all 1 <none>\n",
    "digits of another script": "\uff12\uff10\uff12\uff16-01-01 10:00:00 remove gone:all 1 <none>\n",
    "the future": removed(NOW + DAY),
    "the last year": "9999-12-31 23:59:59 remove gone:all 1 <none>\n",
    "cut": removed(NOW - DAY)[:-1],
    "a path": f"{stamp(NOW - DAY)} remove ../../etc:all 1 <none>\n",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_what_is_no_line_of_dpkg_says_nothing(host: Path, text: str | bytes) -> None:
    assert gone(host, text) == {}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_what_is_no_line_of_dpkg_hides_no_other(host: Path, text: str | bytes) -> None:
    before = removed(NOW - 2 * DAY, "other:all")
    after = removed(NOW - DAY, "last:all")
    both = before.encode() + (text if isinstance(text, bytes) else text.encode()) + b"\n" + after.encode()
    found = gone(host, both)
    found.pop("gone:all", None)  # which is whole by now where it was cut
    assert found == {"other:all": int(NOW - 2 * DAY), "last:all": int(NOW - DAY)}


def test_a_line_that_was_written_afterwards_to_be_in_some_window_is_not_believed(host: Path) -> None:
    lines = [removed(NOW - 3 * DAY, "other:all"), removed(NOW - DAY), removed(NOW - 2 * DAY)]
    assert gone(host, "".join(lines)) == {"other:all": int(NOW - 3 * DAY)}
    lines[2] = removed(NOW + DAY)
    assert gone(host, "".join(lines)) == {"other:all": int(NOW - 3 * DAY)}


def test_a_clock_that_goes_back_an_hour_in_autumn_is_no_forgery(host: Path) -> None:
    assert gone(host, removed(NOW - DAY, "other:all") + removed(NOW - DAY - 3600))["gone:all"] == int(NOW - DAY - 3600)


def test_of_a_log_without_end_the_last_lines_are_read(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = removed(NOW - DAY)
    monkeypatch.setattr(set_moments, "_LOG_SIZE", 3 * len(last))
    assert gone(host, removed(NOW - 2 * DAY, "early:all") * 10_000 + last) == {"early:all": int(NOW - 2 * DAY), "gone:all": int(NOW - DAY)}
    assert gone(host, b"x" * 1_000_000 + last.encode()) == {}, "where it was cut there is no line"
    monkeypatch.setattr(set_moments, "_LOG_SIZE", len(last))
    assert gone(host, b"x" + last.encode()) == {}, "nor where what is left looks like one"
    monkeypatch.setattr(set_moments, "_LOG_SIZE", 1000)
    monkeypatch.setattr(set_moments, "_GONE", 1)
    assert gone(host, removed(NOW - 2 * DAY, "early:all") + last) == {"gone:all": int(NOW - DAY)}


@pytest.mark.parametrize("what", ["pipe", "link", "folder", "secret"])
def test_what_is_in_the_logs_place_keeps_nobody_waiting(host: Path, what: str) -> None:
    log = host / "log"
    (host / "elsewhere").write_text(removed(NOW - DAY))
    make: dict[str, Any] = {
        "pipe": lambda: os.mkfifo(log),
        "link": lambda: log.symlink_to(host / "elsewhere"),
        "folder": log.mkdir,
        "secret": lambda: log.write_text(removed(NOW - DAY)) and log.unlink(),
    }
    make[what]()
    assert moments_of("packages", {}, "/nowhere") == {}


def test_files_are_there_since_the_file_system_noted_it_and_what_went_since_its_directory_changed(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = host / "system"
    (place / "multi.wants").mkdir(parents=True)
    unit, link = place / "own.service", place / "multi.wants" / "own.service"
    unit.write_text("[Service]\n")
    link.symlink_to("../own.service")
    os.utime(unit, (0, 0))
    monkeypatch.setattr(set_moments, "UNIT_PLACES", (str(place), str(host / "nowhere" / "system")))
    found = moments_of("units", {str(unit): "x", str(link): "x", f"{place}/gone.service": "x", "/odd\0name": "x"}, "/nowhere")
    assert found[str(unit)] == unit.stat().st_ctime > NOW - DAY
    assert found[str(link)] == link.lstat().st_ctime
    assert found[f"{place}/"] == place.stat().st_ctime
    assert found[f"{link.parent}/"] == link.parent.stat().st_ctime
    assert found[f"{host}/"] == host.stat().st_ctime
    assert not {f"{place}/gone.service", f"{unit}/", f"{host}/nowhere/", "/"} & found.keys()


def test_what_the_clock_says_lies_ahead_is_not_known(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (host / "one.list").write_text("")
    monkeypatch.setattr(set_moments.time, "time", lambda: NOW - DAY)
    assert moments_of("packages", {"one:all": "1"}, "/nowhere") == {}


LISTEN = "import socket, sys; server = socket.create_server(('127.0.0.1', 0)); print(server.getsockname()[1], flush=True); sys.stdin.read()"


def test_a_listener_is_there_since_its_program_was_started() -> None:
    def listen() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with socket.create_server(("127.0.0.1", 0)) as server, listen() as first:
        assert first.stdout
        ports = [server.getsockname()[1], int(first.stdout.readline())]
        with listen() as second:
            assert second.stdout
            ports.append(int(second.stdout.readline()))
            found = moments_of("listeners", {}, "/nowhere")
            second.communicate()
        first.communicate()
    moments = [found[f"tcp 127.0.0.1:{port}"] for port in ports]
    assert moments == sorted(moments)
    assert len({*moments}) == len(moments)
    assert NOW - 9 * DAY < moments[0] < NOW + DAY
    assert not {f"tcp 127.0.0.1:{port}" for port in ports} & moments_of("listeners", {}, "/nowhere").keys()


RPM = """#!/bin/sh
printf 'kernel:x86_64\t100\nkernel:x86_64\t200\nodd:noarch\t(none)\nlater:noarch\t99999999999\nbash:x86_64\t50\n\xff\n'
"""


def test_rpm_says_when_each_package_was_installed(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_moments, "rpm_databases", lambda: ["/var/lib/rpm"])
    monkeypatch.setenv("PATH", f"{host}:/usr/bin:/bin")
    (host / "rpm").write_text(RPM)
    (host / "rpm").chmod(0o755)
    assert moments_of("packages", {"kernel:x86_64": "1 2", "bash:x86_64": "5"}, "/nowhere") == {"kernel:x86_64": 200, "bash:x86_64": 50}
    (host / "rpm").write_text("#!/bin/sh\nexit 1\n")
    assert moments_of("packages", {"bash:x86_64": "5"}, "/nowhere") == {}
    monkeypatch.setenv("PATH", str(host / "nowhere"))
    assert moments_of("packages", {"bash:x86_64": "5"}, "/nowhere") == {}
