"""Where tokens are in the image is followed, not counted, and what a map of attention cannot show is refused."""

import pytest
import timm
import torch
from conftest import ATTENTION, extractor
from torch import nn
from torch.nn import functional as F

from saliency_losses.extractors import AttentionRelevance, AttentionRollout, LeGrad
from saliency_losses.extractors.attention_watch import AttentionWatch
from saliency_losses.testing import check_gradients

each = pytest.mark.parametrize("name", ATTENTION)
LABELS = torch.tensor([0, 2, 1, 2])


class Flexible(nn.Module):
    """Two blocks of attention with tokens in the order, attention of the kind, and other tokens where they are given.

    Args:
        flatten: Patches (B, C, H, W) to tokens (B, N, C).
        before: How many other tokens come before the patches.
        behind: How many come behind.
        read: Tokens to what is classified.
        attend: Queries, keys and values, two heads each, to what they give.
    """

    def __init__(self, flatten=None, *, before=0, behind=0, read=None, attend=F.scaled_dot_product_attention):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=3)
        self.flatten = flatten or (lambda x: x.flatten(2).transpose(1, 2))
        self.before, self.behind = (nn.Parameter(torch.randn(1, count, 8)) for count in (before, behind))
        self.read = read or (lambda x: x.mean(1))
        self.attend = attend if isinstance(attend, (list, tuple)) else (attend, attend)
        self.qkv = nn.ModuleList(nn.Linear(8, 24) for _ in range(2))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        patches = self.flatten(self.conv(x))
        before, behind = (tokens.expand(len(x), -1, -1) for tokens in (self.before, self.behind))
        x = torch.cat([before, patches, behind], 1)
        for qkv, attend in zip(self.qkv, self.attend, strict=True):
            q, k, v = qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
            x = x + attend(q, k, v).transpose(1, 2).flatten(2)
        return self.head(self.read(x).tanh())


def images(height=6, width=18, count=4):
    return torch.rand(count, 3, height, width, dtype=torch.float64)


def windows(x):
    """Tokens of 2 x 2 windows, one window after the other."""
    b, c, h, w = x.shape
    return x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(b, h * w, c)


ORDERS = {
    "rows": lambda x: x.flatten(2).transpose(1, 2),
    "columns": lambda x: x.transpose(2, 3).flatten(2).transpose(1, 2),
    "windows": windows,
}
PLACES = {"none": (0, 0), "before": (1, 0), "registers before": (4, 0), "behind": (0, 1), "around": (2, 3)}


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("order", ORDERS)
@each
def test_maps_do_not_depend_on_the_order_of_tokens(order, places, name):
    """Attention has no order: the same patches in another one, and other tokens elsewhere, give the same map."""
    before, behind = PLACES[places]
    torch.manual_seed(0)
    options = {} if name == "le_grad" else {"query": "mean"}
    expected, net = Flexible(before=before + behind).double(), Flexible(ORDERS[order], before=before, behind=behind)
    net = net.double()
    state = expected.state_dict()
    together = state["before"]
    state.update(before=together[:, :before], behind=together[:, before:])
    net.load_state_dict(state)
    x = images()
    maps = [extractor(name, **options)(model, x, LABELS).saliency for model in (expected, net, net)]
    assert maps[0].shape == (4, 2, 6)
    for saliency in maps[1:]:
        torch.testing.assert_close(saliency, maps[0])
    assert not torch.allclose(maps[0], maps[0].flip(2))


REORDERED = {
    "flipped": lambda x: x.flip(3).flatten(2).transpose(1, 2),
    "shuffled": lambda x: x.flatten(2).transpose(1, 2)[:, torch.randperm(12)],
    "dropped": lambda x: x.flatten(2).transpose(1, 2)[:, torch.randperm(12)[:10]],
}


@pytest.mark.parametrize("order", REORDERED)
@each
def test_an_order_that_cannot_be_followed_is_refused(order, name):
    message = r"where 1[35] tokens are in the image: in the attention of layer 0.*grid=\(height, width\)"
    net = Flexible(REORDERED[order], before=3).double()
    with pytest.raises(ValueError, match=message):
        extractor(name)(net, images(), LABELS)


def test_an_order_that_changes_between_layers_is_refused():
    class Between(Flexible):
        def forward(self, x):
            x = self.conv(x).flatten(2).transpose(1, 2)
            for number, qkv in enumerate(self.qkv):
                q, k, v = qkv(x)[:, None].chunk(3, -1)
                x = x + F.scaled_dot_product_attention(q, k, v)[:, 0]
                x = x if number else x.unflatten(1, (2, 6)).transpose(1, 2).flatten(1, 2)
            return self.head(x.mean(1))

    with pytest.raises(ValueError, match="layer 1 they are in another order than before"):
        LeGrad()(Between().double(), images(), LABELS)


