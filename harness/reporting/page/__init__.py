"""A measurement as one HTML file with everything inside: no network, no file beside it.

    story.page(summary, pictures) -> str        the page of one measurement
    several.page(summaries, ...) -> str         runs side by side, never pooled

Figures are the SVG files of harness.reporting.figures, set into the page (drawing.py); its script only shows and hides arms.
Add a figure: one in harness.reporting.figures.PICTURES and an entry in SECTIONS (sections.py).
"""
