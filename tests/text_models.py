"""Tiny random text-to-image models in diffusers' folder layout, so that every loader can be tested offline."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import torch
import transformers
from safetensors.torch import save_file

from rbctrl.codecs.previewer import PreviewerNetwork

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LENGTH = 12  # tokens that the CLIP tokenizers read
WIDTH = 16  # of one CLIP
IMAGE_WIDTH = 20  # of an image's embedding

SD_SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
FLOW_SCHEDULER = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}


def seeded(build, seed=0):
    """The result of build() under a seed, without a trace in torch's own generator."""
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(seed)
        return build()


def unet(**kwargs):
    """Stable Diffusion's U-Net with two levels."""
    settings = {
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
        "sample_size": 8,
    }
    return seeded(lambda: diffusers.UNet2DConditionModel(**(settings | kwargs)))


def xl_unet():
    """With XL's embedding of a pooled vector and six sizes."""
    sizes = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    return unet(**sizes, projection_class_embeddings_input_dim=WIDTH + 6 * 8, cross_attention_dim=2 * WIDTH)


def sd3_transformer():
    """SD3's transformer with two blocks."""
    return seeded(
        lambda: diffusers.SD3Transformer2DModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_projection_dim=16,
            joint_attention_dim=40,
            pooled_projection_dim=2 * WIDTH,
            pos_embed_max_size=8,
        )
    )


def flux_transformer(guidance_embeds=True):
    """Flux's transformer with one block of each kind."""
    return seeded(
        lambda: diffusers.FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=20,
            pooled_projection_dim=WIDTH,
            axes_dims_rope=(4, 6, 6),
            guidance_embeds=guidance_embeds,
        )
    )


def cascade_unet(**kwargs):
    """Stable Cascade's stage C with two levels of one side."""
    settings = {
        "in_channels": 16,
        "out_channels": 16,
        "timestep_ratio_embedding_dim": 8,
        "conditioning_dim": 12,
        "block_out_channels": (16, 16),
        "num_attention_heads": (2, 2),
        "down_num_layers_per_block": (1, 1),
        "up_num_layers_per_block": (1, 1),
        "down_blocks_repeat_mappers": (1, 1),
        "up_blocks_repeat_mappers": (1, 1),
        "clip_text_in_channels": WIDTH,
        "clip_text_pooled_in_channels": WIDTH,
        "clip_image_in_channels": IMAGE_WIDTH,
        "switch_level": (False,),
    }
    return seeded(lambda: diffusers.StableCascadeUNet(**(settings | kwargs)).eval())


def published_cascade(width=2048, heads=32, layers=(8, 24)):
    """Stage C of the published sizes on the meta device, without memory; (1536, 24, (4, 12)) is the lite one."""
    settings = {"in_channels": 16, "out_channels": 16, "conditioning_dim": width, "switch_level": (False,)}
    settings |= {"clip_text_in_channels": 1280, "clip_text_pooled_in_channels": 1280, "clip_image_in_channels": 768}
    settings |= {"block_out_channels": (width, width), "num_attention_heads": (heads, heads)}
    settings |= {"down_num_layers_per_block": layers, "up_num_layers_per_block": layers[::-1]}
    settings |= {"down_blocks_repeat_mappers": (1, 1), "up_blocks_repeat_mappers": (1, 1)}
    with torch.device("meta"):
        return diffusers.StableCascadeUNet(**settings, timestep_conditioning_type=("sca", "crp"), dropout=(0.1, 0.1))


def adapter_tensors(network, seed=5, image_width=IMAGE_WIDTH):
    """Weights of a base IP-Adapter, random numbers under the published names: 4 tokens of one image."""
    width = network.config.cross_attention_dim
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator) / 3

    project = {"proj.weight": draw(4 * width, image_width), "proj.bias": draw(4 * width)}
    project |= {"norm.weight": torch.ones(width), "norm.bias": draw(width)}
    sites = [name for name in network.attn_processors if name.endswith("attn2.processor")]
    layers = {}
    for k, name in enumerate(sites):
        inner = network.get_submodule(name.removesuffix(".processor")).to_k.out_features
        layers |= {f"{2 * k + 1}.to_{part}_ip.weight": draw(inner, width) for part in "kv"}
    return {"image_proj": project, "ip_adapter": layers}


