"""The page, driven as people drive it: a real server, a real browser, a pointer and a keyboard."""

import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from pairloom.encode.encoder import Encoder
from pairloom.records import Document
from pairloom.search.collection import Collection

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect
Page = Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here (Debian: apt-get install chromium)"),
]

PATIENCE_MS = 20_000
KEY = "a-key-that-only-this-test-knows"
LONG = "Grinding beans fresh matters most of all. " + "The water should be just off the boil. " * 30 + "A kettle helps."
TEXTS = [
    ("coffee", 2019, True, "How do I brew good coffee at home without a machine?"),
    ("coffee", 2020, True, "The best coffee comes from fresh beans that are ground just before brewing."),
    ("coffee", 2021, False, LONG),
    ("coffee", 2022, True, "🫖☕🫖 An emoji stands before the word espresso here."),
    ("python", 2019, True, "How do I open a file and read it line by line?"),
    ("python", 2020, False, "Open the file in a with statement, so that it is closed whatever happens."),
    ("python", 2021, True, "A list is sorted in place by its method sort, and copied by sorted."),
    ("python", 2023, True, "Why does <img src=x onerror=alert(1)> stand in my template as markup?"),
    ("trains", 2018, False, "The night train to Vienna leaves at nine and has a sleeping car."),
    ("trains", 2022, True, "Can I take my bicycle on the slow train?"),
    ("trains", 2023, False, "The train was late again, and the coffee on board was cold."),
    ("trains", 2024, True, "Model trains run on twelve volts; open the box to read the manual."),
]


