"""What is kept of runs, features and vocabularies, and how the rest is removed."""