def plus_tensors(network, tokens=3, states=8):
    """The same of Plus: a resampler of four blocks to `tokens` tokens of states of width 8."""
    tensors = adapter_tensors(network)
    width, hidden, inner = network.config.cross_attention_dim, 8, 64
    names = {"latents": (1, tokens, hidden), "proj_in.weight": (hidden, states), "proj_in.bias": (hidden,)}
    names |= {"proj_out.weight": (width, hidden), "proj_out.bias": (width,)}
    names |= {"norm_out.weight": (width,), "norm_out.bias": (width,)}
    for k in range(4):
        for part in ("0.norm1", "0.norm2", "1.0"):
            names |= {f"layers.{k}.{part}.weight": (hidden,), f"layers.{k}.{part}.bias": (hidden,)}
        names |= {f"layers.{k}.0.to_q.weight": (inner, hidden), f"layers.{k}.0.to_kv.weight": (2 * inner, hidden)}
        names |= {f"layers.{k}.0.to_out.weight": (hidden, inner)}
        names |= {f"layers.{k}.1.1.weight": (4 * hidden, hidden), f"layers.{k}.1.3.weight": (hidden, 4 * hidden)}
    generator = torch.Generator().manual_seed(9)
    drawn = {name: torch.randn(*shape, generator=generator) / 2 for name, shape in names.items()}
    return tensors | {"image_proj": drawn}


def save_adapter(folder: Path, tensors, image_encoder) -> Path:
    """An IP-Adapter in the layout of its repository: one file of weights and the folder of its image encoder."""
    folder.mkdir(parents=True, exist_ok=True)
    flat = {f"{part}.{name}": value for part, values in tensors.items() for name, value in values.items()}
    save_file(flat, folder / "adapter.safetensors")
    image_encoder.save_pretrained(folder / "image_encoder")
    return folder


def ip_adapter(network, seed=5):
    """A network with a random IP-Adapter, loaded for good by diffusers' own loader."""
    network._load_ip_adapter_weights([adapter_tensors(network, seed)], low_cpu_mem_usage=False)
    return network.eval()


def autoencoder(**kwargs):
    """A KL autoencoder of f = 2 (XL's networks are told a size that assumes 8)."""
    settings = {
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "sample_size": 16,
    }
    return seeded(lambda: diffusers.AutoencoderKL(**(settings | kwargs)))


def tiny_autoencoder(**kwargs):
    """An AutoencoderTiny of f = 2, in place of TAESD."""
    channels = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    blocks = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    return seeded(lambda: diffusers.AutoencoderTiny(**(channels | blocks | kwargs)).eval())


def clip(projected=False, seed=1):
    """A CLIP text encoder of two layers."""
    config = transformers.CLIPTextConfig(
        vocab_size=2 * len(LETTERS) + 2,
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        projection_dim=WIDTH,
        bos_token_id=2 * len(LETTERS),
        eos_token_id=2 * len(LETTERS) + 1,
        pad_token_id=2 * len(LETTERS) + 1,
    )
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return seeded(lambda: kind(config).eval(), seed)


