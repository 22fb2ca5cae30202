"""The client for asyncio: the same calls as the blocking one, awaited."""

from .client import Client
from .keeping import Lease, Registration
from .watch import Watch

__all__ = ["Client", "Lease", "Registration", "Watch"]
