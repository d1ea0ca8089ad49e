"""The only module that reads a clock, and the identities that are made of one."""

from __future__ import annotations

import asyncio
import random
import time

from goclaw.core.ports import Clock


class SystemClock:
    """The machine's clocks."""

    def wall(self) -> int:
        """Milliseconds since 1970 UTC; people may set it."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> int:
        """Milliseconds since some point of this boot; never goes back."""
        return time.monotonic_ns() // 1_000_000

    async def sleep(self, ms: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(max(ms, 0) / 1000)


def new_id(clock: Clock) -> str:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of wall time, then 74 random bits.

    A name, never a secret: the bits are those of the process's generator, which the system seeds. Asking the system for
    each id lets another thread in, and is an eighth of what a submission costs the daemon.
    """
    value = (clock.wall() & 0xFFFF_FFFF_FFFF) << 80 | random.getrandbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
