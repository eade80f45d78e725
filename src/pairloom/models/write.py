"""Writing a model folder in the older dialect, which every released sentence-transformers (2.x to 6.x) loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pairloom.models.dual import AnyModel, DualModel
from pairloom.models.families import family_of
from pairloom.models.heads import DENSE_ACTIVATIONS, POOLING_FLAGS, Dense
from pairloom.models.model import Model
from pairloom.models.read import DOCUMENT_FOLDER, QUERY_FOLDER
from pairloom.models.weights import write_backbone, write_tensors

_HALF_CARD = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
- sentence-transformers
- sentence-similarity
- feature-extraction
---

# {folder}: the encoder of the {texts}

It maps {texts} to vectors of {dimensions} numbers, to be compared with the vectors of {others}, which the encoder in the folder
{other} beside it makes. Both together are one model:

```python
from pairloom import DualEncoder

encoder = DualEncoder("MODEL")  # the folder that holds Q and A
queries = encoder.encode_query(["a question"])
documents = encoder.encode_document(["an answer", "another answer"])
print(encoder.similarity(queries, documents))
```

With sentence-transformers:

```python
from sentence_transformers import SentenceTransformer

queries = SentenceTransformer("MODEL/Q").encode(["a question"])
documents = SentenceTransformer("MODEL/A").encode(["an answer", "another answer"])
```
"""


def write_model(model: AnyModel, path: Path, *, readme: str) -> None:
    """Writes a model into an existing empty folder, in the older dialect.

    Two encoders become two folders, ``Q`` and ``A``, each of which loads alone wherever it is.

    Args:
        model: What to write.
        path: Usually the draft of an artifact.
        readme: The model card.
    """
    if isinstance(model, DualModel):
        _write_halves(model, path)
    else:
        _write_encoder(model, path)
    (path / "README.md").write_text(readme, encoding="utf-8")


def _write_halves(model: DualModel, path: Path) -> None:
    for half, folder, other, texts, others in (
        (model.query, QUERY_FOLDER, DOCUMENT_FOLDER, "queries", "documents"),
        (model.document, DOCUMENT_FOLDER, QUERY_FOLDER, "documents", "queries"),
    ):
        (path / folder).mkdir()
        readme = _HALF_CARD.format(folder=folder, other=other, texts=texts, others=others, dimensions=half.dimensions)
        write_model(half, path / folder, readme=readme)


def _write_encoder(model: Model, path: Path) -> None:
    family = family_of(model.config, path)
    config = {key: value for key, value in model.config.items() if key not in ("dtype", "torch_dtype")}
    class_name = family.class_names[config["model_type"]]
    _write_object(path / "config.json", {**config, "architectures": [class_name], "torch_dtype": "float32"})
    write_backbone(path / "model.safetensors", family, model.architecture, model.weights, model.unread_weights)
    for name, content in model.tokenizer_files.items():
        (path / name).write_bytes(content)
    _write_object(
        path / "sentence_bert_config.json", {"max_seq_length": model.max_tokens, "do_lower_case": model.lower_case}
    )
    # The versions say which dialect this is, not what wrote it: readers decide by them.
    settings: dict[str, Any] = {
        "__version__": {"sentence_transformers": "2.2.2", "transformers": "4.30.0", "pytorch": "2.0.0"},
        "prompts": model.prompts,
        "default_prompt_name": model.default_prompt,
        "similarity_fn_name": model.similarity,
    }
    if model.output_size is not None:
        settings["truncate_dim"] = model.output_size
    _write_object(path / "config_sentence_transformers.json", settings)
    _write_modules(model, path)


def _write_modules(model: Model, path: Path) -> None:
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    (path / "1_Pooling").mkdir()
    flags = {flag: mode in model.pooling.modes for flag, mode in POOLING_FLAGS.items()}
    pooling: dict[str, Any] = {
        "word_embedding_dimension": model.architecture.hidden_size,
        **flags,
        "include_prompt": model.pooling.include_prompt,
    }
    if model.pooling.modes != tuple(mode for mode in POOLING_FLAGS.values() if mode in model.pooling.modes):
        pooling["pooling_mode"] = list(model.pooling.modes)  # an order that the flags cannot express
    _write_object(path / "1_Pooling" / "config.json", pooling)
    for number, head in enumerate(model.heads, start=2):
        folder = f"{number}_{type(head).__name__}"
        modules.append((folder, type(head).__name__))
        (path / folder).mkdir()
        if isinstance(head, Dense):
            _write_dense(head, path / folder)
        else:
            _write_object(path / folder / "config.json", {})
    entries = [
        {"idx": number, "name": str(number), "path": folder, "type": f"sentence_transformers.models.{name}"}
        for number, (folder, name) in enumerate(modules)
    ]
    (path / "modules.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def _write_dense(head: Dense, path: Path) -> None:
    names = {plain: dotted for dotted, plain in DENSE_ACTIVATIONS.items()}
    _write_object(
        path / "config.json",
        {
            "in_features": head.weight.shape[1],
            "out_features": head.weight.shape[0],
            "bias": head.bias is not None,
            "activation_function": names[head.activation],
        },
    )
    bias = {} if head.bias is None else {"linear.bias": head.bias}
    write_tensors(path / "model.safetensors", {"linear.weight": head.weight, **bias})


def _write_object(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
