"""Real servers for tests: in a container, as a child process, or named by a URL."""

from __future__ import annotations
