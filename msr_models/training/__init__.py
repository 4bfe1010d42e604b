"""Training: loop, checkpoint, manifest."""
