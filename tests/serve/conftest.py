"""Tiny encoders, and servers of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pairloom import Encoder
from pairloom.encode.engine import make_engine
from pairloom.models.dual import DualModel
from pairloom.models.heads import Normalize
from pairloom.models.read import read_model
from pairloom.models.write import write_model
from pairloom.serve.service import Service
from tests.serve.servers import GatedEngine, make_service, running


@pytest.fixture(scope="session")
def encoder(model_folder: Path) -> Encoder:
    """32 dimensions, 64 tokens, cosine."""
    return Encoder(model_folder, device="cpu", precision="float32", threads=1)


@pytest.fixture(scope="session")
def dot_encoder(encoder: Encoder) -> Encoder:
    """Whose vectors have any length."""
    model = dataclasses.replace(encoder.model, heads=(), similarity="dot")
    return Encoder(model, device="cpu", precision="float32", threads=1)


@pytest.fixture(scope="session")
def prompted_encoder(encoder: Encoder) -> Encoder:
    """That tells queries and documents apart."""
    model = dataclasses.replace(encoder.model, prompts={"query": "what is ", "document": "the answer is "})
    return Encoder(model, device="cpu", precision="float32", threads=1)


@pytest.fixture(scope="session")
def pair_folder(backbone_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair called two, whose halves are of two families and of two limits."""
    halves = [
        dataclasses.replace(read_model(backbone_folder(family)), heads=(Normalize(),), max_tokens=max_tokens)
        for family, max_tokens in (("bert", 20), ("mpnet", 50))
    ]
    path = tmp_path_factory.mktemp("pair") / "two"
    path.mkdir()
    write_model(DualModel("two", *halves), path, readme="# two\n")
    return path


@pytest.fixture
def gated(encoder: Encoder) -> Iterator[GatedEngine]:
    """An engine that computes only while its gate is open; in the end it is."""
    engine = GatedEngine(make_engine(encoder.model, device="cpu", precision="float32", threads=1))
    yield engine
    engine.gate.set()


@pytest.fixture
def service(encoder: Encoder) -> Service:
    """Of one model, called tiny."""
    return make_service({"tiny": encoder})


@pytest.fixture(scope="session")
def url(encoder: Encoder) -> Iterator[str]:
    """A server of one model, called tiny, that takes 100 texts a request."""
    with running(make_service({"tiny": encoder}, max_inputs=100)) as address:
        yield address


@pytest.fixture(scope="session")
def several_url(encoder: Encoder, dot_encoder: Encoder, prompted_encoder: Encoder) -> Iterator[str]:
    """A server of several models."""
    models = {"tiny": encoder, "some/dot": dot_encoder, "prompted": prompted_encoder}
    with running(make_service(models)) as address:
        yield address


@pytest.fixture(scope="session")
def pair_url(pair_folder: Path) -> Iterator[str]:
    """A server of a pair, called two."""
    with running(make_service({}, [str(pair_folder)])) as address:
        yield address