@each
def test_the_caller_may_say_where_the_patches_are(name):
    net = Flexible(REORDERED["flipped"], before=1).double()
    assert extractor(name, grid=(2, 6))(net, images(), LABELS).saliency.shape == (4, 2, 6)


@each
def test_patches_dropped_in_training(name):
    sizes = {"img_size": (56, 84), "depth": 2, "embed_dim": 16, "num_heads": 2, "num_classes": 3}
    net = timm.create_model("vit_small_patch14_reg4_dinov2", patch_drop_rate=0.1, **sizes).double()
    with pytest.raises(ValueError, match=r"where 26 tokens are in the image.*dropped or merged"):
        extractor(name)(net.train(), images(56, 84), LABELS)
    assert extractor(name)(net.eval(), images(56, 84), LABELS).saliency.shape == (4, 4, 6)


@each
def test_sizes_of_images_may_change(name):
    net = Flexible(ORDERS["columns"], behind=1).double()
    for height, width in ((6, 18), (18, 6), (9, 12), (6, 18)):
        saliency = extractor(name)(net, images(height, width), LABELS).saliency
        assert saliency.shape == (4, height // 3, width // 3)


def test_a_number_of_tokens_that_changes_is_refused():
    net = Flexible().double()
    part, x = AttentionRollout(), images()
    part(net, x, LABELS)
    net.flatten = lambda x: x.flatten(2).transpose(1, 2)[:, :6]
    with pytest.raises(ValueError, match="12 tokens became 6 for inputs of the same size"):
        part(net, x, LABELS)
    with pytest.raises(ValueError, match="where 6 tokens are in the image"):
        part(net, x, LABELS)


def test_an_order_of_training_alone_is_refused():
    net, x = Flexible().double(), images()
    part, flatten = AttentionRollout(), net.flatten
    net.flatten = lambda x: flatten(x.flip(3) if net.training else x)
    part(net.eval(), x, LABELS)
    with pytest.raises(ValueError, match="where 12 tokens are in the image"):
        part(net.train(), x, LABELS)


def test_forty_tokens_before_the_patches():
    net = Flexible(before=40).double()
    found, told = (LeGrad(grid=grid)(net, images(), LABELS).saliency.shape for grid in (None, (2, 6)))
    assert found == told == (4, 2, 6)


def last(x):
    return x[:, -1]


@pytest.mark.parametrize(
    ("before", "behind", "read", "row"),
    [
        (4, 0, lambda x: x[:, 0], 0),
        (4, 0, lambda x: x[:, 2], 2),
        (0, 4, last, -1),
        (0, 4, lambda x: x.mean(1), -1),
        (0, 1, lambda x: x[:, :-1].mean(1), None),
        (2, 2, last, -1),
        (2, 2, lambda x: x[:, 2:-2].mean(1), None),
    ],
)
def test_the_row_of_the_token_that_is_read(before, behind, read, row):
    net, x = Flexible(before=before, behind=behind, read=read).double().eval(), images()
    with AttentionWatch() as watch:
        net(x)
    patches = slice(before, before + 12)
    attention = watch.attentions[-1].probabilities.mean(1)
    expected = attention[:, patches].mean(1) if row is None else attention[:, row]
    for _ in range(2):
        saliency = AttentionRollout(start=-1, residual=0.0)(net, x, None).saliency
        torch.testing.assert_close(saliency.flatten(1), expected[:, patches])
    outermost = row if row is not None else (0 if before else -1)
    saliency = AttentionRollout(start=-1, residual=0.0, query="class")(net, x, None).saliency
    torch.testing.assert_close(saliency.flatten(1), attention[:, outermost, patches])


def softmax(q, k):
    return (q @ k.transpose(-2, -1)).softmax(-1)


def renormalised(q, k, v):
    a = softmax(q, k)
    return (a / a.sum(-1, keepdim=True)) @ v


def twice(q, k, v):
    a = softmax(q, k)
    return a @ v + a @ v.tanh()


def dropped_twice(q, k, v):
    a = softmax(q, k)
    return F.dropout(a, 0.1) @ v + F.dropout(a, 0.1) @ v


def squared(q, k, v):
    return softmax(q, k) @ softmax(q, k) @ v


def times_itself(q, k, v):
    a = softmax(q, k)
    return a @ a @ v


def transposed(q, k, v):
    return torch.einsum("bhij,bhid->bhjd", softmax(q, k), v)


def transposed_implicitly(q, k, v):
    return torch.einsum("...ij,...ic", softmax(q, k), v).transpose(-2, -1)


def from_the_right(q, k, v):
    return (v.transpose(-2, -1) @ softmax(q, k)).transpose(-2, -1)


SEEN = [
    lambda q, k, v: torch.matmul(input=softmax(q, k), other=v),
    lambda q, k, v: torch.einsum("bhjd,bhij->bhid", v, softmax(q, k)),
    lambda q, k, v: torch.einsum("...ij, ...jd -> ...id", [softmax(q, k), v]),
    lambda q, k, v: torch.einsum("...ij,...jk", softmax(q, k), v),
    lambda q, k, v: torch.einsum("bhij,bhjd->bihd", softmax(q, k), v).transpose(1, 2),
]


CHANGED = {
    renormalised: "are changed behind the softmax or not used",
    twice: "weigh more than one tensor",
    dropped_twice: "weigh more than one tensor",
    times_itself: "weigh more than one tensor",
    transposed: "are changed behind the softmax or not used",
    transposed_implicitly: "are changed behind the softmax or not used",
    squared: "are changed behind the softmax or not used",
    from_the_right: "are changed behind the softmax or not used",
}


@pytest.mark.parametrize("attend", CHANGED)
@pytest.mark.parametrize("number", [0, 1])
@each
def test_a_layer_that_a_map_cannot_show_is_refused(attend, number, name):
    layers = [F.scaled_dot_product_attention] * 2
    layers[number] = attend
    net = Flexible(attend=layers).double()
    with pytest.raises(ValueError, match=rf"\(4, 2, 12, 12\) over 12 tokens {CHANGED[attend]}.*extractor='grad_cam'"):
        extractor(name)(net, images(), LABELS)


@pytest.mark.parametrize("attend", SEEN)
@each
def test_other_ways_to_write_the_product_are_seen(attend, name):
    net, x = Flexible(attend=attend).double(), images()
    found = extractor(name)(net, x, LABELS).saliency
    net.attend = (lambda q, k, v: softmax(q, k) @ v,) * 2
    torch.testing.assert_close(found, extractor(name)(net, x, LABELS).saliency)


class Learned(Flexible):
    """As many learned queries as there are tokens."""

    def __init__(self):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, 1, 12, 8))

    def forward(self, x):
        x = self.conv(x).flatten(2).transpose(1, 2)[:, None]
        x = F.scaled_dot_product_attention(x, x, x)
        return self.head(F.scaled_dot_product_attention(self.queries.expand(len(x), -1, -1, -1), x, x).mean((1, 2)))