def t5(width):
    """A T5 encoder of one layer."""
    config = transformers.T5Config(vocab_size=32, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return seeded(lambda: transformers.T5EncoderModel(config).eval(), 3)


def save_clip_tokenizer(folder: Path) -> None:
    """Vocabulary and merges in two files, as Stable Diffusion publishes them."""
    folder.mkdir(parents=True)
    vocab = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: k for k, token in enumerate(vocab)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "pad_token": "<|endoftext|>", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def save_t5_tokenizer(folder: Path) -> None:
    """Letters only."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *((letter, -3.0) for letter in LETTERS)]
    transformers.T5Tokenizer(vocab=pieces, extra_ids=0).save_pretrained(folder)


def save(folder: Path, scheduler: dict, **parts: object) -> Path:
    """Writes models as parts of a folder; of text encoders, their tokenizers, too."""
    for name, model in parts.items():
        model.save_pretrained(folder / name)
        if name.startswith("text_encoder"):
            tokenizer = folder / name.replace("text_encoder", "tokenizer")
            (save_t5_tokenizer if "T5" in type(model).__name__ else save_clip_tokenizer)(tokenizer)
    (folder / "scheduler").mkdir(parents=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return folder


def save_sd(folder: Path, **scheduler: object) -> Path:
    """Stable Diffusion 1.x."""
    return save(folder, SD_SCHEDULER | scheduler, unet=unet(), vae=autoencoder(), text_encoder=clip())


def save_xl(folder: Path) -> Path:
    """Stable Diffusion XL."""
    encoders = {"text_encoder": clip(), "text_encoder_2": clip(True, 2)}
    return save(folder, SD_SCHEDULER, unet=xl_unet(), vae=autoencoder(scaling_factor=0.13025), **encoders)


def save_sd3(folder: Path) -> Path:
    """Stable Diffusion 3."""
    encoders = {"text_encoder": clip(True, 1), "text_encoder_2": clip(True, 2), "text_encoder_3": t5(40)}
    vae = autoencoder(shift_factor=0.06, scaling_factor=1.5)
    return save(folder, FLOW_SCHEDULER, transformer=sd3_transformer(), vae=vae, **encoders)


def save_cascade(folder: Path, **scheduler: object) -> Path:
    """Stable Cascade: stage C and its encoders in "c", stages B and A in "b", and a previewer of width 4."""
    settings = {"_class_name": "DDPMWuerstchenScheduler", "scaler": 1.0, "s": 0.008} | scheduler
    save(folder / "c", settings, prior=cascade_unet(), text_encoder=clip(True), image_encoder=clip_vision())
    save(folder / "b", settings, decoder=stage_b(), vqgan=stage_a())
    save_file(previewer().state_dict(), folder / "previewer.safetensors")
    return folder


def clip_vision(layers=1, width=IMAGE_WIDTH):
    """A CLIP image encoder."""
    config = transformers.CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=layers,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        projection_dim=width,
    )
    return seeded(lambda: transformers.CLIPVisionModelWithProjection(config).eval(), 6)


def save_tower(folder: Path, whole: bool) -> Path:
    """The text half of a CLIP whose embeddings have IMAGE_WIDTH numbers, or all of that CLIP, with its tokenizer."""
    text, image = clip(True).config, clip_vision().config
    save_clip_tokenizer(folder)
    text.projection_dim = IMAGE_WIDTH
    if whole:
        config = transformers.CLIPConfig(
            text_config=text.to_dict(), vision_config=image.to_dict(), projection_dim=IMAGE_WIDTH
        )
        model = seeded(lambda: transformers.CLIPModel(config), 11)
    else:
        model = seeded(lambda: transformers.CLIPTextModelWithProjection(text), 11)
    model.eval().save_pretrained(folder)
    return folder


def stage_b():
    """Stable Cascade's stage B with one level of attention."""
    settings = {"in_channels": 4, "out_channels": 4, "patch_size": 2, "effnet_in_channels": 16, "clip_seq": 4}
    settings |= {"clip_text_in_channels": None, "clip_image_in_channels": None, "timestep_conditioning_type": ("sca",)}
    return cascade_unet(**settings, self_attn=False)


def stage_a():
    """Stable Cascade's VQGAN of f = 4."""
    from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel

    settings = {"levels": 2, "bottleneck_blocks": 1, "embed_dim": 8, "num_vq_embeddings": 4, "scale_factor": 0.43}
    return seeded(lambda: PaellaVQModel(**settings).eval(), 7)


def previewer(width=4):
    """Stable Cascade's previewer, batch normalisation not at its start."""
    network = seeded(lambda: PreviewerNetwork(width=width).eval(), 8)
    for k, layer in enumerate(layer for layer in network.blocks if isinstance(layer, torch.nn.BatchNorm2d)):
        layer.running_mean.fill_(0.01 * k)
        layer.running_var.fill_(1 + 0.1 * k)
    return network


def save_flux(folder: Path, guidance_embeds: bool = True) -> Path:
    """Flux."""
    encoders = {"text_encoder": clip(), "text_encoder_2": t5(20)}
    vae = autoencoder(shift_factor=0.1, scaling_factor=0.36)
    return save(folder, FLOW_SCHEDULER, transformer=flux_transformer(guidance_embeds), vae=vae, **encoders)
