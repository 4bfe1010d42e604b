"""Commands: one file = one command, `python -m jobs.<name>`; `python -m jobs` lists them."""
