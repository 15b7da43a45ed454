"""From the options of a command to a session."""

from __future__ import annotations

import os
from dataclasses import dataclass

import drumbeat
from drumbeat import ConfigurationError, Session
from drumbeat._settings import DEFAULT_URL, HeartbeatMode, Settings, default_member_id, read_settings
from drumbeat._timing import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to connect to and as whom; None leaves it to the URL, the environment and the defaults."""

    url: str | None
    namespace: str | None = None
    ttl: float | None = None
    member_id: str | None = None
    heartbeat: HeartbeatMode | None = None

    def settings(self) -> Settings:
        """Return what the session will be asked to be, warning once where the default is the local file."""
        if self.url == "":
            raise ConfigurationError("--url is empty; give a backend URL, or leave the option out")
        return read_settings(
            self.url, {"namespace": self.namespace, "lease_ttl": self.ttl, "member_id": self.member_id}
        )

    def connect(self, settings: Settings) -> Session:
        """Open the session of these settings."""
        return drumbeat.connect(
            self.url or os.environ.get("DRUMBEAT_URL") or DEFAULT_URL,
            namespace=settings.namespace,
            lease_ttl=settings.lease_ttl,
            member_id=settings.member_id,
            heartbeat=self.heartbeat,
        )


def reader(
    url: str | None,
    namespace: str | None,
    *,
    ttl: float | None = None,
    heartbeat: HeartbeatMode | None = None,
) -> Target:
    """Return a target for looking without joining: under an id of its own, whatever the environment says."""
    return Target(url=url, namespace=namespace, ttl=ttl, member_id=default_member_id(), heartbeat=heartbeat)


def timing_of(session: Session, settings: Settings) -> Timing:
    """Return the durations that a session lives by, with the TTL that was granted."""
    return Timing.plan(
        ttl=session.lease_ttl,
        heartbeat_interval=settings.heartbeat_interval,
        request_timeout=settings.request_timeout,
        early_expiry=session.backend.limits.early_expiry,
    )
