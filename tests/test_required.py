"""What a configuration needs from elsewhere is known before anything is read."""

import pytest

from rbctrl.commands.run import compose
from rbctrl.required import required_files


def needs(*words):
    return {need.node: need for need in required_files(compose(list(words)))}


def test_the_default_run_needs_nothing():
    assert needs() == {}


def test_weights_are_named_with_their_source_and_found_when_they_are_there(tmp_path):
    words = ["prior=adm_ffhq256", f"prior.path={tmp_path}/net.pt"]
    absent = needs(*words)["prior"]
    assert not absent.present and absent.place == f"{tmp_path}/net.pt"
    assert "drive.google.com" in absent.hint and "prior.path=..." in absent.hint
    (tmp_path / "net.pt").write_bytes(b"weights")
    assert needs(*words)["prior"].present


def test_data_and_operators_that_cannot_be_built_without_a_file_are_listed(tmp_path):
    found = needs(
        "data=folder", f"data.path={tmp_path}/faces", "operator=mask_file", f"operator.path={tmp_path}/mask.png"
    )
    assert found.keys() == {"data", "operator"} and not any(need.present for need in found.values())
    assert f"{tmp_path}/faces" in found["data"].place and "mask.png" in found["operator"].place


def test_the_weights_and_references_of_a_style_are_listed_by_part(tmp_path):
    (tmp_path / "csd.bin").write_bytes(b"weights")
    words = [f"operator.parts.style.descriptor.path={tmp_path}/csd.bin", "operator.parts.content.reference=cat.png"]
    words += ["operator/descriptor@operator.parts.content.descriptor=clip"]
    found = required_files(compose(["operator=parallel", "noise=none", "cost=parts", *words]))
    assert {need.node for need in found} == {"operator"}
    present = {need.place: need.present for need in found}
    assert present == {f"{tmp_path}/csd.bin": True, "openai/clip-vit-large-patch14": False, "cat.png": False}
    hints = " ".join(need.hint for need in found)
    assert "operator.parts.style.descriptor.path=..." in hints and "CC-BY-4.0" in hints
    assert "operator.parts.content.descriptor.model=..." in hints and "operator.parts.content.reference=..." in hints


def test_an_error_of_another_kind_is_not_hidden():
    with pytest.raises(Exception, match="zetta"):
        required_files(compose(["controller=dps", "+controller.zetta=1"]))
