"""Large temporary arrays that a thread keeps between calls instead of returning them to the system each time.

A batch of correlations touches about ten arrays of a megabyte; fresh ones cost more in page faults than the
arithmetic done on them. Each thread has its own, so nothing is ever shared, and a buffer grows to the largest size
asked for. **A buffer is valid until its name is asked for again in the same thread**: names belong to one function,
which never returns such an array to a caller that does not know.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import numpy.typing as npt


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.by_name: dict[str, npt.NDArray[np.uint8]] = {}


_buffers = _Buffers()


def scratch(name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[Any]:
    """Return this thread's buffer `name` as an uninitialised array of the shape and type asked for."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    buffer = _buffers.by_name.get(name)
    if buffer is None or buffer.nbytes < size:
        buffer = _buffers.by_name[name] = np.empty(size, np.uint8)
    return buffer[:size].view(dtype).reshape(shape)
