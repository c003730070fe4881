#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is really live on a managed host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_facts
short_description: Report which releases are live on this host and whether they are what was released
version_added: 0.1.0
description:
  - Reads every release's home on the host in one pass, compares each file of each release there with the package's file index, its
    content, kind, mode and target, and finds files that no release brought.
  - Releases share the files that did not change. One that was edited is reported for each of them; the next release staged does not get it.
  - Of a host whose CI has the attribute C(redfish) its device is asked too, by the BMC there, which unit it is and what firmware it runs.
    Nobody logs in to the host of such a CI that has C(ansible_connection=local). Where one can't be reached, and the CMDB has no release
    on it but firmware and hardware, it is as one that has none.
  - Names files of a release that somebody else than root may change, by owner, group or access list, and those with capabilities. What
    Python has compiled beside a source counts as a file that no release brought unless it is what the same Python, if the host has it,
    makes of the released source.
  - A live release that says C(effect=outside) has its hook C(read) run, in check mode too, for it changes nothing. An operation that is
    under way is waited for, for at most 20 s. The hook gets the variable C(tidegate_settings) of the host, if its CI has the
    attribute C(reads).
options:
  copies:
    description: Directories in which files, and homes, of releases are looked for that belong below O(root).
    type: list
    elements: str
    default: []
  sets:
    description: By name, the sha256 of each set of the host that is on record; one that is another is returned whole. Without it no set
      is read.
    type: dict
  scan:
    description: Whether files in the homes of releases that nobody released, or that were changed, go to the controller, up to
      16 MiB, and are scanned there by ClamAV, as releases are before they are archived.
    type: bool
    default: false
  malware_signatures:
    description:
      - A directory of signatures for ClamAV in place of its own.
      - Taken from the variable C(tidegate_malware_signatures), when it is not given.
    type: path
  whole_sets:
    description: Whether each set is returned whole.
    type: bool
    default: false
  running:
    description:
      - Whether the health checks of each live release are made, as the gate of a wave makes them, and the processes looked for that ran of
        it when it was confirmed. In check mode too; an operation that is under way is waited for, for at most 20 s.
      - The checks get the host's C(tidegate_settings). No command of a release is run whose files were changed.
    type: bool
    default: false
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.redfish
  - tidegate.release.homes.root
attributes:
  check_mode:
    description: Can run in check mode and say what it would do.
    support: full
  diff_mode:
    description: Returns what changed when in diff mode.
    support: none
seealso:
  - module: tidegate.release.audit
"""

EXAMPLES = r"""
- name: See what is live
  tidegate.release.release_facts:
  register: found

- name: Show the versions
  ansible.builtin.debug:
    msg: "{{ found.releases | items2dict(key_name='name', value_name='version') }}"
"""

RETURN = r"""
releases:
  description: One entry for each release's home, by name.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name of the release.
      type: str
      sample: pypiserver
    version:
      description: Version that is live; null when none is.
      type: str
      sample: 2.3.2
    digest:
      description: Digest of the package that is live; null when none is.
      type: str
    staged:
      description: Versions that are complete on the host.
      type: list
      elements: str
    changed:
      description: Files of the live release that are missing or are not what the package has.
      type: list
      elements: str
    extra:
      description: Files in the live release's tree that the package does not have.
      type: list
      elements: str
    access:
      description: A sentence, with paths, for each thing by which others than root may change files of the live release.
      type: list
      elements: str
    logged:
      description: Whether the home's log knows of any release that became live.
      type: bool
      returned: when a release is live
    running:
      description: Whether the live release runs.
      type: dict
      returned: when O(running) is true and a release is live
      contains:
        down:
          description: Why it does not run; empty when it does.
          type: str
        problem:
          description: Why there is no telling; empty when there is.
          type: str
    since:
      description:
        - Since when what is found is so, as moments in seconds since 1970 of the host's clock at which the file system noted a change,
          the first, the last, which may be the same, and between them one of each second. By what it is, V(changed) and V(extra) files,
          those of V(access), V(strangers), the V(log), if it does not know what is live, and V(live) for the release that is live, or is
          so no more. What is not known is left out.
      type: dict
    others:
      description: Releases beside the live one that are not as they were released.
      type: list
      elements: dict
      contains:
        version:
          description: Its version.
          type: str
        digest:
          description: Digest of its package.
          type: str
        changed:
          description: As RV(releases[].changed).
          type: list
          elements: str
        extra:
          description: As RV(releases[].extra).
          type: list
          elements: str
        access:
          description: As RV(releases[].access).
          type: list
          elements: str
    strangers:
      description: What is in the home beside trees but was not made there by a deployment, links in place of releases included.
      type: list
      elements: str
    packages:
      description: What of the packages that the live release brought is not as it was installed, a sentence for each.
      type: list
      elements: str
    outside:
      description: What runs outside the tree of the live release.
      type: dict
      returned: when the live release says C(effect=outside)
      contains:
        text:
          description: What its hook C(read) printed; empty when that could not be read.
          type: str
        version:
          description: Version of the release on the host that has to be read so; empty for none.
          type: str
        wanted:
          description: What the live release has to be read as.
          type: str
        problem:
          description: Why it could not be read; empty when it was.
          type: str
    error:
      description: Why the home could not be read.
      type: str
copies:
  description: What was released and lies elsewhere.
  type: dict
  returned: when O(copies) are given
  contains:
    found:
      description: Each with C(path), C(release), C(version), C(since), the moments at which it came about, and C(home),
        whether it is the home of a release; else it has C(count) files, of which C(files) are the first.
      type: list
      elements: dict
    problems:
      description: A sentence for each place that was not looked at to its end.
      type: list
      elements: str
scan:
  description: What ClamAV said, V(infected) with C(release), C(path), C(signature) and C(since) of each file, and V(problem), why not all
    is known to be clean.
  type: dict
  returned: when O(scan) is true
sets:
  description: C(packages), C(units), C(cron) and C(listeners), each with its C(sha256), or a C(problem); with C(entries) where they are
    told, and where they are not those on record C(since), by entry, the second since 1970 from which on it is so.
  type: dict
  returned: when O(sets) are given
device:
  description: What the device of the host said, or why it did not.
  type: dict
  returned: when the CI has the attribute C(redfish), and the inventory and O(cmdb) say so
  contains:
    serial:
      description: Its serial number; empty when it says none.
      type: str
    model:
      description: Its model; empty when it says none.
      type: str
    asset_tag:
      description: The tag that it was told; empty when it says none.
      type: str
    firmware:
      description: The versions of each component that is recorded for it; several where it contradicts itself.
      type: dict
    parts:
      description: By slot in which the hardware storage has a unit, the serial number of what is there; empty for nothing. Slots of
        which it says nothing are not there.
      type: dict
    problem:
      description: Why it could not be read; empty when it was.
      type: str
    silent:
      description: Whether it can't be reached.
      type: bool
"""
