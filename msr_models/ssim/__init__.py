"""Scenario shared instances (SSIM): search for rows worth training every scenario with, score them, store the result."""
