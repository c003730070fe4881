# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real lab hosts, reached as a fleet is: over ssh, as an unprivileged user, with become."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
from ansible_collections.tidegate.release.plugins.module_utils.lab import hosts as hosts_module
from ansible_collections.tidegate.release.plugins.module_utils.lab import machine, processes
from ansible_collections.tidegate.release.plugins.module_utils.lab.hosts import Lab, Settings
from ansible_collections.tidegate.release.plugins.module_utils.lab.machine import choose_mode
from ansible_collections.tidegate.release.plugins.module_utils.lab.processes import LabError
from waiting import wait_until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
needs_sshd = pytest.mark.skipif(not Path(machine.SSHD).exists(), reason="needs sshd (apt install openssh-server)")
pytestmark = needs_sshd

NAMES = ["web1", "web2", "web3"]
NETWORK = "127.0.66"  # no other test's
ISOLATED = Settings("isolated", "deploy", NETWORK, 1, 2022, "64m")


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab of this test's own, not up; gone without a trace afterwards. Not below tmp_path: other users have to get there."""
    home = Path(tempfile.mkdtemp(prefix="tg-lab-"))
    home.chmod(0o755)
    lab = Lab(str(home / "lab"))
    try:
        yield lab
    finally:
        lab.down()
        left = traces(lab)
        shutil.rmtree(home)
        assert left == []


@pytest.fixture
def up(lab: Lab) -> Lab:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    lab.up(NAMES, ISOLATED)
    return lab


def traces(lab: Lab) -> list[str]:
    """Processes and mounts that speak of the lab, in whatever name space they are, and what is left of its files."""
    left = [str(lab.path)] if lab.path.exists() else []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        for name in ("environ", "cmdline", "mountinfo"):
            try:
                if str(lab.path) in (folder / name).read_bytes().decode(errors="replace"):
                    left.append(f"{folder.name}: {(folder / 'cmdline').read_bytes()!r} {name}")
            except OSError:
                continue
    return left


def ssh(lab: Lab, name: str) -> list[str]:
    """How to reach a host, by the variables that the lab gives it."""
    variables = lab._variables(name, connection(lab, name)["address"], ISOLATED)
    return [
        *("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=3", "-p", str(variables["ansible_port"])),
        *("-i", variables["ansible_ssh_private_key_file"], *variables["ansible_ssh_common_args"].split()),
        f"{variables['ansible_user']}@{variables['ansible_host']}",
    ]


def connection(lab: Lab, name: str) -> dict[str, Any]:
    return dict(json.loads((lab.path / "hosts" / name / "host.json").read_text()))


