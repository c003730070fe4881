# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The people of a policy and whose signature is needed: every fault is told with its line, all at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import Trust
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

Write = Callable[..., Path]
PRIVATE = Ed25519PrivateKey.generate()


def pem(key: Any = None) -> str:
    key = key or Ed25519PrivateKey.generate()
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


ONE, TWO, THREE = pem(), pem(), pem()
WEAK = pem(generate_private_key(65537, 1024))  # noqa: S505 - to be refused
RITA = {"roles": ["release-manager"], "keys": [{"public": ONE, "revoked": "2027-03-01T00:00:00+01:00"}, {"public": TWO}]}
CARL = {"roles": ["release-manager", "tester"], "keys": [{"public": THREE}]}
DORA = {"roles": ["tester"]}


def problems(write: Write, people: Any, trust: Any = ...) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load_policy(write("policy", people=people, trust=trust))
    assert all(problem.where.split(":")[-1].isdigit() for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


def test_people_and_trust_are_read(write: Write) -> None:
    trust = {"package": {"role": "release-manager", "threshold": 2}, "test-result": {"role": "tester"}}
    policy = load_policy(write("policy", people={"rita": RITA, "carl": CARL, "dora": DORA}, trust=trust))
    assert policy.trust == {"package": Trust("release-manager", 2), "test-result": Trust("tester", 1)}
    old, new = policy.people["rita"].keys
    assert (old.revoked, new.revoked) == (datetime(2027, 2, 28, 23, tzinfo=UTC), None)
    assert old.id != new.id
    assert policy.people["dora"].roles == {"tester"}
    assert load_policy().trust == {}


@pytest.mark.parametrize(
    ("people", "trust", "said"),
    [
        ({"rita": RITA}, {"package": {"role": "boss"}}, "nobody has the role 'boss'; give it to somebody under people"),
        ({}, {"package": {"role": "boss"}}, "nobody has the role 'boss'"),
        (..., {"package": {"role": "boss"}}, "nobody has the role 'boss'"),
        (
            {"rita": RITA},
            {"package": {"role": "release-manager", "threshold": 2}},
            "trust.package asks for 2 with the role 'release-manager', but 1 with a key has it; lower it",
        ),
        ({"dora": DORA}, {"scan": {"role": "tester"}}, "trust.scan asks for 1 with the role 'tester', but 0 with a key have it"),
        ({"rita": RITA}, {"package": {"role": "release-manager", "threshold": 0}}, "trust.package.threshold is the number 0"),
        ({"rita": RITA}, {"packages": {"role": "release-manager"}}, "packages is not a key of trust; did you mean package?"),
        ({"rita": RITA}, {"package": {}}, "role is missing from trust.package"),
        ({"rita": RITA, "carl": {"roles": ["x"], "keys": [{"public": ONE}]}}, ..., "people.carl.keys.0 is the key of people.rita.keys.0"),
        ({"rita": RITA | {"keys": [{"public": ONE}, {"public": ONE}]}}, ..., "people.rita.keys.1 is the key of people.rita.keys.0"),
        ({"rita": RITA, "carl": CARL | {"keys": [{"public": "\n" + ONE + "\n"}]}}, ..., "people.carl.keys.0 is the key of people.rita"),
        ({"rita": RITA, "Rita ": CARL}, ..., "'Rita ' and 'rita' are one person"),
        ({"rita": RITA, "\uff52ita": CARL}, ..., "and 'rita' are one person"),
        ({"rita": {"roles": ["x"], "keys": [{"public": "ssh-ed25519 AAAA"}]}}, ..., "people.rita.keys.0.public is no public key in PEM"),
        ({"rita": {"roles": ["x"], "keys": [{"public": WEAK}]}}, ..., "is an RSA key of 1024 bits"),
        ({"rita": {"roles": ["x"], "keys": [{"public": ONE, "revoked": "2027-03-01"}]}}, ..., "keys.0.revoked is no time with an offset"),
        ({"rita": {"roles": ["x"], "keys": [{"revoked": "2027-03-01T00:00:00Z"}]}}, ..., "public is missing from people.rita.keys.0"),
        ({"rita": {"keys": []}}, ..., "roles is missing from people.rita"),
        ({"": DORA}, ..., "'' can't be a key of people"),
        ([], ..., "people is a list"),
    ],
)
def test_a_faulty_one_is_told(write: Write, people: Any, trust: Any, said: str) -> None:
    found = problems(write, people, trust)
    assert len(found) == 1
    assert said in found[0]


def test_every_fault_is_told_at_once(write: Write) -> None:
    people = {"rita": {"roles": ["x"], "keys": [{"public": "?"}, {"public": ONE}]}, "carl": {"roles": ["x"], "keys": [{"public": ONE}]}}
    found = problems(write, people, {"package": {"role": "y"}, "scan": {"role": "x", "threshold": 3}})
    assert [sentence.split(": ", 1)[1].split(";")[0] for sentence in found] == [
        "people.rita.keys.0.public is no public key in PEM",
        "people.carl.keys.0 is the key of people.rita.keys.1",
        "nobody has the role 'y'",
        "trust.scan asks for 3 with the role 'x', but 2 with a key have it",
    ]


def test_a_private_key_in_a_policy_is_refused_and_not_repeated(write: Write) -> None:
    private = PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    (found,) = problems(write, {"rita": {"roles": ["x"], "keys": [{"public": private}]}})
    assert "is a private key, which nobody but its owner may have" in found
    assert private.splitlines()[1] not in found
