"""The study's networks build, take guided steps from the documented layers, and load the weights of files."""

import logging
import sys

import pytest
import torch

from examples.synthetic_faces import networks
from examples.synthetic_faces.arm import Arm
from examples.synthetic_faces.plan import Plan
from examples.synthetic_faces.weights import read_weights
from saliency_losses.extractors import CAM

SIDES = {"small": 48, "resnet50": 64, "densenet121": 64, "inception_v3": 128, "xception": 64}
NAMES = [pytest.param(name, marks=() if name in ("small", "densenet121") else pytest.mark.slow) for name in SIDES]
AFTER_TAP = {"resnet50": "layer4.2.bn3", "inception_v3": "avgpool", "xception": "bn4"}
CYBORG = Arm("cyborg", extractor="cam", alpha=0.5)


def test_every_network_is_tested():
    assert list(SIDES) == list(networks.NETWORKS)
    assert [networks.input_size(name) for name in SIDES] == [48, 224, 224, 299, 299]


def bare(model):
    return model.network if isinstance(model, networks.Normalised) else model


@pytest.mark.parametrize("name", NAMES)
def test_guided_step(name):
    plan = Plan(network=name)
    model = networks.build(plan)
    images, human = torch.rand(2, 3, SIDES[name], SIDES[name]), torch.rand(2, SIDES[name], SIDES[name])
    pooled = []
    networks.features(model).register_forward_hook(lambda module, args, output: pooled.append(output))
    out = networks.tapped(CYBORG, plan).guide(model)(images, torch.tensor([0, 1]), human)
    out.loss.backward()
    assert out.output.shape == (2, 2)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())

    with torch.no_grad():
        pooled.clear()
        model.eval()
        explained = CAM()(model, images, torch.tensor([0, 1]))
    head = bare(model).get_submodule(networks.NETWORKS[name].classifier)
    torch.testing.assert_close(explained.saliency, torch.einsum("bchw,bc->bhw", pooled[0], head.weight))
    logits = explained.saliency.mean((1, 2)) + head.bias
    torch.testing.assert_close(logits, explained.output.diagonal(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "black"), [("densenet121", (-2.1179, -2.0357, -1.8044)), ("xception", (-1.0,) * 3)])
def test_images_are_normalised_as_the_weights_expect(name, black):
    model, seen = networks.build(Plan(network=name)).eval(), []
    model.network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    torch.testing.assert_close(seen[0][0, :, 0, 0], torch.tensor(black), atol=1e-4, rtol=0)
    assert not [name for name in model.state_dict() if not name.startswith("network.")]


@pytest.mark.parametrize("name", NAMES[1:])
def test_official_tap(name):
    plan = Plan(network=name, feature_tap="official")
    images = torch.rand(2, 3, SIDES[name], SIDES[name])
    model, tapped = networks.build(plan).eval(), []
    if name in AFTER_TAP:
        behind = model.network.get_submodule(AFTER_TAP[name])
        behind.register_forward_pre_hook(lambda module, args: tapped.append(args[0].clone()))
    with torch.no_grad():
        saliency = networks.tapped(CYBORG, plan).guide(model).explain(images, torch.tensor([0, 1]))
        expected = tapped[0] if tapped else model.network.features((images - model.mean) / model.deviation)
        weight = model.network.get_submodule(networks.NETWORKS[name].classifier).weight
    torch.testing.assert_close(saliency, torch.einsum("bchw,bc->bhw", expected, weight), rtol=1e-3, atol=1e-4)
    assert (expected.min() < 0) == (name != "inception_v3")


def test_tap_is_for_cam_under_the_official_plan():
    plan = Plan(network="densenet121", feature_tap="official")
    assert networks.tapped(CYBORG, plan).extractor_options == {"layer": "network.features"}
    own = Arm("own", extractor="cam", extractor_options={"layer": "network.features.denseblock4"})
    for arm in (own, Arm("plain"), Arm("other", extractor="grad_cam")):
        assert networks.tapped(arm, plan) is arm
    assert networks.tapped(CYBORG, Plan(network="densenet121")) is CYBORG
    assert networks.tapped(CYBORG, Plan(feature_tap="official")) is CYBORG


