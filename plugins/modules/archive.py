#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archive a release in the DSL."""

from __future__ import annotations

DOCUMENTATION = r"""
module: archive
short_description: Archive a release in the definitive software library
version_added: 0.1.0
description:
  - Stores a release with its payload, its documentation and an index of its files as one package, an OCI image manifest in an OCI
    image layout. One digest names all of it, and the tag C(<name>:<version>) finds it.
  - The same release gives the same digest on every machine. Time, owner, group, hard links and the order of files on disk leave no trace.
  - Permissions go on hosts as they are, with whoever stages there as the owner, so a key of mode 0600 stays one. What only a umask of
    002 does, that the group may write to all that the owner may write to, leaves no trace.
  - The library only grows. A version that is archived can't be archived again with another content.
  - With O(key) it signs the package, with an in-toto release statement in a DSSE envelope that refers to it. A release that is archived
    already gets the signature if this key has not made it yet. Whose signatures are needed is said in the policy.
  - Examines the release before that, see O(examine). A copy is scanned for malware with ClamAV, the daemon when one answers, else
    C(clamscan). What the release consists of is listed in a CycloneDX SBOM, its own (C(bom.json), C(sbom.json) or C(*.cdx.json) on top of
    the payload or in C(sbom/)) or one that is made. Licences are read as SPDX expressions. Each result is signed and kept beside the
    package. An infected release is not archived.
  - Refuses what could not go on hosts as it is. That is links that lead nowhere or outside, devices, pipes and sockets; files and
    directories that are set-uid, set-gid or sticky, have capabilities or an access control list, may be written to by others than their
    owner, or that their owner may not read; names with a character that nobody sees, and two names that look the same; with
    C(portable_names) in the manifest also those that differ only in case, or that other systems don't take.
  - A release may bring a role of its own, which is stored, examined and signed with the rest. Refuses one that has no back-out, or that
    reaches beyond itself. That is C(meta) with C(end_play) and its like, C(add_host), paths and roles that are not in it, and variables
    with names that begin with C(tidegate_).
  - Refuses a hook or a check whose command could not start. It has to be an executable program or script of the payload, an absolute path,
    or in the PATH. All of it is said at once and nothing is written.
  - With a CMDB, that remembers what the library has of the release now, so that nothing of it can vanish unseen.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.key
  - tidegate.release.homes.local
options:
  path:
    description:
      - The release's directory, the one that has its C(release.yml).
      - Taken from the variable C(tidegate_release), when it is not given.
    type: path
    required: true
  examine:
    description:
      - Whether to examine the release. Unless it is given, what is signed is examined and what is not signed is not.
      - Taken from the variable C(tidegate_examine), when it is not given.
    type: bool
  malware_signatures:
    description:
      - A directory of signatures for ClamAV, in place of those of the machine.
      - Taken from the variable C(tidegate_malware_signatures), when it is not given.
    type: path
  quarantine:
    description:
      - A directory where infected contents are kept, with a record of what was found. It is O(dsl) with C(.quarantine) at its end unless
        it is given, and for a registry C(tidegate/quarantine) in E(XDG_DATA_HOME), which is C(~/.local/share) unless it is set.
      - Taken from the variable C(tidegate_quarantine), when it is not given.
    type: path
notes:
  - Makes the library when O(dsl) does not exist or is an empty directory.
seealso:
  - module: tidegate.release.attestation
  - module: tidegate.release.attestation_info
"""

EXAMPLES = r"""
- name: Archive a release
  tidegate.release.archive:
    path: /home/rita/pypiserver
    dsl: /srv/dsl
  register: archived

# Before that, once: openssl genpkey -algorithm ed25519 -out /home/rita/key.pem
# What goes into the policy under people: openssl pkey -in /home/rita/key.pem -pubout
- name: Archive and sign a release
  tidegate.release.archive:
    path: /home/rita/pypiserver
    dsl: /srv/dsl
    key: /home/rita/key.pem

- name: Say what an RFC has to name
  ansible.builtin.debug:
    var: archived.digest
"""

RETURN = r"""
msg:
  description:
    - The digest, for a person. In check mode also what would be archived, how it differs from the highest other version, which files are
      not for everybody, what it runs, and what the examination found.
  type: str
  returned: success
digest:
  description: What names the package, for the RFC to name it too.
  type: str
  returned: success
  sample: sha256:53b9f6d9e1ad4f0a0d5dd0b3b7b3a4f7c6b1ee6d7b0b3a0a6c2e4d9c8a7f1e22
name:
  description: The release's name.
  type: str
  returned: success
  sample: pypiserver
version:
  description: The release's version.
  type: str
  returned: success
  sample: 2.3.2
files:
  description: How many files the payload has.
  type: int
  returned: success
  sample: 61
size:
  description: Bytes of these files together.
  type: int
  returned: success
  sample: 1048576
key:
  description: Id of the key whose signature the package has now; null without O(key).
  type: str
  returned: success
  sample: 4f2b0f8bb4d5b7f1a3c9e6d2807b15ce9a3f4d60718293a4b5c6d7e8f9012345
examination:
  description: What the examination found; null without one.
  type: dict
  returned: success
  contains:
    scan:
      description:
        - What the scanner said, C(outcome) being V(clean) or V(inconclusive), with C(detail), C(engine), C(signatures) and C(found).
      type: dict
    components:
      description: How many components the SBOM has.
      type: int
    sbom_brought:
      description: Whether the SBOM came with the payload.
      type: bool
    licences:
      description: How many components have which licence; under the empty text those that say none in SPDX.
      type: dict
passed_on:
  description: C(name), C(version) and C(digest), which later jobs get as C(tidegate_archived), see C(docs/jobs.md) in the collection.
  type: dict
  returned: success
"""
