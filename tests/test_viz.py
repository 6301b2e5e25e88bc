"""Overlays, grids and average maps: uint8 arrays that viewers take, and clear refusals."""

import numpy as np
import pytest
import torch
from PIL import Image

from saliency_losses.viz import average_map, grid, overlay

IMAGE = torch.rand(3, 24, 20, generator=torch.Generator().manual_seed(1))
PEAK = torch.tensor([[-3.0, -3.0], [-3.0, 5.0]])


def grey(image):
    return np.repeat((image.movedim(0, -1).numpy() @ [0.299, 0.587, 0.114])[..., None] * 255, 3, -1)


def test_overlay_is_the_documented_mixture():
    import matplotlib

    heat = torch.rand(24, 20)
    picture = overlay(IMAGE, heat, opacity=0.6, colormap="magma", normalize="none")
    cover = 0.6 * heat.numpy()[..., None]
    expected = (1 - cover) * grey(IMAGE) + cover * matplotlib.colormaps["magma"](heat.numpy())[..., :3] * 255
    assert picture.shape == (24, 20, 3)
    assert picture.dtype == np.uint8
    assert np.abs(picture - expected).max() <= 1


def test_every_form_of_an_image_gives_one_picture():
    data = (IMAGE * 255).round().to(torch.uint8)
    array = data.movedim(0, -1).numpy()
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    normalised = (data / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    wanted = overlay(data, PEAK)
    for form in (data / 255, (data / 255).double().requires_grad_(), array, array / 255.0, Image.fromarray(array)):
        assert np.abs(overlay(form, PEAK.numpy()).astype(int) - wanted).max() <= 1
    assert np.abs(overlay(normalised, PEAK[None], mean=mean, std=std).astype(int) - wanted).max() <= 1
    batch = overlay(torch.stack([data, data]), torch.stack([PEAK, -PEAK])[:, None])
    assert batch.shape == (2, 24, 20, 3)
    assert (batch[0] == wanted).all()
    assert (batch[1] != wanted).any()
    assert (overlay([Image.fromarray(array)], PEAK[None])[0] == wanted).all()
    assert overlay(IMAGE[:1], PEAK).shape == overlay(array[..., 0], PEAK).shape == (24, 20, 3)


def test_map_lies_where_it_looks_at_every_size():
    for saliency in (PEAK, torch.nn.functional.interpolate(PEAK[None, None], (96, 80))[0, 0], PEAK * 1e-8, PEAK + 100):
        picture = overlay(torch.full((3, 24, 20), 0.5), saliency).astype(int)
        assert np.abs(picture[:8, :6] - 128).max() < 45
        assert np.ptp(picture[-1, -1]) > 60  # colour


@pytest.mark.parametrize("value", [0.0, -2.0, 3.3e5])
def test_flat_map_gives_the_grey_image(value):
    picture = overlay(IMAGE, torch.full((3, 3), value))
    assert np.abs(picture - grey(IMAGE)).max() <= 1


def test_grid():
    images = torch.full((2, 3, 20, 16), 0.5)
    human = torch.zeros(2, 20, 16)
    human[:, :, :8] = 1.0
    plain = grid(images, human, torch.stack([human[0], human[1].flip(1)]), column_titles=None, gap=3)
    assert plain.shape == (43, 16 * 4 + 9, 3)
    assert (plain[20:23] == 255).all()
    assert (plain[:20, :16] == 128).all()
    differences = plain[:, -16:].astype(int)
    assert np.ptp(differences[:20], axis=-1).max() < 6  # agreement is white
    assert differences[30, 2, 2] > differences[30, 2, 0] + 60  # only the human looked: blue
    assert differences[30, 13, 0] > differences[30, 13, 2] + 60  # only the model: red

    titled = grid(images, human, human, gap=3, row_labels=["first", "second"])
    assert titled.shape[0] > plain.shape[0]
    assert titled.shape[1] > plain.shape[1]
    assert titled[: titled.shape[0] - 43].min() < 128  # letters above
    assert titled[-43:, : titled.shape[1] - plain.shape[1]].min() < 128  # and beside
    assert grid(images[0], human[0], PEAK).ndim == 3


def test_average_map_weighs_each_map_alike():
    maps = torch.tensor([[[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [-9.0, 0.0]], [[7.0, 7.0], [7.0, 7.0]]])
    assert average_map(maps).tolist() == [[0.5, 1.0], [0.0, 0.5]]
    assert average_map(list(maps.numpy()), annotated=[True, False, True]).tolist() == [[0.0, 1.0], [0.0, 0.0]]
    assert average_map(maps[2:]).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert average_map(torch.ones(2, 1, 1), normalize="none", annotated=torch.tensor([True, False])).tolist() == [[1.0]]


def test_viewers_accept_the_pictures(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    picture = overlay(IMAGE, PEAK)
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_image("overlay", picture, dataformats="HWC")
        writer.add_images("overlays", picture[None], dataformats="NHWC")
    assert Image.fromarray(picture).size == (20, 24)


def test_maps_may_be_pictures():
    values = np.arange(16, dtype=np.uint8).reshape(4, 4) * 10
    picture = Image.fromarray(values)
    assert np.array_equal(overlay(IMAGE, picture), overlay(IMAGE, values))
    assert np.array_equal(average_map([picture, picture]), average_map(values[None]))


def test_refusals():
    cases = [
        (lambda: overlay("face.png", PEAK), TypeError, "tensor, an array or a Pillow image, got str"),
        (lambda: overlay(IMAGE[0], PEAK), ValueError, r"must have shape \(C, H, W\)"),
        (lambda: overlay(torch.rand(2, 8, 8), PEAK), ValueError, r"got \(2, 8, 8\)"),
        (lambda: overlay(np.zeros(3), PEAK), ValueError, "must have shape"),
        (lambda: overlay(IMAGE.long(), PEAK), TypeError, "float in .0, 1. or uint8, got int64"),
        (lambda: overlay(IMAGE * 3 - 1, PEAK), ValueError, "give the mean= and std="),
        (lambda: overlay(IMAGE * torch.nan, PEAK), ValueError, "expected"),
        (lambda: overlay(IMAGE * torch.nan, PEAK, mean=[0], std=[1]), ValueError, "NaN or infinities"),
        (lambda: overlay(IMAGE, PEAK, mean=[0.5] * 3), ValueError, "both mean= and std="),
        (lambda: overlay(IMAGE, PEAK, mean=[0.5] * 2, std=[1]), ValueError, "mean has 2 numbers"),
        (lambda: overlay([Image.new("L", (2, 2)), Image.new("L", (3, 2))], PEAK), ValueError, "one size"),
        (lambda: overlay(IMAGE, torch.rand(2, 4, 4)), ValueError, r"shape \(h, w\) for one image, got \(2, 4, 4\)"),
        (lambda: overlay(IMAGE[None], torch.rand(2, 4, 4)), ValueError, r"\(1, h, w\) for 1 images"),
        (lambda: overlay(IMAGE, PEAK * torch.nan), ValueError, "saliency holds NaN"),
        (lambda: overlay(IMAGE, PEAK * torch.inf), ValueError, "saliency holds infinities"),
        (lambda: overlay(IMAGE, PEAK, normalize="none"), ValueError, "values from -3 to 5"),
        (lambda: overlay(IMAGE, PEAK, normalize="max"), ValueError, "'minmax' or 'none', got 'max'"),
        (lambda: overlay(IMAGE, PEAK, opacity=2), ValueError, "opacity must be from 0 to 1"),
        (lambda: overlay(IMAGE, PEAK, colormap="rainbows"), ValueError, "'rainbows' is none of matplotlib's"),
        (lambda: grid(IMAGE, PEAK, PEAK, column_titles=["a"]), ValueError, "column_titles must be 4 texts, got 1"),
        (lambda: grid(IMAGE, PEAK, PEAK, gap=-1), ValueError, "gap must be"),
        (lambda: average_map([]), ValueError, "maps is empty; a mean needs at least one map"),
        (lambda: average_map(torch.rand(2, 4, 4), annotated=[True]), ValueError, r"annotated must have shape \(2,\)"),
    ]
    for call, kind, text in cases:
        with pytest.raises(kind, match=text):
            call()
