#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring test hosts up and down on this machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab
short_description: Bring test hosts up on this machine, or take them down
version_added: 0.1.0
description:
  - Makes hosts on loopback addresses that are reached over real ssh with their own host keys, and writes an inventory of them.
  - As root they are isolated, each with a file system, process tree and host name of its own, an unprivileged login user and sudo.
  - Without root each is an sshd process of yours with a directory for its releases; without sshd, a directory alone.
  - Hosts that are up are left alone; one that does not answer, or was made with other options, is made anew. Taking a lab down ends its
    processes and nothing else, also after whoever made it was killed.
  - Isolation keeps accidents in, not attackers. The root user of an isolated host is the root user of this machine.
author:
  - Tidegate maintainers (@tidegate)
options:
  path:
    description: Directory of the lab; it is the lab's identity. It may be made by this module, and must not hold files of the lab's names.
    type: path
    required: true
  state:
    description: Whether the lab's hosts are up, or gone.
    type: str
    choices: [present, absent]
    default: present
  hosts:
    description:
      - The hosts, each with C(name). Its C(class), C(site) and C(environment) are for the CMDB, see RV(cis); every other key becomes a
        variable of the host. A site is also a group of the inventory, C(site_) and its name.
      - Hosts of the lab that are not listed are not in the inventory. They stay up unless a listed one needs their address.
      - At least one is needed for O(state=present).
    type: list
    elements: dict
  mode:
    description: How hosts are made. V(auto) takes the strongest that this machine can do and warns when that is not V(isolated).
    type: str
    choices: [auto, isolated, user, local]
    default: auto
  user:
    description: Login user of isolated hosts, without a password and with sudo. No user of the system itself.
    type: str
    default: deploy
  network:
    description: First three parts of the hosts' addresses; they have to be loopback addresses.
    type: str
    default: 127.0.1
  first:
    description: Last part of the first host's address. Labs that are up at the same time need distinct ones.
    type: int
    default: 1
  port:
    description: Port of every host's sshd.
    type: int
    default: 2022
  disk:
    description: Size of an isolated host's file system, in memory. C(/run) and C(/dev/shm) are apart from it.
    type: str
    default: 1g
attributes:
  check_mode:
    description: Can run in check mode and say what it would do.
    support: full
  diff_mode:
    description: Returns what changed when in diff mode.
    support: none
requirements:
  - For isolated hosts, root, util-linux, OpenSSH's client and server, and sudo. For the others but V(local), OpenSSH's client and server.
  - Linux 5.3 or newer on this machine.
seealso:
  - module: tidegate.release.cmdb_ci
"""

EXAMPLES = r"""
- name: Bring two hosts up
  tidegate.release.lab:
    path: /tmp/lab
    hosts:
      - name: web1
        site: ams
      - name: web2
        site: lon

- name: Take them down
  tidegate.release.lab:
    path: /tmp/lab
    state: absent
"""

RETURN = r"""
mode:
  description: How the hosts were made.
  type: str
  returned: when O(state=present)
  sample: isolated
hosts:
  description: The variables of each host, by name, as they are in the inventory.
  type: dict
  returned: when O(state=present)
cis:
  description: The hosts as M(tidegate.release.cmdb_ci) takes them, with their variables as attributes.
  type: list
  elements: dict
  returned: when O(state=present)
inventory:
  description: The inventory that was written.
  type: str
  returned: when O(state=present)
  sample: /tmp/lab/inventory.yml
"""

import os
import re
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tidegate.release.plugins.module_utils.lab.hosts import Lab, Settings
from ansible_collections.tidegate.release.plugins.module_utils.lab.machine import choose_mode
from ansible_collections.tidegate.release.plugins.module_utils.lab.processes import LabError

CI_KEYS = ("name", "class", "site", "environment")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "hosts": {"type": "list", "elements": "dict"},
            "mode": {"type": "str", "choices": ["auto", "isolated", "user", "local"], "default": "auto"},
            "user": {"type": "str", "default": "deploy"},
            "network": {"type": "str", "default": "127.0.1"},
            "first": {"type": "int", "default": 1},
            "port": {"type": "int", "default": 2022},
            "disk": {"type": "str", "default": "1g"},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # whatever the caller's: hosts of root start from these files
    try:
        lab = Lab(module.params["path"])
        result = up(module, lab) if module.params["state"] == "present" else down(module, lab)
    except LabError as error:
        module.fail_json(msg=str(error))
    except (OSError, subprocess.SubprocessError) as error:
        module.fail_json(msg=f"the lab in {module.params['path']} could not be changed: {error}")
    module.exit_json(**result)


def up(module: AnsibleModule, lab: Lab) -> dict[str, Any]:
    params = module.params
    mode, warning = choose_mode(params["mode"])
    if warning:
        module.warn(warning)
    settings = Settings(mode, params["user"], params["network"], params["first"], params["port"], params["disk"])
    names = [str(host.get("name", "")) for host in params["hosts"] or []]
    if not names:
        raise LabError(f"the lab in {params['path']} has no hosts; name them in hosts, or as platforms of the molecule scenario")
    if module.check_mode:
        return {"changed": bool(lab.missing(names, settings)), "mode": mode}
    started, connections = lab.up(names, settings)
    cis = [
        {
            "name": str(host["name"]),
            "class": host.get("class", "server"),
            "site": host.get("site", ""),
            "environment": host.get("environment", "lab"),
            "attributes": {**connections[str(host["name"])], **{key: host[key] for key in host if key not in CI_KEYS}},
        }
        for host in params["hosts"]
    ]
    hosts = {ci["name"]: ci["attributes"] for ci in cis}
    groups: dict[str, Any] = {}
    for ci in cis:
        if ci["site"]:
            groups.setdefault("site_" + re.sub(r"\W", "_", str(ci["site"])), {"hosts": {}})["hosts"][ci["name"]] = {}
    inventory = lab.write_inventory({"all": {"hosts": hosts, "children": groups}})
    return {"changed": bool(started), "mode": mode, "hosts": hosts, "cis": cis, "inventory": inventory}


def down(module: AnsibleModule, lab: Lab) -> dict[str, Any]:
    return {"changed": lab.is_there() if module.check_mode else lab.down()}


if __name__ == "__main__":
    main()
