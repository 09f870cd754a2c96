"""Presets of stylization: the published settings, what they need, and runs of them on tiny models."""

import pytest
import text_models
from hydra.utils import instantiate
from PIL import Image

from rbctrl.cli import main
from rbctrl.commands.run import compose
from rbctrl.descriptors import CLIP, CSD, FilterGram, first_present
from rbctrl.required import required_files

GIVEN = {
    "cascade": ["data.path={root}/style.png"],
    "cascade_composition": ["data.path={root}/style.png", "attention.content={root}/content.png"],
    "sdxl_style": ["data.path={root}/style.png", "attention=afa", "attention.style={root}/style.png"],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = text_models.save_cascade(tmp_path_factory.mktemp("presets"))
    text_models.save_xl(root / "xl")
    text_models.tiny_autoencoder().save_pretrained(root / "tiny")
    encoder = text_models.clip_vision()
    text_models.save_adapter(root / "adapter", text_models.adapter_tensors(text_models.xl_unet()), encoder)
    for name in ("style", "content"):
        Image.effect_noise((128, 128), 60).convert("RGB").save(root / f"{name}.png")
    return root


def words(preset, root):
    return [f"experiment={preset}", "prior.prompt=a cat", *(word.format(root=root) for word in GIVEN[preset])]


@pytest.fixture
def without_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("RBCTRL_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.mark.parametrize(("preset", "eta", "weight"), [("cascade", 0.0, 1.0), ("cascade_composition", 1.0, 0.0)])
def test_settings_are_those_of_the_demo(preset, eta, weight, root, without_weights):
    """Spec 2.4: N = 20, w = 4, rho = 0.7, shift 2, M = 3, Adam from 0.1, all steps; stage B 10 steps, 1.1."""
    e = instantiate(compose(words(preset, root)), _convert_="all")
    c, process = e.controller, e.sampler(e.prior, shape=(1,))
    assert (c.inner_steps, c.lr, c.prox_weight, c.eps, c.rule) == (3, 0.1, weight, "frozen", "released")
    assert process.n_steps == 20 and process.integrator.eta == eta and float(process.times[0]) == 1.0
    assert (e.prior.guidance.scale, e.prior.guidance.rescale, e.prior.schedule.shift) == (4.0, 0.7, 2.0)
    rendering = e.prior.codec.stages.rendering
    assert (rendering.n_steps, rendering.guidance.scale, rendering.schedule.shift) == (10, 1.1, 1.0)
    assert e.attention.rule == "released" and e.attention.strength == 1.0 and e.prior.attention == e.attention
    assert e.attention.style == str(root / "style.png") and e.noise.sigma_y == 0
    assert (e.attention.content is None) == (preset == "cascade")


def test_attention_and_control_are_free_axes(root, without_weights):
    """Nothing of a preset is left behind in the node that another option replaces."""
    for preset in GIVEN:
        given = [word for word in words(preset, root) if not word.startswith("attention")]
        given += [f"operator.parts.content.reference={root}/content.png"] if preset == "cascade_composition" else []
        for axis in (["attention=none"], ["controller=none"], ["attention=none", "controller=none"]):
            cfg = compose([*(words(preset, root) if axis == ["controller=none"] else given), *axis])
            experiment = instantiate(cfg, _convert_="all")
            assert experiment.attention.active == ("attention=none" not in axis)


NEEDED = {
    "cascade": ["stable-cascade-prior", "stable-cascade", "previewer.safetensors", "image_encoder"],
    "sdxl_style": ["stable-diffusion-xl-base-1.0", "h94/IP-Adapter", "madebyollin/taesdxl", "clip-vit-large-patch14"],
}


@pytest.mark.parametrize("preset", NEEDED)
def test_what_is_missing_is_listed_with_where_it_is_published(preset, root, without_weights):
    missing = [need for need in required_files(compose(words(preset, root))) if not need.present]
    assert all("https://" in need.hint for need in missing)
    text = " ".join(f"{need.place} {need.hint}" for need in missing)
    assert all(name in text for name in NEEDED[preset] if name != "image_encoder")
    assert str(root) not in text  # pictures that are there


@pytest.mark.parametrize("preset", GIVEN)
def test_without_csd_the_log_says_what_stands_in(preset, root, without_weights, caplog):
    operator = instantiate(compose(words(preset, root)).operator, _convert_="all")
    parts = [operator] if preset != "cascade_composition" else list(operator.parts.values())
    assert all(isinstance(part.descriptor, CLIP) for part in parts)
    sentence = f"no CSD at {without_weights}/csd.bin, so the descriptor is CLIP instead"
    assert (
        caplog.text.count(sentence) == len(parts) and "https://huggingface.co/tomg-group-umd/CSD-ViT-L" in caplog.text
    )
    caplog.clear()
    without_weights.mkdir()
    (without_weights / "csd.bin").write_bytes(b"weights")
    operator = instantiate(compose(words(preset, root)).operator, _convert_="all")
    parts = [operator] if preset != "cascade_composition" else list(operator.parts.values())
    heads = ["style"] if preset != "cascade_composition" else ["style", "content"]
    assert [part.descriptor.head for part in parts] == heads and not caplog.text


STYLIZED = {
    "cascade": (["--style", "{root}/style.png"], 128),
    "cascade_composition": (["--style", "{root}/style.png", "--content", "{root}/content.png"], 128),
    "sdxl_style": (["attention=ip_adapter", "--style", "{root}/style.png"], 32),
}


def test_the_preferred_descriptor_needs_no_files_to_be_preferred(caplog):
    gram = FilterGram()
    assert first_present(gram, CSD("/no/csd.bin")) is gram and not caplog.text
    assert first_present(CSD("/no/csd.bin"), gram) is gram and "FilterGram instead" in caplog.text


TINY = {
    "cascade": ["prior.model={root}/c", "prior.decoder={root}/b", "prior.preview={root}/previewer.safetensors"],
    "sdxl_style": [
        "prior.model={root}/xl",
        "prior.preview={root}/tiny",
        "prior.ip_adapter.model={root}/adapter",
        "prior.ip_adapter.weights=adapter.safetensors",
        "prior.ip_adapter.image_encoder=image_encoder",
    ],
}
TINY["cascade_composition"] = TINY["cascade"]


@pytest.mark.parametrize(
    "preset",
    ["cascade", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cascade_composition", "sdxl_style"))],
)
def test_presets_run_on_tiny_models_by_stylize(preset, root, without_weights, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    composed, prior = preset == "cascade_composition", "sdxl" if preset == "sdxl_style" else "cascade"
    options, size = STYLIZED[preset]
    parts = {"operator.parts.style": prior, "operator.parts.content": f"{prior}_content"}
    nodes = parts if composed else {"operator": prior}
    clip = {"model": f"{root}/adapter", "part": "image_encoder", "size": 16}
    words = [*TINY[preset], f"data.size={size}", "sampler.n_steps=2", f"hydra.run.dir={tmp_path}/out"]
    at = {node: f"@{node}.descriptor" if composed else "" for node in nodes}
    words += [f"operator/descriptor{at[node]}={name}" for node, name in nodes.items()]
    words += [f"{node}.descriptor.otherwise.{key}={value}" for node in nodes for key, value in clip.items()]
    command = ["stylize", f"experiment={preset}", *options, "--prompt", "a cat, sitting", *words]
    assert main([word.format(root=root) for word in command]) == 0, capsys.readouterr().err[-2000:]
    assert capsys.readouterr().err.count("the descriptor is CLIP instead") == len(nodes)  # once of each
    (rows,) = (tmp_path / "out").glob("*/rows.csv")
    header, values = (line.split(",") for line in rows.read_text().splitlines())
    found = dict(zip(header, values))
    assert found["alive"] == "True" and found["decoder_vjp"] == "6" and found["vjp"] == "0"
    (picture,) = (tmp_path / "out").rglob("*image*.png")
    with Image.open(picture) as image:
        assert image.size == (size, size)


def rows_of(folder):
    (rows,) = folder.glob("*/rows.csv")
    header, *values = (line.split(",") for line in rows.read_text().splitlines())
    return [dict(zip(header, value)) for value in values]


@pytest.mark.slow
def test_the_protocol_makes_references_and_then_stylizes(root, without_weights, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text(
        "{A cat, A dog, A house, A boat} in ink.\n{A man, A cup, A tree, An owl} in oil.\n"
    )
    clip = {"model": f"{root}/adapter", "part": "image_encoder", "size": 16}
    tiny = [word.format(root=root) for word in TINY["cascade"]] + ["sampler.n_steps=2", "data.size=128"]
    tiny += [f"operator.descriptor.otherwise.{key}={value}" for key, value in clip.items()]
    command = ["experiment=cascade_protocol", f"data.path={tmp_path}/prompts.txt", *tiny]
    made = ["data.subjects=[0]", "attention=none", "controller=none", f"hydra.run.dir={tmp_path}/references"]
    assert main([*command, *made]) == 0, capsys.readouterr().err[-2000:]
    assert [row["item"] for row in rows_of(tmp_path / "references")] == ["001/0 A cat", "002/0 A man"]
    (pictures,) = (tmp_path / "references").glob("*/images")
    options = [f"data.references={pictures}", "data.subjects=[1,2]", f"hydra.run.dir={tmp_path}/out", "batch_size=2"]
    assert main([*command, *options]) == 0, capsys.readouterr().err[-2000:]
    rows = rows_of(tmp_path / "out")
    assert [row["item"] for row in rows] == ["001/1 A dog", "001/2 A house", "002/1 A cup", "002/2 A tree"]
    assert all(row["alive"] == "True" and row["decoder_vjp"] == "6" for row in rows)


def test_the_list_of_prompts_is_named_where_it_is_published(without_weights, monkeypatch, tmp_path):
    monkeypatch.setenv("RBCTRL_DATA", str(tmp_path))
    found = {need.node: need for need in required_files(compose(["experiment=cascade_protocol"]))}
    assert not found["data"].present and "github.com/google/RB-Modulation" in found["data"].hint
