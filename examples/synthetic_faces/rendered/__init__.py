"""Faces drawn from a seed: traits, defects that people see, generators' fingerprints, cameras and annotators."""

from .render import SIZE, Faces, render

__all__ = ["SIZE", "Faces", "render"]
