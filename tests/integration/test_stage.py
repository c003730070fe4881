# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Staging on real hosts: how much is sent, by which way, in how many round trips, and what stays there."""

from __future__ import annotations

import contextlib
import random
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.register import withdraw
from fleet import SECOND, Fleet

BIG = random.Random(5).randbytes(4 << 20)  # noqa: S311 - only has to be incompressible


class Releases(Fleet):
    """Releases of the hello service with a large file in them."""

    content: bytes = BIG

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "ANSIBLE_STDOUT_CALLBACK": "default"}

    def release(self, version: str, **changes: Any) -> Path:
        folder = super().release(version, **changes)
        (folder / "payload" / "big").write_bytes(self.content)
        return folder

    def edit(self, where: int) -> None:
        """Change the large file a little for the next release."""
        self.content = self.content[:where] + b"edited here" + self.content[where + 5 :]

    def stage(self, number: str, version: str, *options: str, **variables: Any) -> str:
        """Stage a release and not more; say what Ansible says of it."""
        rfc = self.rfc(number, version, self.archive(version))
        return self.play("tidegate.release.stage", {"tidegate_rfc": str(rfc), **variables}, "-v", *options).stdout

    def trees(self, host: str) -> list[str]:
        return sorted(re.sub("-[0-9a-f]{12}$", "", name) for name in self.run_on(host, "ls /opt/tidegate/hello/releases").split())


@pytest.fixture
def releases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Releases]:
    fleet = Releases(tmp_path_factory.mktemp("stage"), count=2, first=SECOND)
    try:
        fleet.up()
        yield fleet
    finally:
        fleet.down()


def set_python(fleet: Fleet, host: str, wrapper: str) -> None:
    """Let Ansible start ``wrapper``, a shell script, on a host instead of its Python."""
    fleet.run_on(host, f"printf %s {shlex.quote(wrapper)} >/opt/odd-python && chmod 755 /opt/odd-python")
    with Cmdb.open(str(fleet.path / "cmdb.sqlite")) as cmdb:
        (entry,) = cmdb.cis([host])
        attributes = {**entry["attributes"], "ansible_python_interpreter": "/opt/odd-python"}
        cmdb.put_cis([{"name": host, "attributes": attributes}], "test")


@contextlib.contextmanager
def file_server(folder: Path) -> Iterator[str]:
    """Any static file server: this one knows no ranges."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder), str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _attempt in range(50):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def results(said: str, key: str) -> list[str]:
    """What the two hosts' results have under a key."""
    return re.findall(rf'"{key}": "?([^",}}\n]+)', said)


def shared_files(releases: Releases) -> list[str]:
    """The files on the first host that have more than one name, below their trees."""
    found = releases.run_on("web1", "cd /opt/tidegate/hello/releases && find . -type f -links +1").split()
    return sorted({path.partition("/tree/")[2] for path in found})


def test_an_upgrade_sends_the_changed_chunks_in_one_round_trip(releases: Releases) -> None:
    assert releases.deploy("CHG0001", "1.0").returncode == 0
    releases.edit(1 << 20)
    said = releases.stage("CHG0002", "2.0", "-vvvv")
    assert results(said, "source")[:2] == ["push", "push"]
    assert all(int(count) < 600_000 for count in results(said, "bytes"))
    task = said[said.index("TASK [tidegate.release.stage : Stage the release]") : said.index("PLAY [Conclude]")]
    assert task.count("SSH: EXEC") == 2  # one for each host
    assert "hello" in releases.run_on("web1", "ls /opt/tidegate")
    assert shared_files(releases) == []


def test_a_mirror_brings_what_lacks_and_when_it_is_gone_it_is_pushed(releases: Releases) -> None:
    with file_server(releases.path / "dsl") as url:
        said = releases.stage("CHG0001", "1.0", tidegate_mirror=url)
    assert results(said, "source") == ["mirror", "mirror"]
    assert releases.play("tidegate.release.deploy", {"tidegate_rfc": str(releases.path / "CHG0001.yml")}).returncode == 0
    releases.edit(3 << 20)
    releases.write_policy(rollout={**releases.policy["rollout"], "share_files": True})
    said = releases.stage("CHG0002", "2.0", tidegate_mirror=url)
    assert results(said, "source") == ["push", "push"]
    assert "could not use its mirror: it can't be read (Connection refused); what it lacked was pushed" in " ".join(said.split())
    assert releases.trees("web1") == releases.trees("web2") == ["1.0", "2.0"]
    assert "bin/start" in shared_files(releases)  # as this policy wants it


