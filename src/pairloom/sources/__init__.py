"""Raw dumps to pairs: a module a corpus, a generator a view."""

from pairloom.sources import (
    amazon_qa,
    gooaq,
    pair_files,
    paq,
    python_docs,
    quora,
    reddit,
    stackexchange,
    wikianswers,
)

SOURCES = {
    source.name: source
    for source in (
        stackexchange.SOURCE,
        reddit.SOURCE,
        wikianswers.SOURCE,
        paq.SOURCE,
        quora.SOURCE,
        amazon_qa.SOURCE,
        gooaq.SOURCE,
        python_docs.SOURCE,
        pair_files.SOURCE,
    )
}
"""All sources by name. A new one is a module with a ``SOURCE``, a section in the recipe, and its place here."""
