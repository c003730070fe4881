#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sign evidence about a package."""

from __future__ import annotations

DOCUMENTATION = r"""
module: attestation
short_description: Sign evidence about an archived package and keep it beside the package
version_added: 0.1.0
description:
  - Signs what O(predicate) says of the package, and when, as an in-toto Statement v1 in a DSSE v1.0 envelope; or takes an O(envelope) that
    another tool made. The envelope is kept in the DSL as an OCI manifest that refers to the package, so it is copied with the package by
    tools that copy what refers to it.
  - What this key has signed already, with the same predicate, is not signed again; a V(scan) or V(test-result) is when the key has signed
    another since.
  - Whose evidence counts for what is said in the policy under C(people) and C(trust), and M(tidegate.release.attestation_info) says
    whether it does.
  - With a CMDB, that remembers what the library has of the release now, so that nothing of it can vanish unseen.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.package
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.key
  - tidegate.release.homes.local
options:
  type:
    description:
      - What kind of evidence it is, V(package), V(scan), V(sbom), V(licence), V(test-result), V(approval) or V(opinion); or the URI of
        another in-toto predicate type, which the policy has no word for. Required without O(envelope).
      - V(package) says that the package is this version of the release, as M(tidegate.release.archive) does with a key.
    type: str
  predicate:
    description: What is said of the package, in the form of its type. The time of the signature is put beside it, not into it.
    type: dict
  envelope:
    description:
      - A file with an envelope that is signed already, instead of O(type), O(predicate) and O(key); a DSSE envelope around an in-toto
        statement, or a bundle of sigstore's with one, as CI systems and C(cosign attest-blob) write them.
      - It is kept as it is when the package's digest is among its subjects, and a key that O(policy) gives to one of its people made one
        of its signatures. Which key may be named in any way, or not at all.
      - Test results, scans and SBOMs count in this form. What people decide, such as approvals and opinions, counts only as this
        collection signs it.
    type: path
notes:
  - The time of the signature is that of this machine's clock, and the word of who holds the key. When a key was stolen, its thief can
    write any time; revoke it in the policy from before everything that it signed, and sign again with another.
seealso:
  - module: tidegate.release.archive
  - module: tidegate.release.attestation_info
"""

EXAMPLES = r"""
# A key, and what goes into the policy:
#   openssl genpkey -algorithm ed25519 -out key.pem
#   openssl pkey -in key.pem -pubout
- name: Sign that the tests passed
  tidegate.release.attestation:
    name: pypiserver
    version: 2.3.2
    type: test-result
    predicate:
      result: PASSED
      configuration: []
    dsl: /srv/dsl
    key: /home/tess/key.pem

- name: Take in what a CI system signed
  tidegate.release.attestation:
    name: pypiserver
    version: 2.3.2
    envelope: build/test-result.dsse.json
    policy: /srv/policy.yml
    dsl: /srv/dsl

- name: Co-sign a package that somebody else archived
  tidegate.release.attestation:
    name: pypiserver
    digest: sha256:53b9f6d9e1ad4f0a0d5dd0b3b7b3a4f7c6b1ee6d7b0b3a0a6c2e4d9c8a7f1e22
    type: package
    dsl: /srv/dsl
    key: /home/carl/key.pem
    key_passphrase: "{{ vault_carls_passphrase }}"
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
signed_by:
  description: The people of the policy whose signature it bears.
  type: list
  elements: str
  returned: when an envelope was given
key:
  description: Id of the key that signed.
  type: str
  returned: when no envelope was given
  sample: 4f2b0f8bb4d5b7f1a3c9e6d2807b15ce9a3f4d60718293a4b5c6d7e8f9012345
"""
