"""Draws stylised faces from a handful of random traits, smoothly and all at once.

Coordinates run from -1 to 1 over the image, x to the right and y downwards. A face is a function of them, so
that the same face can be drawn at any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .canvas import Canvas, bump, ellipse
from .defects import Defects

SKIN = torch.tensor(
    [
        [0.98, 0.84, 0.74],
        [0.94, 0.76, 0.63],
        [0.86, 0.66, 0.51],
        [0.72, 0.51, 0.37],
        [0.55, 0.37, 0.27],
        [0.40, 0.27, 0.20],
    ]
)
HAIR = torch.tensor(
    [
        [0.14, 0.11, 0.11],
        [0.28, 0.17, 0.11],
        [0.46, 0.28, 0.15],
        [0.80, 0.62, 0.34],
        [0.62, 0.27, 0.14],
        [0.58, 0.57, 0.58],
    ]
)
IRIS = torch.tensor([[0.26, 0.16, 0.10], [0.24, 0.45, 0.66], [0.30, 0.52, 0.34], [0.45, 0.34, 0.16]])
BACKDROP = torch.tensor(
    [
        [0.72, 0.82, 0.88],
        [0.86, 0.80, 0.72],
        [0.76, 0.84, 0.74],
        [0.84, 0.76, 0.84],
        [0.70, 0.72, 0.78],
        [0.90, 0.86, 0.80],
    ]
)
SHIRT = torch.tensor(
    [[0.22, 0.32, 0.46], [0.64, 0.28, 0.28], [0.26, 0.44, 0.38], [0.88, 0.86, 0.82], [0.34, 0.30, 0.40]]
)

EYE_X, EYE_Y, MOUTH_Y = 0.235, 0.02, 0.44


@dataclass(frozen=True)
class Traits:
    """What tells one face from another: ``uniform`` is (N, K) numbers in [0, 1), the rest (N, 3) colours."""

    uniform: Tensor
    skin: Tensor
    hair: Tensor
    iris: Tensor
    backdrop: Tensor
    shirt: Tensor

    @classmethod
    def sample(cls, count: int, rng: torch.Generator) -> Traits:
        """Draws the traits of ``count`` faces."""

        def colour(palette: Tensor, spread: float) -> Tensor:
            mix = torch.rand(count, 1, generator=rng)
            first, second = (palette[torch.randint(len(palette), (count,), generator=rng)] for _ in range(2))
            tint = spread * (torch.rand(count, 3, generator=rng) - 0.5)
            return (torch.lerp(first, second, 0.35 * mix) + tint).clamp(0.03, 1.0)

        return cls(
            skin=colour(SKIN, 0.04),
            hair=colour(HAIR, 0.05),
            iris=colour(IRIS, 0.06),
            backdrop=colour(BACKDROP, 0.1),
            uniform=torch.rand(count, 20, generator=rng),
            shirt=colour(SHIRT, 0.1),
        )

    def between(self, index: int, low: float, high: float) -> Tensor:
        """Trait number ``index`` mapped to [low, high), shaped (N, 1, 1) to broadcast over pixels."""
        return (low + (high - low) * self.uniform[:, index])[:, None, None]

    def to_face(self, across: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
        """Maps image coordinates to those of the slightly moved, scaled and tilted face, both (N, S, S)."""
        scale, roll = self.between(0, 0.98, 1.10), self.between(1, -0.09, 0.09)
        x = (across - self.between(2, -0.06, 0.06)) / scale
        y = (down - self.between(3, -0.03, 0.06)) / scale
        return x + roll * y, y - roll * x


def draw(traits: Traits, defects: Defects, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draws faces with the given defects.

    Returns:
        The images (N, 3, S, S) in [0, 1], without noise or fingerprint; the coverage (N, S, S) of background and
        hair; that of the face.
    """
    t, canvas = traits, Canvas(traits.backdrop, size)
    axis = (torch.arange(size) + 0.5) * canvas.pixel - 1.0
    across, down = axis[None, None, :], axis[None, :, None]
    canvas.image = canvas.image * (0.98 - 0.14 * (down + 0.4 * across))[:, None]

    x, y = t.to_face(across, down)
    width = t.between(4, 0.49, 0.57)
    jaw = width * (1.0 - t.between(5, 0.10, 0.26) * y.clamp(0.0, 1.0) ** 1.5)
    head = ellipse(x, y - 0.06, jaw, t.between(6, 0.64, 0.70), power=2.25)
    length = t.between(7, -0.6, 0.9).clamp_min(0.0)
    crown_y = y + 0.12
    mane = ellipse(
        x, crown_y - crown_y.clamp_min(0.0).minimum(length), width + t.between(8, 0.10, 0.2), 0.72, power=2.3
    )

    light = 1.0 - 0.16 * x - 0.10 * y
    strands = 1.0 + 0.10 * torch.sin(9.0 * x + 5.0 * y * x) + 0.22 * bump(x + 0.2, y + 0.55, 0.3, 0.12)
    hair = (t.hair[:, :, None, None] * (light * strands)[:, None]).clamp(0.0, 1.0)
    skin = (t.skin[:, :, None, None] * (light + 0.04 - 0.18 * torch.exp(head.clamp(max=0.0) / 0.10))[:, None]).clamp(
        0, 1
    )

    behind = canvas.inside(mane)
    canvas.paint(0.82 * hair, behind)
    neck = canvas.inside(torch.maximum(x.abs() - 0.21 - 0.1 * (y - 0.75).clamp_min(0.0), 0.3 - y))
    canvas.paint(0.80 * t.skin, neck)
    shirt = canvas.inside(ellipse(x, y - 1.30, 0.86, 0.46, power=2.6))
    canvas.paint(t.shirt, shirt)
    ears = canvas.inside(ellipse(x.abs() - width, y - 0.08, 0.09, 0.13)) * (length <= 0.05)
    canvas.paint(0.88 * t.skin, ears)
    face = canvas.inside(head)
    canvas.paint(skin, face)

    canvas.paint(t.skin * torch.tensor([1.0, 0.72, 0.70]), 0.45 * face * bump(x.abs() - 0.33, y - 0.25, 0.10, 0.08))
    _paint_features(canvas, t, defects, x, y)
    hairline = -0.40 + t.between(9, 0.0, 0.10) + t.between(10, 0.1, 0.9) * (x - t.between(11, -0.3, 0.3)) ** 2
    fringe = canvas.inside(mane) * canvas.inside(y - hairline)
    canvas.paint(hair, fringe)

    blotch_x, blotch_y = x - defects.blotch_x, y - defects.blotch_y
    angle = torch.atan2(blotch_y, blotch_x)
    blotch = ellipse(
        blotch_x, blotch_y, defects.blotch_size * (1.0 + 0.25 * torch.sin(3.0 * angle)), defects.blotch_size
    )
    stain = (t.skin * defects.blotch_colour).clamp(0, 1)
    canvas.paint(stain, 0.85 * face * (1 - fringe) * defects.blotch * torch.sigmoid(-blotch / 0.02))

    front = torch.maximum(torch.maximum(face, ears), torch.maximum(neck, shirt))
    return canvas.image.clamp(0.0, 1.0), torch.maximum(1.0 - front, fringe), face * (1.0 - fringe)


