"""Variance-preserving diffusion as functions of a denoiser: no faces, no video."""
