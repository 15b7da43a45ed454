"""gRPC channels, each with a connection of its own."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from drumbeat_etcd._grpc import grpc

if TYPE_CHECKING:
    from drumbeat.options import TLS

#: https://github.com/grpc/grpc/blob/master/include/grpc/impl/channel_arg_names.h
CHANNEL_OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # Else all channels to one address share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    # A server that has come back is noticed within a second, and one that is not there is given up after as long.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    # A half-open connection is noticed under a watch too. etcd hangs up on who asks more often than every 5 s:
    # https://etcd.io/docs/v3.4/op-guide/configuration/ (grpc-keepalive-min-time)
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A view has no limit of its own.
    ("grpc.max_receive_message_length", -1),
)


def open_channel(address: str, tls: TLS | None, timeout: float) -> grpc.Channel:
    """Return a channel that connects when it is first used; raise OSError if a certificate cannot be had."""
    if tls is None:
        return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
    authorities, key, certificate = (
        None if path is None else Path(path).read_bytes() for path in (tls.ca_file, tls.key, tls.certificate)
    )
    options: tuple[tuple[str, int | str], ...] = CHANNEL_OPTIONS
    if not tls.verify:
        authorities, name = _shown_certificate(address, tls, timeout)
        options = (*options, ("grpc.ssl_target_name_override", name))
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authorities, key, certificate), options=options)


def _shown_certificate(address: str, tls: TLS, timeout: float) -> tuple[bytes, str]:
    """Return the certificate that a server shows now and a name in it: gRPC must trust something."""
    encoded, _ = _handshake(address, tls.context(), timeout)
    shown = ssl.DER_cert_to_PEM_cert(encoded)
    # Only a certificate that was verified is taken apart for us.
    trusting = ssl.create_default_context(cadata=shown)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if tls.certificate is not None:
        trusting.load_cert_chain(tls.certificate, tls.key)
    _, names = _handshake(address, trusting, timeout)
    return shown.encode(), (names or ["localhost"])[0].replace("*", "any")


def _handshake(address: str, context: ssl.SSLContext, timeout: float) -> tuple[bytes, list[str]]:
    host, _, port = address.rpartition(":")
    name = host.strip("[]")
    with (
        socket.create_connection((name, int(port)), timeout=timeout) as plain,
        context.wrap_socket(plain, server_hostname=name) as secured,
    ):
        parts: dict[str, tuple[tuple[str, str], ...]] = secured.getpeercert() or {}  # type: ignore[assignment]
        return secured.getpeercert(binary_form=True) or b"", [name for _, name in parts.get("subjectAltName", ())]
