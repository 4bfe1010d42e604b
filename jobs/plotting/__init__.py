"""Small SVG pictures with one style, for the report and for the plots of experiments."""
