#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify a release on a lab that is made after live, and sign what came of it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: verify
short_description: Verify a package on a lab like live, rehearse its back-out, and sign the test result
version_added: 0.1.0
description:
  - Makes lab hosts after those that the RFC selects, in miniature. Together they have every combination of installed releases, the sites
    and classes, and where live has more than one host of a site and class, two. They get what live has now, from the DSL.
  - The CMDB of the lab has their relations, too, and the CIs outside the RFC's scope that they are related to, with what is installed on
    them. These have no host. Of a licensed product there are seats for the whole lab.
  - Then it deploys the package on them as it is deployed on live, runs tests, backs it out, and runs tests again. All of that is a
    molecule scenario, run by ansible-runner. The tests that come with the collection look whether what the CMDB of the lab says is live is
    live, as it was released, and well.
  - A release can bring files of a scenario of its own, in the directory that C(verification.scenario) in its manifest names. They take the
    place of those that are shipped, which are in C(roles/verify/files/scenario) of this collection, and add to them. Tests in
    C(tests/deployed) are run after the deployment, those in C(tests/backed_out) after the back-out, those in C(tests/both) after both. They
    are archived and signed with the release and are never on a live host. When the policy asks for signatures under packages, nothing is
    run that lacks them.
  - What live hosts are (O(live)) is compared with what the lab's hosts are. It comes to a score of 0 to 100, and what is not known is a
    difference. Operating system and installed releases are worth 25 each, packages 20, Python and topology 15 each. For each host it counts
    half when only the version of the operating system differs, or only the last number of Python's; of packages it counts how
    many have the same version. 100 is only for a lab without any difference.
  - With a key the result is signed, as in-toto evidence of the kind C(test-result), whether it is V(PASSED), V(WARNED), when tests were
    skipped, or V(FAILED). Without a test that passed it is V(FAILED). What was rehearsed is read from the journal of the lab.
  - A release's own role is run there as it will be on live hosts, forward and back, to the release before and to having none. A step of it
    that fails, or a release before that is not well after it, is a back-out that was not rehearsed.
  - A release that changes data and says C(reverse) V(none) is deployed and tested, and not backed out; the result says so. Nobody has to
    approve that in the lab.
  - What M(tidegate.release.clear) asks of test results is said in the policy under C(trust) and C(verification).
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.key
  - tidegate.release.homes.local
options:
  release:
    description:
      - Directory of a release that is not archived yet, the one that has its C(release.yml), to try it out. It is archived in a library of
        the lab's own, which goes away with it, and nothing is signed unless O(dsl) has just that package.
      - An RFC says then where it is to go, and has to name its digest, which M(tidegate.release.archive) says in check mode. Without an
        RFC the hosts that have some version of it are mirrored, or all when none has.
      - Taken from the variable C(tidegate_release), when it is not given.
    type: path
  name:
    description:
      - Name of the release, when there is no RFC yet. Then the hosts that have some version of it are mirrored.
      - Taken from the variable C(tidegate_name), when it is not given.
    type: str
  version:
    description:
      - Version of the release; with O(name), either this or O(digest).
      - Taken from the variable C(tidegate_version), when it is not given.
    type: str
  digest:
    description:
      - Digest of the release's package; with O(name), either this or O(version).
      - Taken from the variable C(tidegate_digest), when it is not given.
    type: str
  hosts:
    description: How many lab hosts there may be. What of live has no double then is a difference.
    type: int
    default: 8
  live:
    description: What M(tidegate.release.host_facts) found on live hosts, by their names in the CMDB. Nothing is known of live unless
      it is given.
    type: dict
    default: {}
  inventory:
    description:
      - Inventory files of this run. What those of P(tidegate.release.cmdb#inventory) compute for live hosts is computed for lab hosts, too,
        but for what says how to reach them.
    type: list
    elements: path
    default: []
  vars_file:
    description:
      - File with variables of the lab's hosts, in YAML. They go before those that O(inventory) computes and before attributes.
      - Give it when live has more variables than its CMDB and O(inventory) say, such as those in C(group_vars), or when some must have
        another value in the lab, such as the address of a database. Mandatory when a release that is deployed there changes data, or
        has its effect outside its tree.
    type: path
  lab:
    description: Where lab hosts are, as M(tidegate.release.lab) has it.
    type: dict
    suboptions:
      mode:
        description: How hosts are made.
        type: str
        choices: [auto, isolated, user, local]
        default: auto
      network:
        description: First three parts of the hosts' addresses.
        type: str
      first:
        description: Last part of the first host's address.
        type: int
      port:
        description: Port of every host's sshd.
        type: int
      disk:
        description: Size of an isolated host's file system, in memory.
        type: str
  path:
    description:
      - Directory to work in, new or empty. It stays, with the logs of the run in C(artifacts). Without it a temporary one is made, which
        stays only when the release did not pass.
    type: path
  timeout:
    description: Seconds that the scenario may take.
    type: int
    default: 3600
  only_plan:
    description: Only say which live hosts get a double.
    type: bool
    default: false
requirements:
  - ansible-runner >= 2.4, molecule >= 25, pytest-testinfra >= 10
  - What M(tidegate.release.lab) requires
notes:
  - Live hosts are not touched.
  - A scenario is code that runs as you. Your key is not in its environment, but a scenario can read what you can read.
seealso:
  - module: tidegate.release.host_facts
  - module: tidegate.release.lab
  - module: tidegate.release.clear
"""

EXAMPLES = r"""
- name: Verify what an RFC names, and sign the result
  tidegate.release.verify:
    rfc: /srv/rfcs/CHG0030001.yml
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
    policy: /srv/policy.yml
    key: /home/tess/key.pem
    inventory: [/srv/cmdb.yml]

- name: Try a release before there is an RFC, on at most three hosts, and sign nothing
  tidegate.release.verify:
    name: pypiserver
    version: 2.3.2
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
    hosts: 3
"""

RETURN = r"""
msg:
  description: What came of it, for a person.
  type: str
  returned: success
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
doubles:
  description: The lab's hosts, and which live one each is the double of.
  type: dict
  returned: success
  sample: {web1: web1}
live:
  description: The live hosts that have a double.
  type: list
  elements: str
  returned: success
  sample: [web1]
result:
  description: V(PASSED), V(WARNED) or V(FAILED).
  type: str
  returned: when it was verified
  sample: PASSED
test_result:
  description: >-
    What was signed, or would have been with a key. The predicate of an in-toto test result v0.1, with C(reasons), C(rehearsal), C(parity),
    C(events) and C(hosts) in its field C(https://tidegate.example/verification/v1).
  type: dict
  returned: when it was verified
"""
