#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List and judge evidence about a package."""

from __future__ import annotations

DOCUMENTATION = r"""
module: attestation_info
short_description: List the evidence about an archived package and say whose signature counts
version_added: 0.1.0
description:
  - Lists all evidence that is kept beside the package, whoever signed it, and judges each kind that the policy's C(trust) asks for.
  - A signature counts only if it is over this very package by a key of somebody with the role that the policy asks for, not revoked when
    it signed. Somebody who signs twice, or with two keys, counts once.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.package
  - tidegate.release.homes.dsl
  - tidegate.release.homes.policy
  - tidegate.release.homes.local
seealso:
  - module: tidegate.release.attestation
"""

EXAMPLES = r"""
- name: Look at the evidence
  tidegate.release.attestation_info:
    name: pypiserver
    version: 2.3.2
    dsl: /srv/dsl
    policy: /srv/policy.yml
  register: found

- name: Stop unless enough people signed the package
  ansible.builtin.assert:
    that: found.judgements.package.trusted
    fail_msg: "{{ found.judgements.package.refused }}"
"""

RETURN = r"""
name:
  description: Name of the release.
  type: str
  returned: success
  sample: pypiserver
version:
  description: Version of the release, as its package says.
  type: str
  returned: success
  sample: 2.3.2
digest:
  description: Digest of its package.
  type: str
  returned: success
  sample: sha256:53b9f6d9e1ad4f0a0d5dd0b3b7b3a4f7c6b1ee6d7b0b3a0a6c2e4d9c8a7f1e22
evidence:
  description: All evidence that can be read. Only what RV(evidence[].signed_by) names somebody for is anybody's word.
  type: list
  elements: dict
  returned: success
  contains:
    piece:
      description: The digest that it is kept under.
      type: str
    kind:
      description: The policy's word for it; null when it has none.
      type: str
    type:
      description: URI of the predicate type.
      type: str
    name:
      description: What it says that it is about, for a package its package URL.
      type: str
    digest:
      description: The digest that it says it is about.
      type: str
    predicate:
      description: What it says.
      type: dict
    signed_at:
      description: When, by its own words; null when it does not say.
      type: str
    signed_by:
      description: The people of the policy whose signature it bears, whatever their roles.
      type: list
      elements: str
    key_ids:
      description: Ids of the keys that it says it was signed with.
      type: list
      elements: str
broken:
  description: A sentence for each piece of evidence that can't be read.
  type: list
  elements: str
  returned: success
not_evidence:
  description: A sentence for each other thing that refers to the package, which counts for nothing, and why.
  type: list
  elements: str
  returned: success
judgements:
  description: What each kind of evidence that the policy asks for comes to, by kind.
  type: dict
  returned: success
  contains:
    trusted:
      description: Whether enough people signed.
      type: bool
    people:
      description: Whose signature counts.
      type: list
      elements: str
    sentence:
      description: Both in words.
      type: str
    refused:
      description: A sentence for each signature that does not count.
      type: list
      elements: str
    by_revoked:
      description: A sentence for each signature that counts although its key was revoked since.
      type: list
      elements: str
"""
