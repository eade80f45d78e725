import asyncio
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import cast
from xml.etree import ElementTree

import httpx
import pytest
from fastapi import FastAPI

from pairloom.serve.page import FILES, INDEX, page_router
from pairloom.serve.service import Service

FOLDER = files("pairloom.serve").joinpath("page")
CONTENTS = {name: FOLDER.joinpath(name).read_text("utf-8") for name in FILES}
SCRIPTS = {name: content for name, content in CONTENTS.items() if name.endswith(".js")}


class Elements(HTMLParser):
    """The elements of a page, in order, with their attributes and the elements that they stand in."""

    VOID = ("meta", "link", "input", "br", "path", "circle")

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(content)
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), tuple(self._open)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), tuple(self._open)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and data.strip():
            self.texts.append((self._open[-1], data))

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] or "" for _, attributes, _ in self.found if attribute in attributes]

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.found if name == tag]


@pytest.fixture(scope="module")
def elements() -> Elements:
    return Elements(CONTENTS[INDEX])


def ask(path: str, headers: dict[str, str] | None = None, *, method: str = "GET") -> httpx.Response:
    async def answer() -> httpx.Response:
        app = FastAPI(openapi_url=None)
        # The page's files are the same whatever is served.
        app.include_router(page_router(cast("Service", None)))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(answer())


class TestFiles:
    def test_all_files_of_the_page_are_served_and_no_others_lie_there(self) -> None:
        assert {entry.name for entry in FOLDER.iterdir()} == set(FILES)

    def test_every_file_is_reached_from_the_page(self) -> None:
        reached, new = set[str](), {INDEX}
        while new:
            reached |= new
            new = set(chain.from_iterable(_needed(name) for name in new)) - reached
        assert reached == set(FILES)

    def test_modules_import_what_other_modules_export(self) -> None:
        exported = {
            name: set(re.findall(r"^export (?:async )?(?:function|const|class) (\w+)", content, re.MULTILINE))
            for name, content in SCRIPTS.items()
        }
        for name, content in SCRIPTS.items():
            for names, source in re.findall(r"^import \{([^}]*)\} from \"\./([\w.]+)\";$", content, re.MULTILINE):
                wanted = {one.strip() for one in names.split(",")}
                assert wanted <= exported[source], f"{name} imports {wanted - exported[source]} from {source}"
                used = content.replace(names, "", 1)
                assert all(re.search(rf"\b{one}\b", used) for one in wanted), f"{name} does not use all of {wanted}"

    def test_the_icon_is_well_formed(self) -> None:
        assert ElementTree.fromstring(CONTENTS["icon.svg"]).tag.endswith("svg")

    @pytest.mark.parametrize("name", FILES)
    def test_no_file_names_another_host(self, name: str) -> None:
        hosts = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[\w/.]*", CONTENTS[name]))
        assert hosts <= {"http://www.w3.org/2000/svg"}

    @pytest.mark.parametrize("name", SCRIPTS)
    def test_no_script_makes_markup_or_code_from_text(self, name: str) -> None:
        unsafe = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc|\beval\b|new Function|javascript:"
        assert re.findall(unsafe, SCRIPTS[name]) == []

    def test_the_wheel_takes_the_files_along(self) -> None:
        ignored = Path(__file__).parents[2].joinpath(".gitignore").read_text().split()
        assert not {"*.js", "*.css", "*.html", "*.svg", "page/", "serve/"} & set(ignored)


