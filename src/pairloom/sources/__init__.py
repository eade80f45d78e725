"""Raw dumps to pairs: a module a corpus, a generator a view."""

from pairloom.sources import (
    amazon_qa,
    eli5,
    gooaq,
    ms_marco,
    natural_questions,
    pair_files,
    paq,
    python_docs,
    quora,
    reddit,
    search_qa,
    squad,
    stackexchange,
    trivia_qa,
    wikianswers,
    yahoo_answers,
)

SOURCES = {
    source.name: source
    for source in (
        stackexchange.SOURCE,
        reddit.SOURCE,
        wikianswers.SOURCE,
        paq.SOURCE,
        ms_marco.SOURCE,
        gooaq.SOURCE,
        amazon_qa.SOURCE,
        yahoo_answers.SOURCE,
        search_qa.SOURCE,
        eli5.SOURCE,
        quora.SOURCE,
        natural_questions.SOURCE,
        squad.SOURCE,
        trivia_qa.SOURCE,
        python_docs.SOURCE,
        pair_files.SOURCE,
    )
}
"""All sources by name. A new one is a module with a ``SOURCE``, a section in the recipe, and its place here."""
