"""One model, several losses, scores, sizes and options: what was found for one is not taken for another."""

import pytest
import torch
from models import Block, Patches, batch, plain_net
from torch import nn
from torch.nn import functional as F

import saliency_losses as sl
from saliency_losses.extractors import CAM, ActivationMap, Auto, EigenCAM, GradCAM, InputGradient


class TwoHeads(nn.Module):
    """A class token's logits, and those of the mean over patches."""

    def __init__(self):
        super().__init__()
        self.patches, self.block, self.last, self.norm = Patches(), Block(), Block(), nn.LayerNorm(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        tokens = self.norm(self.last(self.block(self.patches(x))))
        return {"logits": self.fc(tokens[:, 0]), "aux": F.gelu(self.fc(tokens[:, 1:].mean(1).tanh()))}


def auxiliary(output, targets):
    return output["aux"].gather(1, targets[:, None])[:, 0]


def test_the_default_layer_is_found_for_each_score():
    images, labels, _ = batch()
    alone = GradCAM()(net := TwoHeads(), images, labels).saliency
    twin = TwoHeads()
    twin.load_state_dict(net.state_dict())
    aux = GradCAM(score=auxiliary)(twin, images, labels).saliency
    torch.testing.assert_close(GradCAM()(twin, images, labels).saliency, alone)
    torch.testing.assert_close(GradCAM(score=auxiliary)(twin, images, labels).saliency, aux)
    assert alone.abs().max() > 0
    assert aux.abs().max() > 0


def test_each_score_is_looked_at_once_also_where_looking_costs(monkeypatch):
    monkeypatch.setattr("saliency_losses.extractors.activation_gradients.looks_at_values", lambda tensor: False)
    images, labels, _ = batch()
    net = TwoHeads()
    GradCAM(layer="norm", score=auxiliary)(net, images, labels)
    with pytest.raises(ValueError, match="does not depend on the positions"):
        GradCAM(layer="norm")(net, images, labels)


@pytest.mark.parametrize("part", [GradCAM(), GradCAM(layer="1"), ActivationMap(layer="1"), CAM()])
def test_a_prepared_model_refuses_another_grid_of_as_many_tokens(part):
    class Mean(nn.Module):
        def forward(self, tokens):
            return tokens[:, 1:].mean(1)

    net = nn.Sequential(Patches(), Block(), Mean(), nn.Linear(8, 3))
    guided = sl.SaliencyGuidedLoss(net, part)
    wide, tall, labels = torch.rand(4, 3, 6, 18), torch.rand(4, 3, 18, 6), torch.tensor([0, 1, 2, 0])
    guided.prepare(wide, labels)
    assert guided(wide, labels, torch.rand(4, 6, 18)).model_saliency.shape == (4, 2, 6)
    with pytest.raises(ValueError, match=r"prepared for inputs of size .* prepare with images of this size"):
        guided(tall, labels, torch.rand(4, 18, 6))
    guided.unprepare()
    assert guided(tall, labels, torch.rand(4, 18, 6)).model_saliency.shape == (4, 6, 2)


def test_an_option_changed_after_preparing_counts():
    net, (images, labels, human) = plain_net(), batch()
    guided = sl.SaliencyGuidedLoss(net, GradCAM(layer="1"))
    guided.prepare(images, labels)
    guided.extractor.layer = "3"
    expected = GradCAM(layer="3")(net, images, labels).saliency
    torch.testing.assert_close(guided(images, labels, human).model_saliency, expected.detach())


@pytest.mark.parametrize("score", ["log_probabilities", lambda output, targets: output[:, 0]])
def test_a_score_of_no_class_makes_no_map_per_class(score):
    with pytest.raises(ValueError, match=r"need a score of the same shape, got \(4,\)"):
        InputGradient(score=score)(plain_net(), batch()[0], torch.randint(0, 3, (4, 9)))


@pytest.mark.parametrize("part", [ActivationMap(layer="3"), EigenCAM(layer="3")])
def test_targets_may_be_anything_where_no_class_is_explained(part):
    images, labels, human = batch()
    guided = sl.SaliencyGuidedLoss(plain_net(), part, task_loss=lambda output, y: F.cross_entropy(output, y["label"]))
    guided(images, {"label": labels}, human).loss.backward()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_scripted_modules_are_looked_through():
    net = plain_net()
    net[1] = torch.jit.script(nn.GELU())
    images, labels, _ = batch()
    for part in (CAM(), GradCAM(layer="3")):
        assert part(net, images, labels).saliency.shape == (4, 5, 5)


def test_a_map_of_one_position_is_refused_and_never_the_default():
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.GELU(), nn.Conv2d(6, 5, 7), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.append(nn.Linear(5, 3))
    images, labels, human = batch()
    with pytest.raises(ValueError, match="has a single position, so it cannot say where"):
        sl.SaliencyGuidedLoss(net, CAM())(images, labels, human)
    for part in (GradCAM(), Auto()):
        out = sl.SaliencyGuidedLoss(net, part)(images, labels, human)
        assert out.model_saliency.shape == (4, 7, 7)
        assert out.saliency_loss > 0


def test_as_many_channels_as_rows_and_columns_tell_nothing_by_their_number():
    class LastNorm(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x.permute(0, 2, 3, 1).sin().flip(0)).flip(0)

    net = nn.Sequential(nn.Conv2d(3, 7, 3), LastNorm(7), nn.Flatten(), nn.Linear(343, 3))
    names = [layer.name for layer in sl.list_layers(net, batch()[0]) if layer.channel_axis == 1]
    assert names == ["0"]
    assert all(layer.channel_axis == 3 for layer in sl.list_layers(net, batch()[0]) if layer.name == "1")
