"""Raw dumps to pairs: a module a corpus, a generator a view."""

from pairloom.sources import (
    eli5,
    ms_marco,
    natural_questions,
    pair_files,
    python_docs,
    search_qa,
    squad,
    stackexchange,
    trivia_qa,
    yahoo_answers,
)

_MODULES = (
    *(stackexchange, ms_marco, natural_questions, squad, trivia_qa, search_qa, eli5, yahoo_answers),
    *(python_docs, pair_files),
)
SOURCES = {module.SOURCE.name: module.SOURCE for module in _MODULES}
"""All sources by name. A new one is a module with a ``SOURCE``, a section in the recipe, and its place here."""
