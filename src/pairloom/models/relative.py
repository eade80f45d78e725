"""MPNet's relative attention bias: which bucket a distance belongs to.

Sources: Song et al. 2020 (MPNet), after Raffel et al. 2020 (T5), whose bidirectional encoder buckets distances so.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def relative_buckets(distances: npt.NDArray[np.int64], num_buckets: int, max_distance: int) -> npt.NDArray[np.int64]:
    """The bucket of each distance, in the shape of the distances.

    Half of the buckets are for keys after the query. Within a half, the near distances have a bucket each and the
    far ones share buckets that grow logarithmically up to ``max_distance``.

    Args:
        distances: Place of the query minus place of the key.
        num_buckets: In all.
        max_distance: Distances from here on share a bucket.
    """
    half = num_buckets // 2
    exact = half // 2
    size = np.abs(distances)
    # In float32, as the models were trained: a distance at the edge of a bucket must fall on the same side.
    growth = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(max_distance / exact)
    )
    far = np.minimum(exact + (growth * np.float32(half - exact)).astype(np.int64), half - 1)
    buckets: npt.NDArray[np.int64] = np.where(size < exact, size, far) + half * (distances < 0)
    return buckets
