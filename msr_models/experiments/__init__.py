"""Comparisons of models and the SSIM paper's experiments: splits, cells that are trained once, and their tables."""
