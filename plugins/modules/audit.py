#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare hosts, CMDB and DSL."""

from __future__ import annotations

DOCUMENTATION = r"""
module: audit
short_description: Name every difference between what hosts run, what the CMDB says and what the DSL holds
version_added: 0.1.0
description:
  - Takes what M(tidegate.release.release_facts) found on each host and compares it with the CMDB's installations and the DSL's packages.
    Its result has to be registered on each host as C(audit_facts).
  - Accounts for every host of the CMDB and of the inventory. One that can't be reached or read, that answered something else, that was left
    out, or that only one of the two has is a difference, and the others are compared.
  - Judges the signatures under each archived package by the policy, as it is now. One that only a revoked key signed, that has a forged
    signature, or whose signatures can't be read is a difference, on each host that runs it too. One that is only short of signatures
    that the policy asks for is named and is none, for it may be older than that rule; nor is what counts because it was signed before
    its key was revoked.
  - Of a CI with the attribute C(redfish) its device was asked too, which unit it is, what firmware it runs, and which parts are in its
    slots. That is compared with the
    CMDB, with the releases of firmware on it, and with the definitive hardware storage, and kept as what was read of the unit, unless in
    check mode. Units in use, and in stock as spares, whose firmware nobody has read for C(spares.read_days) of the policy are named too.
  - Where a release is live whose effect is outside its tree, what its hook C(read) printed is compared with what it has to be read as.
  - What hosts have besides releases, their packages, units, cron files and listeners, is compared with what O(baseline) put on record;
    nothing is said of hosts without a record.
  - Where the C(audit.copies) of the policy had hosts look, what was released and lies there is a difference.
  - Where the host can say since when a difference is there, RV(differences[].covered_by) tells what may have been a change's doing from
    what went around all of them.
  - An installation without the seat of a licensed product that it needs is a difference, see M(tidegate.release.licence).
  - Fails when there is a difference. A host that was written off, see M(tidegate.release.write_off), is named too, but does not make it
    fail, unless something of it is there and can't be read.
  - RV(severity) says how grave it is. ansible-playbook ends with 2 for each failure, and a play can't choose another; the command
    C(tidegate audit) ends with 0 when all is clean, 2 when there are differences, 3 when it could not look everywhere, in check mode
    too, and 1 when it came to no verdict.
  - The CMDB's history keeps what came of it, unless in check mode; M(tidegate.release.report) shows that of the newest one.
  - When a host that was written off answers, it is there again. That is noted in the CMDB, unless in check mode, and the host is compared
    like the others.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.local
options:
  baseline:
    description:
      - Whether packages, units, cron files and listeners are put on record as the hosts have them now, and not compared. Who did that and
        why is in the CMDB's history.
    type: bool
    default: false
  reason:
    description:
      - Why that is what the hosts are to have. Needed for O(baseline).
      - Taken from the variable C(tidegate_reason), when it is not given.
    type: str
    default: ""
  hosts:
    description: The hosts that were asked, and have C(audit_facts). Those of the inventory that are not among them were left out.
    type: list
    elements: str
    required: true
  junit:
    description:
      - A file to write what came of it to, as JUnit's XML with a test case for each host, for AWX, CI servers and dashboards. A difference
        is a failure, what could not be looked at an error, and a host that is written off is skipped. Not written in check mode, nor by
        an audit that came to no verdict.
    type: path
seealso:
  - module: tidegate.release.audit_scope
  - module: tidegate.release.cmdb_reconcile
  - module: tidegate.release.release_facts
"""

EXAMPLES = r"""
- name: Look at the hosts
  hosts: all
  gather_facts: false
  ignore_unreachable: true
  tasks:
    - name: Read what is live
      tidegate.release.release_facts:
      register: audit_facts
      ignore_errors: true  # the comparison names the hosts that could not be read

- name: Compare
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Compare with the CMDB and the DSL
      tidegate.release.audit:
        dsl: /srv/dsl
        cmdb: /srv/cmdb.sqlite
        hosts: "{{ groups['all'] }}"
"""

