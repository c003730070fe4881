#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy the DSL to a second home."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dsl_sync
short_description: Copy the definitive software library to a second home
version_added: 0.1.0
description:
  - Copies to another home of the library what that lacks, and nothing else. A package, its documentation and the evidence about it arrive
    with the same digests; new evidence about a package that is there already is copied too.
  - Every byte is checked against its digest on the way. The tag of a release is set last, so that it is never there by halves. A copy that
    was interrupted is taken up by the same task again.
  - Nothing is overwritten. A release that the other home has with another digest is a conflict. It, and what is damaged, is named at the
    end and fails the task; the other releases are copied all the same.
  - What the other home has and O(dsl) lacks is named in a warning; M(tidegate.release.dsl_verify) brings it back.
  - A library without a release is no backup of anything, so it is not copied, and that fails. With O(cmdb), what O(dsl) had and does not
    have any more, as the CMDB remembers, is named and fails the task; what is there is copied all the same.
  - When O(policy) asks for signatures under packages, one that only a revoked key signed, that has a forged signature, or whose signatures
    can't be read is not copied. One that is only short of signatures is copied and named, for it may be older than that rule.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.local
options:
  to:
    description:
      - The other home, like O(dsl) a directory or V(oci://host[:port]/prefix). A directory is made when it is not there.
      - Taken from the variable C(tidegate_dsl_to), when it is not given.
    type: str
    required: true
  names:
    description:
      - Names of the releases to copy, each with all its versions. All releases unless given.
      - Taken from the variable C(tidegate_dsl_names), when it is not given.
    type: list
    elements: str
seealso:
  - module: tidegate.release.dsl_verify
  - module: tidegate.release.archive
"""

EXAMPLES = r"""
- name: Keep a copy in another building
  tidegate.release.dsl_sync:
    dsl: /srv/dsl
    to: oci://registry.example.org/dsl

- name: Give a site the releases that it needs
  tidegate.release.dsl_sync:
    dsl: /srv/dsl
    to: /srv/sites/fra
    names: [pypiserver, hello]
"""

RETURN = r"""
releases:
  description: Releases of which something was copied, or would be in check mode.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: The release's name.
      type: str
    version:
      description: Its version.
      type: str
    digest:
      description: The digest of its package.
      type: str
    new:
      description: Whether the other home did not have the release.
      type: bool
    evidence:
      description: How many pieces of evidence about it.
      type: int
present:
  description: How many releases the other home had already, with all evidence.
  type: int
  returned: success
  sample: 3
blobs:
  description: How many blobs and manifests were copied.
  type: int
  returned: success
  sample: 7
evidence:
  description: How many of these are pieces of evidence.
  type: int
  returned: success
  sample: 1
size:
  description: Bytes that were copied.
  type: int
  returned: success
  sample: 1048576
problems:
  description: A sentence for each release, or piece of evidence, that was not copied.
  type: list
  elements: str
  returned: always
lacking:
  description: A sentence for each release, and for the evidence about each, that the other home has and O(dsl) does not.
  type: list
  elements: str
  returned: always
lost:
  description: A sentence for each release, and each piece of evidence, that O(dsl) had and does not have any more, as the CMDB remembers.
  type: list
  elements: str
  returned: always
unmet:
  description: A sentence for each package that is short of signatures that the policy asks for.
  type: list
  elements: str
  returned: always
"""