@pytest.fixture(scope="module")
def collection(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("collection") / "texts"
    documents = [
        Document(f"t/{number}", text, {"topic": topic, "year": year, "open": is_open, "day": f"{year}-05-17"})
        for number, (topic, year, is_open, text) in enumerate(TEXTS)
    ]
    with Collection(path, Encoder(str(model_folder))) as made:
        made.upsert(documents)
    return path


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[str]:
    """The address of a server that is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pairloom", "serve", *arguments, "--port", str(port)]
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, f"the server ended: {process.communicate()[1]}"
            try:
                if httpx.get(f"{address}/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def server(model_folder: Path, collection: Path) -> Iterator[str]:
    with serving(f"tiny={model_folder}", "--collection", str(collection)) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


class Watched:
    """What a browser was asked for, and what it complained of."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.searches: list[dict[str, Any]] = []

    def watch(self, page: Page) -> None:
        page.on(
            "console", lambda message: message.type in ("error", "warning") and self.complaints.append(message.text)
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._note)

    def _note(self, request: Any) -> None:
        self.hosts |= {urlsplit(request.url).netloc} - {""}
        if request.url.endswith("/v1/search"):
            self.searches.append(json.loads(request.post_data))


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def new_page(browser: Any, watched: Watched) -> Iterator[Callable[..., Page]]:
    """Opens pages that complain of nothing and ask no other host."""
    contexts = []

    def new(**options: Any) -> Page:
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(PATIENCE_MS)
        page = contexts[-1].new_page()
        watched.watch(page)
        return page

    yield new
    for context in contexts:
        context.close()
    assert watched.complaints == []
    assert len(watched.hosts) <= 1


@pytest.fixture
def page(new_page: Callable[..., Page], server: str) -> Page:
    page = new_page(viewport={"width": 1280, "height": 900})
    page.goto(server)
    expect(page.locator("#query")).to_be_visible(timeout=PATIENCE_MS)
    return page


def hits(page: Page) -> Any:
    return page.locator("#results .hit")


def ask(page: Page, query: str) -> None:
    page.locator("#query").fill(query)
    expect(page.locator("#search-status")).to_have_text(re.compile(r" in [\d.]+ ms"), timeout=PATIENCE_MS)
    expect(page.locator("#results")).not_to_have_attribute("aria-busy", "true")


class TestSearch:
    def test_results_appear_as_one_types(self, page: Page, watched: Watched) -> None:
        expect(page.locator("#results")).to_contain_text("12 documents")
        page.locator("#query").press_sequentially("fresh beans", delay=20)
        expect(hits(page)).to_have_count(10)
        expect(page.locator("#search-status")).to_have_text(re.compile(r"^10 hits in [\d.]+ ms$"))
        expect(hits(page).filter(has_text="ground just before").locator("mark")).to_have_text(["fresh", "beans"])
        assert page.url.endswith("#search?q=fresh+beans")
        assert watched.searches[-1]["query"] == "fresh beans"
        assert len(watched.searches) < len("fresh beans")

    def test_an_older_answer_does_not_replace_a_newer_one(self, page: Page, watched: Watched) -> None:
        held: list[Any] = []

        def hold(route: Any) -> None:
            if json.loads(route.request.post_data)["query"] == "coffee":
                held.append(route)
            else:
                route.continue_()

        page.route("**/v1/search", hold)
        page.get_by_role("radio", name="Words").check()
        page.locator("#query").fill("coffee")
        expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
        page.wait_for_timeout(300)
        page.locator("#query").fill("bicycle")
        expect(hits(page)).to_have_count(1)
        for route in held:
            route.continue_()
        page.wait_for_timeout(300)
        assert len(held) == 1
        expect(hits(page)).to_have_count(1)
        expect(hits(page)).to_contain_text("bicycle")

    def test_texts_are_shown_as_they_are(self, page: Page) -> None:
        page.get_by_role("radio", name="Words").check()
        ask(page, "markup")
        expect(hits(page).first.locator(".text")).to_have_text(TEXTS[7][3])
        assert page.locator("#results img").count() == 0

    def test_marks_stand_where_they_should_behind_characters_of_two_units(self, page: Page) -> None:
        page.get_by_role("radio", name="Words").check()
        ask(page, "espresso")
        expect(hits(page).first.locator("mark")).to_have_text(["espresso"])

    def test_long_texts_are_folded_around_the_first_word_that_was_found(self, page: Page) -> None:
        page.get_by_role("radio", name="Words").check()
        ask(page, "kettle")
        text = hits(page).first.locator(".text")
        expect(text.locator("mark")).to_have_text(["kettle"])
        assert len(text.inner_text()) < 500
        page.get_by_role("button", name="Show all").click()
        expect(text).to_have_text(LONG)
        page.get_by_role("button", name="Show less").click()
        assert len(text.inner_text()) < 500

    def test_filters_are_chosen_from_what_there_is_and_stand_in_the_address(self, page: Page, watched: Watched) -> None:
        page.get_by_role("radio", name="Words").check()
        ask(page, "coffee train")
        topic = page.get_by_role("group", name="topic")
        expect(topic.locator(".choice")).to_have_text(["coffee4", "python4", "trains4"])
        topic.get_by_role("checkbox", name="trains").check()
        expect(page.locator("#active button")).to_have_text(["topic: trains ×"])
        expect(hits(page)).to_have_count(4)
        expect(topic.get_by_role("checkbox", name="trains")).to_be_focused()
        page.get_by_role("group", name="year").get_by_label("from").fill("2022")
        page.get_by_role("group", name="year").get_by_label("from").press("Enter")
        expect(hits(page)).to_have_count(3)
        page.get_by_role("group", name="open").get_by_role("checkbox", name="no").check()
        expect(hits(page)).to_have_count(1)
        page.get_by_role("group", name="day").get_by_label("to").fill("2023-05-17")
        page.get_by_role("group", name="day").get_by_label("to").press("Tab")
        expect(page.locator("#active button")).to_have_count(4)
        expect(hits(page)).to_have_count(1)
        assert watched.searches[-1]["filter"] == {
            "fields": {
                "topic": {"in": ["trains"]},
                "year": {"gte": 2022},
                "open": False,
                "day": {"lte": "2023-05-17T23:59:59.999999Z"},
            }
        }
        page.reload()
        expect(hits(page)).to_have_count(1)
        expect(page.locator("#query")).to_have_value("coffee train")
        expect(page.get_by_role("checkbox", name="trains")).to_be_checked()
        expect(page.get_by_role("group", name="day").get_by_label("to")).to_have_value("2023-05-17")
        page.get_by_role("button", name="Without topic: trains").click()
        expect(page.locator("#active button")).to_have_count(3)
        page.go_back()
        expect(page.locator("#active button")).to_have_count(4)

    def test_metadata_of_a_hit_filters(self, page: Page) -> None:
        ask(page, "slow train")
        hits(page).filter(has_text="bicycle").get_by_role("button", name="topic trains").click()
        expect(hits(page)).to_have_count(4)
        expect(page.get_by_role("checkbox", name="trains")).to_be_checked()
        expect(hits(page).first.get_by_role("button", name="topic trains")).to_have_attribute("aria-pressed", "true")

    def test_an_address_that_somebody_wrote_by_hand_does_no_harm(self, page: Page) -> None:
        bad = '{"topic":5,"year":null,"open":{"in":[]},"day":{"gte":[1]}}'
        page.goto(f"{page.url.split('#')[0]}#search?q=train&mode=other&filter={bad}")
        page.reload()
        expect(hits(page)).to_have_count(10)
        page.goto(f"{page.url.split('#')[0]}#nowhere?filter=%7B")
        expect(page.locator("#query")).to_be_visible()

    def test_modes_find_differently(self, page: Page, watched: Watched) -> None:
        ask(page, "bicycle")
        expect(hits(page)).to_have_count(10)
        page.get_by_role("radio", name="Words").check()
        expect(hits(page)).to_have_count(1)
        page.get_by_role("radio", name="Meaning").check()
        expect(hits(page)).to_have_count(10)
        assert [one["mode"] for one in watched.searches[-3:]] == ["hybrid", "words", "vector"]
        assert "mode=vector" in page.url

    def test_side_by_side_the_same_hit_lights_up(self, page: Page) -> None:
        page.get_by_role("radio", name="Side by side").check()
        page.locator("#query").fill("the slow train")
        expect(page.locator("#results .hits")).to_have_count(3)
        expect(page.locator(".column-title")).to_have_text(["Meaning", "Words", "Both"])
        in_words = page.get_by_role("list", name="Hits by words").locator(".hit").first
        same = page.locator(f'#results .hit[data-id="{in_words.get_attribute("data-id")}"]')
        in_words.hover()
        expect(page.locator("#results .hit.lit")).to_have_count(same.count())
        assert same.count() >= 2
        for one in same.all():
            expect(one).to_have_class(re.compile("lit"))
        expect(in_words.locator(".ranks")).to_have_text(re.compile(r"Both \d"))

    def test_near_a_hit_are_other_ones(self, page: Page, watched: Watched) -> None:
        ask(page, "night train")
        chosen = hits(page).filter(has_text="bicycle")
        id_, text = chosen.get_attribute("data-id"), chosen.locator(".text").inner_text()
        chosen.get_by_role("button", name="Search near hit").click()
        expect(page.locator("#near-text")).to_have_text(text)
        expect(page.locator(f'#results .hit[data-id="{id_}"]')).to_have_count(0)
        expect(hits(page)).to_have_count(10)
        assert watched.searches[-1]["query"] == text
        page.reload()
        expect(page.locator("#near-text")).to_have_text(text)
        page.go_back()
        expect(page.locator("#query")).to_have_value("night train")
        expect(page.locator("#near")).to_be_hidden()

    def test_more_hits_are_shown_when_asked_for(self, page: Page) -> None:
        ask(page, "train")
        page.get_by_role("button", name="Show more").click()
        expect(hits(page)).to_have_count(12)
        expect(hits(page).nth(10)).to_be_focused()
        expect(page.get_by_role("button", name="Show more")).to_be_hidden()

    def test_nothing_found_says_what_to_do(self, page: Page) -> None:
        page.get_by_role("radio", name="Words").check()
        page.locator("#query").fill("zeppelin")
        expect(page.locator("#search-status")).to_have_text("Nothing was found")
        page.get_by_role("button", name="Search by meaning").click()
        expect(hits(page)).to_have_count(10)


class TestStates:
    def test_a_busy_server_is_asked_again(self, page: Page, watched: Watched) -> None:
        answers = iter([True])

        def refuse(route: Any) -> None:
            if next(answers, False):
                error = {
                    "error": {"message": "too much", "type": "rate_limit_error", "param": None, "code": "too_busy"}
                }
                route.fulfill(status=429, headers={"Retry-After": "1"}, json=error)
            else:
                route.continue_()

        page.route("**/v1/search", refuse)
        page.locator("#query").fill("train")
        expect(page.locator("#search-status")).to_have_text("The server is busy. Trying again in 1 s…")
        expect(hits(page)).to_have_count(10)
        assert len(watched.searches) == 2
        assert all("429" in complaint for complaint in watched.complaints)
        watched.complaints.clear()

    def test_a_refusal_is_shown_in_the_servers_words(self, page: Page, watched: Watched) -> None:
        error = {"error": {"message": "the filter <b>makes</b> no sense", "type": "invalid_request_error"}}
        page.route("**/v1/search", lambda route: route.fulfill(status=400, json=error))
        page.locator("#query").fill("train")
        expect(page.locator("#results .notice")).to_contain_text("the filter <b>makes</b> no sense")
        page.unroute("**/v1/search")
        page.get_by_role("button", name="Try again").click()
        expect(hits(page)).to_have_count(10)
        watched.complaints.clear()

    def test_without_a_network_it_waits_for_it(self, page: Page, watched: Watched) -> None:
        page.context.set_offline(True)
        page.locator("#query").fill("train")
        expect(page.locator("#search-status")).to_contain_text("does not answer")
        page.context.set_offline(False)
        expect(hits(page)).to_have_count(10)
        assert all("INTERNET_DISCONNECTED" in complaint for complaint in watched.complaints)
        watched.complaints.clear()

    def test_a_server_with_keys_asks_for_one(
        self, new_page: Callable[..., Page], watched: Watched, model_folder: Path, collection: Path
    ) -> None:
        arguments = (f"tiny={model_folder}", "--collection", str(collection))
        with serving(*arguments, PAIRLOOM_SERVE_API_KEYS=f"test:{KEY}:read") as address:
            page = new_page()
            page.goto(address)
            dialog = page.get_by_role("dialog")
            expect(dialog).to_contain_text("asks for a key")
            dialog.get_by_label("API key").fill("a key that is not the right one")
            dialog.get_by_role("button", name="Go on").click()
            expect(dialog).to_contain_text("does not know this key")
            dialog.get_by_label("API key").fill(KEY)
            dialog.get_by_label("API key").press("Enter")
            expect(page.locator("#query")).to_be_visible()
            page.locator("#query").fill("train")
            expect(hits(page)).to_have_count(10)
            page.reload()
            expect(hits(page)).to_have_count(10)
            expect(dialog).to_have_count(0)
            assert page.evaluate("localStorage.length") == 0
            assert KEY not in page.url
            watched.complaints[:] = [one for one in watched.complaints if "401" not in one]

    def test_without_a_collection_there_is_nothing_to_search(
        self, new_page: Callable[..., Page], watched: Watched, model_folder: Path
    ) -> None:
        with serving(f"tiny={model_folder}") as address:
            page = new_page()
            page.goto(address)
            expect(page.get_by_role("tab")).to_have_text(["Compare", "About"])
            expect(page.get_by_role("tab", selected=True)).to_have_text("Compare")
            expect(page.locator(".bars li")).to_have_count(6)
            watched.complaints[:] = [one for one in watched.complaints if "404" not in one]


class TestCompare:
    def test_one_text_with_many_is_sorted(self, page: Page) -> None:
        page.get_by_role("tab", name="Compare").click()
        page.get_by_label("Text", exact=True).fill("open the file")
        page.get_by_label("Texts to compare, one a line").fill("slow hot coffee\n\nopen the file\nread a list")
        expect(page.locator("#compare-status")).to_have_text("3 texts compared")
        bars = page.locator(".bars li")
        expect(bars.first.locator(".text")).to_have_text("open the file")
        expect(bars.first.locator(".number")).to_have_text("1.00")
        shown = [float(number.replace("−", "-")) for number in bars.locator(".number").all_inner_texts()]
        assert shown == sorted(shown, reverse=True)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_all_with_all_is_a_table_whose_numbers_can_be_read(
        self, new_page: Callable[..., Page], server: str, scheme: str
    ) -> None:
        page = new_page(color_scheme=scheme)
        page.goto(f"{server}#compare")
        page.get_by_role("radio", name="All with all").check()
        cells = page.locator(".heat tbody td")
        expect(cells).to_have_count(36)
        numbers = cells.all_inner_texts()
        assert [numbers[7 * place] for place in range(6)] == ["1.00"] * 6
        assert numbers == [numbers[6 * column + row] for row in range(6) for column in range(6)]
        expect(page.get_by_role("columnheader")).to_have_count(6)
        expect(page.get_by_role("rowheader").first).to_contain_text("Grind fresh beans")
        assert page.evaluate(FAINT_TEXTS) == []

    def test_the_same_theme_is_used_for_cells_when_it_changes(self, page: Page) -> None:
        page.goto(f"{page.url.split('#')[0]}#compare")
        page.get_by_role("radio", name="All with all").check()
        expect(page.locator(".heat tbody td")).to_have_count(36)
        page.get_by_role("button", name="Dark theme").click()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        assert page.evaluate(FAINT_TEXTS) == []


class TestMap:
    def test_a_click_searches_near_what_lies_there(self, page: Page) -> None:
        page.get_by_role("tab", name="Map").click()
        expect(page.locator("#map-status")).to_contain_text("12 documents")
        x, y = _place_of_a_point(page)
        page.mouse.move(x, y)
        text = page.locator("#map-tip .text").inner_text()
        page.mouse.click(x, y)
        expect(page.locator("#near-text")).to_contain_text(text.rstrip("…"))
        expect(page.get_by_role("tab", selected=True)).to_have_text("Search")
        expect(hits(page)).to_have_count(10)
        expect(page.locator("#near")).to_be_visible()

    def test_it_is_used_by_keyboard_alone(self, page: Page) -> None:
        page.get_by_role("tab", name="Map").click()
        expect(page.locator("#map-status")).to_contain_text("12 documents")
        page.get_by_label("Colour by").focus()
        page.keyboard.press("Tab")
        expect(page.locator("#map-canvas")).to_be_focused()
        expect(page.locator("#map-tip")).to_be_visible()
        for key in ("+", "+", "ArrowLeft", "ArrowUp", "-", "ArrowRight", "0"):
            page.keyboard.press(key)
        text = page.locator("#map-tip .text").inner_text()
        page.keyboard.press("Enter")
        expect(page.locator("#near-text")).to_have_text(re.compile(re.escape(text.rstrip("…")[:40])))

    def test_what_is_in_view_is_a_list_too(self, page: Page) -> None:
        page.get_by_role("tab", name="Map").click()
        page.get_by_text("What is in view, as a list").click()
        expect(page.locator("#map-list li")).to_have_count(12)
        for _ in range(6):
            page.get_by_role("button", name="Zoom in").click()
        expect(page.locator("#map-list li")).not_to_have_count(12)
        page.get_by_role("button", name="Show all").click()
        expect(page.locator("#map-list li")).to_have_count(12)
        page.locator("#map-list button").first.click()
        expect(page.locator("#near")).to_be_visible()

    def test_colours_are_those_of_a_field_and_hits_are_lit_up(self, page: Page) -> None:
        page.get_by_role("radio", name="Words").check()
        ask(page, "coffee")
        page.get_by_role("tab", name="Map").click()
        page.get_by_label("Colour by").select_option("topic")
        expect(page.locator("#map-legend button")).to_have_text(["coffee4", "python4", "trains4"])
        expect(page.locator("#map-legend")).to_contain_text("found last")
        page.locator("#map-legend button").first.click()
        expect(page.locator("#map-legend button").first).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#map-legend button").first).to_be_focused()

    def test_the_wheel_zooms_and_a_drag_moves_without_opening_anything(self, page: Page) -> None:
        page.get_by_role("tab", name="Map").click()
        page.get_by_text("What is in view, as a list").click()
        expect(page.locator("#map-list li")).to_have_count(12)
        box = page.locator("#map-canvas").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        for _ in range(6):
            page.mouse.wheel(0, -300)
        expect(page.locator("#map-list li")).not_to_have_count(12)
        page.mouse.down()
        page.mouse.move(box["x"] + 20, box["y"] + 20, steps=8)
        page.mouse.up()
        expect(page.get_by_role("tab", selected=True)).to_have_text("Map")


class TestAbout:
    def test_it_tells_what_is_served_and_how_to_call_it(self, page: Page, server: str) -> None:
        page.get_by_role("tab", name="About").click()
        panel = page.get_by_role("tabpanel")
        expect(panel).to_contain_text("dimensions32")
        expect(panel).to_contain_text("documents12")
        expect(panel.locator("pre")).to_have_count(3)
        expect(panel).to_contain_text(f'base_url="{server}/v1"')
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        panel.get_by_role("button", name="Copy: Search, with curl").click()
        expect(panel).to_contain_text("Copied")
        copied = page.evaluate("navigator.clipboard.readText()")
        answer = subprocess.run(["bash", "-c", f"{copied} -s"], capture_output=True, text=True, check=True, timeout=60)
        assert len(json.loads(answer.stdout)["hits"]) == 5


class TestEverybody:
    def test_the_keyboard_suffices(self, page: Page) -> None:
        page.keyboard.press("/")
        expect(page.locator("#query")).to_be_focused()
        page.keyboard.type("train")
        expect(hits(page)).to_have_count(10)
        page.keyboard.press("ArrowDown")
        expect(hits(page).first).to_be_focused()
        page.keyboard.press("ArrowDown")
        expect(hits(page).nth(1)).to_be_focused()
        page.keyboard.press("End")
        expect(hits(page).nth(9)).to_be_focused()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowUp")
        expect(page.locator("#query")).to_be_focused()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Escape")
        expect(page.locator("#query")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator("#query")).to_have_value("")
        expect(hits(page)).to_have_count(0)

    def test_tabs_are_moved_through_with_arrows(self, page: Page) -> None:
        page.get_by_role("tab", name="Search").focus()
        for key, name in (
            ("ArrowRight", "Compare"),
            ("End", "About"),
            ("ArrowRight", "Search"),
            ("ArrowLeft", "About"),
        ):
            page.keyboard.press(key)
            tab = page.get_by_role("tab", name=name)
            expect(tab).to_be_focused()
            expect(tab).to_have_attribute("aria-selected", "true")
            expect(page.get_by_role("tabpanel")).to_have_count(1)
            expect(page.get_by_role("tabpanel")).to_have_accessible_name(name)
        page.go_back()
        expect(page.get_by_role("tab", selected=True)).to_have_text("Search")

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_all_texts_stand_out_from_what_they_stand_on(
        self, new_page: Callable[..., Page], server: str, scheme: str
    ) -> None:
        page = new_page(color_scheme=scheme)
        for address in ("#search?q=fresh+coffee", "#search?q=fresh+coffee&mode=side", "#compare", "#map", "#about"):
            _open(page, server + address)
            assert page.locator("html").get_attribute("data-theme") == scheme
            assert page.evaluate(FAINT_TEXTS) == [], address

    def test_the_theme_follows_the_system_until_another_is_chosen(self, page: Page) -> None:
        root = page.locator("html")
        expect(root).to_have_attribute("data-theme", "light")
        page.emulate_media(color_scheme="dark")
        expect(root).to_have_attribute("data-theme", "dark")
        page.get_by_role("button", name="Dark theme").click()
        expect(root).to_have_attribute("data-theme", "light")
        page.reload()
        expect(root).to_have_attribute("data-theme", "light")
        page.get_by_role("button", name="Dark theme").click()
        assert page.evaluate("localStorage.length") == 0
        page.emulate_media(color_scheme="light")
        expect(root).to_have_attribute("data-theme", "light")

    @pytest.mark.parametrize("width", [320, 360, 768, 1920])
    def test_nothing_is_wider_than_the_window(self, new_page: Callable[..., Page], server: str, width: int) -> None:
        page = new_page(viewport={"width": width, "height": 740})
        for address in ("#search?q=fresh+coffee", "#search?q=coffee&mode=side", "#compare", "#map", "#about"):
            _open(page, server + address)
            if address == "#compare":
                page.get_by_role("radio", name="All with all").check()
                expect(page.locator(".heat td").first).to_be_attached()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address
            assert page.evaluate(OUTSIDE) == [], address

    def test_fingers_find_what_they_press(self, new_page: Callable[..., Page], server: str) -> None:
        page = new_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
        _open(page, f"{server}#search?q=fresh+coffee")
        sizes = page.locator("[role=tab]:visible, .switch label:visible, .icon-button:visible").evaluate_all(
            "(all) => all.map((one) => [one.offsetWidth, one.offsetHeight])"
        )
        assert sizes
        assert all(width >= 24 and height >= 24 for width, height in sizes)

    @pytest.mark.parametrize(
        "address", ["#search?q=fresh+coffee", "#search?q=coffee&mode=side", "#compare", "#map", "#about"]
    )
    def test_everything_one_can_use_has_a_name(self, page: Page, server: str, address: str) -> None:
        _open(page, server + address)
        tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")
        nodes = [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in tree["nodes"]
            if not node["ignored"]
        ]
        usable = {
            "button",
            "link",
            "textbox",
            "searchbox",
            "checkbox",
            "radio",
            "combobox",
            "spinbutton",
            "tab",
            "Date",
        }
        named = {"application", "region", "dialog", "tabpanel", "form", "search", "article", "group", "list", *usable}
        assert [role for role, name in nodes if role in named - {"list", "group", "search"} and not name.strip()] == []
        assert [role for role, _ in nodes if role in ("main", "banner", "contentinfo")] == [
            "banner",
            "main",
            "contentinfo",
        ]
        levels = page.locator("h1:visible, h2:visible, h3:visible").evaluate_all(
            "(all) => all.map((one) => Number(one.tagName[1]))"
        )
        assert levels.count(1) == 1
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))

    def test_the_skip_link_leads_to_the_content(self, page: Page) -> None:
        page.keyboard.press("Tab")
        expect(page.locator("#skip")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()

    def test_who_wants_no_motion_gets_none(self, new_page: Callable[..., Page], server: str) -> None:
        page = new_page(reduced_motion="reduce")
        _open(page, f"{server}#search?q=coffee")
        moving = "(all) => all.filter((one) => getComputedStyle(one).transitionDuration !== '0s').length"
        assert page.locator(".hit, .fill").evaluate_all(moving) == 0


def _open(page: Page, address: str) -> None:
    """Opens an address and waits until everything is there."""
    page.goto("about:blank")
    page.goto(address)
    tab = re.search(r"#(\w+)", address)
    assert tab
    shown = {"search": ".hit", "compare": ".bars li", "map": "#map-legend li", "about": ".card"}[tab[1]]
    expect(page.locator(shown).first).to_be_visible()
    page.wait_for_timeout(400)  # until what is faded in is there


def _place_of_a_point(page: Page) -> tuple[float, float]:
    """Where something is painted on the map."""
    box = page.locator("#map-canvas").bounding_box()
    x, y = page.locator("#map-canvas").evaluate(
        """(canvas) => {
          const {data, width} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const pixel = data.findIndex((value, place) => place % 4 === 3 && value > 200) >> 2;
          return [pixel % width, Math.floor(pixel / width)].map((place) => place / devicePixelRatio);
        }"""
    )
    return box["x"] + x, box["y"] + y


# Texts with less contrast to what lies beneath them than WCAG 2 asks for (4.5:1, or 3:1 if they are large).
FAINT_TEXTS = """() => {
  const brush = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d", {willReadFrequently: true});
  const pixel = (grounds) => {
    brush.clearRect(0, 0, 1, 1);
    for (const ground of grounds) { brush.fillStyle = ground; brush.fillRect(0, 0, 1, 1); }
    return [...brush.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    if (element.closest(".unseen, .skip, option")) continue;
    const grounds = [];
    for (let one = element; one; one = one.parentElement) grounds.unshift(getComputedStyle(one).backgroundColor);
    const style = getComputedStyle(element);
    const [a, b] = [luminance(pixel(["#fff", ...grounds])), luminance(pixel(["#fff", ...grounds, style.color]))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < (size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5)) faint.push(`${contrast.toFixed(2)} ${node.data.trim().slice(0, 40)}`);
  }
  return faint;
}"""

# Elements that stick out of the window, other than inside something that scrolls by itself.
OUTSIDE = """() => [...document.querySelectorAll("main *, header *")]
  .filter((one) => one.checkVisibility() && !one.closest(".scroll, pre, .skip, .unseen, svg, .tip"))
  .filter((one) => { const {left, right, width} = one.getBoundingClientRect(); return width > 1 && (left < -1 || right > innerWidth + 1); })
  .map((one) => one.outerHTML.slice(0, 120))"""
