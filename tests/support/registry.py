# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Distribution, the registry that many others are made of, on a port of this machine's own, and tokens for it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml
from answering import serve_http
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

PROGRAM = shutil.which("docker-registry")
USER, PASSWORD = "rita", "opensesame"
IDENTITY = "opensesame-for-three-hours"  # an identity token of the same user
_HTPASSWD = f"{USER}:$2b$04$fMm1Az8gfByiARYZw3e2oOeWWARq5woU1Mawts9Wr85a4JAmf0Zku\n"  # bcrypt of the password


@dataclass(frozen=True)
class Server:
    """A registry that runs; ``storage`` is where it keeps things, ``authority`` the file with the certificate to trust, if it has one."""

    host: str
    storage: Path
    authority: Path | None = None

    @property
    def address(self) -> str:
        """Of a library in it."""
        return f"{'oci' if self.authority else 'oci+http'}://{self.host}/releases/live"

    def blob(self, digest: str) -> Path:
        """The file of a blob."""
        value = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / value[:2] / value / "data"


def credentials(folder: Path, server: Server, user: str = USER, password: str = PASSWORD, **more: str) -> Path:
    """A file with credentials, as docker login writes it; ``more`` is in the entry of the registry, too."""
    path = folder / "auth.json"
    secret = base64.b64encode(f"{user}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {server.host: {"auth": secret, **more}}}))
    return path


@contextlib.contextmanager
def serve(folder: Path, auth: str | None = None, port: int | None = None) -> Iterator[Server]:
    """A registry that keeps things in ``folder``; with ``auth`` (``basic`` or ``token``) it has TLS, and wants to know who asks."""
    assert PROGRAM, "docker-registry is not installed"
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    settings: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    server = Server(f"127.0.0.1:{port}", folder / "storage")
    with contextlib.ExitStack() as stack:
        if auth:
            key, certificate = make_certificate(folder)
            settings["http"] = {"addr": f"127.0.0.1:{port}", "tls": {"certificate": str(certificate), "key": str(key)}}
            server = Server(server.host, server.storage, certificate)
        if auth == "basic":
            (folder / "htpasswd").write_text(_HTPASSWD)
            settings["auth"] = {"htpasswd": {"realm": "releases", "path": str(folder / "htpasswd")}}
        if auth == "token":
            realm = stack.enter_context(_tokens(key, certificate))
            rules = {"realm": realm, "service": "registry", "issuer": "tidegate", "rootcertbundle": str(certificate)}
            settings["auth"] = {"token": rules}
        (folder / "config.yml").write_text(yaml.safe_dump(settings))
        log = stack.enter_context((folder / "log").open("ab"))
        # Without our environment: it would take REGISTRY_AUTH_FILE for a setting of its own.
        process = subprocess.Popen([PROGRAM, "serve", str(folder / "config.yml")], stdout=log, stderr=log, env={})
        try:
            _answers(port, process, folder / "log")
            yield server
        finally:
            process.terminate()
            process.wait(20)


@contextlib.contextmanager
def referrers_api(server: Server) -> Iterator[Server]:
    """The registry with the referrers API of the distribution specification 1.1 in front of it, two referrers to a page.

    No registry that comes in a package has it, so this follows the specification's text: manifests with a subject are answered with
    OCI-Subject, and are listed at /v2/<name>/referrers/<digest>.
    """
    known: dict[tuple[str, str], list[dict[str, object]]] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            repository, kind, reference = [*parts.path.removeprefix("/v2/").rsplit("/", 2), "", ""][:3]
            if kind == "referrers":
                first = int(parse_qs(parts.query).get("from", ["0"])[0])
                listed = known.get((repository, reference), [])
                headers = {"Content-Type": "application/vnd.oci.image.index.v1+json"}
                if first + 2 < len(listed):
                    headers["Link"] = f'<{parts.path}?from={first + 2}>; rel="next"'
                index = {"schemaVersion": 2, "mediaType": headers["Content-Type"], "manifests": listed[first : first + 2]}
                self.answer(200, headers, json.dumps(index).encode())
                return
            connection = http.client.HTTPConnection(server.host, timeout=30)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():  # skopeo sends some more than once
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            content = response.read()
            headers = {name: value for name, value in response.getheaders() if name.lower() not in ("connection", "transfer-encoding")}
            if self.command == "PUT" and kind == "manifests" and response.status == 201:
                document = json.loads(body)
                if "subject" in document:
                    subject = headers["OCI-Subject"] = document["subject"]["digest"]
                    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
                    entry = {key: document[key] for key in ("mediaType", "artifactType")} | {"digest": digest, "size": len(body)}
                    known.setdefault((repository, subject), []).append(entry)
            self.answer(response.status, headers, content)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_any

        def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() != "content-length" or self.command == "HEAD":
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with serve_http(Handler) as port:
        yield Server(f"127.0.0.1:{port}", server.storage)


@contextlib.contextmanager
def challenge() -> Iterator[int]:
    """The port of something that wants a password without TLS."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert "Authorization" not in self.headers
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="registry"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with serve_http(Handler) as port:
        yield port


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError(f"docker-registry does not listen on {port}: {log.read_text()}")


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """The files of a key and of its certificate for this machine, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "key.pem", folder / "certificate.pem"
    plain = serialization.NoEncryption()
    paths[0].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain))
    paths[1].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return paths


@contextlib.contextmanager
def _tokens(key_file: Path, certificate: Path) -> Iterator[str]:
    """Gives those who know the password, or have an identity token, tokens for just what they ask, as the authorisation servers of public
    registries do."""
    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    chain = base64.b64encode(x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(serialization.Encoding.DER)).decode()
    wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    def encoded(content: bytes) -> bytes:
        return base64.urlsafe_b64encode(content).rstrip(b"=")

    def token(query: dict[str, list[str]]) -> str:
        access = []
        for scope in query.get("scope", []):
            kind, rest = scope.split(":", 1)
            name, actions = rest.rsplit(":", 1)
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {"iss": "tidegate", "sub": USER, "aud": "registry", "iat": now, "nbf": now - 10, "exp": now + 300, "access": access}
        claims["jti"] = hashlib.sha256(json.dumps(claims).encode()).hexdigest()
        head = {"typ": "JWT", "alg": "ES256", "x5c": [chain]}
        signed = b".".join(encoded(json.dumps(part).encode()) for part in (head, claims))
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return (signed + b"." + encoded(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(self.headers.get("Authorization") == wanted, "token", parse_qs(urlsplit(self.path).query))

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            exchanged = {"grant_type": ["refresh_token"], "refresh_token": [IDENTITY], "service": ["registry"]}
            known = exchanged.items() <= form.items() and "client_id" in form and "Authorization" not in self.headers
            self.answer(known, "access_token", form)

        def answer(self, known: bool, name: str, asked: dict[str, list[str]]) -> None:
            content = json.dumps({name: token(asked)}).encode() if known else b"{}"
            self.send_response(200 if known else 401)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key_file)
    with serve_http(Handler, context) as port:
        yield f"https://127.0.0.1:{port}/token"