def test_networks_are_compared_by_maps_of_the_true_class():
    plan = Plan(network="densenet121", feature_tap="official")
    predicted = Arm("predicted", extractor="cam", extractor_options={"score": "predicted"})
    assert networks.explained(predicted, plan).extractor_options == {"layer": "network.features"}
    assert networks.explained(Arm("plain"), plan).guide(networks.build(plan)).extractor.layer == "network.features"
    other = Arm("other", extractor="grad_cam", extractor_options={"relu": True})
    assert networks.explained(other, plan) == other


def test_unknown_network():
    with pytest.raises(ValueError, match=r"unknown network 'vgg'. Choose from small, resnet50, densenet121"):
        networks.build(Plan(network="vgg"))
    with pytest.raises(ValueError, match="Linear is none of the study's networks: small, resnet50"):
        networks.features(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(("name", "package"), [("resnet50", "torchvision"), ("xception", "timm")])
def test_missing_package(name, package, monkeypatch):
    for module in (package, "torchvision.models"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"{name} needs {package}: pip install"):
        networks.build(Plan(network=name))


def save(path, state):
    if path.suffix == ".safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, path)
    else:
        torch.save(state, path)
    return Plan(pretrained=str(path))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_pretrained(suffix, tmp_path, caplog):
    state = networks.build(Plan()).state_dict()
    with caplog.at_level(logging.WARNING):
        loaded = networks.build(save(tmp_path / f"small{suffix}", state)).state_dict()
    assert not caplog.text
    assert all(torch.equal(state[name], loaded[name]) for name in state)


def test_classifier_of_other_classes_is_left_and_named(tmp_path, caplog):
    state = networks.build(Plan()).state_dict()
    state.update({"classifier.weight": torch.ones(1000, 64), "classifier.bias": torch.ones(1000)})
    state.update({"AuxLogits.fc.bias": torch.ones(1000)})
    model = networks.build(save(tmp_path / "imagenet.pt", {"state_dict": state}))
    assert "AuxLogits.fc.bias, classifier.bias, classifier.weight" in caplog.text
    assert model.classifier.weight.shape == (2, 64)
    assert torch.equal(model.features[0][0].weight, state["features.0.0.weight"])


def test_weights_of_a_trained_study(tmp_path):
    state = networks.build(Plan(network="densenet121")).state_dict()
    plan = Plan(network="densenet121", pretrained=save(tmp_path / "model.pt", state).pretrained)
    assert torch.equal(networks.build(plan).network.classifier.weight, state["network.classifier.weight"])


def test_older_densenet_names(tmp_path):
    state = bare(networks.build(Plan(network="densenet121"))).state_dict()
    older = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): tensor
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }
    torch.save(older, tmp_path / "densenet121.pth")
    loaded = bare(networks.build(Plan(network="densenet121", pretrained=str(tmp_path / "densenet121.pth"))))
    loaded = loaded.state_dict()
    assert all(torch.equal(state[name], loaded[name]) for name in state if "num_batches" not in name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.pt", None, "there is no file of weights"),
        ("weights.bin", b"", r"expected one of .pt, .pth, .safetensors"),
        ("broken.pt", b"not weights", "cannot be read as a state_dict"),
        ("broken.safetensors", b"not weights", "cannot be read as a state_dict"),
        ("empty.pth", b"", "cannot be read as a state_dict"),
        ("list.pt", [1, 2], "holds list, expected a state_dict"),
        ("module.pt", torch.nn.Linear(2, 2), "cannot be read as a state_dict"),
        ("other.pt", torch.nn.Linear(2, 2).state_dict(), r"tensors do not fit, for instance the file has no 'features"),
        ("narrow.pt", {"features.0.0.weight": torch.ones(2, 2)}, r"'features.0.0.weight' of shape \(2, 2\), expected"),
    ],
)
def test_broken_weights(name, content, message, tmp_path):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        networks.build(Plan(pretrained=str(path)))


def test_weights_execute_nothing(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"weight": Malicious()}, tmp_path / "malicious.pt")
    with pytest.raises(ValueError, match="cannot be read as a state_dict"):
        read_weights(tmp_path / "malicious.pt")
