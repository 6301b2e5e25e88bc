"""The check of divergences: what keeps the contract passes, each way of breaking it is named."""

import pytest
import torch

from saliency_losses.divergences import KL, MSE, Divergence, MinMax, Prior, masked_mean
from saliency_losses.testing import check_divergence


def mean_square(x, known):
    return masked_mean(x.square(), known)


class Good(Divergence):
    """Keeps it."""

    def compare(self, model, human, known):
        return mean_square(model - human, known)


class Energy(Prior):
    """Needs no human map."""

    def measure(self, model):
        return model.square().mean(1)


class Smoothness(Prior):
    """Has axes and a smallest size."""

    spatial = True
    ranks = (2,)
    smallest = 8

    def measure(self, model):
        return (model[:, 1:] - model[:, :-1]).square().mean((1, 2))


class Signed(Divergence):
    """Reads where not to look."""

    reads = "signed"

    def compare(self, model, human, known):
        return masked_mean((1.0 - model * human).relu().square(), known)


class Fixations(Divergence):
    """Reads where people looked, at their own size."""

    reads = "fixations"

    def __init__(self):
        super().__init__(normalize="zscore", sizing="enlarge")

    def compare(self, model, human, known):
        return -masked_mean(model * human, known)


class Windowed(Divergence):
    """Sees positions, along one axis or three."""

    spatial = True
    ranks = (1, 3)
    smallest = 3

    def compare(self, model, human, known):
        values = (model - human).square()
        return (values if known is None else values * known).flatten(1).mean(1)


@pytest.mark.parametrize(
    "divergence",
    [
        Good(),
        Good(sizing="same"),
        Energy(),
        Smoothness(),
        Signed(),
        Fixations(),
        Windowed(normalize="minmax"),
        MSE(normalize=MinMax(scope="batch"), human_normalize=MinMax(scope="batch")),
        0.5 * KL() + 2.0 * MSE() + 0.1 * Smoothness(),
        Energy() + Smoothness(),
        0.5 * Fixations() + Good(),
    ],
    ids=repr,
)
def test_passes(divergence):
    check_divergence(divergence)


class Holds(Divergence):
    """Holds a statistic and does not declare it."""

    def compare(self, model, human, known):
        return masked_mean((model - model.detach().amax(1, keepdim=True) - human).square(), known)


def test_statistics_held_fixed_pass_where_declared():
    check_divergence(MSE(normalize=MinMax(detach=True)))
    with pytest.raises(AssertionError, match="The gradient of the model's map is"):
        check_divergence(Holds())


class Scalar(Good):
    """One value for all."""

    def compare(self, model, human, known):
        return super().compare(model, human, known).mean()


class NeedsNone(Good):
    """Does without a human map, but does not say so."""

    def values(self, pair):
        return pair.alone(self.normalize).flatten(1).mean(1)


class Blind(Good):
    """Asks for a human map, but does not look at it."""

    def compare(self, model, human, known):
        return masked_mean(model.square(), known)


class Follows(Good):
    """Of the benchmark's kind: an operation that autocast takes to bfloat16."""

    def forward(self, model, human=None, known=None):
        flat = model.flatten(1).to(torch.promote_types(model.dtype, torch.float32))
        return (flat @ flat.T).diagonal() + super().forward(model, human, known)


class Half(Good):
    """Computes in low precision."""

    def compare(self, model, human, known):
        rough = model.to(torch.bfloat16).to(model.dtype).detach() if model.dtype == torch.float32 else model
        return mean_square(rough + model - model.detach() - human, known)


class Detached(Good):
    """Takes a part off the graph."""

    def compare(self, model, human, known):
        return mean_square(model - human, known) + mean_square(model.detach(), known)


class Wrong(torch.autograd.Function):
    """The square, whose backward pass is only right once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, grad):
        return 2.0 * ctx.saved_tensors[0].detach() * grad


class Once(Good):
    """Has a wrong second derivative."""

    def compare(self, model, human, known):
        return masked_mean(Wrong.apply(model - human), known)


class NanWhenFlat(Good):
    """Divides by a deviation."""

    def compare(self, model, human, known):
        return mean_square((model - model.mean(1, keepdim=True)) / model.std(1, keepdim=True) - human, known)


class Coupled(Good):
    """Adds what all maps have in common."""

    def compare(self, model, human, known):
        return super().compare(model, human, known) + model.mean()


class Forgetful(Good):
    """Does not look at what is known."""

    def compare(self, model, human, known):
        return (model - human).square().mean(1)


class Counting(Good):
    """Counts twice where something may be unknown."""

    def compare(self, model, human, known):
        return (model - human).square().mean(1) if known is None else super().compare(model, human, known) * 2.0


class InPlace(Good):
    """Writes into its input."""

    def compare(self, model, human, known):
        with torch.no_grad():
            human.clamp_(max=0.5)
        return super().compare(model, human, known)


class Drawing(Good):
    """Draws random numbers."""

    def compare(self, model, human, known):
        return super().compare(model + torch.rand_like(model), human, known)


class Lazy(Good):
    """Draws random numbers that it does not use."""

    def compare(self, model, human, known):
        torch.rand(1)
        return super().compare(model, human, known)


class Strided(Good):
    """Reads memory as it lies."""

    def forward(self, model, human=None, known=None):
        model = model if model.is_contiguous() else model.as_strided(model.shape, torch.empty(model.shape).stride())
        return super().forward(model, human, known)


class Ordered(Good):
    """Weighs maps by their place."""

    def compare(self, model, human, known):
        return super().compare(model, human, known) * torch.arange(1, 1 + len(model)).to(model.dtype)


class Reader(Good):
    """Reads what nothing reads."""

    reads = "heat"


class LooksAnyway(Prior):
    """A prior that reads human maps."""

    def measure(self, model):
        return model.square().mean(1)

    def forward(self, model, human=None, known=None):
        return super().forward(model) + (0.0 if human is None else human.flatten(1).mean(1))


@pytest.mark.parametrize(
    ("divergence", "message"),
    [
        (Reader(), "must read one of .*declares 'heat'"),
        (Drawing(), "must be deterministic"),
        (Lazy(), "must draw no random numbers"),
        (NeedsNone(), "must ask for a human map"),
        (Blind(), "must depend on the human map"),
        (LooksAnyway(), "a prior must not read the human map"),
        (Half(), "must be accurate for torch.float32 maps"),
        (Follows(), "must not follow autocast"),
        (Detached(), "The gradient of the model's map is"),
        (Once(), "The gradient of the gradient of the model's map is"),
        (NanWhenFlat(), "must be finite for zero model maps and ordinary human maps"),
        (Ordered(), "must not depend on the order of maps"),
        (Coupled(), "maps must not depend on each other"),
        (InPlace(), "must not write into its inputs"),
        (Strided(), "for maps that are not contiguous"),
        (Forgetful(), "unknown cells must count as if they were not there"),
        (Counting(), "must give the same value where all cells are known"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Divergence) else "",
)
def test_names_what_is_broken(divergence, message):
    with pytest.raises(AssertionError, match=message):
        check_divergence(divergence)


def test_a_divergence_that_gives_one_number_for_all_is_refused():
    with pytest.raises(ValueError, match=r"Scalar\(\) returned shape \(\), expected one value per map, \(5,\)"):
        check_divergence(Scalar())
