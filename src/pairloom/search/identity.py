"""Which model's vectors a collection holds, so that those of another are never compared with them."""

from __future__ import annotations

from dataclasses import dataclass

from pairloom.choices import Similarity
from pairloom.encode.dual_encoder import AnyEncoder, halves, names
from pairloom.errors import CollectionError
from pairloom.models.names import lasting_name


@dataclass(frozen=True)
class ModelIdentity:
    """A model, or a pair of them.

    Args:
        names: By which it is loaded again; two if queries and documents have an encoder each, which are not kept together.
        fingerprint: Of what makes the vectors of documents.
        query_fingerprint: Of what makes those of queries.
        dimensions: Numbers in a vector.
        similarity: By which vectors are compared.
    """

    names: tuple[str, ...]
    fingerprint: str
    query_fingerprint: str
    dimensions: int
    similarity: Similarity

    @property
    def name(self) -> str:
        """For people."""
        return " and ".join(self.names)

    @classmethod
    def of(cls, encoder: AnyEncoder) -> ModelIdentity:
        """The identity of what is at hand."""
        query, document = halves(encoder)
        return cls(
            tuple(lasting_name(name) for name in names(encoder)),
            document.fingerprint,
            query.fingerprint,
            encoder.dimensions,
            document.model.similarity,
        )

    def check(self, other: ModelIdentity, where: str) -> None:
        """Makes sure that another model's vectors can be compared with this one's.

        Raises:
            CollectionError: They cannot; the sentence has both names.
        """
        ours = f"{where}: its vectors were made by {self.name} as it was then (fingerprint {self.fingerprint[:8]})"
        if other.fingerprint != self.fingerprint:
            if other.fingerprint == self.query_fingerprint:
                raise CollectionError(
                    f"{ours}, and {other.name} is only the half of it that encodes queries; open it with both halves"
                )
            raise CollectionError(
                f"{ours}, not by {other.name} as it is now ({other.fingerprint[:8]}); use that model, or index the texts "
                "anew with this one"
            )
        if other.query_fingerprint != self.query_fingerprint:
            raise CollectionError(
                f"{ours}, which encodes queries with an encoder of their own ({self.query_fingerprint[:8]}), and {other.name} "
                f"with another ({other.query_fingerprint[:8]}); open it with both halves"
            )
