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
  - Hosts that are up are left alone. Taking a lab down ends its processes and nothing else, also after whoever made it was killed.
author:
  - Tidegate maintainers (@tidegate)
options:
  path:
    description: Directory of the lab; it is the lab's identity.
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
        variable of the host.
    type: list
    elements: dict
    default: []
  mode:
    description: How hosts are made. V(auto) takes the strongest that this machine can do and warns when that is not V(isolated).
    type: str
    choices: [auto, isolated, user, local]
    default: auto
  user:
    description: Login user of isolated hosts.
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
    description: Size of an isolated host's file system.
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
  - For isolated hosts, root, util-linux, OpenSSH's server and sudo.
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

import json
import os
import re
import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tidegate.release.plugins.module_utils.lab import Lab, LabError, Settings, choose_mode

CI_KEYS = ("name", "class", "site", "environment")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "hosts": {"type": "list", "elements": "dict", "default": []},
            "mode": {"type": "str", "choices": ["auto", "isolated", "user", "local"], "default": "auto"},
            "user": {"type": "str", "default": "deploy"},
            "network": {"type": "str", "default": "127.0.1"},
            "first": {"type": "int", "default": 1},
            "port": {"type": "int", "default": 2022},
            "disk": {"type": "str", "default": "1g"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        lab = Lab(params["path"])
        if params["state"] == "absent":
            there = bool(lab.processes()) or (lab.path / "hosts").exists()
            module.exit_json(changed=there if module.check_mode else lab.down())
        if not re.fullmatch(r"127(\.\d{1,3}){2}", params["network"]) or not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", params["user"]):
            raise LabError(
                "network has to be the first three parts of a loopback address, such as 127.0.1, and user a plain lower case name"
            )
        if not re.fullmatch(r"\d+[kmg]", params["disk"]):
            raise LabError("disk has to be a size such as 512m or 1g")
        mode, warning = choose_mode(params["mode"])
        if warning:
            module.warn(warning)
        if module.check_mode:
            module.exit_json(changed=any(not lab.processes(host.get("name")) for host in params["hosts"]), mode=mode)
        settings = Settings(mode, params["user"], params["network"], params["first"], params["port"], params["disk"])
        started, connections = lab.up(params["hosts"], settings)
        cis = [
            {
                "name": host["name"],
                "class": host.get("class", "server"),
                "site": host.get("site", ""),
                "environment": host.get("environment", "lab"),
                "attributes": {**connections[host["name"]], **{key: host[key] for key in host if key not in CI_KEYS}},
            }
            for host in params["hosts"]
        ]
        hosts = {ci["name"]: ci["attributes"] for ci in cis}
        inventory = os.path.join(str(lab.path), "inventory.yml")
        # JSON is YAML; an inventory that only a program writes needs nothing prettier.
        text = json.dumps({"all": {"hosts": hosts}}, indent=2, sort_keys=True) + "\n"
        lab.path.mkdir(parents=True, exist_ok=True)
        with open(inventory, "w", encoding="utf-8") as stream:
            stream.write(text)
    except LabError as error:
        module.fail_json(msg=str(error))
    except (OSError, subprocess.SubprocessError) as error:
        module.fail_json(msg=f"the lab in {params['path']} could not be changed: {error}")
    module.exit_json(changed=bool(started), mode=mode, hosts=hosts, cis=cis, inventory=inventory)


if __name__ == "__main__":
    main()
