"""Where a user's rows are, and how they are erased."""
