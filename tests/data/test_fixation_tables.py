"""Tables of fixations: whose they are, where they land, and what they may not say."""

import numpy as np
import pytest
import torch
from small_files import picture, write

from saliency_losses import maps
from saliency_losses.data import DataError, from_fixations

TABLE = """image,x,y,duration,reader
a,4,2,1.0,ann
a,10,6,3.0,ann
b,5,5,1.0,ann
a,1,1,2.0,bob
"""


@pytest.fixture
def folder(tmp_path):
    for name in "abc":
        picture(tmp_path / "images" / f"{name}.png", (16, 10))
    write(tmp_path / "fixations.csv", TABLE)
    write(tmp_path / "labels.csv", "image,label,part\na,cat,train\nb,dog,train\nc,dog,test\n")
    return tmp_path


def read(folder, table="fixations.csv", labels="labels.csv", **options):
    options = {"sigma": 1.5, "pattern": "{}.png", **options}
    labels = folder / labels if isinstance(labels, str) else labels
    return from_fixations(folder / table, folder / "images", labels, **options)


def heat(fixations, weights=None):
    made = maps.fixations_to_map(torch.tensor(fixations), (10, 16), sigma=1.5, weights=weights)
    return made / made.max()


def test_each_reader_has_a_map(folder):
    options = {"duration_column": "duration", "reader_column": "reader"}
    ann = heat([[4.0, 2.0], [10.0, 6.0]], torch.tensor([1.0, 3.0]))
    bob = heat([[1.0, 1.0]])
    dataset = read(folder, **options)
    assert (dataset.classes, dataset.targets.tolist()) == (("cat", "dog"), [0, 1, 1])
    assert dataset.annotated.tolist() == [True, True, False]
    torch.testing.assert_close(dataset[0]["human_saliency"], (ann + bob) / 2)
    torch.testing.assert_close(read(folder, combine="union", **options)[0]["human_saliency"], torch.maximum(ann, bob))
    apart = read(folder, keep_readers=True, **options)
    assert apart.map_names == ("ann", "bob")
    assert apart.annotated.tolist() == [[True, True], [True, False], [False, False]]
    torch.testing.assert_close(apart[0]["human_saliency"], torch.stack([ann, bob]))
    together = heat([[4.0, 2.0], [10.0, 6.0], [1.0, 1.0]])
    torch.testing.assert_close(read(folder)[0]["human_saliency"], together)


def test_maps_follow_their_image_to_another_size(folder):
    small = read(folder, size=(5, 8))[1]["human_saliency"]
    torch.testing.assert_close(small, maps.resize(heat([[5.0, 5.0]]), (5, 8)))


def test_shares_of_the_image_are_where_its_pixels_are(folder):
    write(folder / "shares.csv", f"image,x,y\na,{4.5 / 16},{2.5 / 10}\n")
    found = read(folder, "shares.csv", coordinates="shares")[0]["human_saliency"]
    assert divmod(int(found.argmax()), 16) == (2, 4)
    torch.testing.assert_close(found, heat([[4.0, 2.0]]))


def test_labels_may_be_a_mapping(folder):
    dataset = read(folder, labels={"c": 1, "a": 0, "b": 0})
    assert dataset.targets.tolist() == [1, 0, 0]
    assert dataset.annotated.tolist() == [False, True, True]
    assert dataset.rows[0].where == "labels['c']"


def test_splits_come_from_the_labels(folder):
    assert read(folder, split_column="part", split="test").targets.tolist() == [1]
    with pytest.raises(ValueError, match="split='test' needs split_column=, the column of the labels' table"):
        read(folder, split="test")


def test_other_columns(folder):
    write(folder / "gaze.csv", "DICOM_ID,X,Y\na,4,2\n")
    write(folder / "classes.csv", "dicom,finding\na,1\n")
    dataset = read(
        folder,
        "gaze.csv",
        "classes.csv",
        image_column="DICOM_ID",
        x_column="X",
        y_column="Y",
        label_image_column="dicom",
        label_column="finding",
    )
    torch.testing.assert_close(dataset[0]["human_saliency"], heat([[4.0, 2.0]]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,x,2", r"^bad.csv line 2: x is 'x', not a number"),
        ("a,,2", r"^bad.csv line 2: x is '', not a number"),
        ("a,4,nan", r"^bad.csv line 2: y is 'nan', not a finite number; outside='drop' leaves such lines out"),
        ("z,4,2", r"^bad.csv line 2: image 'z' has no label; labels= needs one for it, as it has one for 'a'"),
        ("a,4", r"^bad.csv line 2: 2 cells, but the header has 3 columns"),
    ],
)
def test_lines_that_do_not_fit(line, message, folder):
    write(folder / "bad.csv", f"image,x,y\n{line}\n")
    with pytest.raises(DataError, match=message):
        read(folder, "bad.csv")


def test_fixations_beside_the_image(folder):
    write(folder / "bad.csv", "image,x,y\na,4,2\na,40,2\na,nan,\nb,40,2\n")
    with pytest.raises(DataError, match=r"^bad.csv line 4: y is '', not a number|^bad.csv line 4: x is 'nan'"):
        read(folder, "bad.csv")
    write(folder / "beside.csv", "image,x,y\na,4,2\na,40,2\n")
    with pytest.raises(DataError, match=r"^beside.csv line 2: Sample 0: fixation 1 at \(x=40, y=2\) is outside a map"):
        read(folder, "beside.csv")[0]
    dataset = read(folder, "bad.csv", outside="drop")
    torch.testing.assert_close(dataset[0]["human_saliency"], heat([[4.0, 2.0]]))
    with pytest.raises(
        DataError, match=r"^bad.csv line 5: no fixation of any duration is on the image, 16 x 10 pixels"
    ):
        dataset[1]
    good, errors = dataset.verified()
    assert (len(good), len(errors)) == (2, 1)


def test_durations_are_not_negative(folder):
    write(folder / "bad.csv", "image,x,y,t\na,4,2,-1\n")
    with pytest.raises(DataError, match=r"^bad.csv line 2: Sample 0: fixation 0 has the weight -1"):
        read(folder, "bad.csv", duration_column="t")[0]


def test_labels_that_disagree(folder):
    write(folder / "labels.csv", "image,label\na,cat\na,dog\nb,dog\n")
    with pytest.raises(
        DataError, match=r"^labels.csv line 3: label 'dog', but labels.csv line 2 says 'cat' of the same"
    ):
        read(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0.1}, "sigma must be at least 0.5 pixels of the image, got 0.1"),
        ({"sigma": float("nan")}, "sigma must be at least 0.5"),
        ({"pattern": "x.png"}, r"pattern must hold \{\} for what names an image"),
        ({"coordinates": "degrees"}, "coordinates must be 'pixels' or 'shares', got 'degrees'"),
        ({"outside": "keep"}, "outside must be 'error' or 'drop', got 'keep'"),
        ({"combine": "sum"}, "combine must be"),
        ({"keep_readers": True}, "keep_readers=True needs reader_column="),
        ({"x_column": "X"}, r"has no column 'X' \(x_column=\); its columns are 'image', 'x', 'y'"),
        ({"pattern": "../{}.png"}, "leads out of the root"),
    ],
)
def test_options_are_checked(options, message, folder):
    with pytest.raises(ValueError, match=message):
        read(folder, **options)


def test_a_large_screen_is_decoded_elsewhere(folder):
    dataset = read(folder, decode=lambda path: np.zeros((10, 16), dtype=np.uint16), channels=1)
    assert dataset[0]["image"].shape == (1, 10, 16)
    assert dataset[0]["human_saliency"].max() == 1
