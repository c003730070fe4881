# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A test in a root directory of its own, with a dpkg of its own, of which nothing is left; and packages of Debian to install there."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS in linux/sched.h
# Mounts go with the last process in their name space, so nothing has to be undone.
_MOUNT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount --bind /dev "$1/root/dev"
# An empty database is read in no time.
mount -t tmpfs tmpfs "$1/root/var/lib/dpkg"
cd "$1/root/var/lib/dpkg"
mkdir info updates triggers parts alternatives
touch status available lock lock-frontend
echo force-unsafe-io >"$1/root/etc/dpkg/dpkg.cfg.d/of-a-test"
"""


def apart(action: Callable[[], object], folder: Path) -> None:
    """Run ``action`` in a child whose root directory is an overlay of this machine's; what it raises is raised here as a text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            os.close(reader)
            if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS):
                raise OSError(ctypes.get_errno(), "unshare")
            subprocess.run(["sh", "-c", _MOUNT, "sh", str(folder)], check=True)
            os.chroot(folder / "root")
            os.chdir("/")
            action()
        except BaseException:  # all of it is for the test's report
            said = traceback.format_exc()
        os.write(writer, said.encode()[-60_000:])
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        said = stream.read().decode()
    os.waitpid(child, 0)
    assert not said, said


@functools.cache
def build_deb(
    name: str, version: str, control: str = "", files: tuple[tuple[str, str], ...] = (), architecture: str = "all", **scripts: str
) -> bytes:
    """A package with ``/usr/share/<name>/version`` and the conffile ``/etc/<name>.conf``.

    ``control``: more lines of its control file. ``scripts``: bodies of its maintainer scripts.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        contents = {
            f"usr/share/{name}/version": f"{version}\n",
            f"etc/{name}.conf": f"of {version}\n",
            "DEBIAN/conffiles": f"/etc/{name}.conf\n",
            "DEBIAN/control": (
                f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n"
                f"Maintainer: A <a@example.org>\nDescription: test\n{control}"
            ),
            **dict(files),
            **{f"DEBIAN/{script}": f"#!/bin/sh\n{body}\n" for script, body in scripts.items()},
        }
        for path, text in contents.items():
            file = tree / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o755 if path.removeprefix("DEBIAN/") in scripts else 0o644)
        tree.chmod(0o755)
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, f"{folder}/made"], check=True, capture_output=True)
        return Path(folder, "made").read_bytes()


@functools.cache
def build_rpm(name: str, version: str, requires: str = "", config: str = "%config(noreplace)", pre: str = "") -> bytes:
    """As :func:`build_deb`, for rpm, release 1; ``pre``: the body of a script in Lua, which needs nothing of the host."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "spec").write_text(
            f"Name: {name}\nVersion: {version}\nRelease: 1\nSummary: test\nLicense: MIT\nBuildArch: noarch\n{requires}\n"
            "%description\ntest\n"
            f"%install\nmkdir -p %{{buildroot}}/etc %{{buildroot}}/usr/share/{name}\n"
            f"echo {version} >%{{buildroot}}/usr/share/{name}/version\necho of {version} >%{{buildroot}}/etc/{name}.conf\n"
            f"{f'%pre -p <lua>{chr(10)}{pre}{chr(10)}' if pre else ''}"
            f"%files\n/usr/share/{name}/version\n{config} /etc/{name}.conf\n"
        )
        definitions = [part for key in ("_topdir", "_rpmdir") for part in ("--define", f"{key} {folder}")]
        subprocess.run(["rpmbuild", *definitions, "-bb", f"{folder}/spec"], check=True, capture_output=True)
        return Path(folder, "noarch", f"{name}-{version}-1.noarch.rpm").read_bytes()
