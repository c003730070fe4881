# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this machine can do for a lab, and what its hosts are started with."""

from __future__ import annotations

import functools
import getpass
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable

from .processes import LabError

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
SSHD = "/usr/sbin/sshd"
_SYSTEM_PYTHON = "/usr/bin/python3"

SSHD_CONFIG = """\
ListenAddress {address}
Port {port}
HostKey {host_key}
AuthorizedKeysFile {authorized_keys}
StrictModes {strict_modes}
AllowUsers {user}
SetEnv TIDEGATE_LAB={mark}
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
MaxStartups 500
MaxSessions 100
PidFile none
Subsystem sftp internal-sftp
"""

# Runs as the first process of an isolated host's name spaces: lab directory, name, address, disk, user, Python to mount.
INIT = r"""
set -eu
umask 022
lab=$1 name=$2 address=$3 disk=$4 user=$5 python=$6
host=$lab/hosts/$name
mount --make-rprivate /
mount -t tmpfs -o "size=$disk,mode=755" tmpfs "$host/fs"
mkdir "$host/fs/upper" "$host/fs/work" "$host/fs/root" "$host/fs/home"
mkdir -m 1777 "$host/fs/tmp" "$host/fs/vartmp"
mount -t overlay overlay -o "lowerdir=/,upperdir=$host/fs/upper,workdir=$host/fs/work" "$host/fs/root"
root=$host/fs/root
echo "$name" >/proc/sys/kernel/hostname
echo "$name" >"$root/etc/hostname"
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
cp "$host/sshd_config" "$root/etc/ssh/lab_config"
cp "$host/host_key" "$root/etc/ssh/lab_host_key"
cp "$lab/key.pub" "$root/etc/ssh/lab_authorized_keys"
chmod 600 "$root/etc/ssh/lab_host_key"
echo "$address $name" >>"$root/etc/hosts"
# A person of this machine who has the same name stays outside.
sed -i "/^$user:/d" "$root/etc/passwd" "$root/etc/group" "$root/etc/shadow"
echo "$user:x:61000:61000::/home/$user:/bin/sh" >>"$root/etc/passwd"
echo "$user:x:61000:" >>"$root/etc/group"
echo "$user:*:19000:0:99999:7:::" >>"$root/etc/shadow"
mkdir -p "$root/etc/sudoers.d" "$root/home" "$root/var/tmp"
echo "$user ALL=(ALL) NOPASSWD:ALL" >"$root/etc/sudoers.d/zz-lab"
chmod 440 "$root/etc/sudoers.d/zz-lab"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
  : >"$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for stream in stdin:0 stdout:1 stderr:2; do ln -s "/proc/self/fd/${stream#*:}" "$root/dev/${stream%:*}"; done
mount --bind "$host/fs/tmp" "$root/tmp"
mount --bind "$host/fs/vartmp" "$root/var/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir "$root/run/sshd"
# What is at home on this machine, and the lab's keys, are not for its hosts.
mount --bind "$host/fs/home" "$root/home"
mkdir "$root/home/$user"
chown 61000:61000 "$root/home/$user"
mount -t tmpfs -o mode=700 tmpfs "$root/root"
[ ! -d "$root$lab" ] || mount -t tmpfs -o mode=700 tmpfs "$root$lab"
# A Python has to stay where it was built, since its libraries are looked for there, even in a home that is closed to others.
if [ -n "$python" ]; then
  mkdir -p "$root$python"
  mount --bind "$python" "$root$python"
  mount -o remount,bind,ro "$root$python"
  above=$python
  while [ "$above" != / ]; do above=$(dirname "$above"); chmod a+x "$root$above"; done
fi
cd "$root"
exec chroot . /bin/sh -c '
while :; do
  /usr/sbin/sshd -D -e -f /etc/ssh/lab_config
  while [ -e /run/cut ]; do sleep 0.1; done
  sleep 0.1
done'
"""

# Whether the mounts that isolated hosts need are allowed here; all of it is gone when the shell ends.
_TRIAL = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /tmp
mkdir /tmp/upper /tmp/work /tmp/root
mount -t overlay overlay -o lowerdir=/,upperdir=/tmp/upper,workdir=/tmp/work /tmp/root
mount -t proc proc /tmp/root/proc
echo trial >/proc/sys/kernel/hostname
chroot /tmp/root true
"""

UNSHARE = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "/bin/sh", "-c")


def choose_mode(wanted: str) -> tuple[str, str]:
    """The strongest mode that this machine can do, or ``wanted`` if it can; and why not a stronger one, in words.

    Raises :class:`LabError` when it can't do the wanted one.
    """
    obstacles: dict[str, Callable[[], str]] = {"isolated": _why_not_isolated, "user": _why_not_user, "local": str}
    if wanted != "auto":
        obstacle = obstacles[wanted]()
        if obstacle:
            raise LabError(f"lab hosts of mode {wanted} can't be made: {obstacle}")
        return wanted, ""
    reasons = []
    for mode, why_not in obstacles.items():
        obstacle = why_not()
        if not obstacle:
            break
        reasons.append(f"not {mode}, because {obstacle}")
    return mode, f"lab hosts are of mode {mode}: {'; '.join(reasons)}" if reasons else ""


def python_mount() -> str:
    """What has to be mounted into an isolated host so that it has a Python; empty when the system's own will do."""
    return "" if _system_python_will_do() or sys.base_prefix == "/usr" else sys.base_prefix


def python_of(mode: str) -> str:
    """The Python of a host of that mode."""
    if mode != "isolated":
        return sys.executable
    return _SYSTEM_PYTHON if _system_python_will_do() else f"{sys.base_prefix}/bin/python{sys.version_info[0]}.{sys.version_info[1]}"


def check_user(name: str) -> None:
    """Refuse a login user that is one of the system's own: an isolated host needs that as it is."""
    try:
        number = pwd.getpwnam(name).pw_uid
    except KeyError:
        return
    if number < 1000:
        raise LabError(f"{name} is a user of the system itself; choose another name for the login user of the hosts")


@functools.lru_cache(maxsize=None)
def _system_python_will_do() -> bool:
    if not os.path.exists(_SYSTEM_PYTHON):
        return False
    asked = subprocess.run([_SYSTEM_PYTHON, "-c", "import sys; sys.exit(sys.version_info < (3, 9))"], check=False)
    return asked.returncode == 0


def _lacking(*tools: str) -> str:
    lacking = [tool for tool in tools if shutil.which(tool, path=PATH) is None]
    return f"{', '.join(lacking)} is not installed" if lacking else ""


def _why_not_isolated() -> str:
    if os.geteuid() != 0:
        return "that needs root"
    lacking = _lacking("sshd", "ssh-keygen", "sudo", "unshare", "mount", "chroot")
    if lacking:
        return lacking
    tried = subprocess.run([*UNSHARE, _TRIAL], check=False, capture_output=True, text=True)
    return " ".join(tried.stderr.split()) or "a trial of it failed" if tried.returncode else ""


def _why_not_user() -> str:
    lacking = _lacking("sshd", "ssh-keygen")
    if lacking:
        return lacking
    shell = pwd.getpwuid(os.geteuid()).pw_shell or "/bin/sh"
    # sshd runs commands by the user's login shell; that of a service account refuses them.
    if not os.access(shell, os.X_OK) or subprocess.run([shell, "-c", "exit 0"], check=False, capture_output=True).returncode:
        return f"the login shell of {getpass.getuser()}, {shell}, runs no commands"
    return ""
