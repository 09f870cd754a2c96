"""What identifies the content of an item."""

import hashlib

import torch

from rbctrl.data import Item, Memory
from rbctrl.work import content_of

IMAGE = torch.linspace(-1, 1, 48).view(3, 4, 4)


def content(**parts):
    (batch,) = Memory([Item("a", **({"image": IMAGE} | parts))]).batches(1, 1)
    return content_of(batch, 0)


def test_a_reference_that_is_measured_too_is_read_once(monkeypatch):
    read, blake2b = [], hashlib.blake2b

    class Recorder:
        def __init__(self, digest_size):
            self.hash = blake2b(digest_size=digest_size)

        def update(self, given):
            read.append(given)
            self.hash.update(given)

        def hexdigest(self):
            return self.hash.hexdigest()

    monkeypatch.setattr(hashlib, "blake2b", Recorder)
    twice = content(references={"style": IMAGE.clone()})
    assert read.count(IMAGE.numpy().tobytes()) == 1
    other = content(references={"style": IMAGE + 1e-6})
    assert [len(given) for given in read].count(IMAGE.numpy().nbytes) == 3 and other != twice


def test_whatever_an_item_brings_along_is_in_its_content():
    """Which of two parts is the same as another one, too."""
    changed = IMAGE.clone()
    changed[0, 0, 0] += 1e-3
    found = [
        content(),
        content(image=changed),
        content(prompt="a cat"),
        content(references={"style": IMAGE}),
        content(references={"style": changed}),
        content(references={"content": changed, "style": IMAGE}),
        content(references={"content": changed, "style": changed}),
        content(references={"content": IMAGE}),
        content(references={"content": IMAGE, "style": changed}),
        content(references={"style": IMAGE, "style_2": changed}),
    ]
    assert len(set(found)) == len(found)


def test_the_order_of_references_is_not_in_the_content():
    assert content(references={"content": IMAGE, "style": -IMAGE}) == content(
        references={"style": -IMAGE, "content": IMAGE}
    )


def test_content_does_not_depend_on_the_batch():
    items = [
        Item("a", IMAGE, prompt="a", references={"style": IMAGE}),
        Item("b", IMAGE, prompt="b", references={"style": -IMAGE}),
    ]
    (both,) = Memory(items).batches(4, 1)
    for k, item in enumerate(items):
        (alone,) = Memory([item]).batches(1, 1)
        assert content_of(both, k) == content_of(alone, 0)
    assert content_of(both, 0) != content_of(both, 1)


def test_an_image_alone_has_the_content_it_always_had():
    written = hashlib.blake2b(digest_size=8)
    written.update(repr((IMAGE.dtype, tuple(IMAGE.shape))).encode())
    written.update(IMAGE.numpy().tobytes())
    assert content() == written.hexdigest()


def test_references_of_style_and_of_content_and_style_keep_the_content_of_rows_from_before():
    """Roles were not written then: image, then what differs from it, then "as part"."""
    head, written = repr((IMAGE.dtype, tuple(IMAGE.shape))).encode(), hashlib.blake2b(digest_size=8)
    for piece in (head, IMAGE.numpy().tobytes(), repr(("as part", 0)).encode()):
        written.update(piece)
    assert content(references={"style": IMAGE}) == written.hexdigest()
    written = hashlib.blake2b(digest_size=8)
    for piece in (head, IMAGE.numpy().tobytes(), head, (-IMAGE).numpy().tobytes(), repr(("as part", 0)).encode()):
        written.update(piece)
    assert content(references={"content": -IMAGE, "style": IMAGE}) == written.hexdigest()
