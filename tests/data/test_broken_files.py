"""Every kind of broken file names itself and its row, says what to do, and is left out only when asked."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from small_files import grey, picture, write

from saliency_losses.data import DataError, from_csv


def rows(tmp_path, text="image,label,map\na.png,0,m.png\n", **options):
    return from_csv(write(tmp_path / "rows.csv", text), map_column="map", **options)


def missing(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def truncated(path):
    path.write_bytes(path.read_bytes()[:60])


def text(path):
    path.write_text("not a picture")


def broken_chunk(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(bytes(content))


def folder(path):
    path.unlink()
    path.mkdir()


def link(path):
    outside = path.parent.parent / "outside.png"
    path.rename(outside)
    path.symlink_to(outside)


def bomb(path):
    Image.new("1", (4000, 3000)).save(path)


BROKEN = [
    (missing, r"is missing \(No such file or directory\). Is the root '.*' right\?"),
    (empty, r"is empty \(0 bytes\): copy it again"),
    (truncated, r"cannot be read: .*\. Copy it again if it is broken, read other formats by decode.*="),
    (text, "cannot be read: cannot identify image file"),
    (broken_chunk, "cannot be read: .* Copy it again"),
    (folder, "is not a file; a row names one file"),
    (link, "is a link to outside the root '.*'. Copy the file, or pass a root"),
    (bomb, "has more pixels than the 1000000 that Pillow takes for safe: .* raise PIL.Image.MAX_IMAGE_PIXELS"),
]


@pytest.mark.parametrize("what", ["image", "map"])
@pytest.mark.parametrize(("damage", "message"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_file_names_itself_and_its_row(what, damage, message, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    root = tmp_path / "root"
    picture(root / "a.png", (40, 30))
    grey(root / "m.png", np.random.default_rng(0).integers(0, 256, (30, 40)))
    picture(root / "b.png", (40, 30))
    damage(root / {"image": "a.png", "map": "m.png"}[what])
    dataset = rows(root, "image,label,map\n\na.png,0,m.png\nb.png,1,\n")
    name = {"image": "a.png", "map": "m.png"}[what]
    with pytest.raises(DataError, match=rf"^rows.csv line 3: {what} '.*{name}' {message}"):
        dataset[0]
    good, errors = dataset.verified(workers=2)
    assert len(dataset) == 2
    assert good.targets.tolist() == [1]
    assert len(errors) == 1
    assert errors[0].startswith(f"rows.csv line 3: {what} '")


@pytest.mark.filterwarnings("ignore:Image size")
def test_a_bomb_is_refused_also_where_pillow_warns(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    Image.new("1", (1200, 1000)).save(tmp_path / "a.png")  # above the limit, below twice the limit
    with pytest.raises(DataError, match=r"more pixels than the 1000000 .*: 1200 x 1000 pixels"):
        rows(tmp_path, "image,label,map\na.png,0,\n")[0]


@pytest.mark.parametrize("name", ["../a.png", "x/../../a.png", "/etc/passwd", "..", "a\0b"])
def test_paths_do_not_leave_the_root(name, tmp_path):
    for text_ in (f"image,label,map\n{name},0,\n", f"image,label,map\na.png,0,{name}\n"):
        with pytest.raises(DataError, match=r"^rows.csv line 2: .* (leads out of the root|names no file)"):
            rows(tmp_path, text_)


def test_absolute_paths_below_the_root_are_inside(tmp_path):
    picture(tmp_path / "a.png")
    assert rows(tmp_path, f"image,label,map\n{tmp_path / 'a.png'},0,\n")[0]["target"] == 0


def test_a_root_may_itself_be_a_link(tmp_path):
    picture(tmp_path / "real" / "a.png")
    write(tmp_path / "real" / "rows.csv", "image,label\na.png,0\n")
    os.symlink(tmp_path / "real", tmp_path / "link")
    assert from_csv(tmp_path / "link" / "rows.csv")[0]["image"].shape == (3, 4, 6)


def test_a_decoder_that_fails_is_named(tmp_path):
    picture(tmp_path / "a.png")

    def read_scan(path):
        raise RuntimeError("no such tag")

    with pytest.raises(DataError, match=r"a.png' cannot be read: no such tag. It was read by decode=read_scan"):
        rows(tmp_path, "image,label,map\na.png,0,\n", decode=read_scan)[0]


def test_a_map_of_another_shape_says_both_sizes(tmp_path):
    picture(tmp_path / "a.png", (60, 40))
    grey(tmp_path / "m.png", np.zeros((20, 20)))
    message = (
        r"^rows.csv line 2: the map is 20 x 20 pixels \(width x height\), its image 60 x 40: not the same aspect ratio"
    )
    with pytest.raises(DataError, match=message):
        rows(tmp_path)[0]
    assert rows(tmp_path, stretch_maps=True)[0]["human_saliency"].shape == (40, 60)


@pytest.mark.parametrize("size", [(30, 20), (31, 20), (120, 80), (20, 13), (20, 14), (60, 41)])
def test_a_map_of_another_size_is_resampled(size, tmp_path):
    picture(tmp_path / "a.png", (60, 40))
    grey(tmp_path / "m.png", np.full((size[1], size[0]), 255))
    torch.testing.assert_close(rows(tmp_path)[0]["human_saliency"], torch.ones(40, 60))


@pytest.mark.skipif(os.sep != "/", reason="separates folders there")
def test_backslashes_are_named(tmp_path):
    path = write(tmp_path / "rows.csv", "image,label\nfaces\\a.png,0\n")
    with pytest.raises(DataError, match=r"is missing .* Its name holds a backslash: write / between folders"):
        from_csv(path)[0]
