"""Scenario shared instances (SSIM): search for rows worth training every scenario with, score and store them."""