def test_a_mirror_s_password_is_refused_and_repeated_nowhere(releases: Releases) -> None:
    said = releases.stage("CHG0001", "1.0", "-vvv", tidegate_mirror="https://ann:hunter2@mirror.example/dsl")
    assert "without user, password and query" in said
    # Ansible itself prints the variables that were given on the command line.
    assert "hunter2" not in "".join(line for line in said.splitlines() if "tidegate_mirror" not in line)
    assert releases.run_on("web1", "ls /opt/tidegate 2>/dev/null; true") == ""


def test_an_edited_file_is_named_for_its_release_and_does_not_spread(releases: Releases) -> None:
    assert releases.deploy("CHG0001", "1.0").returncode == 0
    releases.stage("CHG0002", "2.0")
    assert releases.play("tidegate.release.deploy", {"tidegate_rfc": str(releases.path / "CHG0002.yml")}).returncode == 0
    releases.run_on("web1", "echo evil >>/opt/tidegate/hello/current/bin/start; ln -s /etc/passwd /opt/tidegate/hello/releases/link")
    said = releases.play("tidegate.release.audit").stdout
    said = " ".join(said.split())
    assert "1 file of hello 2.0 was changed or is missing: bin/start" in said
    assert "of hello 1.0 were changed" not in said
    assert "releases/link beside the releases of hello came from nobody" in said
    releases.stage("CHG0003", "3.0")
    assert "evil" not in releases.run_on("web1", "cat /opt/tidegate/hello/releases/3.0-*/tree/bin/start")


@pytest.mark.thorough
def test_what_a_deployment_may_go_back_to_outlives_the_policy_s_keep(releases: Releases) -> None:
    releases.write_policy(rollout={"canary": 1, "steps": [100], "budget": {"wave": 0, "total": 0}, "keep": 2})
    for number, version in enumerate(("1.0", "2.0", "3.0"), 1):
        assert releases.deploy(f"CHG000{number}", version).returncode == 0
    # While 3.0 was staged the deployment of 2.0 could still be backed out, to 1.0; now that of 3.0 can, to 2.0.
    assert releases.trees("web1") == ["1.0", "2.0", "3.0"]
    releases.stage("CHG0004", "4.0")
    assert releases.trees("web1") == ["2.0", "3.0", "4.0"]


def test_a_host_whose_clock_is_wrong_can_not_be_staged(releases: Releases) -> None:
    # Python's own ways to change it from outside are closed: the program is started with -I and -S.
    shift = "import sys, time; real = time.time; time.time = lambda: real() - 90; exec(sys.argv.pop(1))"
    wrapper = '#!/bin/sh\nshift 3\nexec python3 -I -S -c "$(cat /opt/skew/shift)" "$@"\n'
    releases.run_on("web2", f"mkdir /opt/skew && echo '{shift}' > /opt/skew/shift && printf '{wrapper}' > /opt/skew/python3")
    releases.run_on("web2", "chmod 755 /opt/skew /opt/skew/python3")
    python = {"ansible_python_interpreter": "/opt/skew/python3"}
    with Cmdb.open(str(releases.path / "cmdb.sqlite")) as cmdb:
        (web2,) = cmdb.cis(["web2"])
        cmdb.put_cis([{"name": "web2", "attributes": {**web2["attributes"], **python}}], "test")
    releases.stage("CHG8001", "1.0")
    ((detail,),) = releases.rows("select detail from deployment_host where host = 'web2'")
    told = "behind the controller's, more than 60; set it, or rollout.clock_skew_seconds in the policy"
    assert re.fullmatch(f"its clock is (8[0-9]|90) seconds {told}", detail)
    assert releases.host_states("CHG8001") == {"web1": "staged", "web2": "stage_failed"}
    assert releases.play("tidegate.release.backout", {"tidegate_rfc": str(releases.path / "CHG8001.yml")}).returncode == 0
    releases.write_policy(rollout={**releases.policy["rollout"], "clock_skew_seconds": 120})
    with Cmdb.open(str(releases.path / "cmdb.sqlite")) as cmdb, cmdb.begin() as connection:
        withdraw(connection, ["CHG8001"], datetime.now(UTC))  # or it would be in the way of the next
    releases.stage("CHG8002", "1.0")
    assert set(releases.host_states("CHG8002").values()) == {"staged"}


