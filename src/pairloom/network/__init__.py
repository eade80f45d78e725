"""The torch engine: an encoder built from an architecture and canonical weights, for training and for GPUs.

Shape suffixes, here and in ``pairloom.train``: B texts, T tokens of the longest text (the rest is padding),
H numbers in a token vector, A attention heads, D numbers in a text's vector.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError:
    from pairloom.errors import MissingExtraError

    raise MissingExtraError("The torch engine", "torch", "torch") from None
