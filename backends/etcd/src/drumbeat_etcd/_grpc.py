"""gRPC, which is told before it is loaded to stay out of forks; all of this package has it from here."""

from __future__ import annotations

import os

# Its fork handlers abort the child at times. It reads the variable only once, as it starts:
# https://github.com/grpc/grpc/blob/master/doc/environment_variables.md
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc  # type: ignore[import-untyped]

__all__ = ["grpc"]
