"""Freed memory stays with the process, where the C library would give it back.

glibc returns the top of its heap to the system as soon as a few large tensors are freed, and asks for it again in the
next layer of a network: every page is then mapped and cleared anew. Kept, a step of the shipped prior is some percent
faster on a CPU (benchmarks/README.md); what the process holds at its peak is the same, but it holds it to its end.
"""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # the largest that glibc takes
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tells glibc to keep what is freed; says whether it took the setting. Elsewhere this does nothing."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, _NEVER))
