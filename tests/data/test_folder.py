import numpy as np
import pytest
import torch
from PIL import Image

from rbctrl.data import Folder, Measurements


def save(path, width=32, height=32, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = torch.randint(256, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    Image.fromarray(levels.numpy()).save(path)


@pytest.fixture
def folder(tmp_path):
    for k, name in enumerate(["b.png", "a/z.png", "c.png"]):
        save(tmp_path / name, seed=k)
    return tmp_path


def contents(data):
    return {item.name: item.image for item in data.items()}


def test_names_are_relative_file_names_in_order(folder):
    data = Folder(folder)
    assert list(contents(data)) == ["a/z.png", "b.png", "c.png"]
    assert len(data) == 3 and data.skipped == []


def test_adding_a_file_changes_no_other_item(folder):
    before = contents(Folder(folder, size=16))
    save(folder / "a/a.png", seed=9)
    after = contents(Folder(folder, size=16))
    assert set(after) - set(before) == {"a/a.png"}
    assert all(after[name].equal(image) for name, image in before.items())
    assert not after["a/a.png"].equal(before["a/z.png"])


def test_corrupt_and_tiny_files_are_named_and_the_rest_goes_on(folder):
    (folder / "a/corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    save(folder / "tiny.png", 12, 40)
    data = Folder(folder, size=16)
    for _ in range(2):  # a second pass names each file once, not twice
        assert list(contents(data)) == ["a/z.png", "b.png", "c.png"]
        assert len(data.skipped) == 2
    assert data.skipped[0].startswith("a/corrupt.png cannot be decoded")
    assert data.skipped[1] == "tiny.png has 12 x 40 pixels, fewer than 16 on a side"
    assert len(data) == 5


def test_a_small_picture_is_enlarged_where_pixels_may_be_made_up(folder):
    save(folder / "tiny.png", 12, 40)
    data = Folder(folder, size=48, enlarge=True)
    assert {tuple(image.shape) for image in contents(data).values()} == {(3, 48, 48)} and data.skipped == []


def test_files_that_are_no_images_by_their_ending_are_counted_not_opened(folder):
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden.png").write_bytes(b"")
    data = Folder(folder)
    assert list(contents(data)) == ["a/z.png", "b.png", "c.png"]
    assert data.skipped == ["1 files are no images by their ending (.txt)"]


@pytest.mark.parametrize(("width", "height", "shape"), [(33, 50, (48, 32)), (16, 8, (8, 16))])
def test_without_size_sides_become_multiples_of_8(tmp_path, width, height, shape):
    save(tmp_path / "a.png", width, height)
    (image,) = contents(Folder(tmp_path)).values()
    assert image.shape == (3, *shape)
    levels = torch.from_numpy(np.array(Image.open(tmp_path / "a.png"))).permute(2, 0, 1)
    top, left = (height - shape[0]) // 2, (width - shape[1]) // 2
    cut = levels[:, top : top + shape[0], left : left + shape[1]]
    torch.testing.assert_close(image, cut / 127.5 - 1, atol=1e-6, rtol=0)


def test_images_of_all_sizes_come_out_square_with_size(tmp_path):
    save(tmp_path / "a.png", 64, 48)
    save(tmp_path / "b.png", 20, 90)
    assert {tuple(image.shape) for image in contents(Folder(tmp_path, size=16)).values()} == {(3, 16, 16)}


def test_one_file_is_a_folder_of_one(folder):
    (image,) = contents(Folder(folder / "b.png")).values()
    assert image.equal(contents(Folder(folder))["b.png"])
    assert list(contents(Folder(folder / "b.png"))) == ["b.png"]


def test_n_and_pattern_limit_the_files(folder):
    assert list(contents(Folder(folder, n=2))) == ["a/z.png", "b.png"]
    assert list(contents(Folder(folder, pattern="[bc].*"))) == ["b.png", "c.png"]


@pytest.mark.parametrize("source", [Folder, Measurements])
def test_a_missing_or_empty_folder_is_an_error(tmp_path, source):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        source(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no image"):
        source(tmp_path)
    with pytest.raises(ValueError, match="n is 0"):
        source(tmp_path, n=0)
    with pytest.raises(ValueError, match="size is '64'"):
        Folder(tmp_path, size="64")


def test_a_folder_without_one_usable_file_is_an_error(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    data = Folder(tmp_path)
    with pytest.raises(ValueError, match="none of the 1 files .* a.png cannot be decoded"):
        list(data.items())


def test_measurements_have_no_truth_and_their_own_shapes(tmp_path):
    save(tmp_path / "a.png", 10, 7)
    np.save(tmp_path / "b.npy", np.full((1, 5), 0.5))
    (tmp_path / "c.npy").write_text("broken")
    data = Measurements(tmp_path)
    batches = list(data.batches(4, 2))
    assert [(batch.rows[0][0], batch.image, tuple(batch.y.shape)) for batch in batches] == [
        ("a.png", None, (2, 3, 7, 10)),
        ("b.npy", None, (2, 1, 5)),
    ]
    assert len(data.skipped) == 1 and data.skipped[0].startswith("c.npy cannot be loaded")