class Crossed(Flexible):
    """Queries in another order than the keys."""

    def forward(self, x):
        x = self.conv(x)
        one, two = (order(x)[:, None] for order in (ORDERS["rows"], ORDERS["columns"]))
        return self.head(F.scaled_dot_product_attention(one, two, two).mean((1, 2)))


@each
def test_cross_attention_of_as_many_queries_is_refused(name):
    with pytest.raises(ValueError, match="layer 1 the queries are other tokens than the keys"):
        extractor(name)(Learned().double(), images(), LABELS)
    for grid in (None, (2, 6)):
        with pytest.raises(ValueError, match="layer 0 the queries are other tokens than the keys"):
            extractor(name, grid=grid)(Crossed().double(), images(), LABELS)


def test_grouped_queries_are_followed():
    def grouped(q, k, v):
        return F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], enable_gqa=True)

    assert AttentionRelevance()(Flexible(attend=grouped).double(), images(), LABELS).saliency.shape == (4, 2, 6)


@each
def test_maps_of_tokens_in_columns_before_the_class_token_are_trained_through(name):
    torch.manual_seed(0)
    net, x, part = Flexible(ORDERS["columns"], behind=2, read=last).double(), images(), extractor(name)
    probe = torch.randn(4, 2, 6, dtype=torch.float64)
    check_gradients(lambda: (part(net, x, LABELS).saliency * probe).sum(), dict(net.named_parameters()))


def test_rollout_takes_classes_of_any_kind():
    net, x = Flexible(before=1).double(), images()
    expected = AttentionRollout()(net, x, LABELS).saliency
    assert torch.equal(AttentionRollout()(net, x, {"main": LABELS}).saliency, expected)
