"""Comparisons of models and the SSIM paper's experiments: splits, trials that are trained once, and their tables."""
