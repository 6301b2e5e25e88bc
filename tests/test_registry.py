"""Parts by name: decorators, plugins, and what a wrong name says."""

from importlib.metadata import EntryPoint

import pytest
import torch

import saliency_losses as sl
from saliency_losses import registry
from saliency_losses.divergences.base import DIVERGENCES


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(DIVERGENCES, "_makers", dict(DIVERGENCES._makers))


class Gap(sl.Divergence):
    """A third party's divergence."""

    def compare(self, model, human, known):
        return (model.mean(1) - human.mean(1)).abs()


@pytest.mark.usefixtures("fresh")
def test_a_decorator_registers():
    assert sl.register_divergence("gap")(Gap) is Gap
    assert "gap" in sl.list_divergences()
    assert isinstance(sl.create_divergence("gap"), Gap)
    assert sl.SaliencyGuidedLoss(torch.nn.Linear(1, 1), divergence="gap").divergence.__class__ is Gap
    sl.register_divergence("gap")(Gap)


@pytest.mark.usefixtures("fresh")
def test_a_taken_name_and_a_wrong_kind_are_refused():
    with pytest.raises(ValueError, match=r"divergence name 'mse' is taken by saliency_losses\.divergences\.mse\.MSE"):
        sl.register_divergence("mse")(Gap)
    with pytest.raises(TypeError, match="must be a subclass of Divergence"):
        sl.register_divergence("linear")(torch.nn.Linear)


@pytest.mark.usefixtures("fresh")
def test_plugins_are_loaded_when_asked_for(monkeypatch):
    loaded = []

    class Point(EntryPoint):
        def load(self):
            loaded.append(self.name)
            return Gap

    points = [Point("gap", "plugin:Gap", "saliency_losses.divergences"), Point("mse", "plugin:Gap", "x")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group.endswith("divergences") else [])
    assert "gap" in sl.list_divergences()
    assert isinstance(sl.create_divergence("mse"), sl.divergences.MSE)
    assert loaded == []
    assert isinstance(sl.create_divergence("gap"), Gap)
    assert loaded == ["gap"]


def test_unknown_names_suggest():
    with pytest.raises(ValueError, match=r"Unknown extractor 'gradcam'\. Did you mean 'grad_cam'.*Known: .*, cam, "):
        sl.create_extractor("gradcam")
    with pytest.raises(ValueError, match=r"Unknown divergence 'xyzzy'\. Known: .*, correlation, .*kl, "):
        sl.create_divergence("xyzzy")
