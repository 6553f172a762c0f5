"""Rows of several arrays as one array that is not copied. Uses no TensorFlow."""

import math
from collections.abc import Sequence

import numpy as np


class StoredRows:
    """Rows of several arrays, usually mapped from files, in any order; indexed like a read-only array [N, ...].

    Indexing copies the rows that are asked for and no others; `np.asarray` copies all.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, arrays: Sequence[np.ndarray], places: np.ndarray, shape: Sequence[int]):
        """Takes arrays [n, *shape] and, for each row, the number of its array and its row there, int64 [N, 2]."""
        self._arrays, self._places = arrays, places
        self.shape = (len(places), *shape)

    @property
    def nbytes(self) -> int:
        """Size of all rows."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, rows):
        if np.ndim(rows) == 0 and not isinstance(rows, slice):
            number, row = self._places[rows]
            return np.array(self._arrays[number][row])
        places = self._places[rows]
        found = np.empty((len(places), *self.shape[1:]), self.dtype)
        for number in np.unique(places[:, 0]):
            own = np.flatnonzero(places[:, 0] == number)
            found[own] = self._arrays[number][places[own, 1]]
        return found

    def __array__(self, dtype=None, copy=None):
        """Copies all rows."""
        return np.asarray(self[:], dtype)
