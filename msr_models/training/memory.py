"""Keep the memory of freed tensors in the process."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Tell glibc never to return freed memory to the system and never to map a block of its own for a large tensor.

    By default every activation above 32 MB is mapped anew in each step, and touching its fresh pages costs more than
    the arithmetic on them. It applies to the whole process, so only commands call it. Returns False where the C
    library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
