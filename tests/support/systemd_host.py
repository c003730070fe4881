# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real systemd on a lab host.

A lab host's first process is its sshd's keeper, so systemd gets a PID and a cgroup name space of its own inside the host's. It shares the
host's files, /run and network; ``systemctl`` is the real one, started in systemd's name spaces. Units that touch the machine's kernel are
left out.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from fleet import Fleet

_PREPARE = r"""
set -eu
rm -rf /etc/systemd/system /lib/systemd/system/*.wants
mkdir -p /etc/systemd/system /lib/systemd/system/sockets.target.wants /sys/fs/cgroup
ln -s /lib/systemd/system/basic.target /etc/systemd/system/default.target
ln -s ../systemd-journald.socket /lib/systemd/system/sockets.target.wants/
mv /usr/bin/systemctl /usr/bin/systemctl.real
cat >/usr/bin/systemctl <<'END'
#!/bin/sh
exec nsenter -t "$(cat /run/systemd.pid)" -m -p -C -r -w -- /usr/bin/systemctl.real "$@"
END
chmod 755 /usr/bin/systemctl
"""
_OUTER = r"""
set -eu
mount --make-rprivate /
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$1"
echo $$ >"/sys/fs/cgroup/$1/cgroup.procs"
umount /sys/fs/cgroup
unshare -m -C -p --fork --kill-child sh -c "$2" &
until pgrep -P $! >/run/systemd.pid; do sleep 0.1; done
wait
"""
_INNER = r"""
set -eu
mount -t proc proc /proc
mount --bind /run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --log-target=null --show-status=no
"""
_SWEEP = r"""mount -t cgroup2 cgroup2 /mnt && find "/mnt/$1" -depth -type d -exec rmdir {} +"""
_LOOKS = 100  # until it has to be up


def boot(fleet: Fleet, host: str) -> str:
    """Start systemd on an isolated host and wait until it takes orders; return the name of its cgroup, for :func:`sweep`."""
    group = f"tidegate-test-{uuid.uuid4().hex}"
    fleet.run_on(host, _PREPARE)
    start = f"setsid unshare -m sh -c {shlex.quote(_OUTER)} sh {group} {shlex.quote(_INNER)} >/var/log/systemd.boot 2>&1 </dev/null &"
    fleet.run_on(host, start)
    state = ""
    for _look in range(_LOOKS):
        state = fleet.run_on(host, "systemctl is-system-running 2>&1 || true").strip()
        if state == "running":
            return group
        time.sleep(0.2)
    raise AssertionError(f"systemd on {host} is {state}: {fleet.run_on(host, 'cat /var/log/systemd.boot')}")


def sweep(group: str) -> None:
    """Take away the cgroup of a systemd whose host is down."""
    subprocess.run(["unshare", "-m", "sh", "-c", _SWEEP, "sh", group], check=True)


@contextlib.contextmanager
def systemd_fleet(path: Path) -> Iterator[Fleet]:
    """Two hosts on which systemd runs, ``web1`` and ``web2``."""
    fleet = Fleet(path, count=2)
    groups = []
    try:
        fleet.up()
        groups = [boot(fleet, host) for host in fleet.hosts]
        yield fleet
    finally:
        fleet.down()
        for group in groups:
            sweep(group)
