"""Charts as accessible SVG: a role, a title, a description; attributes and classes only, no style, no script."""
