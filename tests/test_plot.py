from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from pairloom.errors import ArtifactError, UsageError
from pairloom.plot import COLOURS, Distributions, bin_edges, bin_heights, save_picture

VALUES, COUNTS = np.array([1, 3, 200]), np.array([5, 3, 2])


def panel(title: str = "Lengths", values: np.ndarray = VALUES) -> Distributions:
    return Distributions(title, "tokens", {"anchor": (values, COUNTS), "positive": (2 * values, COUNTS)}, marks=(128,))


def has_colour(picture: np.ndarray, colour: str) -> bool:
    return bool(np.any(np.all(np.abs(picture[..., :3] - to_rgb(colour)) < 0.01, axis=-1)))


def test_the_picture_shows_every_series(tmp_path: Path) -> None:
    save_picture(tmp_path / "one.png", "A folder", [panel()])
    save_picture(tmp_path / "two.PNG", "A folder", [panel(), panel()])
    one, two = (imread(tmp_path / name, format="png") for name in ("one.png", "two.PNG"))
    assert all(has_colour(one, colour) for colour in COLOURS[:2])
    assert not has_colour(one, COLOURS[2])
    assert two.shape[1] == pytest.approx(2 * one.shape[1], abs=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.PNG"]


@given(low=st.integers(0, 3000), width=st.integers(0, 50_000_000), count=st.integers(1, 10**9))
def test_bins_cover_the_range_and_hold_all_that_is_counted(low: int, width: int, count: int) -> None:
    high = low + width
    edges, logarithmic = bin_edges(low, high, count)
    assert np.all(np.diff(edges) >= 1)
    assert np.all(edges % 1 == 0.5)
    assert len(edges) <= 3 * 26 + 1
    assert edges[0] <= max(low, 1) <= high + 1 <= edges[-1] + 0.5 if logarithmic else edges[0] < low <= high < edges[-1]
    values = np.unique([low, (low + high) // 2, high])
    heights = bin_heights(values, np.full(len(values), 7), edges, logarithmic=logarithmic)
    widths = np.diff(np.log2(edges) if logarithmic else edges)
    assert np.sum(heights * widths / widths.min()) == pytest.approx(100)
    assert heights.max() <= 100.001


def test_heights_by_hand() -> None:
    edges = np.array([0.5, 2.5, 4.5])
    assert bin_heights(np.array([1, 2, 3]), np.array([2, 1, 1]), edges, logarithmic=False) == pytest.approx([75, 25])
    doublings = np.array([0.5, 1, 4])
    assert bin_heights(np.array([0, 2]), np.array([1, 3]), doublings, logarithmic=True) == pytest.approx([25, 37.5])


@pytest.mark.parametrize("values", [[4, 5, 6], [0, 1, 2], [0, 1, 9999], [7, 10**6, 10**8]])
def test_any_range_can_be_drawn(tmp_path: Path, values: list[int]) -> None:
    save_picture(tmp_path / "a.png", "x", [panel(values=np.array(values))])
    single = Distributions("one", "x", {"anchor": (np.array(values[:1]), np.array([1]))})
    save_picture(tmp_path / "a.png", "x", [single])


@pytest.mark.parametrize("title", ["$^$", "$\\frac{$", "文字", "a\x1b\nb", "half \udce4", "x" * 500])
def test_titles_are_letters_and_not_formulas(tmp_path: Path, title: str) -> None:
    save_picture(tmp_path / "a.png", title, [panel()])
    assert has_colour(imread(tmp_path / "a.png"), COLOURS[0])


def test_a_picture_is_replaced_and_a_link_kept(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to("a.png")
    save_picture(tmp_path / "link.png", "x", [panel()])
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_no_place_for_a_picture(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "device.png").symlink_to("/dev/null")
    for name, error, message in (
        ("a.pdf", UsageError, r"a\.pdf: a picture is a PNG"),
        ("png", UsageError, "ends in .png"),
        ("nowhere/a.png", ArtifactError, "there is no folder .*nowhere; make it first"),
        ("folder.png", ArtifactError, "is no regular file"),
        ("device.png", ArtifactError, "is no regular file"),
        ("x" * 245 + ".png", ArtifactError, "cannot be written"),
    ):
        with pytest.raises(error, match=message):
            save_picture(tmp_path / name, "x", [panel()])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device.png", "folder.png"]


IN_A_PROCESS = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from pairloom.errors import PairloomError
from pairloom.plot import Distributions, save_picture
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if "full" in sys.argv:
    import matplotlib.font_manager  # which may write its cache once
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
if "missing" in sys.argv:
    sys.modules["matplotlib"] = None
try:
    save_picture(Path(sys.argv[1]), "x", [Distributions("t", "x", {"a": (np.array([1, 2]), np.array([1, 1]))})])
except PairloomError as error:
    print(error)
print("matplotlib.pyplot" in sys.modules)
"""


def in_a_process(*words: object) -> list[str]:
    command = [sys.executable, "-W", "error", "-c", IN_A_PROCESS, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on the size of files")
def test_a_full_disk_leaves_the_old_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    message, _ = in_a_process(tmp_path / "a.png", "full")
    assert "a.png: cannot be written (File too large); free some space" in message
    assert (tmp_path / "a.png").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_global_state_of_pyplot_is_not_touched(tmp_path: Path) -> None:
    assert in_a_process(tmp_path / "a.png") == ["False"]
    assert (tmp_path / "a.png").is_file()


def test_the_extra_is_named_when_it_is_missing(tmp_path: Path) -> None:
    message, _ = in_a_process(tmp_path / "a.png", "missing")
    assert message == "drawing a plot needs matplotlib, which is not installed: pip install 'pairloom[plot]'"
