"""What Pillow and decoders give, as images and as maps: every mode, and values that nobody has to guess."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_files import grey, picture

from saliency_losses.data import DataError, File
from saliency_losses.data.decoding import read_image, read_map_file


def file(path, where="rows.csv line 2"):
    return File(str(path), str(path.parent), where)


def image_of(path, decode=None, channels=3):
    return read_image(file(path), decode, channels)


def map_of(path, decode=None):
    return read_map_file(file(path), decode)


def test_an_image_is_its_pixels(tmp_path):
    pixels = picture(tmp_path / "a.png")
    image = image_of(tmp_path / "a.png")
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    np.testing.assert_array_equal((image * 255).round().byte().permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "I", "F"])
def test_every_mode_is_an_image(mode, tmp_path):
    made = Image.new(mode, (5, 3))
    image = image_of(_placeholder(tmp_path), decode=lambda path: made)
    assert image.shape == (3, 3, 5)
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
    assert image_of(tmp_path / "placeholder", decode=lambda path: made, channels=1).shape == (1, 3, 5)


def _placeholder(folder):
    (folder / "placeholder").write_bytes(b"x")
    return folder / "placeholder"


def test_sixteen_bits_keep_their_bits(tmp_path):
    deep = np.array([[0, 1, 256], [65534, 65535, 1000]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_allclose(map_of(tmp_path / "deep.png").numpy(), deep / 65535, rtol=1e-6)
    np.testing.assert_allclose(image_of(tmp_path / "deep.png", channels=1)[0].numpy(), deep / 65535, rtol=1e-6)


def test_palettes_are_their_colours(tmp_path):
    picture_ = Image.new("P", (2, 1))
    picture_.putpalette([0, 0, 0, 51, 102, 204])
    picture_.putpixel((1, 0), 1)
    picture_.save(tmp_path / "p.png")
    assert torch.equal((image_of(tmp_path / "p.png")[:, 0, 1] * 255).round(), torch.tensor([51.0, 102.0, 204.0]))
    picture_.info["transparency"] = b"\x00\xff"
    picture_.save(tmp_path / "transparent.png", transparency=b"\x00\xff")
    assert image_of(tmp_path / "transparent.png").shape == (3, 1, 2)


def test_orientation_turns_image_and_map_alike(tmp_path):
    pixels = np.zeros((4, 6), dtype=np.uint8)
    pixels[0, 5] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    for values in (map_of(tmp_path / "turned.png"), image_of(tmp_path / "turned.png")[0]):
        assert values.shape == (6, 4)
        assert values.nonzero().tolist() == [[5, 3]]


def test_one_channel_is_the_luma_of_three(tmp_path):
    Image.new("RGB", (2, 2), (255, 0, 51)).save(tmp_path / "c.png")
    assert image_of(tmp_path / "c.png", channels=1).unique().tolist() == pytest.approx([0.299 + 0.114 * 0.2])


def test_alpha_is_dropped_from_images_and_a_factor_of_maps(tmp_path):
    Image.fromarray(np.array([[[200, 255], [200, 51]]], dtype=np.uint8)).save(tmp_path / "la.png")
    assert (image_of(tmp_path / "la.png", channels=1) * 255).round().flatten().tolist() == [200, 200]
    assert (map_of(tmp_path / "la.png") * 255).round().flatten().tolist() == [200, 40]


def test_grey_in_three_channels_is_a_map(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    Image.fromarray(np.stack([values] * 3, -1)).save(tmp_path / "grey.jpg", quality=95)
    assert float((map_of(tmp_path / "grey.jpg") * 255 - torch.from_numpy(values)).abs().max()) < 12


@pytest.mark.parametrize(
    "decoded",
    [
        np.full((4, 6), 51, dtype=np.uint8),
        np.full((4, 6, 1), 13107, dtype=np.uint16),
        np.full((4, 6, 1), 13107, dtype=">u2"),
        np.full((4, 6), 0.2)[::-1, ::-1],
        np.full((4, 6, 3), 0.2, dtype=np.float16),
        torch.full((4, 6), 0.2),
        torch.full((1, 4, 6), 51, dtype=torch.uint8),
        Image.new("L", (6, 4), 51),
    ],
    ids=["bytes", "16 bits", "big end first", "negative strides", "half", "tensor", "byte tensor", "picture"],
)
def test_decoders_may_return_what_they_have(decoded, tmp_path):
    path = _placeholder(tmp_path)
    torch.testing.assert_close(map_of(path, lambda _: decoded), torch.full((4, 6), 0.2), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(image_of(path, lambda _: decoded), torch.full((3, 4, 6), 0.2), rtol=1e-3, atol=1e-4)


def test_a_decoders_tensor_stays_its_own(tmp_path):
    own = torch.zeros(3, 2, 2)
    image_of(_placeholder(tmp_path), lambda _: own).add_(1)
    assert not own.any()


@pytest.mark.parametrize(
    ("decoded", "message"),
    [
        (np.zeros((2, 3), dtype=np.int64), "returned torch.int64, of which nobody says what is white; return uint8"),
        (np.zeros(3), r"returned shape \(3,\); expected an array \(H, W\)"),
        (torch.zeros(1, 0, 3), r"returned shape \(1, 0, 3\); .* with pixels in it"),
        ("pixels", "returned str, not a picture, an array or a tensor"),
        (np.full((2, 3), np.nan), "holds NaN or infinite values; let decode_map= put numbers there"),
        (np.full((2, 3), 7.0), r"has values from 7 to 7; a map lies in \[0, 1\]. Let decode_map= divide it"),
        (torch.zeros(5, 2, 2), "was decoded to 5 channels; a map has one"),
        (torch.tensor([[[1.0]], [[0.0]], [[0.0]]]), "is coloured, and colours have no order. Save the map in grey"),
    ],
)
def test_what_a_map_cannot_be(decoded, message, tmp_path):
    with pytest.raises(DataError, match=rf"^rows.csv line 2: map '.*placeholder' .*{message}"):
        map_of(_placeholder(tmp_path), lambda _: decoded)


def test_an_image_has_up_to_four_channels(tmp_path):
    with pytest.raises(DataError, match=r"image '.*' was decoded to 5 channels; expected 1 to 4. Tensors are \(C, H"):
        image_of(_placeholder(tmp_path), lambda _: torch.zeros(5, 2, 2))


def test_signed_maps_come_from_decoders(tmp_path):
    signed = np.array([[-1.0, 0.0, 1.0]])
    assert map_of(_placeholder(tmp_path), lambda _: signed).tolist() == signed.tolist()


def test_coloured_maps_are_refused(tmp_path):
    picture(tmp_path / "jet.png")
    with pytest.raises(DataError, match=r"jet\.png' is coloured, and colours have no order"):
        map_of(tmp_path / "jet.png")


def test_masks_of_zeros_and_ones_are_refused(tmp_path):
    grey(tmp_path / "mask.png", [[0, 1], [1, 0]])
    with pytest.raises(DataError, match=r"black but for values up to 1 in 255: a mask of zeros and ones, labels, byte"):
        map_of(tmp_path / "mask.png")
    sixteen = np.array([[0, 120], [60, 255]], dtype=np.uint16)
    Image.fromarray(sixteen).save(tmp_path / "16.png")
    with pytest.raises(DataError, match=r"black but for values up to 0\.99 in 255: .* bytes in 16 bits"):
        map_of(tmp_path / "16.png")
    for decoded in (np.eye(2, dtype=np.uint8), np.eye(2, dtype=np.uint8) * 3, np.full((20, 20), 1 / 400)):
        with pytest.raises(DataError, match="pass decode_map= that returns bool, or floats up to 1"):
            map_of(_placeholder(tmp_path), lambda _, decoded=decoded: decoded)
    assert map_of(_placeholder(tmp_path), lambda _: np.array([[-1.0, 0.001]])).min() == -1.0
    grey(tmp_path / "empty.png", [[0, 0], [0, 0]])
    assert not map_of(tmp_path / "empty.png").any()


def test_integers_beyond_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.array([[0, 70000]], dtype=np.int32)).save(tmp_path / "i.tif")
    with pytest.raises(DataError, match=r"holds integers from 0 to 70000, beyond 16 bits, .* scale them in decode="):
        image_of(tmp_path / "i.tif")


def test_what_is_not_installed_is_no_broken_file(tmp_path):
    def decode(path):
        raise ImportError("pydicom")

    with pytest.raises(ImportError, match="pydicom"):
        image_of(_placeholder(tmp_path), decode)


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match=r'pip install "saliency-losses\[data\]", or pass decode='):
        image_of(_placeholder(tmp_path))
