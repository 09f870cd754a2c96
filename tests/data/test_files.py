import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from rbctrl.data.files import Unreadable, read_image, read_measurement, square

RED, GREEN = (200, 30, 60), (10, 250, 90)


def value(level):
    return level / 127.5 - 1


def two_pixels(mode="RGB"):
    image = Image.new("RGB", (2, 1))
    image.putpixel((0, 0), RED)
    image.putpixel((1, 0), GREEN)
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colour_modes_give_the_same_pixels(tmp_path, mode):
    if mode == "P":
        image = Image.new("P", (2, 1))
        image.putpalette([*RED, *GREEN])
        image.putpixel((1, 0), 1)
    else:
        image = two_pixels(mode)
    image.save(tmp_path / "a.png")
    expected = torch.tensor([[value(r), value(g)] for r, g in zip(RED, GREEN, strict=True)]).view(3, 1, 2)
    torch.testing.assert_close(read_image(tmp_path / "a.png"), expected, atol=1e-6, rtol=0)


def test_transparency_is_laid_over_white(tmp_path):
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 51))
    image.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[:, 0].tolist() == [pytest.approx([1, -1, 2 * 0.8 - 1], abs=1e-6)] * 3


def test_a_transparent_palette_colour_becomes_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=1)
    read = read_image(tmp_path / "a.png")
    assert read[:, 0, 1].tolist() == [1, 1, 1]
    assert read[:, 0, 0].tolist() == pytest.approx([value(v) for v in RED], abs=1e-6)


@pytest.mark.parametrize(("mode", "level"), [("L", 77), ("1", 255), ("LA", 77)])
def test_gray_becomes_three_equal_channels(tmp_path, mode, level):
    Image.new("L", (4, 3), level).convert(mode).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read.shape == (3, 3, 4)
    torch.testing.assert_close(read, torch.full((3, 3, 4), value(level)), atol=1e-6, rtol=0)


def test_16_bit_gray_keeps_its_precision(tmp_path):
    levels = np.array([[0, 1, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == pytest.approx((levels[0] / 32767.5 - 1).tolist(), abs=1e-7)


def test_16_bit_colour_is_read(tmp_path):
    pixels = np.array([[[65535, 0, 32896], [257, 514, 771]]], dtype=">u2")

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + pixels.tobytes())) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    expected = [[value(255), value(1)], [value(0), value(2)], [value(128), value(3)]]
    torch.testing.assert_close(read_image(tmp_path / "a.png")[:, 0], torch.tensor(expected), atol=1e-6, rtol=0)


def test_float_images_are_taken_as_0_to_1_and_refused_beyond(tmp_path):
    Image.fromarray(np.array([[0.0, 0.25, 1.0]], dtype=np.float32)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0, 0].tolist() == [-1, -0.5, 1]
    Image.fromarray(np.array([[0.0, 3.0]], dtype=np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(Unreadable, match=r"outside \[0, 1\]"):
        read_image(tmp_path / "b.tif")


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (8, 16), (255, 255, 255))
    image.paste((0, 0, 0), (0, 0, 8, 8))  # the upper half is black
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    image.save(tmp_path / "a.png", exif=exif)
    read = read_image(tmp_path / "a.png")
    assert read.shape == (3, 8, 16)
    assert read[:, :, :8].eq(1).all() and read[:, :, 8:].eq(-1).all()


def test_damaged_files_say_what_is_wrong(tmp_path):
    two_pixels().resize((64, 64)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:120])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.jpg").touch()
    for name in ("cut.png", "text.png", "empty.jpg"):
        with pytest.raises(Unreadable, match="cannot be decoded"):
            read_image(tmp_path / name)


def test_arrays_are_measurements_as_they_are(tmp_path):
    y = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    np.save(tmp_path / "a.npy", y.numpy())
    torch.save(y, tmp_path / "b.pt")
    for name in ("a.npy", "b.pt"):
        assert read_measurement(tmp_path / name).equal(y.float())


@pytest.mark.parametrize(
    ("content", "reason"),
    [(np.zeros((3, 4, 4), np.uint8), "uint8"), (np.array([np.nan]), "not finite"), (np.zeros((0, 3)), "is empty")],
)
def test_arrays_that_are_no_measurement_are_refused(tmp_path, content, reason):
    np.save(tmp_path / "a.npy", content)
    with pytest.raises(Unreadable, match=reason):
        read_measurement(tmp_path / "a.npy")


class Payload:
    def __reduce__(self):
        return (print, ("run while unpickling",))


def test_pickled_code_is_refused_and_not_run(tmp_path, capsys):
    torch.save(Payload(), tmp_path / "a.pt")
    np.save(tmp_path / "b.npy", np.array([Payload()], dtype=object), allow_pickle=True)
    for name in ("a.pt", "b.npy"):
        with pytest.raises(Unreadable, match="cannot be loaded"):
            read_measurement(tmp_path / name)
    torch.save({"y": torch.zeros(3)}, tmp_path / "c.pt")
    with pytest.raises(Unreadable, match="holds dict"):
        read_measurement(tmp_path / "c.pt")
    assert capsys.readouterr().out == ""


def test_square_takes_the_middle_and_stays_in_range():
    image = torch.full((3, 10, 30), -1.0)
    image[:, :, 10:20] = 1.0
    assert square(image, 5).eq(1).all()
    noise = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)).round() * 2 - 1
    assert square(noise, 32).abs().max() <= 1
    assert square(noise, 64).equal(noise)
