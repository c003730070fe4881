# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that name the homes: where releases, CIs, RFC and policy are."""

from __future__ import annotations


class ModuleDocFragment:
    DSL = r"""
options:
  dsl:
    description:
      - The definitive software library. A directory that holds an OCI image layout, or V(oci://host[:port]/prefix), the part of
        an OCI registry below a prefix.
      - The credentials for a registry are those that container tools keep, in the file that the environment variable
        E(REGISTRY_AUTH_FILE) names, or where C(docker login) and C(podman login) put them, also an identity token as C(az acr login)
        leaves it. E(REQUESTS_CA_BUNDLE) names the file with the certificate authorities, if the registry's is not one that everybody
        trusts. V(oci+http://) in place of V(oci://) is without TLS, and no credentials are sent.
      - A registry that brings less than 256 KiB in a minute, or a document or list not in five, is not waited for. It may send its
        clients on to any host with TLS, as to an object store; credentials go along to none, nor does anybody follow from TLS to an
        address without, or from elsewhere to this machine.
      - Taken from the variable C(tidegate_dsl), or else the environment variable E(TIDEGATE_DSL), when it is not given.
    type: str
"""

    CMDB = r"""
options:
  cmdb:
    description:
      - The CMDB, the path of an SQLite file or an SQLAlchemy database URL such as V(postgresql+psycopg://cmdb@db/cmdb).
      - Taken from the variable C(tidegate_cmdb), or else the environment variable E(TIDEGATE_CMDB), when it is not given.
    type: str
"""

    RFC = r"""
options:
  rfc:
    description:
      - The request for change, a file or V(servicenow+https://instance.example/CHG0030001).
      - The credentials for ServiceNow are in the environment variables E(SN_USERNAME) and E(SN_PASSWORD), or the OAuth token is in
        E(SN_ACCESS_TOKEN); E(REQUESTS_CA_BUNDLE) names the file with the certificate authorities, if the instance's is not one that
        everybody trusts.
      - What C(change_request) has no field for is in the custom fields C(u_tidegate_release), C(u_tidegate_version),
        C(u_tidegate_digest) and C(u_tidegate_scope). Behind a C(?) the address names others, as in C(?digest=u_digest&scope=u_scope),
        and, if there are such, those of C(objectives) (JSON), C(stakeholders) (names with commas between them),
        C(communication_plan) and C(instant) (a time).
      - Taken from the variable C(tidegate_rfc), or else the environment variable E(TIDEGATE_RFC), when it is not given.
    type: path
"""

    POLICY = r"""
options:
  policy:
    description:
      - The file of the release policy.
      - Taken from the variable C(tidegate_policy), or else the environment variable E(TIDEGATE_POLICY), when it is not given. Without any,
        it is the policy that comes with the collection.
    type: path
"""

    KEY = r"""
options:
  key:
    description:
      - The file of the private key to sign with, in PEM, such as C(openssl genpkey -algorithm ed25519 -out key.pem) makes. Ed25519,
        ECDSA on P-256, and RSA of 2048 bits or more will do. Nobody but its owner may have any right to it.
      - Taken from the variable C(tidegate_key), or else the environment variable E(TIDEGATE_KEY), when it is not given.
    type: path
  key_passphrase:
    description:
      - The passphrase of the private key, if it has one. It is never shown.
      - Taken from the variable C(tidegate_key_passphrase), or else the environment variable E(TIDEGATE_KEY_PASSPHRASE), when it is not
        given.
    type: str
"""

    PACKAGE = r"""
options:
  name:
    description:
      - Name of the release.
      - Taken from the variable C(tidegate_name), when it is not given.
    type: str
    required: true
  version:
    description:
      - Version of the release. Either this or O(digest) has to be given.
      - Taken from the variable C(tidegate_version), when it is not given.
    type: str
  digest:
    description:
      - Digest of the release's package. Either this or O(version) has to be given.
      - Taken from the variable C(tidegate_digest), when it is not given.
    type: str
"""

    SETTINGS = r"""
options:
  settings:
    description:
      - This host's values for the settings that the release declares. Hooks get them as environment variables C(TIDEGATE_<NAME>).
      - They are never shown. In all that a host or a check says C(${name}) stands in the place of a value, unless it is an address,
        a yes or no, or shorter than six characters.
      - Taken from the variable C(tidegate_settings), when it is not given.
      - Leave it out where it could fail to be evaluated, for Ansible shows with an error in an argument the lines of the file that it
        stands in.
    type: dict
"""

    REDFISH = r"""
options:
  redfish_user:
    description:
      - For releases of firmware, as whom the BMC of the host is asked, at the address C(https://host[:port]) that the CI's attribute
        C(redfish) has. The device of a CI without it is asked through fwupd on the host, which takes neither.
      - E(REQUESTS_CA_BUNDLE) names the file with the certificate authorities, if that of the BMC is not one that everybody trusts. One that
        nobody has signed is known by its SHA-256 in the CI's attribute C(redfish_fingerprint).
      - Taken from the variable C(tidegate_redfish_user), when it is not given.
    type: str
  redfish_password:
    description:
      - The password of O(redfish_user), which belongs into a vault. It is never shown.
      - Taken from the variable C(tidegate_redfish_password), when it is not given.
    type: str
"""

    ROOT = r"""
options:
  root:
    description:
      - Directory on the host that holds every release's home.
      - Taken from the variable C(tidegate_root), when it is not given.
    type: path
    default: /opt/tidegate
"""

    HOST = r"""
attributes:
  check_mode:
    description: Can run in check mode and say what it would do.
    support: partial
    details: A deployment has no plan in check mode, so no host is visited and the task is skipped.
  diff_mode:
    description: Returns what changed when in diff mode.
    support: none
  platform:
    description: Target platforms.
    platforms: posix
    support: full
requirements:
  - Python 3.9 on the host
notes:
  - Its outcome is in the journal before Ansible sees it, so a task that failed here needs no handling for the deployment's sake.
"""

    LOCAL = r"""
attributes:
  check_mode:
    description: Can run in check mode and say what it would do.
    support: full
  diff_mode:
    description: Returns what changed when in diff mode.
    support: none
  platform:
    description: Target platforms.
    platforms: posix
    support: full
notes:
  - Runs on the controller, whatever the connection of the host is.
"""
