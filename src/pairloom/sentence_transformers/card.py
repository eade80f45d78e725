"""The README of a model that was saved again."""

from __future__ import annotations

from pairloom.models.dual import AnyModel, DualModel

_ONE = """embeddings = model.encode(["a text", "another text"])
print(model.similarity(embeddings, embeddings))"""
_TWO = """queries = model.encode_query(["a question"])
documents = model.encode_document(["an answer", "another answer"])
print(model.similarity(queries, documents))"""


def write_card(name: str, model: AnyModel) -> str:
    """A short model card, as Markdown.

    Args:
        name: What to call the model.
        model: What is saved.
    """
    compared = "cosine" if model.similarity == "cosine" else "dot product"
    if isinstance(model, DualModel):
        what = f"Two sentence encoders, `Q` for queries and `A` for documents: each maps a text to {model.dimensions} numbers"
        limit = f"Queries are cut to {model.query.max_tokens} tokens, documents to {model.document.max_tokens}"
        snippet = _TWO
    else:
        what = f"A sentence encoder: it maps a text to {model.dimensions} numbers"
        limit, snippet = f"Texts are cut to {model.max_tokens} tokens", _ONE
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
- sentence-transformers
- sentence-similarity
- feature-extraction
---

# {name}

{what}, which are compared by
{compared}. {limit}.

```python
from pairloom.sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}")
{snippet}
```
"""