def on(lab: Lab, name: str, command: str, **options: Any) -> str:
    """What a command says on a host."""
    done = subprocess.run([*ssh(lab, name), command], check=False, capture_output=True, text=True, timeout=30, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def play(lab: Lab, hosts: list[dict[str, str]], mode: str, *options: str, **variables: Any) -> str:
    """Run the lab's playbook; return what it said."""
    extra = {"lab_path": str(lab.path), "lab_hosts": hosts, "lab_mode": mode, "lab_network": NETWORK, **variables}
    command = ["ansible-playbook", "tidegate.release.lab", "-i", "localhost,", "-e", json.dumps(extra), *options]
    return forked.run(command, os.environ, timeout=120).stdout


def ping(lab: Lab, *options: str) -> str:
    command = ["ansible", "-i", str(lab.path / "inventory.yml"), *options, "-m", "ansible.builtin.ping"]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    return done.stdout


# -- isolated hosts ------------------------------------------------------------


@needs_root
def test_the_playbook_makes_hosts_that_ansible_reaches_with_become_and_takes_them_down(lab: Lab) -> None:
    hosts = [{"name": "web1", "site": "ams"}, {"name": "web2", "site": "lon"}]
    assert "changed=1" in play(lab, hosts, "isolated", "--check")
    assert not lab.path.exists()
    assert "changed=1" in play(lab, hosts, "isolated")
    assert "changed=0" in play(lab, hosts, "isolated", "--check")
    assert "changed=0" in play(lab, hosts, "isolated")
    assert ping(lab, "all", "--become").count("pong") == 2
    assert ping(lab, "site_lon").count("pong") == 1
    assert "changed=1" in play(lab, hosts, "isolated", "--check", lab_state="absent")
    assert lab.is_there()
    assert "changed=1" in play(lab, hosts, "isolated", lab_state="absent")
    assert "changed=0" in play(lab, hosts, "isolated", lab_state="absent")


def test_hosts_differ_in_name_and_files_and_leave_this_machine_as_it_is(up: Lab) -> None:
    assert [on(up, name, "hostname") for name in NAMES] == NAMES
    for name in NAMES:
        assert on(up, name, f"sudo touch /opt/{name} /etc/lab-trial /var/tmp/x; ls /opt/ | grep ^web; id -un") == f"{name}\ndeploy"
    assert not any(Path("/opt", name).exists() for name in NAMES)
    assert not Path("/etc/lab-trial").exists()
    assert len({on(up, name, "cat /etc/machine-id") for name in NAMES}) == 3
    assert on(up, "web1", "df --output=size -B1M / | tail -1") == "64"
    assert "No space left" in on(up, "web1", "head -c 80M /dev/zero 2>&1 >/tmp/big || true")
    assert on(up, "web2", "head -c 8M /dev/zero >/tmp/big && echo fits") == "fits"


def test_a_host_sees_neither_keys_nor_homes_nor_processes_of_this_machine(up: Lab) -> None:
    assert (up.path / "key").exists()
    assert on(up, "web1", f"sudo test -e {up.path} || echo hidden") == "hidden"
    assert on(up, "web1", "sudo ls -A /root /home") == "/home:\ndeploy\n\n/root:"
    assert int(on(up, "web1", "sudo ls /proc | grep -c '^[0-9]'")) < 20


@needs_root
def test_a_lab_in_a_directory_that_hosts_share_hides_its_keys(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    # Hosts have a /tmp of their own; without it the lab is in what they see of this machine.
    monkeypatch.setattr(machine, "INIT", machine.INIT.replace('mount --bind "$host/fs/tmp" "$root/tmp"', ":"))
    lab.up(["web1"], ISOLATED)
    assert on(lab, "web1", f"sudo ls -dA {lab.path.parent} {lab.path}/*; true") == str(lab.path.parent)


def test_only_the_lab_user_with_the_lab_key_gets_in(up: Lab) -> None:
    root = [word.replace("deploy@", "root@") for word in ssh(up, "web1")]
    assert "Permission denied (publickey)" in subprocess.run([*root, "id"], check=False, capture_output=True, text=True).stderr


@needs_root
def test_a_python_from_a_closed_home_works_for_the_unprivileged_user(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_system_python_will_do", lambda: False)
    if not machine.python_mount():
        pytest.skip("needs a Python that is not the system's")
    variables = lab.up(["web1"], ISOLATED)[1]["web1"]
    code = "import ssl, sqlite3, json, sys; print(sys.prefix)"
    assert on(lab, "web1", f"{variables['ansible_python_interpreter']} -c '{code}'") == sys.base_prefix
    assert "Read-only" in on(lab, "web1", f"sudo touch {sys.base_prefix}/x 2>&1 || true")


def test_a_host_with_another_key_is_refused(up: Lab) -> None:
    known = up.path / "known_hosts"
    lines = known.read_text().splitlines()
    keys = [line.split(" ", 1)[1] for line in lines]
    known.write_text("".join(f"{line.split(' ')[0]} {key}\n" for line, key in zip(lines, keys[1:] + keys[:1], strict=True)))
    done = subprocess.run([*ssh(up, "web1"), "true"], check=False, capture_output=True, text=True)
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr
    known.write_text("")
    assert subprocess.run([*ssh(up, "web1"), "true"], check=False, capture_output=True).returncode == 255


def test_a_daemon_outlives_its_login_and_ends_with_the_lab(up: Lab) -> None:
    # sudo clears the environment: nothing of the mark is left on it.
    pid = on(up, "web1", "sudo setsid sh -c 'sleep 1000 >/dev/null 2>&1 </dev/null & echo $!'")
    time.sleep(0.3)
    assert on(up, "web1", f"cat /proc/{pid}/comm") == "sleep"
    daemons = [p for p in processes.find(up.path, "web1") if Path(f"/proc/{p.pid}/comm").read_text() == "sleep\n"]
    assert len(daemons) == 1
    up.down()
    assert not Path(f"/proc/{daemons[0].pid}").exists()


def test_hosts_that_are_up_are_left_alone_and_only_the_missing_one_is_made(up: Lab) -> None:
    on(up, "web1", "sudo touch /opt/kept")
    assert up.up(NAMES, ISOLATED)[0] == []
    processes.end(up.path, "web2")
    assert up.missing(NAMES, ISOLATED) == ["web2"]
    assert up.up([*NAMES, "web4"], ISOLATED)[0] == ["web2", "web4"]
    assert on(up, "web1", "ls /opt/kept") == "/opt/kept"
    assert on(up, "web2", "hostname") == "web2"


def test_a_host_that_has_the_address_of_a_new_one_makes_room(up: Lab) -> None:
    assert up.up(["db1", "web2"], ISOLATED)[0] == ["db1"]
    assert on(up, "db1", "hostname") == "db1"
    assert {process.host for process in processes.find(up.path)} == {"db1", "web2", "web3"}
    assert on(up, "web3", "hostname") == "web3"


def test_a_host_that_was_made_otherwise_is_made_anew(up: Lab) -> None:
    bigger = Settings("isolated", "deploy", NETWORK, 1, 2022, "96m")
    assert up.missing(NAMES, bigger) == NAMES
    assert up.up(NAMES, bigger)[0] == NAMES
    assert on(up, "web1", "df --output=size -B1M / | tail -1") == "96"


def test_a_cut_host_refuses_connections_while_its_services_run_on(up: Lab) -> None:
    on(up, "web1", "sudo setsid sleep 1000 >/dev/null 2>&1 </dev/null &")
    talking = subprocess.Popen([*ssh(up, "web1"), "sleep 1000"], stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    up.cut("web1")
    assert talking.wait(60) == 255
    assert subprocess.run([*ssh(up, "web1"), "true"], check=False, capture_output=True).returncode == 255
    assert on(up, "web2", "hostname") == "web2"
    up.mend("web1")
    wait_until(lambda: subprocess.run([*ssh(up, "web1"), "true"], check=False, capture_output=True).returncode == 0)
    assert "sleep" in on(up, "web1", "ps -eo comm")


def test_a_paused_host_hangs_and_goes_on(up: Lab) -> None:
    up.pause("web1")
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([*ssh(up, "web1"), "true"], check=False, capture_output=True, timeout=1.5)
    up.resume("web1")
    assert on(up, "web1", "hostname") == "web1"
    up.pause("web1")
    up.down()


def test_a_lab_is_ended_even_when_its_directory_is_lost(up: Lab) -> None:
    shutil.rmtree(up.path)
    assert up.down()
    assert traces(up) == []


def test_two_labs_are_up_at_once_and_go_apart(up: Lab, tmp_path: Path) -> None:
    other = Lab(str(tmp_path / "lab"))
    try:
        other.up(["web1"], Settings("isolated", "deploy", NETWORK, 51, 2022, "64m"))
        up.down()
        assert connection(other, "web1")["address"] == f"{NETWORK}.51"
        assert on(other, "web1", "hostname") == "web1"
    finally:
        other.down()


@needs_root
def test_a_taken_port_is_said_and_keeps_every_host_down(lab: Lab) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((f"{NETWORK}.2", 2022))
        taken.listen()
        with pytest.raises(LabError, match=rf"port 2022 of {NETWORK}.2 is taken"):
            lab.up(NAMES, ISOLATED)
        assert processes.find(lab.path) == []
        said = play(lab, [{"name": name} for name in NAMES], "isolated")
        assert "is taken by something that is not of this lab" in said
        assert "Traceback" not in said


def test_a_host_that_does_not_come_up_takes_no_other_with_it(up: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "INIT", "echo no such luck >&2; exit 1")
    with pytest.raises(LabError, match=r"web4 .* does not come up: no such luck"):
        up.up([*NAMES, "web4"], ISOLATED)
    assert {process.host for process in processes.find(up.path)} == set(NAMES)


@needs_root
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3])
def test_a_controller_killed_in_the_middle_leaves_nothing_that_down_does_not_end(lab: Lab, delay: float) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    code = (
        "import sys\n"
        "from ansible_collections.tidegate.release.plugins.module_utils.lab.hosts import Lab, Settings\n"
        f"print(flush=True); Lab({str(lab.path)!r}).up([f'h{{n}}' for n in range(8)], {ISOLATED!r})\n"
    )
    source = str(Path(hosts_module.__file__).parents[6])
    victim = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": source}, stdout=subprocess.PIPE)
    assert victim.stdout is not None
    victim.stdout.readline()
    time.sleep(delay)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    if delay in {0.05, 0.2}:  # up again finishes what was begun
        lab.up(NAMES, ISOLATED)
        assert on(lab, "web3", "hostname") == "web3"
    lab.down()
    assert traces(lab) == []
    assert Path("/proc/self/mountinfo").read_text() == before


# -- weaker modes --------------------------------------------------------------


def test_user_hosts_are_reached_over_ssh_and_every_session_ends_with_them(lab: Lab) -> None:
    assert "changed=1" in play(lab, [{"name": "web1"}], "user")
    assert "changed=0" in play(lab, [{"name": "web1"}], "user")
    assert ping(lab, "all").count("pong") == 1
    variables = json.loads((lab.path / "inventory.yml").read_text())["all"]["hosts"]["web1"]
    assert Path(variables["tidegate_root"]).is_dir()
    # An idle session: no command runs in it, so nothing but its log says whose it is.
    target = f"{variables['ansible_user']}@{variables['ansible_host']}"
    idle = subprocess.Popen(
        ["ssh", "-F", "none", "-N", "-p", "2022", "-i", str(lab.path / "key"), *variables["ansible_ssh_common_args"].split(), target],
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(processes.find(lab.path)) >= 2)
    listener = min(processes.find(lab.path), key=lambda process: int(process.started))
    processes.terminate([listener])
    assert "changed=1" in play(lab, [{"name": "web1"}], "user", lab_state="absent")
    assert idle.wait(5) == 255


def test_a_user_without_any_right_has_a_lab_too(lab: Lab) -> None:
    """As the unprivileged user of an isolated host, so that it is one with a shell and nothing else."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become a user of no rights; the other tests of mode user run as you")
    lab.up(["web1"], ISOLATED)
    source = Path(hosts_module.__file__).parents[1]
    names = [f"{source.name}/{name}" for name in ("lab", "processes.py")]
    packed = subprocess.run(["tar", "-cf", "-", "-C", str(source.parent), *names], check=True, capture_output=True).stdout
    subprocess.run([*ssh(lab, "web1"), "tar -xf -"], input=packed, check=True)
    code = f"""
import json, subprocess, sys
from module_utils.lab import machine, processes
from module_utils.lab.hosts import Lab, Settings
mode, why = machine.choose_mode("auto")
lab = Lab("/home/deploy/inner")
settings = Settings(mode, "deploy", {NETWORK!r}, 71, 2022, "64m")
started, variables = lab.up(["a", "b"], settings)
again = lab.up(["a", "b"], settings)[0]
v = variables["b"]
ssh = ["ssh", "-F", "none", "-p", "2022", "-i", v["ansible_ssh_private_key_file"], *v["ansible_ssh_common_args"].split()]
said = subprocess.run([*ssh, v["ansible_user"] + "@" + v["ansible_host"], "id -un; setsid sleep 1000 >/dev/null 2>&1 </dev/null &"],
                      stdout=subprocess.PIPE, text=True).stdout.strip()
lab.down()
print(json.dumps([mode, why, started, again, said, len(processes.find(lab.path))]))
"""
    mode, why, started, again, said, left = json.loads(on(lab, "web1", "/usr/bin/python3 -", input=code))
    assert (mode, started, again, said, left) == ("user", ["a", "b"], [], "deploy", 0)
    assert "needs root" in why
    assert "sleep" not in on(lab, "web1", "ps -eo comm")


@pytest.mark.thorough
def test_local_hosts_are_directories_that_ansible_works_in(lab: Lab) -> None:
    hosts = [{"name": "web1"}, {"name": "web2"}]
    assert "changed=1" in play(lab, hosts, "local")
    assert "changed=0" in play(lab, hosts, "local")
    assert ping(lab, "all").count("pong") == 2
    assert "changed=1" in play(lab, hosts, "local", lab_state="absent")


@needs_root
def test_a_lab_that_changes_its_mode_keeps_no_host_of_the_old_one(lab: Lab) -> None:
    lab.up(["web1"], ISOLATED)
    lab.up(["web1"], Settings("local", "deploy", NETWORK, 1, 2022, "64m"))
    assert processes.find(lab.path) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lab_network": "10.0.0"}, "loopback"),
        ({"lab_hosts": [{"site": "ams"}]}, "can't name a host"),
        ({"lab_path": "/tmp/a b"}, "choose another"),  # noqa: S108 - nothing is made there
    ],
)
def test_bad_options_are_answered_in_a_sentence_also_in_check_mode(lab: Lab, options: dict[str, Any], said: str) -> None:
    for more in ([], ["--check"]):
        output = play(lab, [{"name": "web1"}], "local", *more, **options)
        assert said in output
        assert "failed=1" in output
        assert "Traceback" not in output
    assert not lab.path.exists()


def test_the_mode_is_the_strongest_this_machine_can_do() -> None:
    mode, why = choose_mode("auto")
    assert (mode == "isolated") == (why == "")
