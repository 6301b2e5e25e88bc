"""Tables of every kind, and each way in which they may be wrong."""

import string

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_files import grey, picture, write

from saliency_losses import maps
from saliency_losses.data import DataError, from_csv, from_und
from saliency_losses.data.tables import read_lines, read_table

cells = st.text(string.ascii_letters + string.digits + ' ",;é\n', max_size=6)


@given(
    st.lists(st.lists(cells, min_size=2, max_size=2), min_size=1, max_size=4),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.integers(0, 2),
)
def test_any_table_is_read_as_it_was_written(tmp_path_factory, lines, end, marked, blank):
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines]
    path = tmp_path_factory.getbasetemp() / "any.csv"
    content = "\ufeff" * marked + end * blank + ("a,b" + end) + end.join(quoted)
    path.write_bytes(content.encode())
    kept = [tuple(cell.strip() for cell in line) for line in lines if any(cell.strip() for cell in line)]
    if not kept:
        with pytest.raises(DataError, match=r"has a header .* and no lines below it"):
            read_table(path)
        return
    assert [cells for _, cells in read_table(path).lines] == kept
    assert read_table(path).columns == ("a", "b")


def test_lines_are_numbered_as_an_editor_does(tmp_path):
    path = write(tmp_path / "t.csv", 'a,b\r\n\r\n1,"x\r\ny"\r\n,,\r\n3,4,,\r\n')
    assert read_table(path).lines == ((4, ("1", "x\r\ny")), (6, ("3", "4")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "rows.csv' is empty"),
        ("\n\r\n , \n", "rows.csv' is empty"),
        ("image,label\n", r"has a header \('image', 'label'\) and no lines below it"),
        ("img,label\na.png,0\n", r"no column 'image' \(image_column=\); its columns are 'img', 'label'"),
        ("image;label\na.png;0\n", r"its columns are 'image;label'\. It is not separated by commas: pass delimiter="),
        ("image,image,label\na,b,0\n", "has 2 columns named 'image'; columns need different names"),
        ("image,label\na.png,0\nb.png\n", r"^rows.csv line 3: 1 cells, but the header has 2 columns"),
        ("image,label\na,b.png,0\n", r"^rows.csv line 2: 3 cells, but the header has 2 columns. Quote cells"),
        ("image,label\na.png,\n", r"^rows.csv line 2: the label is missing; every image needs one"),
        ("image,label\n,0\n", r"^rows.csv line 2: '' names no file; put a path relative to the root"),
        (
            "image,label\nä.png,0\n".encode("latin-1"),
            r"is not utf-8 \(byte 0xe4\): save it as UTF-8, or pass encoding=",
        ),
        ("image,label\na.png,0\n".encode("utf-16"), r"is not utf-8 \(byte 0xff\)"),
        ("image,label\na.png," + "x" * 200_000, "is not a table of comma-separated values after line 1: field larger"),
        ('image,label\na.png,0\n"b.png,1\nc.png,1\n', "comma-separated values after line 2: unexpected end of data"),
        ('"image,label\na.png,0\n', "comma-separated values in the first line: unexpected end of data"),
        (
            "image,label\na.png,0\na.png,1\n",
            r"^rows.csv line 3: label '1', but rows.csv line 2 says '0' of the same im",
        ),
    ],
)
def test_what_a_table_cannot_be(content, message, tmp_path):
    with pytest.raises(DataError, match=message):
        from_csv(write(tmp_path / "rows.csv", content))


def test_other_tables_are_read_when_told(tmp_path):
    path = write(tmp_path / "rows.csv", "image;label\nä.png;0\n".encode("latin-1"))
    assert from_csv(path, delimiter=";", encoding="latin-1").rows[0].image.path == str(tmp_path / "ä.png")


def test_a_table_or_root_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.csv' cannot be read: No such file or directory"):
        from_csv(tmp_path / "nowhere.csv")
    path = write(tmp_path / "rows.csv", "image,label\na.png,0\n")
    with pytest.raises(DataError, match=r"root '.*nowhere' is not a folder"):
        from_csv(path, root=tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"maps_root '.*nowhere' is not a folder"):
        from_csv(path, maps_root=tmp_path / "nowhere")


