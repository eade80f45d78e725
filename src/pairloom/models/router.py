"""Reading the Router folders of sentence-transformers (from 5.0): a chain of modules for queries, one for documents.

``modules.json`` has the Router first, and then the modules that both sides go through. ``router_config.json`` tells the
modules of each route; two routes may share some.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Literal

from pairloom.errors import ModelError
from pairloom.models.model import Model
from pairloom.models.read import build_model, check_order, find_modules
from pairloom.models.settings import ModuleEntry, RouterSettings, read_settings

_CONFIG = "router_config.json"
Task = Literal["query", "document"]
_TASKS: tuple[Task, Task] = ("query", "document")


def read_router(path: Path, name: str) -> tuple[Model, Model]:
    """Reads the encoders of queries and of documents.

    Args:
        path: A folder of which `pairloom.models.read.has_router` is true.
        name: What to call the whole.

    Raises:
        ModelError: A file is missing or damaged, there is no route for queries or none for documents, or one has
            modules that are not supported.
    """
    file, settings, rest = _read_settings(path)
    shared = find_modules(rest, path / "modules.json")

    def read_route(task: Task) -> Model:
        route = _route(settings, task)
        if route is None:
            known = ", ".join(settings.structure)
            raise ModelError(f"{file}: has no route for the task {task!r}; its routes are: {known}")
        modules = [*find_modules(_entries(settings, route, file), file), *shared]
        check_order(modules, file)
        return build_model(path, modules, f"{name} ({task} route)")

    query, document = map(read_route, _TASKS)
    return query, document


def default_task(path: Path) -> Task | None:
    """The task whose route a text takes of which no task is told; None if there is no such route, or it is another one.

    Args:
        path: As in `read_router`.

    Raises:
        ModelError: A file is missing or damaged.
    """
    _, settings, _ = _read_settings(path)
    parameters = settings.parameters
    route = _route(settings, None) or parameters.default_route
    if route is None and parameters.allow_empty_key:
        route = next(iter(settings.structure), None)

    def modules(route: str | None) -> list[str] | None:
        return None if route is None else settings.structure.get(route)

    wanted = modules(route)
    return next((task for task in _TASKS if wanted and modules(_route(settings, task)) == wanted), None)


def _read_settings(path: Path) -> tuple[Path, RouterSettings, list[ModuleEntry]]:
    """The Router's file, what it says, and the modules that follow the Router."""
    first, *rest = read_settings(path / "modules.json", list[ModuleEntry])
    folder = PurePosixPath(first.path)
    if folder.is_absolute() or ".." in folder.parts:
        raise ModelError(f"{path / 'modules.json'}: the path {first.path!r} leads out of the model folder")
    file = path / folder / _CONFIG
    return file, read_settings(file, RouterSettings), rest


def _route(settings: RouterSettings, task: Task | None) -> str | None:
    """The route that texts of a task take, in the order in which sentence-transformers looks for it."""
    mappings = settings.parameters.route_mappings or {}
    for key in ((task, "text"), (task, None), (None, "text"), (None, None)):
        if str(key) in mappings:  # as the keys are written: ("query", "text") as "('query', 'text')"
            return mappings[str(key)]
    return next((route for route in (task, "text") if route in settings.structure), None)


def _entries(settings: RouterSettings, route: str, file: Path) -> list[ModuleEntry]:
    try:
        return [ModuleEntry(type=settings.types[module], path=module) for module in settings.structure[route]]
    except KeyError as error:
        raise ModelError(f"{file}: names {error}, but does not say what it is") from None
