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
