"""A folder in COCO's format: what is written, how it is read, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from example.coco_digits import main, write_coco_digits
from example.coco_folder import CocoFolder, letterbox
from example.data import make_loader, to_targets


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("coco")
    write_coco_digits(folder, 12)
    return folder


def read(folder: Path, **options) -> CocoFolder:
    return CocoFolder(folder / "images", folder / "annotations.json", image_size=64, **options)


def write(folder: Path, content: object) -> CocoFolder:
    (folder / "images").mkdir(exist_ok=True)
    path = folder / "annotations.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read(folder)


def one_image(**entry) -> dict:
    """A set of one image, 40 pixels wide and 20 high, with one annotation."""
    annotation = {"id": 1, "image_id": 5, "category_id": 7, "bbox": [10, 4, 8, 12], "area": 96, "iscrowd": 0} | entry
    images = [{"id": 5, "file_name": "a.png", "width": 40, "height": 20}]
    return {"images": images, "annotations": [annotation], "categories": [{"id": 7, "name": "cat"}]}


def test_the_written_set_has_what_real_ones_have(digits):
    samples = read(digits)
    all_targets = [samples[index][1] for index in range(len(samples))]
    counts = [len(target["labels"]) for target in all_targets]
    assert len(samples) == 12 and 0 in counts and max(counts) > 3
    assert sum(int(target["ignore"].sum()) for target in all_targets) >= 1
    assert samples.task.class_names == tuple("0123456789") and samples.task.channels == 3
    for (image, target), name in zip(
        (samples[i] for i in range(12)), (samples.name(i) for i in range(12)), strict=True
    ):
        assert image.shape == (3, 64, 64) and image.dtype == torch.float32 and (digits / "images" / name).is_file()
        assert ((target["boxes"] >= 0) & (target["boxes"] <= 64)).all()
        assert (target["labels"] < 10).all()


def test_boxes_fit_the_letterboxed_image(tmp_path):
    """A white rectangle on black, in a wide image: the box lies around it after scaling, too."""
    (tmp_path / "images").mkdir()
    picture = Image.new("RGB", (40, 20))
    picture.paste((255, 255, 255), (10, 4, 18, 16))
    picture.save(tmp_path / "images" / "a.png")
    image, target = write(tmp_path, one_image())[0]
    assert target["labels"].tolist() == [0] and target["ignore"].tolist() == [False]
    assert target["boxes"].flatten().tolist() == pytest.approx([16.0, 6.4, 28.8, 25.6])
    inside = image[:, 8:24, 18:27]
    assert inside.min() > 0.9 and image[:, :32].mean() < 0.3
    assert (image[:, 32:] == 0.5).all()


def test_crowds_are_ignored_targets_and_flat_boxes_none(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "images" / "a.png")
    content = one_image(iscrowd=1)
    content["annotations"].append({**content["annotations"][0], "id": 2, "iscrowd": 0, "bbox": [3, 3, 0, 5]})
    _, batch = next(iter(make_loader(write(tmp_path, content), batch_size=1)))
    targets = to_targets(batch, read(tmp_path).task)
    assert targets.num_targets.tolist() == [1] and targets.ignored.tolist() == [[True]]


def test_every_fifth_image_is_for_validation(digits):
    train, val = (read(digits, part=part) for part in ("train", "val"))
    names = [[part.name(index) for index in range(len(part))] for part in (train, val)]
    assert names[1] == ["000000.png", "000005.png", "000010.png"]
    assert sorted([*names[0], *names[1]]) == [f"{index:06d}.png" for index in range(12)]


def test_labels_are_those_of_the_training_file(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "images" / "a.png")
    categories = [{"id": 9, "name": "dog"}, {"id": 7, "name": "cat"}]
    first = write(tmp_path, one_image() | {"categories": categories})
    assert first.categories == (7, 9) and first.task.class_names == ("cat", "dog")
    assert read(tmp_path, categories=(9, 7)).task.class_names == ("dog", "cat")
    assert read(tmp_path, categories=(9, 7))[0][1]["labels"].tolist() == [1]
    with pytest.raises(ValueError, match="annotation 1 has the category 7, the categories are 9; a validation file"):
        read(tmp_path, categories=(9,))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no json file"),
        ({"images": [], "annotations": []}, "is not in COCO's format: it has no 'categories'"),
        ([], "is not in COCO's format: it has no 'images'"),
        ({"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}, "has no image"),
        (one_image() | {"categories": []}, "has no category"),
        (one_image(image_id=6), "annotation 1 is of image 6, which is missing"),
        (one_image(bbox=[1, 2]), r"annotation 1 has no bbox \[x, y, width, height\]"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path, content)


def test_what_is_missing_is_named(tmp_path, digits):
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        CocoFolder(tmp_path / "nowhere", digits / "annotations.json", image_size=64)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.json"):
        CocoFolder(digits / "images", tmp_path / "none.json", image_size=64)
    with pytest.raises(FileNotFoundError, match=r"1 of 1 images that .* names are not in .*, the first of them a\.png"):
        write(tmp_path, one_image())
    with pytest.raises(ValueError, match="has 1 images, which is too few for the part 'train'"):
        read(tmp_path, part="train")


@pytest.mark.parametrize("size", [(30, 60), (60, 30), (1, 200)])
def test_letterbox_keeps_the_shape(size):
    image, scale = letterbox(Image.new("RGB", size, (255, 0, 0)), 32)
    width, height = (max(1, round(side * scale)) for side in size)
    assert max(width, height) == 32 and image.shape == (3, 32, 32)
    assert (image[0, :height, :width] == 1).all() and image[1, :height, :width].sum() == 0


def test_the_command_says_how_to_train(tmp_path, capsys):
    main([str(tmp_path), "--images", "2"])
    assert f"python -m example --data {tmp_path / 'images'} --ann {tmp_path}" in capsys.readouterr().out
    assert len(list((tmp_path / "images").iterdir())) == 2
