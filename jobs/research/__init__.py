"""Research commands: compare models and reproduce the SSIM paper's experiments."""
