"""One HTML file that tells a run's whole story, with everything inside: no network, no file beside it.

    story.page(summary, pictures) -> str        the page of one run
    several.page(summaries, ...) -> str         runs side by side, never pooled

Figures are Bokeh's; each has its static picture in the page as well, for paper and for readers without JavaScript.
Add a figure: a file like ``ecdf.py`` and an entry in SECTIONS (sections.py).
"""