def test_labels_are_integers_or_names(tmp_path):
    path = write(tmp_path / "rows.csv", "image,label,kind\na,1.0,dog\nb,-100,cat\nc,3,dog\n")
    assert from_csv(path).targets.tolist() == [1, -100, 3]
    named = from_csv(path, label_column="kind")
    assert (named.classes, named.targets.tolist()) == (("cat", "dog"), [1, 0, 1])
    assert from_csv(path, label_column="kind", classes=["dog", "cat"]).targets.tolist() == [0, 1, 0]
    with pytest.raises(
        DataError, match=r"^rows.csv line 2: unknown class 'dog'; the classes are 'dogs', 'cat'\. Did y"
    ):
        from_csv(path, label_column="kind", classes=["dogs", "cat"])
    with pytest.raises(DataError, match="classes must be a list of different names"):
        from_csv(path, classes=["a", "a"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["0", "-1", "1"], "such as '1', but '-1' is not a class"),
        (["0", "1", "nan"], "such as '1', but 'nan' is not a class"),
        (["10", "2", "x"], "but 'x' is not a class: expected 0, 1, ..., or -100"),
        (["0.5", "1"], r"'0\.5' is not a class: .* If they are names, pass classes="),
    ],
)
def test_numbers_are_not_sorted_as_names(labels, message, tmp_path):
    path = write(tmp_path / "rows.csv", "image,label\n" + "".join(f"{one}.png,{one}\n" for one in labels))
    with pytest.raises(DataError, match=message):
        from_csv(path)
    assert from_csv(path, classes=labels).targets.tolist() == list(range(len(labels)))


def test_same_label_in_other_words_is_the_same_label(tmp_path):
    assert len(from_csv(write(tmp_path / "rows.csv", "image,label\na,1\na,1.0\n"))) == 1


def test_splits(tmp_path):
    path = write(tmp_path / "rows.csv", "image,label,part\na,0,train\nb,1,test\nc,1,train\n")
    everything = from_csv(path, split_column="part")
    assert [row.split for row in everything.rows] == ["train", "test", "train"]
    assert from_csv(path, split_column="part", split="train").targets.tolist() == [0, 1]
    assert everything.split("test").targets.tolist() == [1]
    with pytest.raises(DataError, match=r"split 'trian'; the splits are 'test', 'train'\. Did you mean 'train'\?"):
        everything.split("trian")
    with pytest.raises(DataError, match="split 'train'; rows have no split"):
        from_csv(path).split("train")
    with pytest.raises(ValueError, match="split='train' needs split_column="):
        from_csv(path, split="train")
    path = write(tmp_path / "leak.csv", "image,label,part\na,0,train\n./a,0,test\n")
    with pytest.raises(
        DataError, match=r"^leak.csv line 3: split 'test', but leak.csv line 2 says 'train' of the same"
    ):
        from_csv(path, split_column="part")


READERS = """image,label,map,reader
a.png,0,r1.png,ann
a.png,0,r2.png,bob
a.png,0,r2.png,bob
b.png,1,,
c.png,1,r1.png,ann
"""


@pytest.fixture
def readers(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("r1.png", "r2.png"):
        grey(tmp_path / name, generator.integers(0, 2, (4, 6)) * 255)
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name)
    return write(tmp_path / "rows.csv", READERS)


@pytest.mark.parametrize("combine", ["mean", "union", "majority"])
def test_several_rows_of_an_image_are_combined(combine, readers):
    dataset = from_csv(readers, map_column="map", combine=combine)
    first, second = (torch.tensor(np.array(Image.open(readers.parent / name))) for name in ("r1.png", "r2.png"))
    expected = maps.combine_annotators(torch.stack([first, second]), combine)
    sample = dataset[0]
    torch.testing.assert_close(sample["human_saliency"], expected)
    assert dataset.annotated.tolist() == [True, False, True]
    assert (sample["annotated"], dataset[1]["annotated"]) == (True, False)
    assert dataset[1]["human_saliency"].shape == (4, 6)
    assert not dataset[1]["human_saliency"].any()


def test_maps_are_kept_apart_by_a_column(readers):
    dataset = from_csv(readers, map_column="map", maps_by="reader")
    assert dataset.map_names == ("ann", "bob")
    assert dataset.annotated.tolist() == [[True, True], [False, False], [True, False]]
    assert dataset[0]["human_saliency"].shape == (2, 4, 6)
    assert torch.equal(dataset[2]["human_saliency"][0], dataset[0]["human_saliency"][0])
    assert not dataset[2]["human_saliency"][1].any()
    assert dataset[2]["annotated"].tolist() == [True, False]


def test_options_of_several_maps_are_checked(readers, tmp_path):
    with pytest.raises(ValueError, match="combine must be 'mean', 'union' or 'majority', got 'sum'"):
        from_csv(readers, combine="sum")
    with pytest.raises(ValueError, match="maps_by='reader' needs map_column="):
        from_csv(readers, maps_by="reader")
    with pytest.raises(TypeError, match="unexpected keyword argument 'chanels'"):
        from_csv(readers, chanels=1)
    path = write(tmp_path / "slots.csv", "image,label,map,reader\na,0,m,\nb,0,m,ann\n")
    with pytest.raises(DataError, match=r"^slots.csv line 2: a map, but nothing in the column 'reader'"):
        from_csv(path, map_column="map", maps_by="reader")
    path = write(tmp_path / "slots.csv", "image,label,map,reader\na,0,m,\n")
    with pytest.raises(DataError, match=r"the column 'reader' \(maps_by=\) is empty in every line"):
        from_csv(path, map_column="map", maps_by="reader")


