"""What all parts of the encoding benchmark share: the model, texts, contestants in processes of their own, and rounds."""

from __future__ import annotations

import argparse
import contextlib
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._encode_apart import Apart
from benchmarks._encode_products import SHAPES, OpenVinoProducts, TorchProducts
from benchmarks._encode_sides import EngineName, Ours, Precision, Theirs
from benchmarks._encode_texts import Corpus, corpora, model_folder, random_model
from benchmarks._train_table import Rounds, alternate
from pairloom.models.model import Model
from pairloom.models.names import load_model

OURS, THEIRS = "pairloom", "sentence-transformers"
INSTALLED, TUNED = f"{THEIRS} as installed", f"{THEIRS} tuned"
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")
# By engine; None is what the encoder chooses by itself.
CHOICES: dict[EngineName, tuple[Precision | None, ...]] = {
    "openvino": ("float32", None, "bfloat16", "int8"),
    "torch": ("float32", "bfloat16"),
}
# Who is called, the method, and its arguments.
Worker = tuple[Apart, str, dict[str, Any]]


class Bench:
    """Options, a model, and what is made for it.

    Args:
        options: Of `benchmarks.encode`.
        folder: For files.
        path: Of the model; by default the one that the options name.
    """

    def __init__(self, options: argparse.Namespace, folder: Path, path: Path | None = None) -> None:
        self.options, self.folder = options, folder
        if path is not None:
            self.path = path
        elif options.toy:
            self.path = random_model(folder / "toy", "bert", layers=2, width=32, max_tokens=64, toy=True, spread=0.2)
        else:
            self.path = model_folder(options.model)
        self.model: Model = load_model(self.path)

    def texts(self, count: int | None = None, *, mixed: bool = False) -> list[Corpus]:
        """The texts that were asked for; by default bodies and titles apart, and, if it is of interest, both mixed."""
        found = corpora(self.options.pairs, count or self.options.texts, self.model)
        return [found[name] for name in self.options.corpus or ["bodies", "titles", *["mixed"] * mixed]]

    def ours(self, stack: contextlib.ExitStack, texts: Corpus) -> dict[str, Apart]:
        """Pairloom at each precision, by name; once at the one that it chooses by itself."""
        found: dict[str, Apart] = {}
        for precision in CHOICES[self.options.engine]:
            if f"{OURS}, {precision} (default)" in found:
                continue
            apart = stack.enter_context(self.apart(Ours, texts, precision=precision, engine=self.options.engine))
            computed = apart.call("about").get("precision", "default")
            name = f"{OURS}, {precision}" if precision else f"{OURS}, {computed} (default)"
            if name.removesuffix(" (default)") in found:  # the default is one that was asked for before
                found[name] = found.pop(name.removesuffix(" (default)"))
                continue
            found[name] = apart
        return found

    def theirs(self, stack: contextlib.ExitStack, texts: Corpus, **settings: Any) -> Apart:
        """Sentence-transformers."""
        return stack.enter_context(self.apart(Theirs, texts, **settings))

    def apart(self, side: type, texts: Corpus, **arguments: Any) -> Apart:
        """A side in a process of its own."""
        threads = self.options.threads
        common = {
            "model": str(self.path),
            "corpora": {texts.name: str(texts.write(self.folder))},
            "threads": threads,
        }
        return Apart(side, common | arguments, threads=threads)

    def products(self, stack: contextlib.ExitStack) -> dict[str, Worker]:
        """Matrix products by either library."""
        arguments = {"shapes": [(64, 32, 128)] if self.options.toy else SHAPES, "threads": self.options.threads}
        return {
            f"products by {name}": (
                stack.enter_context(Apart(kind, arguments, threads=self.options.threads)),
                "rates",
                {},
            )
            for name, kind in (("openvino", OpenVinoProducts), ("torch", TorchProducts))
        }

    def alternate(self, workers: dict[str, Worker]) -> Rounds:
        """Lets them take turns."""
        return alternate(
            {name: partial(apart.call, method, **given) for name, (apart, method, given) in workers.items()},
            self.options.rounds,
        )


def precision_of(name: str) -> str:
    """The precision in the name of one of our contestants."""
    return name.split(", ")[1].split()[0]
