"""The README of a model that was saved again."""

from __future__ import annotations

from pairloom.models.model import Model


def write_card(name: str, model: Model) -> str:
    """A short model card, as Markdown.

    Args:
        name: What to call the model.
        model: What is saved.
    """
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
- sentence-transformers
- sentence-similarity
- feature-extraction
---

# {name}

A sentence encoder: it maps a text to {model.dimensions} numbers, which are compared by
{"cosine" if model.similarity == "cosine" else "dot product"}. Texts are cut to {model.max_tokens} tokens.

```python
from pairloom.sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}")
embeddings = model.encode(["a text", "another text"])
print(model.similarity(embeddings, embeddings))
```
"""
