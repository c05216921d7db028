"""From bytes to images: what is taken, what is done to it, and what is refused."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tta.data.image_files import decode
from tta.digits import digits
from tta.serving.images import Format, read_images
from tta.serving.refusal import Refusal

FORM = Format(32, 3, max_pixels=500_000, max_images=4)
DIGIT = digits("test")[0][0].numpy()  # (3, 32, 32)
RANDOM = np.random.default_rng(0)


def picture(kind, shape=(32, 32, 3), mode=None, **options):
    pixels = np.moveaxis(DIGIT, 0, 2) if shape == (32, 32, 3) else RANDOM.integers(0, 256, shape, np.uint8)
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def npy(array, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), **options)
    return file.getvalue()


def refused(content, declared="", form=FORM):
    with pytest.raises(Refusal) as caught:
        read_images(content, declared, form)
    assert "\n" not in str(caught.value)
    return caught.value.status, str(caught.value)


def test_files_without_loss_come_through_as_they_are():
    for content in (picture("PNG"), picture("WEBP", lossless=True)):
        for declared in ("", "image/png", "application/octet-stream", "Image/WebP; q=1"):
            assert np.array_equal(read_images(content, declared, FORM), DIGIT[None])


def test_a_jpeg_comes_through_nearly():
    assert np.abs(read_images(picture("JPEG", quality=95), "image/jpeg", FORM).astype(int) - DIGIT).max() < 40


@pytest.mark.parametrize("shape", [(80, 61, 3), (20, 50, 3), (200, 200), (33, 32, 4)])
def test_pictures_of_another_size_are_resized_as_data_sets_are(tmp_path, shape):
    file = tmp_path / "one.png"
    file.write_bytes(picture("PNG", shape))
    expected = np.moveaxis(decode(file, 32), 2, 0)
    assert np.array_equal(read_images(file.read_bytes(), "", FORM)[0], expected)
    array = np.asarray(Image.open(file).convert("RGB"))
    assert np.array_equal(read_images(npy(array), "", FORM)[0], expected)


def test_colour_is_fitted_to_the_model():
    assert read_images(picture("PNG", (40, 40)), "", FORM).shape == (1, 3, 32, 32)
    grey = Format(32, 1)
    assert read_images(picture("PNG"), "", grey).shape == (1, 1, 32, 32)
    assert read_images(picture("PNG", mode="P"), "", FORM).shape == (1, 3, 32, 32)
    assert read_images(picture("JPEG", mode="CMYK"), "", FORM).shape == (1, 3, 32, 32)
    assert read_images(npy(DIGIT[0]), "", grey).shape == (1, 1, 32, 32)
    assert refused(npy(DIGIT), form=grey)[0] == 422


def test_arrays_of_every_layout_are_the_same_image():
    last = np.moveaxis(DIGIT, 0, 2)
    layouts = [DIGIT, last, DIGIT[None], last[None], DIGIT[0], DIGIT[:1], last[..., :1]]
    for array in (*layouts, np.asfortranarray(DIGIT), DIGIT.astype("float32") / 255, DIGIT.astype(">f8") / 255):
        images = read_images(npy(array), "application/x-npy", FORM)
        scale = 1 if images.dtype == np.uint8 else 255
        assert np.allclose(images * scale, DIGIT[None], atol=1e-4)
    assert np.array_equal(read_images(npy(DIGIT, version=(2, 0)), "", FORM), DIGIT[None])
    assert read_images(npy(np.stack([DIGIT] * 4)), "", FORM).shape == (4, 3, 32, 32)


@pytest.mark.parametrize(
    ("array", "status", "words"),
    [
        (DIGIT.astype("int64"), 422, "type int64"),
        (DIGIT.astype("float32"), 422, "lie in"),
        (np.full((3, 32, 32), np.nan, "float32"), 422, "lie in"),
        (np.zeros((3, 16, 16), "float32"), 422, "16 x 16"),
        (np.zeros((5, 3, 32, 32), "uint8"), 413, "5 images"),
        (np.zeros((3, 1000, 1000), "uint8"), 413, "pixels"),
        (np.zeros((3, 1, 400_000), "uint8"), 422, "long and thin"),
        (np.zeros((2, 5, 32, 32), "uint8"), 422, "shape"),
        (np.zeros(32, "uint8"), 422, "shape"),
        (np.zeros((2, 2, 3, 32, 32), "uint8"), 422, "shape"),
        (np.array([{"a": 1}], dtype=object), 422, "cannot be read"),
        (np.zeros((4, 4), dtype=[("a", "u1")]), 422, "type"),
    ],
)
def test_arrays_that_are_refused(array, status, words):
    came, message = refused(npy(array))
    assert came == status
    assert words in message


def header(text):
    body = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body


@pytest.mark.parametrize(
    "content",
    [
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000), }") + bytes(64),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, -64), }") + bytes(64),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (0, 3), }"),
        header("{'descr': '|V0', 'fortran_order': False, 'shape': (4, 4), }"),
        header("__import__('os').system('true')"),
        header("(" * 110),
        npy(DIGIT)[:-1],
        npy(DIGIT) + b"more",
        b"\x93NUMPY\x09\x00",
        b"\x93NUMPY",
    ],
    ids=range(10),
)
def test_headers_that_lie_are_not_believed(content):
    assert refused(content)[0] == 422


def png_header(width, height):
    """A PNG that says it is so large, with nothing in it."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_by_its_header():
    for side in (800, 10_000, 60_000):
        status, message = refused(png_header(side, side))
        assert status == 413
        assert "pixels" in message
    assert refused(png_header(400_000, 1))[0] == 422
    grown = io.BytesIO()
    Image.new("L", (3000, 3000)).save(grown, "PNG")  # nine million pixels in a few kilobytes
    assert len(grown.getvalue()) < 20_000
    assert refused(grown.getvalue())[0] == 413


def test_a_jpeg_of_many_scans_is_refused():
    whole = picture("JPEG", (64, 64, 3), progressive=True)
    assert read_images(whole, "", FORM).shape == (1, 3, 32, 32)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    assert refused(whole[:-2] + scan * 200 + whole[-2:])[0] == 422


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_truncated_files_are_refused(kind):
    whole = picture(kind, (64, 64, 3))
    for share in (0.2, 0.5, 0.9):
        status, message = refused(whole[: int(len(whole) * share)], f"image/{kind.lower()}")
        assert status == 422
        assert "cannot be decoded" in message


def test_other_types_are_refused():
    gif = picture("GIF")
    assert refused(gif)[0] == 415
    assert refused(gif, "image/gif")[0] == 415
    assert refused(picture("PNG"), "text/html")[0] == 415
    assert refused(b"", "image/png")[0] == 422
    assert refused(b"")[0] == 422
    assert refused(b"\x00" * 100, "image/png")[0] == 422
    assert refused(b"{}", "application/json")[0] == 415
    deep = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(deep, "PNG")
    assert "8 bits" in refused(deep.getvalue())[1]


SEEDS = [picture("PNG"), picture("JPEG"), picture("JPEG", progressive=True), picture("WEBP"), npy(DIGIT)]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_whatever_comes_is_an_image_or_a_refusal(whole, data):
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        cut = data.draw(st.integers(0, 8))
        content[at : at + cut] = data.draw(st.binary(max_size=8))
        if not content:
            break
    with contextlib.suppress(Refusal):
        images = read_images(bytes(content), "", FORM)
        assert images.shape[1:] == (3, 32, 32)
        assert images.dtype in (np.uint8, np.float32)