ODD = {
    """sed 's/"clock": [0-9.]*/"clock": NaN/'""": "it answered with nan, which is not a clock's time; look at",
    """sed -E 's/"state": "(staged|lacking)"/"state": "whatever"/'""": "'whatever', which is no state after stage",
    """sed 's/"clock": [0-9.]*/"clock": [1]/'""": "it answered with a list, which is not a clock's time",
    """sed 's/"clock": [0-9.]*/"stdout": 5/'""": "it answered with nothing, which is not a clock's time",
    """sed 's/{.*/["state"]/'""": "it answered with a list, which is not an answer",
    """sed 's/{.*/{"failed": true, "msg": "{{ 1 + 1 }} broke"}/'""": "its half of the step broke off ('{{ 1 + 1 }} broke')",
    "sed 's/}$//'": "it did not answer: tidegate-",
    """sed 's/^.*{.*/{ welcome }/'""": "it did not answer: { welcome }; mend the host and run this again",
    "sed 's/{.*/{}/'": "it did not answer: the program that it was sent did not arrive whole",
}


@pytest.mark.thorough
def test_an_odd_answer_is_that_host_s_own_named_failure(releases: Releases) -> None:
    releases.write_policy(rollout={"canary": 2, "steps": [100], "budget": {"wave": 1, "total": 1}})
    rfc = releases.rfc("CHG0001", "1.0", releases.archive("1.0"))
    for filter_, says in ODD.items():
        set_python(releases, "web2", f'#!/bin/sh\npython3 "$@" | {filter_}\n')
        said = releases.play("tidegate.release.stage", {"tidegate_rfc": str(rfc)}, "-vvv").stdout
        assert releases.host_states("CHG0001") == {"web1": "staged", "web2": "stage_failed"}, said
        ((detail,),) = releases.rows("select detail from deployment_host where host = 'web2'")
        assert says in detail
        assert "Traceback" not in said
    done = releases.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc)})
    assert done.returncode == 0, done.stdout
    assert "hello 1.0 is live on 1 of 2 hosts; web2 is late (it did not answer: " in done.stdout
    # Whatever else a login prints, the answer is found in it, and what it has in it for Ansible does nothing.
    noise = """{ welcome }\\n{"state": "stuck"}\\n&"__ansible_type": "x", "_ansible_no_log": true, """
    set_python(releases, "web2", f"#!/bin/sh\npython3 \"$@\" | sed 's/tidegate-[0-9a-f]*{{/{noise}/'; echo '{{ bye }}'\n")
    said = releases.stage("CHG0002", "2.0")
    assert releases.host_states("CHG0002") == {"web1": "staged", "web2": "staged"}, said


def test_a_user_without_a_home_gets_a_pack_of_any_size_with_ansible_s_own_settings(releases: Releases) -> None:
    releases.content = random.Random(6).randbytes(40 << 20)  # noqa: S311 - only has to be incompressible
    releases.run_on("web1", "sed -i 's#/home/deploy:#/nonexistent:#' /etc/passwd")
    releases.run_on("web2", "rm -rf /home/deploy/.ansible && chown root: /home/deploy && chmod 755 /home/deploy")
    (releases.path / "ansible.cfg").write_text("[defaults]\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANSIBLE_CONFIG", str(releases.path / "ansible.cfg"))
        done = releases.deploy("CHG0001", "1.0")
    assert done.returncode == 0, done.stdout
    assert releases.run_on("web2", "ls -A /home/deploy") in ("", ".ssh\n")
