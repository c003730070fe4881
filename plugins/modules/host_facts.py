#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is made of, as a lab is compared with live by."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Report the operating system, Python and packages of a host
version_added: 0.1.0
description:
  - Reads what M(tidegate.release.verify) compares of a live host and its double in the lab. Changes nothing and needs no rights.
author:
  - Tidegate maintainers (@tidegate)
options: {}
attributes:
  check_mode:
    description: Can run in check mode and say what it would do.
    support: full
  diff_mode:
    description: Returns what changed when in diff mode.
    support: none
requirements:
  - Python 3.9 on the host
seealso:
  - module: tidegate.release.verify
"""

EXAMPLES = r"""
- name: See what a host is made of
  tidegate.release.host_facts:
  register: found

- name: Show its operating system
  ansible.builtin.debug:
    msg: "{{ found.os.id }} {{ found.os.version }}"
"""

RETURN = r"""
os:
  description: The operating system; null when the host does not say.
  type: dict
  returned: success
  contains:
    id:
      description: Its name, in lower case.
      type: str
      sample: debian
    version:
      description: Its version.
      type: str
      sample: "12"
    architecture:
      description: What it runs on.
      type: str
      sample: x86_64
python:
  description: Version of the Python that Ansible uses there.
  type: str
  returned: success
  sample: 3.11.2
packages:
  description: Version of each installed package, by name; null where neither dpkg nor rpm can be asked.
  type: dict
  returned: success
  sample: {openssl: 3.0.15-1~deb12u1}
"""

import platform
import shlex
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule

RELEASE_FILES = ("/etc/os-release", "/usr/lib/os-release")
QUERIES = (
    ("dpkg-query", ["-W", "-f", "${db:Status-Status} ${Package}:${Architecture} ${Version}\\n"]),
    ("rpm", ["-qa", "--qf", "installed %{NAME}:%{ARCH} %{EPOCHNUM}:%{VERSION}-%{RELEASE}\\n"]),
)


def operating_system() -> Optional[dict[str, str]]:
    for path in RELEASE_FILES:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                pairs = [line.strip().partition("=") for line in file if "=" in line and not line.startswith("#")]
            said = {key: " ".join(shlex.split(value)) for key, _equals, value in pairs}
        except (OSError, ValueError):
            continue
        if said.get("ID"):
            # A rolling distribution has no version.
            return {"id": said["ID"].lower(), "version": said.get("VERSION_ID", ""), "architecture": platform.machine()}
    return None


def packages(module: AnsibleModule) -> Optional[dict[str, str]]:
    for program, arguments in QUERIES:
        path = module.get_bin_path(program)
        if path:
            status, output, _errors = module.run_command(
                [path, *arguments], environ_update={"LC_ALL": "C.UTF-8"}, expand_user_and_vars=False
            )
            rows = [line.split(" ") for line in output.splitlines()]
            found = {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == "installed"}
            if status == 0 and found:
                return found
    return None


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    result: dict[str, Any] = {"os": operating_system(), "python": platform.python_version(), "packages": packages(module)}
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