class TestStructure:
    def test_nothing_stands_inline(self, elements: Elements) -> None:
        assert elements.named("style") == []
        assert all(script.get("src") for script in elements.named("script"))
        assert [name for _, attributes, _ in elements.found for name in attributes if re.match("style$|on", name)] == []

    def test_ids_are_unique_and_what_refers_to_them_finds_them(self, elements: Elements) -> None:
        ids = elements.values("id")
        assert len(ids) == len(set(ids))
        references = [
            one
            for attribute in ("for", "aria-controls", "aria-labelledby", "aria-describedby")
            for value in elements.values(attribute)
            for one in value.split()
        ]
        assert references
        assert set(references) <= set(ids)

    def test_scripts_ask_only_for_elements_that_are_there(self, elements: Elements) -> None:
        asked = {one for content in SCRIPTS.values() for one in re.findall(r"byId\(\"([\w-]+)\"\)", content)}
        assert asked <= set(elements.values("id"))

    def test_there_is_one_heading_of_the_first_level_and_each_landmark(self, elements: Elements) -> None:
        assert [len(elements.named(tag)) for tag in ("h1", "main", "header", "footer")] == [1, 1, 1, 1]
        assert [attributes["lang"] for attributes in elements.named("html")] == ["en"]
        assert "search" in elements.values("role")

    def test_each_tab_has_its_panel(self, elements: Elements) -> None:
        tabs = {a["id"]: a["aria-controls"] for _, a, _ in elements.found if a.get("role") == "tab"}
        panels = {a["id"]: a["aria-labelledby"] for _, a, _ in elements.found if a.get("role") == "tabpanel"}
        assert len(tabs) == 4
        assert {panel: tab for tab, panel in tabs.items()} == panels

    def test_every_input_stands_in_a_label_or_has_one(self, elements: Elements) -> None:
        labelled = set(elements.values("for"))
        inputs = [one for one in elements.found if one[0] in ("input", "select", "textarea")]
        assert inputs
        for tag, attributes, around in inputs:
            assert "label" in around or attributes.get("id") in labelled, f"{tag} {attributes} has no label"


class TestServing:
    def test_the_page_stands_at_the_root(self) -> None:
        answer = ask("/")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.text == CONTENTS[INDEX]

    @pytest.mark.parametrize("name", FILES)
    def test_files_have_their_types(self, name: str) -> None:
        answer = ask(f"/page/{name}")
        assert answer.text == CONTENTS[name]
        assert answer.headers["content-type"] == FILES[name]
        assert answer.headers["x-content-type-options"] == "nosniff"

    @pytest.mark.parametrize(
        "path",
        ["/page/other.js", "/page/", "/page/../page.py", "/page/..%2fpage.py", "/page/%2fetc%2fpasswd", "/page/x%00"],
    )
    def test_other_paths_are_not_found(self, path: str) -> None:
        assert ask(path).status_code == 404

    def test_a_copy_that_is_still_good_is_not_sent_again(self) -> None:
        first = ask("/page/style.css")
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "no-cache"
        for held in (tag, f'"other", W/{tag}'):
            again = ask("/page/style.css", {"If-None-Match": held})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        changed = ask("/page/style.css", {"If-None-Match": '"other"'})
        assert changed.status_code == 200

    def test_files_differ_in_their_tags(self) -> None:
        tags = {ask(f"/page/{name}").headers["etag"] for name in FILES}
        assert len(tags) == len(FILES)

    def test_nothing_but_the_server_itself_may_be_asked(self) -> None:
        policy = ask("/").headers["content-security-policy"]
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules["default-src"] == "'none'"
        assert {rules[kind] for kind in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
        assert "unsafe" not in policy
        assert rules["frame-ancestors"] == "'none'"

    def test_headers_alone_can_be_asked_for(self) -> None:
        answer = ask("/", method="HEAD")
        assert answer.status_code == 200
        assert int(answer.headers["content-length"]) == len(CONTENTS[INDEX].encode())


def _needed(name: str) -> Iterator[str]:
    """The files that a file of the page asks for."""
    content = CONTENTS[name]
    if name == INDEX:
        elements = Elements(content)
        for path in [*elements.values("src"), *[link["href"] or "" for link in elements.named("link")]]:
            assert path.startswith("page/")
            yield path.removeprefix("page/")
    elif name.endswith(".js"):
        yield from re.findall(r"^import [^;]* from \"\./([\w.]+)\";$", content, re.MULTILINE)