RETURN = r"""
severity:
  description: V(clean), V(differences), or V(incomplete) when it could not look everywhere, so that there may be more.
  type: str
  returned: success or failure
differences:
  description: Every difference.
  type: list
  elements: dict
  returned: always
  contains:
    host:
      description: On which host; null for what is wrong in the DSL itself, or with a unit in stock.
      type: str
    unit:
      description: The tag of the unit of the hardware storage that it is about; null for none.
      type: str
    release:
      description: Of which release; null for a difference that is of the host.
      type: str
    kind:
      description:
        - V(unreachable), V(unreadable), V(invalid_answer), V(left_out), V(not_in_inventory), V(not_in_cmdb) and V(written_off) are of
          the host. V(not_in_cmdb) is also said of one whose CI there is none of a host, or is not in use.
        - V(late), a host that lacks a release which is live on others and is brought in by deploying its RFC again, and V(written_off) and
          V(by_hand), are named and fail no audit.
        - V(unreadable), V(uncontrolled), V(missing), V(other_version), V(not_in_dsl), V(untrusted), V(lost), V(unlicensed),
          V(not_running), V(changed_files), V(extra_files) and V(unknown_data), which a deployment was about to change, are of a release,
          V(changed_packages) of the packages that it brought. V(other_reading) is of what runs outside its tree, and so is V(unreadable)
          where that could not be read.
        - V(infected) is of a file that nobody released, where M(tidegate.release.release_facts) scanned those.
        - V(copies) is of a release that lies elsewhere on a host, too.
        - V(other_packages), V(other_units), V(other_cron) and V(other_listeners) are of a host, which has not what is on record of it.
        - V(other_unit), V(misplaced_unit), V(unknown_unit), V(empty_slot), V(other_firmware) and V(not_read) are of a unit, each once;
          V(unreachable), V(unreadable) and V(left_out) too, when its device did not answer.
      type: str
    detail:
      description: What is different, in one sentence.
      type: str
    remedy:
      description: What to do about it; empty when the detail says so, or nothing is to be done.
      type: str
    recorded:
      description: The state that is on record; empty where none can be.
      type: str
    found:
      description: What is there instead, where M(tidegate.release.cmdb_reconcile) can put that on record; else null.
      type: dict
    since:
      description:
        - When it came about, by the clock of the host; null where the host can't say it. Of files, links and packages of dpkg it is when
          the file system noted a change, which it does when a file itself was changed, created, renamed or given to somebody, whatever
          date it bears. What went from a directory is gone since that has changed, and a package since dpkg's log says so, as far as that
          log was not written to afterwards. rpm says when each package was installed. A listener is there since its program was started.
        - Of firmware it is when a reading that differed was first made, by the clock of the controller.
      type: str
    latest:
      description: When the last part of it came about, such as the last one of several files that changed; null where that is not known of
        every part.
      type: str
    after:
      description: When that was still as recorded which is only known to be otherwise since RV(differences[].since), such as firmware; it
        came about in between. Null where the moment itself is known, and where nothing is.
      type: str
    covered_by:
      description:
        - The changes of the register that covered the host at these moments, because they were approved by then, had it in their scope and
          their window was open, or because a deployment of theirs was under way there; of what came about between two moments, at any of
          them. Empty when no RFC covers one part of it, and null when it is not known since when all of it is there. An RFC that is
          written afterwards covers nothing that was there before.
      type: list
      elements: str
compared:
  description: The hosts whose releases were compared, by name.
  type: list
  elements: str
  returned: success or failure
recorded:
  description: By host, the sets that were not on record so before; with O(baseline).
  type: dict
  returned: success or failure
unrecorded:
  description: The hosts of which nobody put on record what they have besides releases, so that it was not compared.
  type: list
  elements: str
  returned: success or failure
returned:
  description: Hosts that were written off and are there again.
  type: list
  elements: str
  returned: always
by_revoked:
  description: A sentence for each signature under a trusted package whose key was revoked since.
  type: list
  elements: str
  returned: always
unmet:
  description: A sentence for each archived package that is short of signatures that the policy asks for.
  type: list
  elements: str
  returned: always
"""
