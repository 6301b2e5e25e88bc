"""Losses of published explanation supervision: golden values, options, minima and invariances of each divergence."""

import torch

from saliency_losses.divergences import MaxAbs


def test_positive_part_by_its_maximum():
    leaf = torch.tensor([[1.0, 2.0, -4.0], [-1.0, -2.0, 0.0]], requires_grad=True)
    scaled = MaxAbs(positive=True)(leaf)
    torch.testing.assert_close(scaled, torch.tensor([[0.5, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    (grad,) = torch.autograd.grad(scaled.sum(), leaf)
    torch.testing.assert_close(grad, torch.tensor([[0.5, -0.25, 0.0], [0.0, 0.0, 0.0]]))
    known = torch.tensor([[1.0, 0.0, 1.0]])
    torch.testing.assert_close(MaxAbs(positive=True)(leaf[:1], known), torch.tensor([[1.0, 0.0, 0.0]]))
