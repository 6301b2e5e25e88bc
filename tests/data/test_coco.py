"""COCO's boxes, polygons and run lengths, against pycocotools."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as pycoco
from small_files import picture, write

from saliency_losses.data import DataError, from_coco
from saliency_losses.data.coco_maps import run_lengths_to_mask

CATEGORIES = [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat"}]
SQUARE = [[1, 1, 5, 1, 5, 4, 1, 4]]
HEIGHT, WIDTH = 8, 12


def content(*annotations, images=1, listed=None):
    numbered = [
        {"id": number, "file_name": f"{number}.png", "height": HEIGHT, "width": WIDTH} for number in range(images)
    ]
    return {
        "images": numbered if listed is None else listed,
        "categories": CATEGORIES,
        "annotations": [{"image_id": 0, "category_id": 3, **one} for one in annotations],
    }


def dataset(folder, *annotations, images=1, options=None):
    for number in range(images):
        picture(folder / f"{number}.png", (WIDTH, HEIGHT))
    file = write(folder / "instances.json", json.dumps(content(*annotations, images=images)))
    return from_coco(file, folder, **(options or {}))


def saliency(folder, *annotations, **other):
    return dataset(folder, *annotations, **other)[0]["human_saliency"]


masks = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 70)), elements=st.integers(0, 1))


@given(masks)
def test_run_lengths_are_those_of_pycocotools(mask):
    compressed = pycoco.encode(np.asfortranarray(mask))
    text = {"size": compressed["size"], "counts": compressed["counts"].decode()}
    assert torch.equal(run_lengths_to_mask(text, mask.shape), torch.from_numpy(mask).float())
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=0))
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    assert torch.equal(
        run_lengths_to_mask({"size": list(mask.shape), "counts": counts}, mask.shape), torch.from_numpy(mask).float()
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools
def test_boxes_and_polygons_are_those_of_pycocotools(tmp_path):
    box = saliency(tmp_path, {"bbox": [1, 1, 4, 3]})
    polygon = saliency(tmp_path, {"segmentation": SQUARE, "bbox": [0, 0, 12, 8]})
    expected = pycoco.decode(pycoco.frPyObjects(SQUARE, HEIGHT, WIDTH))[..., 0]
    assert torch.equal(box, torch.from_numpy(expected).float())
    assert torch.equal(polygon, box)
    assert saliency(tmp_path, {"segmentation": SQUARE, "bbox": [0, 0, 12, 8]}, options={"regions": "box"}).all()
    two = [SQUARE[0], [7, 5, 10, 5, 10, 7, 7, 7]]
    assert saliency(tmp_path, {"segmentation": two}).sum() == 12 + 6


def test_annotations_of_an_image_are_united(tmp_path):
    counts = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT, HEIGHT * (WIDTH - 1)]}
    found = saliency(tmp_path, {"bbox": [1, 1, 4, 3]}, {"segmentation": counts}, {"bbox": [], "segmentation": SQUARE})
    assert found.sum() == 12 + HEIGHT
    assert found[:, 0].all()


def test_a_file_may_be_smaller_than_it_was(tmp_path):
    made = dataset(tmp_path, {"bbox": [0, 0, 6, 8]})
    picture(tmp_path / "0.png", (WIDTH // 2, HEIGHT // 2))
    assert made[0]["human_saliency"].tolist() == [[1, 1, 1, 0, 0, 0]] * 4


def test_labels(tmp_path):
    cat, dog = {"bbox": [0, 0, 2, 2]}, {"bbox": [4, 4, 2, 2], "category_id": 9}
    single = dataset(tmp_path, cat, cat)
    assert (single.classes, single.targets.tolist()) == (("cat", "dog"), [0])
    both = {"options": {"labels": {"dog": 5}}}
    assert dataset(tmp_path, cat, dog, **both).targets.tolist() == [5]
    assert dataset(tmp_path, cat, dog, options={"labels": {3: 2, 9: 2}}).targets.tolist() == [2]
    with pytest.raises(
        DataError, match=r"^instances.json image id 0 has 'cat', 'dog', so 2 classes; expected one. Pass"
    ):
        dataset(tmp_path, cat, dog)
    with pytest.raises(DataError, match=r"^instances.json image id 1 has no category, so 0 classes.* Pass background="):
        dataset(tmp_path, cat, images=2)
    with pytest.raises(DataError, match="image id 0 has 'cat', so 0 classes"):
        dataset(tmp_path, cat, **both)
    with_background = dataset(tmp_path, cat, images=2, options={"background": 7})
    assert with_background.targets.tolist() == [0, 7]
    assert with_background.annotated.tolist() == [True, False]


def test_categories_may_have_a_map_each(tmp_path):
    cat, dog = {"bbox": [0, 0, 2, 2]}, {"bbox": [4, 4, 3, 3], "category_id": 9}
    options = {"labels": {"cat": 0}, "background": 1, "per_category": True}
    apart = dataset(tmp_path, cat, dog, images=2, options=options)
    assert apart.map_names == ("cat", "dog")
    assert apart.annotated.tolist() == [[True, True], [False, False]]
    assert apart[0]["human_saliency"].sum((1, 2)).tolist() == [4, 9]
    only = dataset(tmp_path, cat, dog, options={**options, "salient": ["dog"]})
    assert only.map_names == ("dog",)
    together = dataset(tmp_path, cat, dog, options={"labels": {"cat": 0}, "salient": [9]})
    assert together[0]["human_saliency"].sum() == 9
    with pytest.raises(DataError, match=r"no category 'dgo'; it has 'cat' \(3\), 'dog' \(9\)\. Did you mean 'dog'\?"):
        dataset(tmp_path, cat, options={"salient": ["dgo"]})


def counts_of(counts, size=(HEIGHT, WIDTH)):
    return {"segmentation": {"size": list(size), "counts": counts}}


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (counts_of([3, 4]), "run lengths of 7 pixels in all, but the image has 96"),
        (counts_of(""), "run lengths of 0 pixels in all, but the image has 96"),
        (counts_of([96], (12, 8)), r"run lengths of size \[12, 8\] \(height, width\), but the image is \[8, 12\]"),
        (counts_of([-1, 97]), r"counts must be a list of whole numbers, or a compressed string, got \[-1, 97\]"),
        (counts_of(None), "counts must be a list of whole numbers, or a compressed string, got None"),
        (counts_of("o"), "compressed run lengths end in the middle of a number"),
        (counts_of("é"), "compressed run lengths hold the character 'é'"),
        ({"bbox": [20, 20, 3, 3]}, r"its annotations enclose no pixel of an image of 12 x 8 \(width x height\)"),
    ],
)
def test_regions_that_do_not_fit(annotation, message, tmp_path):
    made = dataset(tmp_path, annotation)
    with pytest.raises(DataError, match=rf"^instances.json image id 0: .*{message}"):
        made[0]
    assert len(made.verified().errors) == 1


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"segmentation": [[1, 1, 2, 2]]}, r"image id 0: a polygon is \[x1, y1, x2, y2, x3, y3, ...\], got"),
        ({"segmentation": [1, 1, 2, 2, 3, 3]}, "image id 0: a polygon is"),
        ({"segmentation": [[1, 1, 2, 2, 3, "x"]]}, "image id 0: a polygon is"),
        ({"bbox": [1, 1, 2]}, r"image id 0: an annotation has no segmentation, and no bbox .*, but \[1, 1, 2\]"),
        ({"bbox": [1, 1, 2, float("nan")]}, "no bbox"),
        ({"bbox": [1, 1, 2, 2], "category_id": 4}, "annotation 0 has category_id 4, which the file does not list"),
        ({"bbox": [1, 1, 2, 2], "image_id": 4}, "annotation 0 has image_id 4, which the file does not list"),
        ({"bbox": [1, 1, 2, 2], "image_id": "0"}, "entry 0 of 'annotations' has image_id '0', not a whole number"),
    ],
)
def test_annotations_that_do_not_fit(annotation, message, tmp_path):
    with pytest.raises(DataError, match=rf"^instances.json.*{message}"):
        dataset(tmp_path, annotation)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "instances.json' is not JSON: Expecting property name"),
        (b"\xff\xfe", "instances.json' is not JSON"),
        ("[]", "instances.json has no list 'categories', as COCO's annotation files have; it has list"),
        ('{"images": [], "categories": []}', "has no list 'annotations', .*; it has 'images', 'categories'"),
        ('{"images": [{"id": 1}], "categories": [], "annotations": []}', "entry 0 of 'images' has no 'file_name'"),
        (
            json.dumps(content(listed=[{"id": 1, "file_name": "a", "height": 0, "width": 3}])),
            "image id 1 has height 0, w",
        ),
        (json.dumps(content(listed=content()["images"] * 2)), "two images have the same id"),
        (
            json.dumps(content(listed=[{"id": 1, "file_name": "../a", "height": 1, "width": 3}])),
            "leads out of the root",
        ),
    ],
)
def test_files_that_do_not_fit(text, message, tmp_path):
    with pytest.raises(DataError, match=message):
        from_coco(write(tmp_path / "instances.json", text), tmp_path, background=0)


def test_options_are_checked(tmp_path):
    with pytest.raises(ValueError, match="regions must be 'segmentation' or 'box', got 'mask'"):
        dataset(tmp_path, options={"regions": "mask"})
    with pytest.raises(ValueError, match="labels must be 'single' or a mapping from categories to classes, got 'many'"):
        dataset(tmp_path, options={"labels": "many"})
    with pytest.raises(DataError, match=r"nowhere.json' cannot be read: No such file"):
        from_coco(tmp_path / "nowhere.json", tmp_path)
