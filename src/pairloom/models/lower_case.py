"""Whether the two files of a tokenizer say the same of lower-casing.

``tokenizer.json`` holds the whole tokenizer, and is what is read here. The classes of transformers that are named below make
their own from its vocabulary and from ``do_lower_case`` in ``tokenizer_config.json`` instead, and so does
sentence-transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

_CLASSES = {f"{family}Tokenizer{fast}" for family in ("Bert", "DistilBert", "MPNet") for fast in ("", "Fast")}


def lower_case_conflict(files: Mapping[str, bytes]) -> str:
    """A sentence that says how the files contradict each other; empty if they do not.

    Args:
        files: Of the tokenizer, name to content.
    """
    try:
        config = json.loads(files.get("tokenizer_config.json", b"{}"))
        asked = config.get("do_lower_case")
        if config.get("tokenizer_class") not in _CLASSES or not isinstance(asked, bool):
            return ""
        # The only normalizer with a switch for it, which these classes know.
        done = (json.loads(files["tokenizer.json"]).get("normalizer") or {}).get("lowercase")
    except (ValueError, RecursionError, AttributeError):
        return ""  # whoever reads the files says what is wrong with them
    if not isinstance(done, bool) or done == asked:
        return ""
    return (
        f"tokenizer_config.json says do_lower_case = {json.dumps(asked)}, but tokenizer.json {'lower-cases' if done else 'keeps capitals'} "
        "and is what counts here; sentence-transformers goes by the former and makes other vectors. Make the two agree"
    )
