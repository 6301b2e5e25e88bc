"""Tokens as maps: the patch at a place of the image is the cell at the same place of the map, in every layer."""

import pytest
import timm
import torch
import torchvision
import transformers
from torch import nn
from torch.nn import functional as F

import saliency_losses as sl
from saliency_losses.extractors.probe import probe

WIDE = (16, 24)
SMALL = {"img_size": WIDE, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 2, "num_classes": 3}


def of_timm(kind, **options):
    return getattr(timm.models, kind)(**{**SMALL, **options})


def of_transformers(kind, **options):
    small = {
        "hidden_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "num_labels": 3,
        "image_size": 16,
        "patch_size": 4,
    }
    config = getattr(transformers, f"{kind}Config")(**{**small, "image_size": WIDE, **options})
    return getattr(transformers, f"{kind}ForImageClassification")(config)


def of_clip(kind="CLIPForImageClassification"):
    vision = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    text = {**vision, "vocab_size": 20, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    config = transformers.CLIPConfig(
        text_config=text, vision_config={**vision, "image_size": 16, "patch_size": 4}, projection_dim=8, num_labels=3
    )
    return getattr(transformers, kind)(config)


def of_swin():
    config = transformers.SwinConfig(
        image_size=WIDE, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=4, num_labels=3
    )
    return transformers.SwinForImageClassification(config)


class Patches(nn.Module):
    """A transformer by hand, on patches cut out without a convolution."""

    def __init__(self, patch=4, width=12):
        super().__init__()
        self.patch, self.embed = patch, nn.Linear(3 * patch * patch, width)
        self.block = nn.TransformerEncoderLayer(width, 2, 24, dropout=0.0, batch_first=True)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x):
        batch, channels, height, width = x.shape
        p = self.patch
        x = x.reshape(batch, channels, height // p, p, width // p, p).permute(0, 2, 4, 3, 5, 1)
        x = self.embed(x.reshape(batch, height * width // p**2, p * p * channels))
        return self.head(F.gelu(self.norm(self.block(x))).mean(1))


# What makes it, the size of its images, the layer taken by default, how many tokens stand before the patches there,
# and the grid.
FAMILIES = {
    "torchvision": (
        lambda: torchvision.models.VisionTransformer(16, 4, 2, 2, 12, 24, num_classes=3),
        (16, 16),
        "encoder.layers.encoder_layer_1.ln_1",
        1,
        (4, 4),
    ),
    "vit": (lambda: of_timm("VisionTransformer"), WIDE, "blocks.1.norm1", 1, (4, 6)),
    "vit, registers": (lambda: of_timm("VisionTransformer", reg_tokens=4), WIDE, "blocks.1.norm1", 5, (4, 6)),
    "vit, average": (lambda: of_timm("VisionTransformer", global_pool="avg"), WIDE, "blocks.1", 1, (4, 6)),
    "deit, distilled": (lambda: of_timm("VisionTransformerDistilled"), WIDE, "blocks.1.norm1", 2, (4, 6)),
    "beit": (lambda: of_timm("Beit"), WIDE, "blocks.1", 1, (4, 6)),
    "eva": (lambda: of_timm("Eva"), WIDE, "blocks.1", 1, (4, 6)),
    "cait": (lambda: of_timm("Cait", img_size=16), (16, 16), "blocks_token_only.1.norm1", 1, (4, 4)),
    "xcit": (lambda: of_timm("Xcit", patch_size=8), (32, 48), "cls_attn_blocks.1.norm1", 1, (4, 6)),
    "swin": (
        lambda: timm.models.SwinTransformer(WIDE, 2, depths=(2, 2), num_heads=(2, 4), embed_dim=8, window_size=4),
        WIDE,
        "the input of 'head.global_pool.pool'",
        None,
        (4, 6),
    ),
    "hiera": (
        lambda: timm.models.Hiera(
            (64, 96),
            stages=(1, 1),
            q_pool=1,
            embed_dim=8,
            mask_unit_size=(4, 4),
            patch_kernel=(4, 4),
            patch_padding=(0, 0),
        ),
        (64, 96),
        "blocks.1",
        0,
        (8, 12),
    ),
    "pvt": (
        lambda: timm.models.PyramidVisionTransformerV2(
            depths=(1, 1), embed_dims=(8, 16), num_heads=(1, 2), sr_ratios=(2, 1), mlp_ratios=(2, 2)
        ),
        (32, 48),
        "what is pooled after 'stages'",
        None,
        (4, 6),
    ),
    "HF ViT": (lambda: of_transformers("ViT"), WIDE, "vit.layers.1.layernorm_before", 1, (4, 6)),
    "HF DeiT": (lambda: of_transformers("DeiT"), WIDE, "deit.layers.1.layernorm_before", 2, (4, 6)),
    "HF DINOv2": (
        lambda: of_transformers("Dinov2WithRegisters", image_size=16),
        (16, 16),
        None,
        5,
        (4, 4),
    ),
    "HF BEiT": (lambda: of_transformers("Beit"), WIDE, "beit.layers.1", 1, (4, 6)),
    "HF CLIP": (of_clip, (16, 16), "what is pooled after 'vision_model'", 0, (4, 4)),
    "HF Swin": (of_swin, WIDE, "the input of 'swin.pooler'", 0, (4, 6)),
    "by hand": (Patches, WIDE, "what is pooled after 'norm'", 0, (4, 6)),
}


def make(name):
    model = FAMILIES[name][0]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model, torch.randn(2, 3, *FAMILIES[name][1])


def score_of(output):
    return getattr(output, "logits", output)[:, 1]


def stop_mixing(model):
    """Let attention give zero, so that tokens know nothing of each other."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "att" in name and name.split(".")[-2] in ("proj", "out_proj", "o_proj"):
                parameter.zero_()


def reach(tensor, layout, images, cell):
    """Which pixels of the first image the cell of the map depends on; ``None`` if on none."""
    activation = layout.read(tensor)[(0, slice(None), *cell)]
    weights = torch.randn(activation.shape)
    (grad,) = torch.autograd.grad((activation * weights).sum(), images, retain_graph=True, allow_unused=True)
    return None if grad is None or not bool(grad.any()) else grad[0].abs().sum(0) > 0


MIXES_OTHERWISE = {"pvt", "xcit"}  # by convolutions


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - MIXES_OTHERWISE))
def test_each_cell_is_the_patch_at_its_place_in_every_layer(name):
    model, images = make(name)
    stop_mixing(model)
    layers = [layer for layer in sl.list_layers(model, images) if len(layer.positions) == 2]
    images.requires_grad_()
    tapped = probe(model, images, None, [layer.name for layer in layers])
    height, width = images.shape[2:]
    proven = set()
    for layer, tensor, layout in zip(layers, tapped.tensors, tapped.layouts, strict=True):
        rows, columns = layer.positions
        assert rows / columns == height / width, layer
        if "att" in layer.name and not layer.name.endswith("_proj"):
            continue  # where tokens are mixed
        for cell in ((0, 0), (rows - 1, columns - 2), (1, columns - 1)):
            where = reach(tensor, layout, images, cell)
            inside = torch.zeros(height, width, dtype=torch.bool)
            down, right = height // rows, width // columns
            inside[cell[0] * down : (cell[0] + 1) * down, cell[1] * right : (cell[1] + 1) * right] = True
            if where is not None:
                assert bool(where[inside].any()), (layer, cell)
                assert not bool(where[~inside].any()), (layer, cell)
                proven.add(layer.name)
    assert len(proven) > 8 and len(proven) > len(layers) / 2


@pytest.mark.parametrize("name", FAMILIES)
def test_the_default_layer_is_the_last_whose_patches_count(name):
    model, images = make(name)
    _, _, expected, start, grid = FAMILIES[name]
    for first in (True, False):
        tapped = probe(model, images, None, [None], score=score_of, double_backward=True)
        assert tapped.first == first
        assert expected is None or expected in tapped.names[0]
        (layout,), (tensor,) = tapped.layouts, tapped.tensors
        assert layout.read(tensor).shape[2:] == grid
        assert (None if layout.tokens is None else layout.tokens.start) == start
        (grad,) = torch.autograd.grad(score_of(tapped.output).sum(), tensor, create_graph=True)
        assert bool((layout.read(grad) != 0).any())
        grad.square().sum().backward()
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