def test_maps_may_lie_apart(tmp_path):
    picture(tmp_path / "images" / "a.png")
    grey(tmp_path / "maps" / "a.png", np.full((4, 6), 255))
    path = write(tmp_path / "rows.csv", "image,label,map\na.png,0,a.png\n")
    dataset = from_csv(path, map_column="map", root=tmp_path / "images", maps_root=tmp_path / "maps")
    assert dataset[0]["human_saliency"].eq(1).all()


# The collection of the University of Notre Dame

UND = "train,Synthetic,/train/1_fake/p1.png\r\ntrain,Real,/train/0_real/p2.png\r\nval,Real,/val/0_real/p3.png\r\n"


@pytest.fixture
def und(tmp_path):
    for name in ("train/1_fake/p1.png", "train/0_real/p2.png", "val/0_real/p3.png"):
        picture(tmp_path / name)
    grey(tmp_path / "maps" / "p1.png", np.full((4, 6), 255))
    write(tmp_path / "all.csv", "\ufeff" + UND)
    return tmp_path


def test_the_collection_is_read(und):
    dataset = from_und(und, "all.csv", maps="maps")
    assert dataset.classes == ("Real", "Synthetic")
    assert dataset.targets.tolist() == [1, 0, 0]
    assert dataset.annotated.tolist() == [True, False, False]
    assert dataset[0]["human_saliency"].eq(1).all()
    assert repr(dataset) == "SaliencyDataset(3 samples, 1 annotated)"
    assert from_und(und, und / "all.csv", split="val").targets.tolist() == [0]
    assert len(from_und(und, "all.csv", maps=und / "maps", split="val")) == 1


def test_maps_may_mirror_the_folders_and_have_another_suffix(und):
    grey(und / "mirrored" / "train" / "1_fake" / "p1.bmp", np.zeros((4, 6)))
    grey(und / "mirrored" / "p2.jpg", np.zeros((4, 6)))
    assert from_und(und, "all.csv", maps="mirrored").annotated.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train,Fake,/a.png", r"^all.csv line 1: unknown class 'Fake'; the classes are 'Real', 'Synthetic'\. Name all"),
        ("train,Real", r"^all.csv line 1: 2 cells, expected 3 without a header: split, class and path"),
        ("train,Real,/../a.png", r"^all.csv line 1: '../a.png' leads out of the root"),
        ("train,Real,//../../etc/passwd", r"^all.csv line 1: '../../etc/passwd' leads out of the root"),
        ("", "all.csv' is empty"),
    ],
)
def test_lines_of_the_collection_that_do_not_fit(line, message, und):
    with pytest.raises(DataError, match=message):
        from_und(und, write(und / "all.csv", line))


def test_maps_of_the_collection_that_do_not_fit(und):
    with pytest.raises(DataError, match=r"maps '.*nowhere' is not a folder"):
        from_und(und, "all.csv", maps="nowhere")
    (und / "void").mkdir()
    with pytest.raises(DataError, match=r"maps '.*void' holds no file; pass maps=None"):
        from_und(und, "all.csv", maps="void")
    grey(und / "others" / "q.png", np.zeros((4, 6)))
    with pytest.raises(
        DataError, match=r"None of the 1 maps in '.*' has the name of an image: a map is 'q.png', an im"
    ):
        from_und(und, "all.csv", maps="others")
    grey(und / "twice" / "p1.bmp", np.zeros((4, 6)))
    grey(und / "twice" / "p1.jpg", np.zeros((4, 6)))
    with pytest.raises(DataError, match=r"^all.csv line 1: several maps for 'p1.png': 'p1.bmp', 'p1.jpg'"):
        from_und(und, "all.csv", maps="twice")


def test_two_images_do_not_share_a_map(und):
    write(und / "all.csv", UND + "val,Synthetic,/val/1_fake/p1.png\n")
    with pytest.raises(
        DataError, match=r"^all.csv line 4 and all.csv line 1: .* have the same name, so that both would"
    ):
        from_und(und, "all.csv", maps="maps")
    with pytest.raises(DataError, match="Say which split has maps, maps_split="):
        from_und(und, "all.csv", maps="maps", split="val")
    assert from_und(und, "all.csv", maps="maps", maps_split="train").annotated.tolist() == [True, False, False, False]
    with pytest.raises(DataError, match="No row belongs to the split 'tarin'; the splits are 'train', 'val'"):
        from_und(und, "all.csv", maps="maps", maps_split="tarin")
    grey(und / "mirrored" / "val" / "1_fake" / "p1.png", np.zeros((4, 6)))
    assert from_und(und, "all.csv", maps="mirrored").annotated.tolist() == [False, False, False, True]


def test_lines_without_header(tmp_path):
    assert read_lines(write(tmp_path / "t.csv", "a, b\n")) == ((1, ("a", "b")),)
