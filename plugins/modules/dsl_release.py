#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retire a release, or purge it from the DSL."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dsl_release
short_description: Retire a release, or purge it from the definitive software library
version_added: 0.1.0
description:
  - V(retired) hides a release. No RFC for it is cleared any more, so it is not deployed anew, and a deployment of it that is open can be
    backed out but not continued. It stays in the library, and going back to it stays possible.
  - V(absent) purges it. Package, documentation and evidence go, but for what another package needs too.
  - A release is purged only when it is retired, and when nothing needs it. It must not be installed anywhere, be either end of an open
    deployment or of the last completed one on any host, or be the last stable version of its release. All that stands in the way is
    said at once and nothing is changed.
  - V(absent) with O(evidence) takes these pieces of evidence out of the library and leaves the release as it is, such as decisions of
    changes that are long over, or what is whole and no statement. What is damaged has to be healed first. What speaks against the release
    stays, a finding, a failed test, a rejection or a blocking opinion. When the policy names people, that takes the O(key) of one of them.
    M(tidegate.release.dsl_verify) does not miss these pieces, and neither it nor M(tidegate.release.dsl_sync) with the same CMDB brings
    them back.
  - V(accepted) gives up what the library lacks of a release and was seen in it before, as the CMDB remembers, so that it is cleared by what
    is there. First try to heal it with M(tidegate.release.dsl_verify). When the policy names people, that takes the O(key) of one of them.
  - Who did what, when, to which digest and why is appended to the CMDB's history.
  - A purge that was interrupted is finished by the same task again; the release was gone from the first moment, never there by halves.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.key
  - tidegate.release.homes.local
options:
  name:
    description: The release's name.
    type: str
    required: true
  version:
    description: Its version.
    type: str
    required: true
  state:
    description:
      - V(archived) takes back that it was retired. A purged release has to be archived again first, as the same package.
    type: str
    choices: [archived, retired, absent, accepted]
    required: true
  evidence:
    description:
      - Digests of pieces of evidence about the release, as M(tidegate.release.attestation_info) lists them. Only with V(absent).
    type: list
    elements: str
  reason:
    description:
      - Why, for those who ask later. Needed for all but V(archived).
    type: str
notes:
  - A replica is a library of its own. Run the task with O(dsl) being the replica to purge the release there too; otherwise the next
    M(tidegate.release.dsl_sync) from there brings it back. It stays barred by the CMDB even then.
  - Asks the CMDB that is given. Where several share a library, all of them have to agree first.
  - A registry has to allow deletion, Distribution does with C(storage.delete.enabled). The bytes are freed by its garbage collector.
  - Not while somebody archives, signs or copies into the library; then nothing is changed.
seealso:
  - module: tidegate.release.clear
  - module: tidegate.release.dsl_sync
"""

EXAMPLES = r"""
- name: Let nobody deploy this any more
  tidegate.release.dsl_release:
    name: pypiserver
    version: 2.3.1
    state: retired
    reason: CVE-2026-0001

- name: Go on without what nobody has any more
  tidegate.release.dsl_release:
    name: pypiserver
    version: 2.3.1
    state: accepted
    reason: The disk of the library was lost, see INC0010023; the approvals of closed changes are in its backup of 1 March

- name: Take away what was decided for changes that are over
  tidegate.release.dsl_release:
    name: pypiserver
    version: 2.3.1
    state: absent
    evidence: "{{ found.evidence | selectattr('kind', 'in', ['approval', 'clearance']) | map(attribute='piece') }}"
    reason: These changes were closed before 2026

- name: Take it out of the library
  tidegate.release.dsl_release:
    name: pypiserver
    version: 2.3.1
    state: absent
    reason: Its licence was withdrawn, see CHG0030044
"""

RETURN = r"""
digest:
  description: The package of the release.
  type: str
  returned: success
  sample: sha256:53b9f6d9e1ad4f0a0d5dd0b3b7b3a4f7c6b1ee6d7b0b3a0a6c2e4d9c8a7f1e22
freed:
  description: Bytes that a purge freed; 0 for a registry, where its garbage collector does.
  type: int
  returned: success
  sample: 1048576
lost:
  description: A sentence for each thing that was given up.
  type: list
  elements: str
  returned: when O(state=accepted)
retired:
  description: A sentence for each piece of evidence that was taken away, or would be.
  type: list
  elements: str
  returned: when O(evidence) is given
"""
