"""Tokens as maps: the patch at a place of the image is the cell at the same place of the map, in every layer."""

import peft
import pytest
import timm
import torch
import torchvision
import transformers
from torch import nn
from torch.nn import functional as F

import saliency_losses as sl
from saliency_losses.extractors import GradCAM
from saliency_losses.extractors.attention_kernel import math_attention
from saliency_losses.extractors.layout import layout_from, square_tokens
from saliency_losses.extractors.probe import probe
from saliency_losses.testing import check_extractor

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
    assert len(proven) > max(8, len(layers) / 2)


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


@pytest.mark.parametrize("name", ["torchvision", "vit"])
def test_the_map_of_a_transformer_can_be_trained_through(name):
    images = torch.randn(4, 3, *FAMILIES[name][1], dtype=torch.float64)
    with math_attention():  # so that a plain call gives the same bits
        check_extractor(GradCAM(), make(name)[0].double(), images)


def test_several_layers_nested_and_twice():
    model, images = make("vit")
    names = ["blocks.0", "blocks.0.mlp.fc2", "blocks.0", None, "patch_embed"]
    for _ in range(2):
        tapped = probe(model, images, None, names, score=score_of)
        grads = torch.autograd.grad(score_of(tapped.output).sum(), tapped.tensors)
        assert all(bool((grad != 0).any()) for grad in grads)
        assert [layout.read(t).shape[2:] for layout, t in zip(tapped.layouts, tapped.tensors, strict=True)] == [
            (4, 6)
        ] * 5
        torch.testing.assert_close(tapped.output, model(images))


def test_another_size_is_another_grid():
    model = Patches()
    for size in (WIDE, (24, 8), WIDE):
        saliency = GradCAM()(model, torch.randn(2, 3, *size), torch.tensor([0, 2])).saliency
        assert saliency.shape == (2, size[0] // 4, size[1] // 4)


def test_tokens_mixed_or_chosen_are_not_read():
    model = timm.models.MlpMixer(num_classes=3, img_size=16, patch_size=4, num_blocks=1, embed_dim=16).eval()
    images = torch.randn(2, 3, 16, 16)
    with pytest.raises(ValueError, match=r"Nothing tells .* 'blocks.0.mlp_tokens' .* how its tokens form a grid"):
        GradCAM(layer="blocks.0.mlp_tokens")(model, images, torch.tensor([0, 1]))
    dropping = of_timm("VisionTransformer", patch_drop_rate=0.5).train()
    with pytest.raises(ValueError, match="found no layer to take by default"):
        GradCAM()(dropping, torch.randn(2, 3, *WIDE), torch.tensor([0, 1]))


@pytest.mark.parametrize("broken", [False, True])
def test_attention_is_plain_only_above_the_layer_and_only_for_this_call(broken):
    def run(model, inputs):
        output = model(inputs)
        if broken:
            raise KeyError("broken on purpose")
        return output

    model, images = make("vit")
    before = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()
    try:
        tapped = probe(model, images, run, ["blocks.0"], double_backward=True)
        todo, names = [tapped.output.grad_fn], set()
        while todo:
            node = todo.pop()
            if node is not None and node not in names and node is not tapped.tensors[0].grad_fn:
                names.add(node)
                todo.extend(following for following, _ in node.next_functions)
        assert not any("ScaledDotProduct" in node.name() for node in names)
    except KeyError:
        assert broken
    assert before == (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_adapters_and_their_prefixes():
    model = peft.get_peft_model(of_transformers("ViT"), peft.LoraConfig(target_modules=["q_proj", "v_proj"]))
    images, labels = torch.randn(2, 3, *WIDE), torch.tensor([0, 2])
    bare, full = "vit.layers.1.layernorm_before", "base_model.model.vit.layers.1.layernorm_before"
    maps = [GradCAM(layer=name)(model, images, labels).saliency for name in (bare, full, None)]
    torch.testing.assert_close(maps[0], maps[1])
    torch.testing.assert_close(maps[0], maps[2])
    assert GradCAM(layer="vit.layers.0.attention.q_proj")(model, images, labels).saliency.shape == (2, 4, 6)


def test_image_and_text():
    model = of_clip("CLIPModel")
    inputs = {"pixel_values": torch.randn(2, 3, 16, 16), "input_ids": torch.tensor([[3, 4, 5, 1], [3, 6, 7, 1]])}
    part = GradCAM(score=lambda output, targets: output.logits_per_image.diagonal())
    assert part(model, inputs, None).saliency.shape == (2, 4, 4)


def test_how_to_read_can_be_said():
    model, images = make("vit")
    labels = torch.tensor([0, 2])
    automatic = GradCAM(layer="blocks.0")(model, images, labels).saliency
    for reshape in ((4, 6), "tokens", lambda t: t[:, 1:].transpose(1, 2).unflatten(2, (4, 6))):
        said = GradCAM(layer="blocks.0", reshape=reshape)(model, images, labels).saliency
        torch.testing.assert_close(said, automatic)
    with pytest.raises(ValueError, match=r"reshape must be one of 'channels_first'.*got 'token'"):
        layout_from("token")
    with pytest.raises(ValueError, match=r"grid of positive integers such as \(14, 14\), got \(0, 3\)"):
        layout_from((0, 3))
    with pytest.raises(TypeError, match=r"reshape must be None.*got int"):
        layout_from(14)
    with pytest.raises(ValueError, match=r"at least 49 tokens for the grid \(7, 7\), got 25"):
        GradCAM(layer="blocks.0", reshape=(7, 7))(model, images, labels)
    with pytest.raises(ValueError, match=r"Nothing tells the grid of the tokens of it.*\(2, 9, 8\)"):
        square_tokens((2, 9, 8), "it")


def test_volumes_and_sequences():
    class Net(nn.Module):
        def __init__(self, conv):
            super().__init__()
            self.patch, self.token = conv(3, 8, 2, stride=2), nn.Parameter(torch.zeros(1, 1, 8))
            self.block = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
            self.last, self.head = nn.TransformerEncoderLayer(8, 2, 8, 0.0, batch_first=True), nn.Linear(8, 3)

        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2)
            return self.head(self.last(self.block(torch.cat([self.token.expand(len(x), -1, -1), x], 1)))[:, 0])

    for conv, size in ((nn.Conv1d, (10,)), (nn.Conv3d, (4, 6, 8))):
        saliency = GradCAM()(Net(conv), torch.randn(2, 3, *size), torch.tensor([0, 1])).saliency
        assert saliency.shape == (2, *(length // 2 for length in size))
