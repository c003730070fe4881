# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What could not start on a host is not archived."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError

MakeRelease = Callable[..., Path]
SCRIPT = b"#!/bin/sh\n"
FILES = {"bin/start": SCRIPT, "data": b"x", "bin/inner/run": SCRIPT}


def refused(release: Path) -> str:
    with pytest.raises(DocumentError) as caught:
        read_release(release)
    assert len(caught.value.problems) == 1, caught.value
    return str(caught.value)


COMMANDS = {
    "bin/strat": "bin/strat is not in the payload; did you mean bin/start?",
    "./bin/nothing-like-it": "is not in the payload; put it there, or give the absolute path that it has on the hosts",
    "../outside": "is not in the payload",
    "${tree}/bin/stop-it-all": "is not in the payload",
    "bin": "bin is neither in the payload nor in the PATH here",
    "bin/": "bin/ is a directory; name the program in it",
    "bin/inner": "bin/inner is a directory",
    "./data": "./data may not be executed; allow it with chmod a+x data",
    "start": "start is neither in the payload nor in the PATH here; did you mean bin/start?",
    "data": "data is neither in the payload nor in the PATH here; did you mean ./data?",
    "no-such-program-anywhere": "nor in the PATH here; give the absolute path that it has on the hosts",
    "data/x": "data/x is not in the payload",
    "${tree}": "${tree} is a directory; name the program in it",
    "${tree}/": "${tree}/ is a directory",
    "${tree}bin/start": "is not in the payload",
    "${tree}/${tree}/bin/start": "is not in the payload",
    "bin/${version}": "bin/1.0 is not in the payload",
    "${release}/${digest}": "is not in the payload",
    "bin/here": "bin/here is a directory",
}


@pytest.mark.parametrize("program", COMMANDS)
@pytest.mark.parametrize("where", ["start", "remove", "health"])
def test_a_command_that_no_host_could_run_is_refused_with_its_line(make_release: MakeRelease, program: str, where: str) -> None:
    command: dict[str, Any] = {"command": [program], "timeout": 5}
    changes = {"health": [{"name": "x", **command}]} if where == "health" else {"hooks": {where: command}}
    release = make_release(files=FILES, **changes)
    (release / "payload" / "bin" / "here").symlink_to(".")
    said = refused(release)
    assert COMMANDS[program] in said
    what = "the health check 'x' can't start" if where == "health" else f"the hook {where} can't start"
    assert what in said
    assert re.match(r".*release\.yml:\d+: ", said)


@pytest.mark.parametrize(
    "program",
    [
        "bin/start",
        "./bin/start",
        "bin/../bin/start",
        "${tree}/bin/start",
        "link",
        "./link",
        "/opt/anything",
        "${state}/made",
        "bin/${release}-${version}",
        "bin/${next}",
        "systemctl",
        "sh",
        "java",
        "sbin/run",
    ],
)
def test_what_could_start_is_taken(make_release: MakeRelease, program: str) -> None:
    release = make_release(files=FILES, hooks={"start": {"command": [program.replace("link", "./link")]}})
    (release / "payload" / "link").symlink_to("bin/start")
    (release / "payload" / "sbin").symlink_to("bin/inner")
    (release / "payload" / "bin" / "hello-1.0").symlink_to("start")
    read_release(release)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"#!/bin/sh\r\necho x\r\n", "has a first line that ends with CR LF; save it with the line ends of Unix"),
        (b"#!/usr/bin/env python3\r\n", "has a first line that ends with CR LF"),
        (b"\xef\xbb\xbf#!/bin/sh\n", "begins with a byte order mark"),
        (b"echo x\n", "is neither a program nor a script with #! in its first line; begin it with a line like #!/bin/sh"),
        (b"", "is neither a program nor a script"),
        (b"\n#!/bin/sh\n", "is neither a program nor a script"),
        (b"#!\n", "names no interpreter in its first line by its absolute path"),
        (b"#!bin/sh\n", "names no interpreter"),
        (b"#!/" + b"long" * 99 + b"\n", "names no interpreter"),
    ],
)
def test_a_script_that_no_kernel_would_start_is_refused(make_release: MakeRelease, content: bytes, what: str) -> None:
    assert what in refused(make_release(files={"bin/start": content}, hooks={"start": {"command": ["bin/start"]}}))


def test_programs_are_taken(make_release: MakeRelease) -> None:
    program = Path(str(shutil.which("true"))).read_bytes()
    for number, content in enumerate((program, b"#! /usr/bin/env python3\r is no end\n", b"#!/bin/sh\n\r\n")):
        read_release(make_release(str(number), {"bin/start": content}, hooks={"start": {"command": ["bin/start"]}}))


@pytest.mark.parametrize(
    ("closed", "mode", "what"),
    [
        ("bin/start", 0o750, "can't be run by the user hello, for its mode is 0750; allow it with chmod a+rx bin/start"),
        ("bin/start", 0o711, "can't be run by the user hello, for its mode is 0711"),
        ("bin", 0o700, "is in bin, which can't be entered by the user hello, for its mode is 0700; allow it with chmod a+rx bin"),
    ],
)
@pytest.mark.parametrize("program", ["bin/start", "${tree}/bin/start", "./link"])
def test_what_the_user_of_a_release_could_not_start_is_refused(
    make_release: MakeRelease, closed: str, mode: int, what: str, program: str
) -> None:
    for number, user in enumerate(({"user": "hello"}, {"user": "root"}, {})):
        release = make_release(str(number), files={"bin/start": SCRIPT}, hooks={"start": {"command": [program]}}, **user)
        (release / "payload" / "link").symlink_to("bin/start")
        (release / "payload" / closed).chmod(mode)
        if user == {"user": "hello"}:
            assert what in refused(release)
        else:
            read_release(release)
