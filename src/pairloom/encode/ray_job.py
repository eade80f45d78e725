"""Bulk encoding on a Ray cluster: each worker encodes parts of the job, and the parts are merged.

The parts lie in a hidden folder beside ``OUT``, which all machines must see under the same name, as they must the input and the
model. A worker that is lost costs its last seconds; a job that is started again does not encode again what is done.

Ray Data: Moritz et al. 2018, https://arxiv.org/abs/1712.05889; https://docs.ray.io/en/latest/data/data.html
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.artifacts import only_one, read_manifest, refuse_occupied, resolved
from pairloom.encode.bulk import encode_texts, job_identity
from pairloom.encode.dual_encoder import AnyEncoder, load_encoder
from pairloom.encode.job import difference
from pairloom.encode.job_input import Shard
from pairloom.encode.merge import merge_parts
from pairloom.encode.sources import Sources
from pairloom.encode.storage import Storage
from pairloom.encode.vectors import PART_KIND
from pairloom.errors import ArtifactError, MissingExtraError, PairloomError, UsageError
from pairloom.terminal import one_line

try:
    import ray
    import ray.data as ray_data
    import ray.exceptions
except ImportError:
    raise MissingExtraError("encoding on a Ray cluster", "ray", "ray") from None

_SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class RayJob:
    """What every worker needs to know.

    Args:
        model: The name of the model, or of two.
        sources: As in `Sources`; all machines must find them under these names. Stdin is not one of them.
        reading: Keyword arguments of `Sources`.
        encoding: Keyword arguments of `load_encoder`.
        store: The type of the stored numbers.
    """

    model: Sequence[str]
    sources: Sequence[Path | str]
    reading: dict[str, Any] = field(default_factory=dict)
    encoding: dict[str, Any] = field(default_factory=dict)
    store: Storage = "float32"


def encode_on_ray(
    job: RayJob,
    out: Path,
    *,
    num_workers: int,
    num_gpus: float = 0.0,
    num_cpus: float | None = None,
    restart: bool = False,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Encodes texts as documents by several workers at once; the same bytes as by one process.

    Ray is started on this machine, unless ``RAY_ADDRESS`` names a cluster or ``ray.init`` has been called.

    Args:
        job: What is to be done.
        out: The folder to make.
        num_workers: How many actors there are; each loads the model once and encodes a part of the job.
        num_gpus: That each of them needs.
        num_cpus: That each of them needs; by default as many as its threads, if they are set in ``job.encoding``, or one.
        restart: Whether to begin anew instead of going on.
        show_progress: Whether to show progress on stderr.

    Returns:
        The manifest's facts.

    Raises:
        PairloomError: What `encode_texts` and `merge_parts` raise, or the workers cannot be had.
    """
    if num_workers < 1:
        raise UsageError(f"{num_workers} workers cannot do anything; give at least one")
    if any(str(source) == "-" for source in job.sources):
        raise UsageError("stdin cannot be read by several workers; give a file that all of them see")
    out = resolved(out)
    refuse_occupied(out)
    num_cpus = num_cpus or float(job.encoding.get("threads") or 1)
    origin = Sources(job.sources, **job.reading).name  # what is wrong is better known before a cluster is started
    folder = out.parent / f".{out.name}.parts"
    with only_one(folder):
        refuse_occupied(out)
        if restart:
            for old in folder.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
        parts = [folder / f"{number + 1}-of-{num_workers}" for number in range(num_workers)]
        if others := [old.name for old in folder.iterdir() if old.is_dir() and f"-of-{num_workers}" not in old.name]:
            raise ArtifactError(
                f"{out}: begun as {others[0]}; give as many workers again, or begin anew with --restart"
            )
        _encode_parts(_absolute(job), origin, parts, num_gpus=num_gpus, num_cpus=num_cpus)
        facts = merge_parts(parts, out, show_progress=show_progress)
        shutil.rmtree(folder, ignore_errors=True)
    return facts


class _Worker:
    """An actor: loads the model once, and encodes the parts whose numbers it is given."""

    def __init__(self, job: RayJob, origin: str, parts: Sequence[Path]) -> None:
        self._job, self._origin, self._parts = job, origin, parts
        self._encoder: AnyEncoder | None = None

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Encodes some parts, and says of each what went wrong: an exception would come back with Ray's traces around it."""
        return {"fault": np.array([self._encode(int(number)) for number in batch["id"]], dtype=object)}

    def _encode(self, number: int) -> str:
        shard, out = Shard(number, len(self._parts)), self._parts[number]
        try:
            # Here and not in the constructor, of which errors come back as the end of the actor.
            self._encoder = self._encoder or load_encoder(*self._job.model, **self._job.encoding)
            sources = Sources(self._job.sources, **self._job.reading)
            if out.exists():
                done = read_manifest(out, PART_KIND).facts.get("job", {})
                identity = job_identity(self._encoder, self._job.store, shard, sources.state)
                if done != identity:
                    raise ArtifactError(
                        f"{out}: {difference(done, identity)}; give the same, or begin anew with --restart"
                    )
                return ""
            encode_texts(
                self._encoder,
                sources,
                out,
                origin=self._origin,
                store=self._job.store,
                shard=shard,
                job=sources.state,
                show_progress=False,
            )
        except PairloomError as error:
            return str(error) or type(error).__name__
        return ""


def _encode_parts(job: RayJob, origin: str, parts: Sequence[Path], *, num_gpus: float, num_cpus: float) -> None:
    """Has every part encoded that is not there."""
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported about anybody's texts
        ray.init(log_to_driver=False, logging_level="warning")
    ray_data.DataContext.get_current().enable_progress_bars = False
    work = (
        # Not ray.data.range: its read tasks would wait for processors that all belong to the actors, for ever.
        ray_data.from_items([{"id": number} for number in range(len(parts))], override_num_blocks=len(parts))
    ).map_batches(
        _Worker,
        fn_constructor_args=(job, origin, parts),
        batch_size=1,
        # One at a time: a part that waits for a busy actor could be another's.
        compute=ray_data.ActorPoolStrategy(size=len(parts), max_tasks_in_flight_per_actor=1),
        num_gpus=num_gpus,
        num_cpus=num_cpus,
    )
    try:
        faults = work.take_all()
    except ray.exceptions.RayActorError as error:
        reason = one_line(str(error), _SHOWN_CHARACTERS)
        raise PairloomError(f"a worker was lost ({reason}); run again, and it goes on from there") from None
    if fault := next((row["fault"] for row in faults if row["fault"]), None):
        raise PairloomError(fault)


def _absolute(job: RayJob) -> RayJob:
    """Workers may stand in another folder."""

    def absolute(name: Path | str) -> str:
        return str(Path(name).resolve()) if Path(name).exists() else str(name)

    return RayJob(
        [absolute(name) for name in job.model],
        [absolute(source) for source in job.sources],
        job.reading,
        job.encoding,
        job.store,
    )
