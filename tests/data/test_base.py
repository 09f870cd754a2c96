import pytest
import torch

from rbctrl.data import Item, Memory


def items(shapes):
    return [Item(f"item{k}", torch.full(shape, float(k))) for k, shape in enumerate(shapes)]


def test_rows_are_item_major_and_batches_may_mix_items():
    batches = list(Memory(items([(3, 8, 8)] * 3)).batches(4, 2))
    assert [batch.rows for batch in batches] == [
        (("item0", 0), ("item0", 1), ("item1", 0), ("item1", 1)),
        (("item2", 0), ("item2", 1)),
    ]
    assert batches[0].image[:, 0, 0, 0].tolist() == [0, 0, 1, 1]
    assert batches[0].y is None


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100])
def test_splitting_into_batches_loses_and_reorders_no_row(batch_size):
    data = Memory(items([(3, 8, 8), (3, 8, 8), (3, 16, 8), (3, 8, 8)]))
    batches = list(data.batches(batch_size, 3))
    assert [row for batch in batches for row in batch.rows] == [(f"item{k}", s) for k in range(4) for s in range(3)]
    assert all(len(batch) <= batch_size for batch in batches)
    assert [value for batch in batches for value in batch.image[:, 0, 0, 0].tolist()] == [0] * 3 + [1] * 3 + [2] * 3 + [
        3
    ] * 3


def test_a_change_of_shape_starts_a_new_batch():
    batches = list(Memory(items([(3, 8, 8), (3, 8, 8), (3, 16, 8)])).batches(10, 1))
    assert [tuple(batch.image.shape) for batch in batches] == [(2, 3, 8, 8), (1, 3, 16, 8)]


def test_items_with_and_without_truth_do_not_share_a_batch():
    y = torch.zeros(3, 4, 4)
    batches = list(Memory([Item("a", torch.zeros(3, 8, 8), y), Item("b", None, y)]).batches(8, 1))
    assert [(batch.image is None, tuple(batch.y.shape)) for batch in batches] == [
        (False, (1, 3, 4, 4)),
        (True, (1, 3, 4, 4)),
    ]


@pytest.mark.parametrize(("batch_size", "n_samples", "name"), [(0, 1, "batch_size"), (1, 0, "n_samples")])
def test_sizes_below_one_are_refused_at_the_call(batch_size, n_samples, name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        Memory(items([(3, 8, 8)])).batches(batch_size, n_samples)


def test_an_item_without_image_and_measurement_is_refused():
    with pytest.raises(ValueError, match="'a' has neither"):
        Item("a", None)
    with pytest.raises(ValueError, match=r"\[1, 3, 8, 8\]"):
        Item("a", torch.zeros(1, 3, 8, 8))


def test_an_item_comes_back_from_its_batch():
    image, style = torch.rand(3, 8, 8), torch.rand(3, 4, 4)
    given = [Item(name, image, prompt=f"a {name}", references={"style": style}) for name in ("one", "two")]
    (batch,) = Memory(given).batches(4, 2)
    item = batch.item(2)
    assert (item.name, item.prompt, item.y) == ("two", "a two", None)
    assert torch.equal(item.image, image) and torch.equal(item.references["style"], style)
