# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The progress callback in a real ansible-playbook, on a terminal and without one.

The steps are actions that only say what the real ones would, in a collection made for the test around the real callback.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
STEP = """
from ansible.plugins.action import ActionBase
from ansible.errors import AnsibleConnectionFailure

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        host = task_vars["inventory_hostname"]
        args = dict(self._task.args)
        fate = args.pop("fates", {}).get(host)
        if fate == "unreachable":
            raise AnsibleConnectionFailure("no route to host")
        if fate:
            args["state"], args["detail"] = fate
            result["failed"] = True
        result["progress"] = args
        return result
"""
ROLE = """
- name: Stage
  tidegate.release.stage: {step: stage, state: staged}
"""
PLAYBOOK = r"""
- name: Stage the release
  hosts: all
  gather_facts: false
  roles: [tidegate.release.stage]
- name: Gate of staging
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Decide
      tidegate.release.gate: {step: gate, hosts: 6, decision: proceed, reason: 6 of 6 hosts staged}
- name: Activate
  hosts: all
  gather_facts: false
  serial: [2, 4]
  tasks:
    - name: One wave
      ignore_unreachable: true
      block:
        - name: Flip
          tidegate.release.activate:
            step: activate
            state: started
            wave: "{{ 1 if inventory_hostname in ['web1', 'web2'] else 2 }}"
            waves: 2
            fates: {web4: [failed, "GET http://web4/health answered 503\nnot 200 \e[2J"], web5: unreachable}
      rescue:
        - name: The journal knows
          ansible.builtin.meta: noop
    - name: Wait
      run_once: true
      delegate_to: localhost
      tidegate.release.soak: {step: soak}
    - name: Look again
      block:
        - name: Look
          when: inventory_hostname not in ['web4', 'web5']
          tidegate.release.confirm:
            step: confirm
            state: active
            wave: "{{ 1 if inventory_hostname in ['web1', 'web2'] else 2 }}"
            waves: 2
            fates: {web6: [failed, "it did not stay well\nlog says:\n  out of \e[2Jcheese"]}
      rescue:
        - name: The journal knows
          ansible.builtin.meta: noop
    - name: Judge
      run_once: true
      delegate_to: localhost
      tidegate.release.gate:
        step: gate
        wave: "{{ 1 if inventory_hostname == 'web1' else 2 }}"
        waves: 2
        decision: "{{ 'proceed' if inventory_hostname == 'web1' else 'back_out' }}"
        reason: 2 of 4 hosts failed
- name: Nobody has to go back
  hosts: nobody
  gather_facts: false
  tasks:
    - name: Return
      tidegate.release.backout: {step: backout, state: backed_out}
- name: Something of the user
  hosts: web1
  gather_facts: false
  tasks:
    - name: Ask
      ansible.builtin.debug: {msg: an ordinary task}
    - name: Break
      ansible.builtin.fail: {msg: an ordinary failure}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    plugins = tmp_path / "ansible_collections" / "tidegate" / "release" / "plugins"
    (plugins / "action").mkdir(parents=True)
    for name in ("callback", "plugin_utils"):
        (plugins / name).symlink_to(PLUGINS / name)
    for step in ("stage", "activate", "soak", "confirm", "backout", "gate"):
        (plugins / "action" / f"{step}.py").write_text(STEP)
    role = plugins.parent / "roles" / "stage"
    for name, text in (("tasks/main.yml", ROLE), ("meta/argument_specs.yml", "argument_specs: {main: {options: {}}}")):
        (role / name).parent.mkdir(parents=True)
        (role / name).write_text(text)
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    (tmp_path / "hosts.ini").write_text("".join(f"web{number} ansible_connection=local\n" for number in range(1, 7)) + "[nobody]\n")
    return tmp_path


def command(project: Path) -> list[str]:
    return [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(project / "hosts.ini"), str(project / "play.yml")]


def environment(project: Path, **other: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {
        "ANSIBLE_COLLECTIONS_PATH": str(project),
        "ANSIBLE_STDOUT_CALLBACK": "tidegate.release.progress",
        "ANSIBLE_LOCAL_TEMP": str(project / "tmp"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "LANG": "C.UTF-8",
        **other,
    }


def plain(project: Path, *options: str, **other: str) -> str:
    done = subprocess.run([*command(project), *options], env=environment(project, **other), capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == 2, done.stdout + done.stderr  # the user's own failure
    return done.stdout


def on_a_terminal(project: Path, columns: int = 100, **other: str) -> str:
    """The bytes that a terminal of so many columns gets."""
    leader, follower = pty.openpty()
    terminal = environment(project, **{"TERM": "xterm-256color", "COLUMNS": str(columns), **other})
    process = subprocess.Popen(command(project), env=terminal, stdin=follower, stdout=follower, stderr=follower, close_fds=True)
    os.close(follower)
    heard = b""
    while True:
        try:
            data = os.read(leader, 65536)
        except OSError:  # how Linux says that nobody holds the other end any more
            break
        if not data:
            break
        heard += data
    process.wait()
    os.close(leader)
    return heard.decode()


def seconds_apart(text: str) -> list[str]:
    return [
        re.sub(r"\d+\.\d s", "N s", re.sub(r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ ", "AT ", line))
        for line in text.splitlines()
        if "Z … " not in line
    ]


def test_without_a_terminal_each_wave_is_one_plain_line_with_its_time_and_hosts(project: Path) -> None:
    out = plain(project)
    lines = seconds_apart(out)
    assert lines[:2] == [
        "AT stage: web1 web2 web3 web4 web5 web6 staged, gate: proceed, N s",
        "AT wave 1 of 2: web1 web2 active, gate: proceed, N s",
    ]
    assert sorted(lines[2:5]) == [
        "    not 200 ?[2J",
        "  web4 failed: GET http://web4/health answered 503",
        "  web5 lost: Task failed: no route to host",
    ]
    assert lines[5:8] == ["  web6 failed: it did not stay well", "    log says:", "      out of ?[2Jcheese"]
    assert lines[8] == "AT wave 2 of 2: web3 active, web4 web6 failed, web5 lost, gate: back out (2 of 4 hosts failed), N s"
    assert "\x1b" not in out


def test_an_ordinary_task_prints_as_ever_and_the_recap_names_its_host(project: Path) -> None:
    out = plain(project)
    for words in (
        "PLAY [Something of the user] ***",
        "TASK [Ask] ***",
        '"msg": "an ordinary task"',
        "fatal: [web1]: FAILED!",
        "PLAY RECAP ***",
    ):
        assert words in out
    recap = out.split("PLAY RECAP")[1]
    assert re.search(r"^web1 +: ok=\d+", recap, re.MULTILINE)
    assert "web4" in recap  # it had trouble
    assert "web3" not in recap
    for silent in ("PLAY [Activate]", "TASK [Flip]", "ok: [web3]", "skipping: no hosts matched", "Nobody has to go back"):
        assert silent not in out


def test_verbose_runs_hide_nothing(project: Path) -> None:
    out = plain(project, "-v")
    for words in (
        "PLAY [Activate] ***",
        "TASK [Flip] ***",
        "ok: [web3] =>",
        "fatal: [web4]: FAILED!",
        "skipping: no hosts matched",
        "wave 1 of 2: web1 web2",
    ):
        assert words in out


def test_on_a_terminal_a_bar_follows_the_wave_and_leaves_the_summary(project: Path) -> None:
    heard = on_a_terminal(project)
    assert re.search(r"wave 2/2 .*━.* 4/4 hosts", heard)
    assert "\x1b[2K" in heard  # the bar is wiped, not scrolled away
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", heard)
    assert re.search(r"^.*wave 1/2  2 hosts  2 active  0 failed  \d+\.\d s  gate: proceed", text, re.MULTILINE)
    hidden = heard.split("\x1b[?25l")[1:]
    assert hidden
    assert all("\x1b[?25h" in part.split("━")[0] for part in hidden), "the cursor is back before a bar is drawn: a killed run leaves it"
    assert "\x1b[2J" not in heard, "a host's message can't drive the terminal"


@pytest.mark.parametrize("name", ["NO_COLOR", "CI"])
def test_a_terminal_that_wants_plain_text_gets_plain_lines(project: Path, name: str) -> None:
    heard = on_a_terminal(project, **{name: "1"})
    assert "━" not in heard
    assert "wave 1/2  2 hosts  2 active  0 failed" in heard


def story(text: str) -> tuple[list[tuple[str, dict[str, int], str]], list[str]]:
    """What somebody reads: each step with how many hosts are in which state and its gate, and what is said of hosts."""
    steps, told = [], []
    for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines():
        if found := re.fullmatch(r"20\S+Z (stage|wave \d+) ?(?:of \d+)?: (.*), gate: (.*), [\d.]+ s", line):  # a log names the hosts
            groups = [part.split() for part in found[2].split(", ")]
            steps.append((found[1], {words[-1]: len(words) - 1 for words in groups}, found[3]))
        elif found := re.fullmatch(r"(stage|wave \d+)(?:/\d+)?  \d+ hosts?  (.*)  [\d.]+ s  gate: (.*)", line):  # a terminal counts them
            counted = {state: int(number) for number, state in re.findall(r"(\d+) (\w+)", found[2])}
            steps.append((found[1], {state: number for state, number in counted.items() if number}, found[3]))
        elif re.match(r"  (web\d (failed|lost): |  )\S?", line) and "━" not in line:
            told.append(line)
        elif line.startswith("PLAY [Something of the user]"):
            break
    return steps, sorted(told)


def test_a_log_a_plain_terminal_and_one_of_80_columns_tell_the_same_story(project: Path) -> None:
    log = story(plain(project))
    assert [step for step, _hosts, _gate in log[0]] == ["stage", "wave 1", "wave 2"]
    assert log[0][2][1:] == ({"active": 1, "failed": 2, "lost": 1}, "back out (2 of 4 hosts failed)")
    assert len(log[1]) == 6
    for other in ({"NO_COLOR": "1"}, {"CI": "1"}, {"TERM": "dumb"}):
        assert story(on_a_terminal(project, 80, **other)) == log, other
    heard = on_a_terminal(project, 80)
    assert story(heard) == log
    drawn = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]|\x1b\[2K", heard) if "━" in line]
    assert drawn
    assert max(map(len, drawn)) <= 80, "a bar that is wider than the terminal scrolls, and can't be wiped"
    assert all(re.search(r"\d/\d hosts? +\d failed +[\d.]+ s", line) for line in drawn), "and one that is cut says less"
