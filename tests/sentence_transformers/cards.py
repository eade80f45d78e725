"""The code in the published models' cards, with their slips mended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Snippet:
    """A block of code of a card.

    Args:
        card: The card's file.
        block: Which of its Python blocks.
        code: The block, mended.
        slips: What the card has, and what stands here instead; lost indentation is not listed.
    """

    card: str
    block: int
    code: str
    slips: tuple[tuple[str, str], ...] = ()


STACKOVERFLOW = Snippet(
    "stackoverflow_mpnet-base.md",
    0,
    """
from sentence_transformers import SentenceTransformer

model = SentenceTransformer('flax-sentence-embeddings/stackoverflow_mpnet-base')
text = "Replace me by any question / answer you'd like."
text_embbedding = model.encode(text)
# array([-0.01559514,  0.04046123,  0.1317083 ,  0.00085931,  0.04585106,
#        -0.05607086,  0.0138078 ,  0.03569756,  0.01420381,  0.04266302 ...],
#        dtype=float32)
""",
)

REDDIT = Snippet(
    "reddit_single-context_mpnet-base.md",
    0,
    """
from sentence_transformers import SentenceTransformer

model = SentenceTransformer('flax-sentence-embeddings/reddit_single-context_mpnet-base')
text = "Replace me by any text you'd like."
text_embbedding = model.encode(text)
# array([-0.01559514, 0.04046123, 0.1317083 , 0.00085931, 0.04585106,
# -0.05607086, 0.0138078 , 0.03569756, 0.01420381, 0.04266302 ...],
# dtype=float32)
""",
)

ASYMMETRIC = Snippet(
    "multi-QA_v1-mpnet-asymmetric-A.md",
    0,
    """
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import cos_sim as cosine_similarity
model_Q = SentenceTransformer('flax-sentence-embeddings/multi-QA_v1-mpnet-asymmetric-Q')
model_A = SentenceTransformer('flax-sentence-embeddings/multi-QA_v1-mpnet-asymmetric-A')
question = "Replace me by any question you'd like."
question_embedding = model_Q.encode(question)
answer = "Replace me by any answer you'd like."
answer_embedding = model_A.encode(answer)
answer_likeliness = cosine_similarity(question_embedding, answer_embedding)
""",
    slips=(
        (
            "import SentenceTransformer",
            "import SentenceTransformer from sentence_transformers.util import cos_sim as cosine_similarity",
        ),
        ("question_embbedding = model_Q.encode(text)", "question_embedding = model_Q.encode(question)"),
        ("answer_embbedding = model_A.encode(text)", "answer_embedding = model_A.encode(answer)"),
    ),
)

SEARCH = Snippet(
    "multi-qa-distilbert-cos-v1.md",
    0,
    """
from sentence_transformers import SentenceTransformer, util

query = "How many people live in London?"
docs = ["Around 9 Million people live in London", "London is known for its financial district"]

#Load the model
model = SentenceTransformer('sentence-transformers/multi-qa-distilbert-cos-v1')

#Encode query and documents
query_emb = model.encode(query)
doc_emb = model.encode(docs)

#Compute dot score between query and all document embeddings
scores = util.dot_score(query_emb, doc_emb)[0].cpu().tolist()

#Combine docs & scores
doc_score_pairs = list(zip(docs, scores))

#Sort by decreasing score
doc_score_pairs = sorted(doc_score_pairs, key=lambda x: x[1], reverse=True)

#Output passages & scores
for doc, score in doc_score_pairs:
    print(score, doc)
""",
)

WITHOUT_LIBRARY = Snippet(
    "multi-qa-distilbert-cos-v1.md",
    1,
    """
from transformers import AutoTokenizer, AutoModel
import torch
import torch.nn.functional as F

#Mean Pooling - Take average of all tokens
def mean_pooling(model_output, attention_mask):
    token_embeddings = model_output.last_hidden_state #First element of model_output contains all token embeddings
    input_mask_expanded = attention_mask.unsqueeze(-1).expand(token_embeddings.size()).float()
    return torch.sum(token_embeddings * input_mask_expanded, 1) / torch.clamp(input_mask_expanded.sum(1), min=1e-9)


#Encode text
def encode(texts):
    # Tokenize sentences
    encoded_input = tokenizer(texts, padding=True, truncation=True, return_tensors='pt')

    # Compute token embeddings
    with torch.no_grad():
        model_output = model(**encoded_input, return_dict=True)

    # Perform pooling
    embeddings = mean_pooling(model_output, encoded_input['attention_mask'])

    # Normalize embeddings
    embeddings = F.normalize(embeddings, p=2, dim=1)

    return embeddings


# Sentences we want sentence embeddings for
query = "How many people live in London?"
docs = ["Around 9 Million people live in London", "London is known for its financial district"]

# Load model from HuggingFace Hub
tokenizer = AutoTokenizer.from_pretrained("sentence-transformers/multi-qa-distilbert-cos-v1")
model = AutoModel.from_pretrained("sentence-transformers/multi-qa-distilbert-cos-v1")

#Encode query and docs
query_emb = encode(query)
doc_emb = encode(docs)

#Compute dot score between query and all document embeddings
scores = torch.mm(query_emb, doc_emb.transpose(0, 1))[0].cpu().tolist()

#Combine docs & scores
doc_score_pairs = list(zip(docs, scores))

#Sort by decreasing score
doc_score_pairs = sorted(doc_score_pairs, key=lambda x: x[1], reverse=True)

#Output passages & scores
for doc, score in doc_score_pairs:
    print(score, doc)
""",
)

SNIPPETS = (STACKOVERFLOW, REDDIT, ASYMMETRIC, SEARCH, WITHOUT_LIBRARY)


def run(snippet: Snippet, folders: dict[str, Path], *, package: str) -> dict[str, Any]:
    """Runs a snippet with folders instead of names on the hub, and the package that is imported; returns its variables."""
    code = snippet.code.replace("from sentence_transformers", f"from {package}")
    for name, folder in folders.items():
        assert name in code
        code = code.replace(name, str(folder))
    variables: dict[str, Any] = {}
    exec(compile(code, snippet.card, "exec"), variables)
    return variables
