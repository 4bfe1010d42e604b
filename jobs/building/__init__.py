"""Build one part of the lake from the parts before it; a part that is missing is built first.

Here is what several commands need: each step builds its missing inputs with the same functions as the inputs' own step.
"""
