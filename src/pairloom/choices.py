"""What some settings and arguments choose from; plain names, so that who only encodes need not load what checks recipes."""

from __future__ import annotations

from typing import Literal

Precision = Literal["float32", "bfloat16", "float16", "int8"]
"""What vectors are computed in; float16 is for GPUs and int8 for CPUs."""
TrainingPrecision = Literal["float32", "bfloat16"]
Similarity = Literal["cosine", "dot"]
WeightRule = Literal["given", "equal", "proportional", "power", "capped"]
Schedule = Literal["linear", "cosine", "warmup-stable-decay"]
IndexKind = Literal["auto", "exact", "graph", "compact"]
"""How a collection's vectors are searched: all of them; over a graph (HNSW); or, in little memory, by codes of which the best are
scored again. ``auto`` is ``exact`` while that is quick, and then ``graph``."""
PoolingMode = Literal["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
