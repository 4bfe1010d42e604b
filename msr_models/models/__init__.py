"""One file per model; `registry` finds them all."""
