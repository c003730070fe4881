#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at every byte of the DSL."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dsl_verify
short_description: Look at every byte of the definitive software library, and heal it from a replica
version_added: 0.1.0
description:
  - Checks every package, every blob and every piece of evidence against its digest, on all processors at once. Of a library in a directory
    also the blobs that nothing names, such as those of an archiving that was interrupted; they are no fault, and are removed when they are
    older than an hour, unless somebody is writing. What could be a release is only named, and evidence that such a process left in no list
    is listed. What a process that was killed left unfinished is removed. When nothing could be removed or listed, a warning says why.
  - Names each blob that is damaged or missing, and the releases that it touches, and fails when there is one.
  - With O(replica) it puts the right bytes in their place, checked on the way, and fails only if something is left. A library in a
    directory whose C(index.json) is damaged gets a new one, with the releases of the replica and all evidence that is still there; the
    damaged one stays beside it.
  - Names each release, and each piece of evidence, that the CMDB remembers from the library or that the replica has, and that is not there
    any more, as after an older backup was restored or a rejection was taken away. These come back from the replica too. What was purged
    with M(tidegate.release.dsl_release) is not missed. When nothing else has it, it is given up with that as well.
  - The CMDB remembers what the library has then. It goes by names and versions, whatever the library's address. So another home is
    compared with the same memory, and one that is only for some releases has to be told which, in O(names).
  - A library without a release, or without one of O(names), fails, and so does a O(replica) without a release. Such a library is not
    healed, for its address may be mistyped. One that was wiped is copied back with M(tidegate.release.dsl_sync).
  - In a registry it looks at what is there, whoever put it there. Where the registry does not say which repositories it has, that are the
    releases that Tidegate's own verbs came by, those that the CMDB remembers, and those of the replica; then a warning says so.
  - In check mode nothing is healed; it is only said what could be.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
options:
  replica:
    description:
      - Another home of the same library to heal it from, a directory or V(oci://host[:port]/prefix), such as
        M(tidegate.release.dsl_sync) makes.
      - It need not be trusted, nothing is taken from it that is not what its digest says. But the releases of a damaged C(index.json), and
        those that are lost, are those of the replica; M(tidegate.release.clear) judges them as any other.
      - Taken from the variable C(tidegate_dsl_replica), when it is not given.
    type: str
  names:
    description:
      - Names of the releases that this home is for, each with all its versions. All releases unless given.
      - Taken from the variable C(tidegate_dsl_names), when it is not given.
    type: list
    elements: str
notes:
  - Most registries keep the bytes that they have for a digest even when they are damaged. Then the file has to be taken away on the
    registry's machine before it can be healed.
  - Without a replica a damaged library can still be copied as far as it is whole, with M(tidegate.release.dsl_sync) into a new directory.
seealso:
  - module: tidegate.release.dsl_sync
"""

EXAMPLES = r"""
- name: Look at every byte
  tidegate.release.dsl_verify:
    dsl: /srv/dsl

- name: Heal what is damaged
  tidegate.release.dsl_verify:
    dsl: /srv/dsl
    replica: oci://registry.example.org/dsl
"""

RETURN = r"""
releases:
  description: How many releases were found.
  type: int
  returned: success
  sample: 40
blobs:
  description: How many blobs and manifests were checked.
  type: int
  returned: success
  sample: 412
size:
  description: Bytes of them.
  type: int
  returned: success
  sample: 104857600
unnamed:
  description: How many of them no release needs.
  type: int
  returned: success
  sample: 0
unnamed_size:
  description: Bytes of these.
  type: int
  returned: success
  sample: 0
collected:
  description: How many blobs that nothing named were removed, or would be in check mode. Those of the last hour stay, in case another tool
    is about to name them, and so does what could be a release or evidence. Only for a DSL in a directory.
  type: int
  returned: success
  sample: 0
collected_size:
  description: Bytes of these.
  type: int
  returned: success
  sample: 0
damaged:
  description: What is damaged or missing and was not healed.
  type: list
  elements: dict
  returned: always
  contains:
    digest:
      description: The blob; of a list of evidence, its tag; of what is lost, the manifest.
      type: str
    what:
      description: How it is wrong, such as V(damaged), V(missing) or V(lost), and what was lost.
      type: str
    releases:
      description: Each release that needs it.
      type: list
      elements: dict
      contains:
        name:
          description: The release's name.
          type: str
        version:
          description: Its version.
          type: str
healed:
  description: What was healed, or could be in check mode; like RV(damaged).
  type: list
  elements: dict
  returned: success
index_rebuilt:
  description: Whether C(index.json) was damaged and made anew.
  type: bool
  returned: success
"""