def _paint_features(canvas: Canvas, t: Traits, defects: Defects, x: Tensor, y: Tensor) -> None:
    """Adds eyes, brows, nose and mouth, the eyes and the mouth as their defects have it."""
    dark, white = 0.45 * t.hair + 0.02, torch.full_like(t.skin, 0.97)
    for side in (-1, 1):
        odd = defects.eyes * (defects.odd_side == side)
        grow = 1.0 + odd * (defects.eye_scale - 1.0)
        ex, ey = x - side * EYE_X, y - EYE_Y - odd * defects.eye_drop
        opening = ellipse(ex, ey, grow * t.between(12, 0.155, 0.18), grow * t.between(13, 0.105, 0.135), power=1.8)
        eye = canvas.inside(opening)
        canvas.paint(0.80 * t.skin, 0.6 * canvas.inside(opening - 0.035))
        canvas.paint(white, eye)
        iris = torch.lerp(t.iris, defects.odd_iris, odd[:, :, 0])
        gaze = ex - t.between(14, -0.03, 0.03)
        canvas.paint(iris, eye * canvas.inside(ellipse(gaze, ey, 0.092 * grow, 0.092 * grow)))
        canvas.paint(torch.zeros_like(iris), eye * canvas.inside(ellipse(gaze, ey, 0.045 * grow, 0.045 * grow)))
        canvas.paint(white, eye * canvas.inside(ellipse(gaze + 0.03, ey + 0.035, 0.026, 0.026)))
        canvas.paint(dark, canvas.inside(opening.abs() - 0.016) * canvas.inside(ey + 0.01))
        bx, by = side * ex, y - EYE_Y + t.between(15, 0.20, 0.25) + odd * 0.3 * defects.eye_drop
        arch = by - 0.9 * (bx - 0.02) ** 2 - t.between(16, -0.15, 0.15) * bx
        canvas.paint(dark, canvas.inside(torch.maximum(arch.abs() - 0.03 + 0.06 * bx, bx.abs() - 0.16)))

    canvas.paint(0.74 * t.skin, 0.6 * bump(x - 0.055, y - 0.13, 0.025, 0.09))
    canvas.paint(0.70 * t.skin, 0.85 * bump(x.abs() - 0.045, y - 0.255, 0.03, 0.017))
    canvas.paint((1.12 * t.skin).clamp(max=1.0), 0.7 * bump(x + 0.012, y - 0.20, 0.03, 0.035))

    warp = defects.mouth * (defects.mouth_tilt * x + defects.mouth_wave * torch.sin(16.0 * x + 2.0))
    wide, smile = t.between(17, 0.18, 0.23), t.between(18, 0.2, 1.6)
    my = y - MOUTH_Y + smile * (x**2 - 0.02) - warp - 0.06 * (t.between(19, 0.0, 1.0) - 0.5) * x
    taper = (1.0 - (x / wide) ** 2).clamp_min(0.0).sqrt()
    lips = t.skin * torch.tensor([0.92, 0.56, 0.55])
    canvas.paint(lips, canvas.inside(torch.maximum(-my - 0.05 * taper, my - 0.08 * taper)) * (taper > 0))
    canvas.paint(0.45 * lips, canvas.inside(my.abs() - 0.016) * (taper > 0.15))
