# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lab hosts with a real fwupd each, and cabinets for its test device."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ansible_collections.tidegate.release.plugins.module_utils.lab import processes
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.fwupd import Fwupd, Reply

ROOT = Path(__file__).resolve().parents[2]
WEBCAM = "b585990a-003e-5270-89d5-3705a17f9a43"
"""The GUID of fwupd's test device, which begins with firmware 1.2.2."""
MODEL = "Contoso T1"
LACKS = (
    ""
    if os.geteuid() == 0 and shutil.which("fwupdmgr") and shutil.which("dbus-daemon")
    else "isolated lab hosts with fwupd need root, fwupd and dbus-daemon"
)
"""Why this machine has no such hosts."""
_METAINFO = """<?xml version="1.0" encoding="UTF-8"?>
<component type="firmware">
  <id>org.example.webcam.firmware</id><name>Webcam</name><summary>Firmware</summary><developer_name>ACME</developer_name>
  <metadata_license>CC0-1.0</metadata_license><project_license>GPL-2.0+</project_license>
  <provides><firmware type="flashed">{guid}</firmware></provides>
  <custom>
    <value key="LVFS::VersionFormat">triplet</value><value key="LVFS::UpdateProtocol">com.acme.test</value>
  </custom>
  <releases>
    <release version="{version}" date="2026-01-01"><checksum type="sha256" filename="image.bin" target="content">{sha}</checksum></release>
  </releases>
</component>
"""
# What a machine does that begins anew: nobody can log in meanwhile, and time begins anew for fwupd. Its test device has no memory, so its
# image is given to it as a boot loader would. Whoever begins anew holds a lock until it has (fwupd and its bus don't inherit it): a machine
# that is told twice begins anew once, and none is given to the next test before it has ended.
_SHUTDOWN = """#!/bin/sh
[ "$1" = -r ] || exit 1
echo "$@" >>/var/log/reboots
[ ! -e /etc/no-reboot ] || exit 0
exec 9>/run/rebooting
flock --nonblock 9 || exit 0
setsid sh -c '
  sleep 0.2
  touch /run/cut
  for process in /proc/[0-9]*; do
    [ "$(cat "$process/comm")" != sshd ] || kill "${process#/proc/}"
  done
  started=$(sed -n "s/^btime //p" /proc/stat)
  sed "s/^btime.*/btime $((started + 1000))/" /proc/stat >/run/stat.new
  cp /run/stat.new /run/stat
  mount --bind /run/stat /proc/stat
  /root/start-fwupd {serial} "{model}" 9>&-
  image=$(find /root /home /tmp /var/tmp -name image.cab 2>/dev/null | head -n 1)
  [ -e /etc/forgets ] || fwupdmgr --json --allow-older --no-history install "$image"
  sleep 1
  rm /run/cut
' </dev/null >/var/log/shutdown.log 2>&1 &
"""


def cabinet(folder: Path, version: str, becomes: str = "") -> Path:
    """A cabinet that says that it has ``version``, with which the test device becomes that or something else."""
    folder.mkdir(parents=True, exist_ok=True)
    major, minor, micro = map(int, (becomes or version).split("."))
    image = b"0x%x\0" % (major << 24 | minor << 16 | micro)
    with tempfile.TemporaryDirectory() as own:
        (Path(own) / "image.bin").write_bytes(image)
        metainfo = _METAINFO.format(guid=WEBCAM, version=version, sha=hashlib.sha256(image).hexdigest())
        (Path(own) / "image.metainfo.xml").write_text(metainfo)
        names = ("SYSCONFDIR", "LOCALSTATEDIR", "RUNDIR", "LOCKDIR")
        environment = {**os.environ, **{f"FWUPD_{name}": own for name in names}}
        command = ["fwupdtool", "build-cabinet", "made.cab", "image.bin", "image.metainfo.xml"]
        subprocess.run(command, cwd=own, env=environment, check=True, capture_output=True)
        return Path(shutil.copy(Path(own) / "made.cab", folder / "webcam.cab"))


class FwupdHost:
    """One isolated host of a lab. ``told``: the commands that it got through :meth:`device`, each as it was given."""

    def __init__(self, lab: Path, name: str) -> None:
        self.name, self.serial = name, f"SN-{name}"
        self.told: list[list[str]] = []
        found = (one.pid for one in processes.find(lab) if one.host == name)
        self._pid = next(pid for pid in found if Path("/proc", str(pid), "root", "etc", "ssh", "lab_config").exists())
        self._root = Path("/proc", str(self._pid), "root")
        self.file("/root/start-fwupd", (ROOT / "examples" / "hardware" / "start-fwupd").read_text())
        self.file("/usr/local/sbin/shutdown", _SHUTDOWN.replace("{serial}", self.serial).replace("{model}", MODEL))

    def start(self, *settings: str) -> None:
        """Begin with another webcam, which behaves so."""
        for left in ("/etc/no-reboot", "/etc/forgets", "/var/log/reboots", "/usr/local/bin/fwupdmgr"):
            (self._root / left[1:]).unlink(missing_ok=True)
        self.told.clear()
        self.sh("flock /run/rebooting true")
        self.sh(f"rm -rf /var/lib/fwupd /root/image.cab; /root/start-fwupd {self.serial} '{MODEL}' {' '.join(settings)}")

    def file(self, path: str, text: str = "") -> None:
        """Write a program, or a mark."""
        there = self._root / path[1:]
        there.write_text(text)
        there.chmod(0o755)

    def sh(self, command: str) -> str:
        """Run a shell command there as root; what it prints."""
        return self._run(["sh", "-c", command], 60).output

    @property
    def version(self) -> str:
        """What the webcam runs, as fwupd says it now."""
        devices = json.loads(self.sh("fwupdmgr --json get-devices"))["Devices"]
        return next(str(one["Version"]) for one in devices if WEBCAM in one["Guid"])

    @property
    def reboots(self) -> int:
        """How often it was told to begin anew."""
        path = self._root / "var/log/reboots"
        return len(path.read_text().splitlines()) if path.exists() else 0

    @property
    def installs(self) -> list[list[str]]:
        """The commands of :attr:`told` by which the device was given something."""
        return [argv for argv in self.told if "install" in argv]

    def device(self) -> Fwupd:
        """The machine, without ssh and Ansible."""
        return Fwupd(self._told, self._put)

    def _told(self, argv: Sequence[str], seconds: float, _alive: Callable[[], None] | None) -> Reply:
        self.told.append(list(argv))
        return self._run(argv, seconds)

    def _run(self, argv: Sequence[str], seconds: float) -> Reply:
        inside = ["nsenter", "--target", str(self._pid), "--mount", "--uts", "--pid", "--root", "--wd=/", "--", *argv]
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        done = subprocess.run(
            inside, env=environment, check=False, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL
        )
        return Reply(done.returncode, done.stdout)

    def _put(self, file: Path, _seconds: float, _alive: Callable[[], None] | None) -> str:
        (self._root / "root/image.cab").write_bytes(file.read_bytes())
        return "/root/image.cab"
