"""Fused GPU kernels; only this folder imports Triton, and only where one is used."""
