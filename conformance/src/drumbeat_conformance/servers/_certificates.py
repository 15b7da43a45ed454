"""Certificates for servers and clients, made for one test."""

from __future__ import annotations

import shutil
import ssl
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Paths of PEM files: a server for 127.0.0.1 and localhost, a client, and who vouches for them."""

    #: The authority that signed both certificates.
    authority: Path
    server_certificate: Path
    server_key: Path
    client_certificate: Path
    client_key: Path
    #: An authority that signed neither.
    stranger_authority: Path

    def copy_to(self, folder: Path) -> Certificates:
        """Return the same certificates in another folder, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = {part.name: Path(getattr(self, part.name)) for part in fields(self)}
        return Certificates(**{name: Path(shutil.copy(path, folder)) for name, path in paths.items()})

    def as_options(self, *, client: bool = False) -> str:
        """Return the options of a Drumbeat URL for a client that trusts the authority, and shows its certificate."""
        options = f"?tls_ca_file={self.authority}"
        return f"{options}&tls_certificate={self.client_certificate}&tls_key={self.client_key}" if client else options

    def client_context(self) -> ssl.SSLContext:
        """Return what a client needs that trusts the authority and shows the client's certificate."""
        context = ssl.create_default_context(cafile=self.authority)
        context.load_cert_chain(self.client_certificate, self.client_key)
        return context


def make_certificates(folder: Path) -> Certificates:
    """Return certificates whose files are written to `folder`, valid for a year."""
    import trustme

    authority, stranger = trustme.CA(), trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost", "::1")
    client = authority.issue_cert("client@drumbeat.example", common_name="drumbeat-client")
    made = Certificates(
        authority=folder / "authority.pem",
        server_certificate=folder / "server.pem",
        server_key=folder / "server.key",
        client_certificate=folder / "client.pem",
        client_key=folder / "client.key",
        stranger_authority=folder / "stranger.pem",
    )
    folder.mkdir(parents=True, exist_ok=True)
    authority.cert_pem.write_to_path(made.authority)
    stranger.cert_pem.write_to_path(made.stranger_authority)
    for issued, certificate, key in (
        (server, made.server_certificate, made.server_key),
        (client, made.client_certificate, made.client_key),
    ):
        key.write_bytes(_as_pkcs8(issued.private_key_pem.bytes()))
        issued.cert_chain_pems[0].write_to_path(certificate)
    return made


def _as_pkcs8(key: bytes) -> bytes:
    # The one form that ZooKeeper reads: https://zookeeper.apache.org/doc/r3.8.0/zookeeperAdmin.html#sc_authOptions
    from cryptography.hazmat.primitives import serialization as form

    return form.load_pem_private_key(key, None).private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
    )
