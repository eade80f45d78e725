"""Raw dumps to pairs: a module a corpus, a generator a view."""

from pairloom.sources import pair_files, python_docs, stackexchange

SOURCES = {source.name: source for source in (stackexchange.SOURCE, python_docs.SOURCE, pair_files.SOURCE)}
"""All sources by name. A new one is a module with a ``SOURCE``, a section in the recipe, and its place here."""
