"""How a model is used, as snippets that run: with pairloom, with sentence-transformers, with transformers alone."""

from __future__ import annotations

from pairloom.models.heads import Dense
from pairloom.models.model import Model
from pairloom.train.card_text import fenced, quoted

_TEXTS = """query = "How do I brew coffee?"
documents = ["Grind the beans, and pour hot water over them.", "A list in Python holds any objects."]
"""
_SHOW = """for score, document in sorted(zip(scores, documents), reverse=True):
    print(f"{score:.4f}  {document}")
"""
_POOLING = {
    "mean": """    inside = batch["attention_mask"].unsqueeze(-1).float()
    vectors = (tokens * inside).sum(dim=1) / inside.sum(dim=1)
""",
    "cls": """    vectors = tokens[:, 0]
""",
}
_QUERY_PROMPTS, _DOCUMENT_PROMPTS = ("query",), ("document", "passage", "corpus")
# Where two encoders lie in their folder.
_QUERY_FOLDER, _DOCUMENT_FOLDER = "Q", "A"


def usage(name: str, model: Model, document: Model | None = None) -> str:
    """The section of the card, without its heading.

    Args:
        name: Of the folder, or of the repository that it becomes.
        model: What is used; of two encoders that of the queries.
        document: Of two encoders that of the documents.
    """
    parts = [
        "With pairloom:",
        fenced(_with_pairloom(name, "Encoder" if document is None else "DualEncoder"), "python"),
        "With [sentence-transformers](https://www.sbert.net):",
        fenced(_with_sentence_transformers(name, model, document), "python"),
    ]
    if (snippet := _with_transformers(name, model, document)) is None:
        parts.append(
            "With `transformers` alone, pooling and the modules after it have to be computed as the folders `1_Pooling` and "
            "following say."
        )
    else:
        parts += ["With [transformers](https://huggingface.co/docs/transformers) alone:", fenced(snippet, "python")]
    return "\n\n".join(parts)


def _with_pairloom(name: str, encoder: str) -> str:
    return f"""from pairloom import {encoder}

{_TEXTS}
encoder = {encoder}({quoted(name)})
query_vector = encoder.encode_query(query)
document_vectors = encoder.encode_document(documents)
scores = encoder.similarity(query_vector, document_vectors)[0].tolist()
{_SHOW}"""


def _with_sentence_transformers(name: str, model: Model, document: Model | None) -> str:
    function = "dot_score" if model.similarity == "dot" else "cos_sim"
    query_prompt = _prompt_argument(model, _QUERY_PROMPTS)
    document_prompt = _prompt_argument(document or model, _DOCUMENT_PROMPTS)
    if document is None:
        loaded, query_encoder, document_encoder = f"model = SentenceTransformer({quoted(name)})", "model", "model"
    else:
        query_encoder, document_encoder = "query_encoder", "document_encoder"
        loaded = f"""query_encoder = SentenceTransformer({quoted(f"{name}/{_QUERY_FOLDER}")})
document_encoder = SentenceTransformer({quoted(f"{name}/{_DOCUMENT_FOLDER}")})"""
    return f"""from sentence_transformers import SentenceTransformer, util

{_TEXTS}
{loaded}
query_vector = {query_encoder}.encode(query{query_prompt})
document_vectors = {document_encoder}.encode(documents{document_prompt})
scores = util.{function}(query_vector, document_vectors)[0].tolist()
{_SHOW}"""


def _with_transformers(name: str, model: Model, document: Model | None) -> str | None:
    """None where it would take more than a few lines: other pooling, dense layers, prompts that are not pooled."""
    steps = _steps(model)
    if steps is None or (document is not None and _steps(document) != steps):
        return None
    compared = model.similarity == "dot" or model.normalized
    query_prompt = _prompt(model, _QUERY_PROMPTS)
    document_prompt = _prompt(document or model, _DOCUMENT_PROMPTS)
    texts = f"[{document_prompt}document for document in documents]" if document_prompt else "documents"
    if document is None:
        loaded = f"""tokenizer = AutoTokenizer.from_pretrained({quoted(name)})
model = AutoModel.from_pretrained({quoted(name)}).eval()"""
        with_model, of_query, of_document = "", "", ""
    else:
        loaded = f"""query_encoder = {_auto(f"{name}/{_QUERY_FOLDER}")}
document_encoder = {_auto(f"{name}/{_DOCUMENT_FOLDER}")}"""
        with_model, of_query, of_document = ", tokenizer, model", ", *query_encoder", ", *document_encoder"
    scores = (
        "scores = (document_vectors @ query_vector).tolist()"
        if compared
        else "scores = functional.cosine_similarity(document_vectors, query_vector[None]).tolist()"
    )
    return f"""import torch
{"from torch.nn import functional" + chr(10) if "functional" in steps + scores else ""}from transformers import AutoModel, AutoTokenizer

{_TEXTS}
{loaded}


def encode(texts{with_model}):
{steps}    return vectors


query_vector = encode([{query_prompt}query]{of_query})[0]
document_vectors = encode({texts}{of_document})
{scores}
{_SHOW}"""


def _auto(name: str) -> str:
    return f"AutoTokenizer.from_pretrained({quoted(name)}), AutoModel.from_pretrained({quoted(name)}).eval()"


def _steps(model: Model) -> str | None:
    """From texts to vectors."""
    modes = model.pooling.modes
    if len(modes) != 1 or modes[0] not in _POOLING or any(isinstance(head, Dense) for head in model.heads):
        return None
    if model.prompts and not model.pooling.include_prompt:
        return None
    texts = "[text.lower() for text in texts]" if model.lower_case else "texts"
    lines = f"""    batch = tokenizer({texts}, padding=True, truncation=True, max_length={model.max_tokens}, return_tensors="pt")
    with torch.no_grad():
        tokens = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
{_POOLING[modes[0]]}"""
    if model.heads:
        lines += "    vectors = functional.normalize(vectors, dim=-1)\n"
    if model.output_size is not None:
        lines += f"    vectors = vectors[:, :{model.output_size}]\n"
    return lines


def _prompt_argument(model: Model, names: tuple[str, ...]) -> str:
    """The prompt that `Encoder.encode_query` and its sibling would take; empty if it is the default or there is none."""
    name = next((name for name in names if name in model.prompts), None)
    return "" if name is None else f", prompt_name={quoted(name)}"


def _prompt(model: Model, names: tuple[str, ...]) -> str:
    """The prompt's text and a plus, or nothing."""
    name = next((name for name in names if name in model.prompts), model.default_prompt)
    text = "" if name is None else model.prompts[name]
    return f"{quoted(text)} + " if text else ""
