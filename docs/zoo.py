"""The classifiers that the sweep over architectures goes through: small variants, random weights, few classes."""

from typing import Any, NamedTuple

import timm
import torch
import torchvision
from torch import Tensor, nn

__all__ = ["CASES", "Case"]

CLASSES = 5


class Case(NamedTuple):
    """A classifier and images for it.

    Attributes:
        package: ``"torchvision"`` or ``"timm"``.
        name: There.
        size: Height and width of the images; they differ unless the architecture wants a square.
        options: For the model.
    """

    package: str
    name: str
    size: tuple[int, int]
    options: dict[str, Any]

    @property
    def label(self) -> str:
        """Unique."""
        pool = self.options.get("global_pool")
        return f"{self.package} {self.name}{f' ({pool} pooling)' if pool else ''}"

    def make(self) -> tuple[nn.Module, Tensor]:
        """The model in eval mode, and two images.

        Weights that start at zero, and would hide what is behind them, are drawn; normalisation layers get the
        statistics of a batch, so that activations neither vanish nor explode.
        """
        torch.manual_seed(0)
        if self.package == "torchvision":
            net = torchvision.models.get_model(self.name, weights=None, num_classes=CLASSES, **self.options)
        else:
            net = timm.create_model(self.name, pretrained=False, num_classes=CLASSES, **self.options)
        with torch.no_grad():
            for parameter in net.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.02)
            for module in net.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.momentum = 1.0
            net.train()(torch.randn(4, 3, *self.size))
        return net.eval(), torch.randn(2, 3, *self.size)


def _cases(package: str, size: tuple[int, int], names: str, *, sized: bool = False, **options: Any) -> list[Case]:
    if sized:
        options["img_size"] = size
    return [Case(package, name, size, options) for name in names.split()]


# Large enough that a cell does not see the whole image alike, as small as that allows.
TOKENS, MIDDLE, SQUARE, LARGE = (80, 96), (160, 192), (224, 224), (256, 320)

CASES = [
    *_cases(
        "torchvision",
        MIDDLE,
        "alexnet convnext_tiny densenet121 efficientnet_v2_s mobilenet_v2 "
        "mobilenet_v3_large mobilenet_v3_small regnet_x_400mf regnet_y_400mf resnet18 resnext50_32x4d "
        "shufflenet_v2_x0_5 squeezenet1_1 swin_t swin_v2_t vgg11_bn",
    ),
    *_cases("torchvision", LARGE, "efficientnet_b0 mnasnet0_5"),
    *_cases("torchvision", LARGE, "googlenet inception_v3", aux_logits=False, init_weights=False),
    *_cases("torchvision", SQUARE, "maxvit_t vit_b_32"),
    *_cases(
        "timm",
        MIDDLE,
        "caformer_s18 convformer_s18 convnextv2_atto cpubone_b0_bfrobust cs3darknet_s cspresnet50 davit_tiny "
        "densenetblur121d dla46_c dla60x_c dm_nfnet_f0 dpn48b dpn68 ecaresnet26t edgenext_xx_small "
        "ese_vovnet19b_slim_dw fasternet_t0 fastvit_sa12 fastvit_t8 focalnet_tiny_srf gcresnet33ts ghostnet_050 "
        "ghostnetv2_100 ghostnetv3_050 hardcorenas_a hgnetv2_b0 hrnet_w18_small iformer_m inception_next_atto "
        "inception_resnet_v2 lambda_resnet26t lcnetv2_small legacy_seresnet18 legacy_xception lowformer_b0 "
        "mambaout_femto mobileone_s0 mobilevit_xxs mobilevitv2_050 nextvit_small nfnet_l0 poolformer_s12 "
        "poolformerv2_s12 pvt_v2_b0 rdnet_tiny regnetz_005 repghostnet_050 repvgg_a0 repvit_m0_9 res2net50_14w_8s "
        "resnest14d resnetv2_18 resnetv2_50x1_bit selecsls42b skresnet18 starnet_s050 swiftformer_xs "
        "tf_efficientnetv2_b0 tresnet_m vgg11_bn xception41",
    ),
    *_cases(
        "timm",
        LARGE,
        "cspnext_tiny efficientnet_lite0 efficientvim_m1 fbnetv3_b inception_v4 mobilenetv4_conv_small "
        "mobilenetv4_hybrid_medium rexnet_100",
    ),
    *_cases("timm", (96, 128), "sequencer2d_s"),
    *_cases("timm", (112, 140), "convmixer_768_32"),
    *_cases("timm", (320, 384), "efficientvit_b0"),
    *_cases(
        "timm",
        MIDDLE,
        "coatnet_pico_rw_224 maxvit_pico_rw_256 maxxvit_rmlp_nano_rw_256 mixer_s32_224 swin_tiny_patch4_window7_224 "
        "swinv2_cr_tiny_ns_224 swinv2_tiny_window8_256 vitamin_small_224",
        sized=True,
    ),
    *_cases("timm", MIDDLE, "vit_base_resnet26d_224", sized=True, depth=3),
    *_cases(
        "timm",
        SQUARE,
        "coat_lite_tiny coat_tiny convit_tiny efficientformer_l1 efficientformerv2_s0 efficientvit_m0 gcvit_xxtiny "
        "hiera_tiny_224 hieradet_small levit_128s levit_conv_128s mvitv2_tiny nest_tiny pit_ti_224 "
        "pit_ti_distilled_224 sam2_hiera_tiny shvit_s1 tiny_vit_5m_224 tnt_s_patch16_224 twins_pcpvt_small "
        "twins_svt_small visformer_tiny volo_d1_224",
    ),
    *_cases("timm", SQUARE, "samvit_base_patch16_224", depth=3),
    *_cases("timm", (240, 240), "crossvit_9_240"),
    *_cases("timm", (256, 256), "botnet26t_256 csatv2 halonet26t"),
    *_cases(
        "timm",
        TOKENS,
        "cait_xxs24_224 deit_tiny_distilled_patch16_224 gmixer_12_224 gmlp_ti16_224 resmlp_12_224 vit_tiny_patch16_224",
        sized=True,
    ),
    *_cases("timm", TOKENS, "xcit_nano_12_p16_224"),
    *_cases("timm", TOKENS, "vit_tiny_patch16_224", sized=True, global_pool="avg"),
    *_cases("timm", TOKENS, "vit_tiny_patch16_224", sized=True, global_pool="map"),
    *_cases("timm", TOKENS, "vit_tiny_patch16_224", sized=True, global_pool="max"),
    *_cases(
        "timm",
        TOKENS,
        "beit_base_patch16_224 beit3_base_patch16_224 beitv2_base_patch16_224 deit3_small_patch16_224 flexivit_small "
        "vit_base_patch16_siglip_224 vit_base_patch16_siglip_gap_224 vit_relpos_base_patch16_clsgap_224 "
        "vit_relpos_small_patch16_224",
        sized=True,
        depth=3,
    ),
    *_cases(
        "timm",
        TOKENS,
        "naflexvit_base_patch16_gap naflexvit_base_patch16_map qwen3_vit_88m vit_small_patch16_dinov3",
        depth=3,
    ),
    *_cases("timm", (64, 96), "gemma4_vit_167m", depth=2),
    *_cases("timm", (70, 84), "eva02_tiny_patch14_224", sized=True),
    *_cases("timm", (70, 84), "aimv2_large_patch14_224", sized=True, depth=2),
    *_cases("timm", (70, 84), "vit_small_patch14_reg4_dinov2", sized=True, depth=3),
]
