"""Reading the Router folders of sentence-transformers (from 5.0): a chain of modules for queries, one for documents.

``modules.json`` has the Router first, and then the modules that both sides go through. ``router_config.json`` tells the
modules of each route; two routes may share some.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pairloom.errors import ModelError
from pairloom.models.model import Model
from pairloom.models.read import build_model, check_order, find_modules
from pairloom.models.settings import ModuleEntry, RouterSettings, read_settings

_CONFIG = "router_config.json"


def read_router(path: Path, name: str) -> tuple[Model, Model]:
    """Reads the encoders of queries and of documents.

    Args:
        path: A folder of which `pairloom.models.read.has_router` is true.
        name: What to call the whole.

    Raises:
        ModelError: A file is missing or damaged, there is no route for queries or none for documents, or one has
            modules that are not supported.
    """
    first, *rest = read_settings(path / "modules.json", list[ModuleEntry])
    shared = find_modules(rest, path / "modules.json")
    folder = PurePosixPath(first.path)
    if folder.is_absolute() or ".." in folder.parts:
        raise ModelError(f"{path / 'modules.json'}: the path {first.path!r} leads out of the model folder")
    file = path / folder / _CONFIG
    settings = read_settings(file, RouterSettings)

    def read_route(task: str) -> Model:
        modules = [*find_modules(_entries(settings, _route(settings, task, file), file), file), *shared]
        check_order(modules, file)
        return build_model(path, modules, f"{name} ({task} route)")

    return read_route("query"), read_route("document")


def _route(settings: RouterSettings, task: str, file: Path) -> str:
    """The route that texts of a task take, in the order in which sentence-transformers looks for it."""
    mappings = settings.parameters.route_mappings or {}
    for key in ((task, "text"), (task, None), (None, "text"), (None, None)):
        if str(key) in mappings:  # as the keys are written: ("query", "text") as "('query', 'text')"
            return mappings[str(key)]
    for route in (task, "text"):
        if route in settings.structure:
            return route
    raise ModelError(f"{file}: has no route for the task {task!r}; its routes are: {', '.join(settings.structure)}")


def _entries(settings: RouterSettings, route: str, file: Path) -> list[ModuleEntry]:
    try:
        return [ModuleEntry(type=settings.types[module], path=module) for module in settings.structure[route]]
    except KeyError as error:
        raise ModelError(f"{file}: names {error}, but does not say what it is") from None
