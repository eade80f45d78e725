"""Clean text, and the hash under which two texts count as the same."""

from __future__ import annotations

import hashlib
import unicodedata

HASH_BYTES = 8

# C0 and C1 control characters (those that are white space have become spaces by then), and the byte-order mark.
_UNWANTED = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), 0xFEFF])


def clean_text(text: str) -> str:
    """Makes a text one line of well-formed Unicode, and leaves its language alone.

    Unicode is brought into NFC; runs of white space become one space, those at the ends go; control characters and
    byte-order marks go; the two halves of a split surrogate pair are joined, and a lone half becomes U+FFFD. Joiners,
    direction marks and everything else that a script needs stay. Cleaning twice changes nothing.

    Most texts of a large corpus are clean up to their white space, so that is settled first, in C.
    """
    text = " ".join(text.split())
    if text.isprintable() and (text.isascii() or unicodedata.is_normalized("NFC", text)):
        return text
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    # Dropping a control character can bring a letter and its accent together, so NFC comes after it.
    text = unicodedata.normalize("NFC", text.translate(_UNWANTED))
    return " ".join(text.split())


def text_hash(text: str) -> int:
    """The 64-bit hash of a clean text, the same for texts that differ only in case or white space.

    It decides what is a duplicate and what must not be trained on because it is evaluated on, so it must never change
    between versions, machines or runs: BLAKE2b of the case-folded UTF-8, read as a little-endian number.
    """
    folded = " ".join(text.casefold().split())
    return int.from_bytes(hashlib.blake2b(folded.encode("utf-8", "replace"), digest_size=HASH_BYTES).digest(), "little")
